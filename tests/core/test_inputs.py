import os

import pytest

from gnomon.core import inputs
from gnomon.core.inputs import Inputs, content_of
from gnomon.core.run import Run
from gnomon.errors import BadConfig


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    (folder / "part").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "part" / "b.txt").write_text("two")
    return folder


def test_another_content_is_noticed_and_another_date_is_not(data, tmp_path):
    (tmp_path / "run").mkdir()

    def open_again():
        return Inputs(tmp_path / "run", [str(data)], []).have_grown()

    assert not open_again() and not open_again()
    os.utime(data / "a.txt", (0, 0))
    (data / ".hidden").write_text("x")
    assert not open_again()
    (data / "part" / "b.txt").write_text("owt")  # of the same size
    with pytest.raises(BadConfig, match=r"data is not what it was when this run began"):
        open_again()
    (data / "part" / "b.txt").write_text("two")
    assert not open_again()
    (data / "part" / "b.txt").rename(data / "part" / "c.txt")
    with pytest.raises(BadConfig):
        open_again()


def test_what_may_grow_is_reported_once(data, tmp_path):
    (tmp_path / "run").mkdir()
    seen = []
    for text in None, None, "more", None:
        if text:
            (data / "c.txt").write_text(text)
        seen.append(Inputs(tmp_path / "run", [str(data)], [str(data)]).have_grown())
    assert seen == [False, False, True, False]


def test_what_a_run_says_about_itself_is_no_content_of_it(tmp_path):
    run = Run(tmp_path / "before", method="sort", verb="train", quiet=True)
    (run.folder / "model.txt").write_text("weights")
    run.finish()
    before = content_of(run.folder)
    (run.folder / "report.html").write_text("another date")
    assert content_of(run.folder) == before
    (run.folder / "model.txt").write_text("weightz")
    assert content_of(run.folder) != before


def test_a_large_file_is_sampled_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "WHOLE", 100)
    monkeypatch.setattr(inputs, "SAMPLE", 10)
    monkeypatch.setattr(inputs, "SAMPLES", 5)
    file, hashes = tmp_path / "weights", set()
    for changed in None, 0, 499, 999:
        content = bytearray(1000)
        if changed is not None:
            content[changed] = 1
        file.write_bytes(content)
        hashes.add(content_of(file))
    assert len(hashes) == 4


def test_a_verb_shows_no_old_numbers_of_new_data(tmp_path, monkeypatch, capsys):
    """Through the command line: the same words over another file are refused, and --fresh reads it."""
    from gnomon.cli import main

    monkeypatch.chdir(tmp_path)
    words = ["lintseq", "resolve", "edits.jsonl", "--out", "run", "--quiet"]
    (tmp_path / "edits.jsonl").write_text('{"edit_path": ["@@ -0,0 +1,1 @@\\n+x = 1"]}\n')
    assert main(words) == 0
    assert main(words) == 0  # finished
    with (tmp_path / "edits.jsonl").open("a") as file:
        file.write('{"edit_path": ["@@ -0,0 +1,1 @@\\n+y = 2"]}\n')
    capsys.readouterr()
    assert main(words) == 2
    assert "edits.jsonl is not what it was when this run began" in capsys.readouterr().err
    assert main([*words, "--fresh"]) == 0
    assert len((tmp_path / "run" / "programs.jsonl").read_text().splitlines()) == 2
