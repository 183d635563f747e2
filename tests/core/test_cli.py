import json
import os
import subprocess
import sys

import pytest

from gnomon import cli, verbs
from gnomon.registry import METHODS


def gnomon(capsys, *words):
    code = cli.main(words)
    out, err = capsys.readouterr()
    return code, out, err


def test_list_and_show(capsys):
    code, out, _ = gnomon(capsys, "list")
    assert code == 0
    assert all(m.slug in out for m in METHODS)
    code, out, _ = gnomon(capsys, "list", "--json")
    assert [row["method"] for row in json.loads(out)] == [m.slug for m in METHODS]
    code, out, _ = gnomon(capsys, "show", "lintseq", "--json")
    shown = json.loads(out)
    assert set(shown["verbs"]) >= {"generate", "train", "mini"}
    assert shown["claims"]
    code, out, _ = gnomon(capsys, "show", "glimo")
    assert "planned" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["lintsec"], 'Did you mean "lintseq"?'),
        (["lintseq", "generat", "x"], 'has no verb "generat". Did you mean "generate"?'),
        (["glimo", "apply", "x"], "is planned and not built yet"),
        (["show", "markv"], 'Did you mean "markov"?'),
        (["lintseq", "generate", "missing.jsonl", "--quiet"], "missing.jsonl does not exist"),
        (["lintseq", "generate", "x", "--samples", "0"], "samples must be >= 1; got 0."),
        (["lintseq", "generate", "x", "--config"], "--config needs a file"),
        (["lintseq", "generate", "x", "--config", "no.yaml"], "no.yaml: cannot be read"),
        (["lintseq", "train", "x", "--model", "m", "--train.lr", "-1"], "train.lr must be > 0; got -1.0."),
        (["view", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_wrong_requests_exit_2_with_one_line(capsys, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    code, _, err = gnomon(capsys, *words)
    assert code == 2
    assert says in err
    assert "Traceback" not in err


def test_doctor(capsys):
    code, out, _ = gnomon(capsys, "doctor", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["devices"]
    assert told["packages"]["torch"]
    assert not told["missing"]


PROGRAMS = [
    {"instruction": "Add.\n", "response": "def add(a, b):\n    c = a + b\n    return c"},
    {"instruction": "Bad.\n", "response": "def ("},
]


@pytest.fixture
def programs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "programs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROGRAMS))
    return path


def test_dry_run_json_and_config_file_give_the_same_run(capsys, programs, tmp_path):
    words = ["lintseq", "generate", "programs.jsonl", "--linter", "pyflakes", "-s", "2"]
    code, out, _ = gnomon(capsys, *words, "--dry-run")
    assert code == 0
    assert "programs" in out
    assert not (tmp_path / "runs").exists()
    code, out, _ = gnomon(capsys, *words, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["figures"]["edit sequences"] == 2
    assert report["figures"]["programs refused"] == 1
    saved = f"{report['folder']}/config.yaml"
    code, out, _ = gnomon(capsys, "lintseq", "generate", "--config", saved, "--out", "again", "--json")
    assert code == 0
    first, second = (tmp_path / f / "edits" / "part-00000.jsonl" for f in (report["folder"], "again"))
    assert first.read_bytes() == second.read_bytes()


def test_repeating_says_so_and_fresh_starts_over(capsys, programs):
    words = ["lintseq", "generate", "programs.jsonl", "--linter", "pyflakes", "--out", "r"]
    gnomon(capsys, *words)
    code, _, err = gnomon(capsys, *words)
    assert code == 0
    assert "Use --fresh to run it again" in err
    code, _, err = gnomon(capsys, *words, "-s", "2")
    assert code == 2
    assert "samples: 5 -> 2" in err
    assert gnomon(capsys, *words, "-s", "2", "--fresh")[0] == 0


def test_quiet_says_nothing_on_stderr(capsys, programs):
    code, _, err = gnomon(capsys, "lintseq", "generate", "programs.jsonl", "--linter", "pyflakes", "--quiet")
    assert (code, err) == (0, "")


def test_view_writes_an_index(capsys, programs, tmp_path):
    gnomon(capsys, "lintseq", "generate", "programs.jsonl", "--linter", "pyflakes", "--out", "runs/r")
    code, out, _ = gnomon(capsys, "view", "runs", "--no-open")
    assert code == 0
    assert "lintseq" in (tmp_path / out.strip()).read_text()


def test_a_claim_that_does_not_hold_exits_3():
    row = {"required": True, "outcome": "does not hold"}
    assert verbs._exit_code([row]) == 3
    assert verbs._exit_code([row | {"required": False}, row | {"outcome": "undecided"}]) == 0


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m gnomon list | head -1"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""


def test_our_own_bug_shows_a_traceback(monkeypatch):
    monkeypatch.setattr("gnomon.registry.METHODS", None)
    with pytest.raises(TypeError):
        cli.main(["list"])
