import gzip
import json

import pytest

from gnomon.core import records
from gnomon.core.data.documents import read_documents, read_rows, text_id
from gnomon.errors import BadInput

ROWS = [{"text": "First one.", "id": 7, "lang": "en"}, {"text": "Second one.", "id": "b", "lang": "de"}]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet"])
def test_records_of_every_kind_are_documents(tmp_path, ending):
    rows = [row | {"id": str(row["id"])} for row in ROWS]
    records.write(tmp_path / f"data{ending}", rows)
    first, second = read_documents(tmp_path / f"data{ending}", id_field="id")
    assert (first.doc_id, first.text, first.meta) == ("7", "First one.", {"lang": "en"})
    assert second.doc_id == "b"
    assert "2" in second.where and f"data{ending}" in second.where


def test_a_folder_and_a_pattern_are_read_in_name_order(tmp_path):
    for name, row in zip("ba", ROWS, strict=True):
        records.write(tmp_path / f"{name}.jsonl", [row])
    for source in (tmp_path, f"{tmp_path}/*.jsonl"):
        assert [d.text for d in read_documents(source)] == ["Second one.", "First one."]
    with pytest.raises(BadInput, match=r"\*\.parquet: no file has such a name"):
        list(read_documents(f"{tmp_path}/*.parquet"))


def test_plain_text_is_one_document_a_file(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.rst").write_text("Bee.", "utf-8")
    (tmp_path / "a.md").write_text("Ä.", "utf-8")
    (tmp_path / ".hidden.md").write_text("no", "utf-8")
    (tmp_path / "c.py").write_text("no = 1", "utf-8")
    found = list(read_documents(tmp_path))
    assert [d.text for d in found] == ["Ä.", "Bee."]
    assert found[0].meta == {"path": str(tmp_path / "a.md")}
    assert [d.text for d in read_documents(tmp_path / "a.md")] == ["Ä."]


@pytest.mark.slow
def test_hub_data_sets_are_read_by_name(tmp_path, monkeypatch):
    """A local folder is a data set like any other to the loader."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS[:1]))
    monkeypatch.chdir(tmp_path)
    assert [d.text for d in read_documents("hf://set")] == ["First one."]


def test_without_a_name_the_text_names_the_document(tmp_path):
    records.write(tmp_path / "a.jsonl", [{"text": "same"}, {"text": "same"}, {"text": "other"}])
    one, two, three = (d.doc_id for d in read_documents(tmp_path / "a.jsonl"))
    assert one == two == text_id("same") != three
    assert one == "b9a8ca9848bf6e1d"  # printf same | b2sum -l 64


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            b'{"body": "x"}',
            r'line 2: field "text" is missing; the row has "body". Name the column with --text-field',
        ),
        (b'{"text": 3}', r'line 2: field "text" must be a string; got int'),
        (b'{"text": null}', r'line 2: field "text" must be a string; got NoneType'),
        (b'{"text": "\xff"}', r"line 2: not UTF-8"),
        (b'{"text": ', r"line 2: not valid JSON"),
        (b"[1]", r"line 2: a record is a JSON object"),
    ],
)
def test_pitfall_9_a_bad_row_is_one_line_with_file_and_row(tmp_path, line, message):
    path = tmp_path / "pages.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + line + b'\n{"text": "also good"}\n')
    with pytest.raises(BadInput, match=rf"pages\.jsonl, {message}"):
        list(read_documents(path))
    assert [row.where.split(", ")[1] for row in read_rows(path)] == ["line 1", "line 2", "line 3"]


def test_pitfall_9_text_files_that_are_not_utf_8_are_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.txt").write_text("good")
    with pytest.raises(BadInput, match=r"a\.txt: not UTF-8"):
        list(read_documents(tmp_path))
    bad, good = read_rows(tmp_path, text_field="body")
    assert bad.raw is None and "not UTF-8" in bad.problem
    assert good.raw == {"body": "good", "path": str(tmp_path / "b.txt")}


def test_pitfall_9_sources_that_are_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.txt does not exist"):
        list(read_documents(tmp_path / "nowhere.txt"))
    with pytest.raises(BadInput, match=r"nowhere\.jsonl does not exist"):
        list(read_documents(tmp_path / "nowhere.jsonl"))
    with pytest.raises(BadInput, match="holds no record files"):
        list(read_documents(tmp_path))
    with pytest.raises(BadInput, match=r'field "id" is missing or no name. Name the column with --id-field'):
        records.write(tmp_path / "a.jsonl", [{"text": "x"}])
        list(read_documents(tmp_path / "a.jsonl", id_field="id"))


def test_reading_stays_lazy(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.write('{"text": "good"}\n{"text": 1}\n')
    rows = read_documents(path)
    assert next(rows).text == "good"
    with pytest.raises(BadInput):
        next(rows)


def test_both_halves_of_the_standard_library_are_sources():
    docs, code = (next(iter(read_documents(f"stdlib:{half}"))) for half in ("docs", "code"))
    assert docs.meta["group"] == docs.meta["name"]  # a topic
    assert code.meta["group"].endswith(".py")
