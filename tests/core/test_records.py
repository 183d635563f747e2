import gzip
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core import records
from gnomon.errors import BadInput


@dataclass(frozen=True)
class Row:
    text: str
    n: int = 0
    score: float | None = None
    tags: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


ROWS = [Row("a", 1, 0.5, ["x"]), Row("ü\u2028\n", 2), Row("\ud800 lone", 3), Row("", 4, None, [])]
ENDINGS = ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_round_trip(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    rows = [row for row in ROWS if ending != "parquet" or "\ud800" not in row.text]
    assert records.write(path, rows) == len(rows)
    assert list(records.read(path, Row)) == rows
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # nothing partial is left behind


@given(st.lists(st.builds(Row, st.text(), st.integers(-(2**53), 2**53), st.none() | st.floats(-1e9, 1e9))))
def test_any_row_survives_jsonl(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    records.write(path, rows)
    assert list(records.read(path, Row)) == rows


def test_unknown_columns_survive_in_meta_and_come_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a", "url": "u", "meta": {"old": 1}}\n')
    (row,) = records.read(path, Row)
    assert row.meta == {"old": 1, "url": "u"}
    records.write(path, [row])
    assert json.loads(path.read_text())["url"] == "u"


def test_same_records_same_bytes(tmp_path):
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        records.write(tmp_path / name, ROWS[:2])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_folder_is_read_in_name_order_without_hidden_files(tmp_path):
    for name, text in (
        ("part-2.jsonl", "b"),
        ("part-1.jsonl", "a"),
        ("_marks.jsonl", "no"),
        (".x.jsonl", "no"),
    ):
        records.write(tmp_path / name, [Row(text)])
    assert [row.text for row in records.read(tmp_path, Row)] == ["a", "b"]


def test_json_array_and_rename(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('[{"body": "a"}, {"body": "b"}]')
    assert [row.text for row in records.read(path, Row, rename={"body": "text"})] == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"text": "a"}\n{"n": 1}\n', 'line 2: field "text" is missing'),
        (b'{"text": 3}\n', 'line 1: field "text" must be a string; got int'),
        (b'{"text": "a", "n": true}\n', 'field "n" must be an integer; got bool'),
        (b'{"text": "a", "tags": [1]}\n', 'field "tags" must be a list of which each item is a string'),
        (b'{"text": "a"}\n{"text": \n', "line 2: not valid JSON"),
        (b'\n\n[1]\n', "line 3: a record is a JSON object; got list"),
        (b'{"text": "a"}\n{"text": "\xff"}\n', "line 2: not UTF-8"),
    ],
)  # fmt: skip
def test_bad_lines_name_file_line_and_field(tmp_path, content, says):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput) as error:
        list(records.read(path, Row))
    assert says in str(error.value)
    assert str(path) in str(error.value)


def test_read_each_goes_on_behind_bad_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\nnonsense\n{"text": "\xff"}\n{"text": "b"}\n')
    kinds = [type(raw).__name__ for _, raw in records.read_each(path)]
    assert kinds == ["dict", "BadInput", "BadInput", "dict"]


def test_a_stream_is_read_line_by_line_and_stops_at_the_first_bad_one():
    rows = records.read_stream(['{"a": 1}\n', " \n", '{"b": 2}', "[3]"])
    assert next(rows) == ("stdin, line 1", {"a": 1})
    assert next(rows) == ("stdin, line 3", {"b": 2})
    with pytest.raises(BadInput, match="stdin, line 4: a record is a JSON object"):
        next(rows)


def test_what_is_sent_can_be_read_back_at_once(tmp_path):
    first, second = io.StringIO(), io.StringIO()
    records.send({"a": "ä"}, first, second)
    assert first.getvalue() == second.getvalue()
    assert [raw for _, raw in records.read_stream(first.getvalue().splitlines())] == [{"a": "ä"}]


def test_damaged_archives(tmp_path):
    packed = gzip.compress(b'{"text": "a"}\n' * 1000)
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "not.jsonl.zst").write_bytes(b"plain text")
    (tmp_path / "not.parquet").write_bytes(b"plain text")
    for name in ("cut.jsonl.gz", "not.jsonl.zst", "not.parquet"):
        with pytest.raises(BadInput, match=name.replace(".", r"\.")):
            list(records.read(tmp_path / name, Row))


def test_missing_file_suggests_the_nearest(tmp_path):
    records.write(tmp_path / "pages.jsonl", ROWS[:1])
    with pytest.raises(BadInput, match=r'does not exist\. Did you mean "pages\.jsonl"'):
        list(records.read(tmp_path / "page.jsonl", Row))


@pytest.mark.parametrize("name", ["rows.txt", "rows.csv"])
def test_unknown_endings(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="unknown kind of file"):
        list(records.read(tmp_path / name, Row))
    with pytest.raises(BadInput, match="unknown kind of file"):
        records.write(tmp_path / name, ROWS)


def test_a_failing_producer_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    records.write(path, ROWS[:1])

    def broken():
        yield ROWS[1]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        records.write(path, broken())
    assert list(records.read(path, Row)) == ROWS[:1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_hub_data_set_that_cannot_be_had():
    with pytest.raises(BadInput, match="hf://nobody/nothing: the data set could not be opened"):
        list(records.read("hf://nobody/nothing", Row))


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(BadInput, match="holds no record files"):
        list(records.read(Path(tmp_path), Row))


@pytest.mark.slow
def test_a_hub_data_set_is_read_row_by_row(tmp_path):
    """The library that reads the hub also reads a folder by its path, which needs no network."""
    records.write(tmp_path / "data" / "train.jsonl", [{"text": "a", "n": 1}, {"text": "b", "n": 2}])
    (tmp_path / "data" / "test.jsonl").write_text('{"text": "c", "n": 3}\n')
    source = f"hf://{tmp_path / 'data'}"
    assert [row.text for row in records.read(source, Row)] == ["a", "b"]
    assert [row.n for row in records.read(f"{source}:test", Row)] == [3]


def test_a_hub_data_set_may_have_several_configurations(tmp_path):
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: '1.0.0'\n  data_files: [{split: test, path: old.jsonl}]\n"
        "- config_name: '3.0.0'\n  data_files: [{split: test, path: new.jsonl}]\n---\n"
    )
    for name, text in (("old", "a"), ("new", "b")):
        records.write(tmp_path / f"{name}.jsonl", [{"text": text, "n": 1}])
    (row,) = records.read(f"hf://{tmp_path}:3.0.0:test", Row)
    assert row.text == "b"
    for reference, says in (
        (f"{tmp_path}:test", "1.0.0"),
        (f"{tmp_path}:2:test", "'2' not found"),
        ("a:b:c:d", "hf://name:config"),
    ):
        with pytest.raises(BadInput, match=says):
            list(records.read(f"hf://{reference}", Row))
