import json
from dataclasses import asdict

import pytest

from gnomon.core import records
from gnomon.core.data.execute import Rejected, Tally, map_shards
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.lintseq import resolve
from gnomon.methods.lintseq.edits import AuditStep, EditRecord, Fields, LintSeqStep, RandSeqStep
from gnomon.methods.lintseq.programs import choose, normalise, read_programs

CODE = "def add(a, b):\n    c = a + b\n    if c > 3:\n        c = 3\n    return c"
ROWS = [
    {"instruction": "Add.", "response": CODE},
    {"instruction": "Fenced.", "response": f"Here:\n```python\n{CODE}\n```\nDone."},
    {"instruction": "Broken.", "response": "def (:"},
    {"instruction": "Empty.", "response": "  \n"},
    {"instruction": "Comments.", "response": "# one\n# two"},
    {"instruction": "No code."},
    {"instruction": "Number.", "response": 3},
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "programs.jsonl"
    lines = [json.dumps(row).encode() for row in ROWS] + [b'{"response": "\xff"}', b"nonsense"]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def run(step, source):
    items = list(step(read_programs(source)))
    rows = [item for item in items if not isinstance(item, (Rejected, Tally))]
    return (
        rows,
        [item for item in items if isinstance(item, Rejected)],
        [i for i in items if isinstance(i, Tally)],
    )


def test_pitfall_12_bad_rows_are_refused_with_place_and_reason_and_the_rest_goes_on(source):
    rows, refused, _ = run(LintSeqStep(seed=0, samples=2, linter="pyflakes"), source)
    assert [row["index"] for row in rows] == [0, 0, 1, 1]
    reasons = [r.reason for r in refused]
    for number, says in ((3, "does not parse"), (4, "empty"), (5, "comments"), (6, '"response" is missing')):
        assert any(f"line {number}" in reason and says in reason for reason in reasons), (number, reasons)
    assert any("line 7" in r and "must be a string" in r for r in reasons)
    assert any("line 8: not UTF-8" in r for r in reasons)
    assert any("line 9: not valid JSON" in r for r in reasons)


def test_records_have_the_released_layout_and_resolve(source):
    rows, _, _ = run(LintSeqStep(seed=0, samples=2, linter="pyflakes"), source)
    for row in rows:
        assert set(row) == {
            "edit_path", "index", "path_id", "n_edits", "lint", "source_file", "source_instruction", "source_response",
        }  # fmt: skip
        assert resolve(row["edit_path"]).code == normalise(CODE)
        assert row["n_edits"] == len(row["edit_path"])
        assert row["lint"].startswith("pyflakes ")
        assert row["source_response"] == ROWS[row["index"]]["response"]


def test_pitfall_8_paths_depend_on_seed_index_and_path_alone(source):
    step = LintSeqStep(seed=5, samples=3, linter="pyflakes")
    every, _, _ = run(step, source)
    alone = [r for r in step(p for p in read_programs(source) if p.index == 1) if isinstance(r, dict)]
    assert alone == [row for row in every if row["index"] == 1]
    fewer = [
        r
        for r in LintSeqStep(seed=5, samples=1, linter="pyflakes")(read_programs(source))
        if isinstance(r, dict)
    ]
    assert fewer == [row for row in every if row["path_id"] == 0]
    other, _, _ = run(LintSeqStep(seed=6, samples=3, linter="pyflakes"), source)
    assert [r["edit_path"] for r in other] != [r["edit_path"] for r in every]


@pytest.mark.scale
@pytest.mark.parametrize("workers", [2, 3])
def test_pitfall_8_workers_change_nothing(source, tmp_path, workers):
    step = LintSeqStep(seed=1, samples=2, linter="pyflakes")
    for name, n in (("one", 1), ("many", workers)):
        map_shards(step, read_programs(source), tmp_path / name, workers=n, shard_rows=1)
    for path in sorted((tmp_path / "one").rglob("part-*")):
        assert path.read_bytes() == (tmp_path / "many" / path.relative_to(tmp_path / "one")).read_bytes()


def test_search_gives_several_paths_and_none_is_unclean(source):
    step = LintSeqStep(seed=0, samples=1, linter="pyflakes", children_per_round=4, top_k=2, population=3)
    rows, _, tallies = run(step, source)
    assert {row["index"] for row in rows} == {0, 1}
    assert len(rows) > 2
    assert all(t.numbers["clean"] == t.numbers["states"] for t in tallies)
    assert all(resolve(row["edit_path"]).code == normalise(CODE) for row in rows)


def test_randseq_resolves_and_is_not_linted(source):
    rows, refused, _ = run(RandSeqStep(seed=0, samples=4, fields=Fields("response", "instruction")), source)
    good = [row for row in rows if row["index"] in (0, 1)]
    assert len(good) == 8
    assert all(resolve(row["edit_path"]).code == normalise(CODE) and row["lint"] == "none" for row in good)
    assert refused


def test_audit_finds_what_is_wrong_and_only_that(source, tmp_path):
    rows, _, _ = run(LintSeqStep(seed=0, samples=1, linter="pyflakes"), source)
    broken = dict(rows[0], edit_path=["@@ -0,0 +1 @@\n+    return c", *rows[0]["edit_path"]])
    bare = {name: value for name, value in rows[0].items() if name != "source_response"}
    path = tmp_path / "edits.jsonl"
    records.write(path, [*rows, broken, bare])
    found = list(AuditStep("pyflakes")(records.read(path, EditRecord)))
    audits = [item for item in found if isinstance(item, dict)]
    assert [audit["is_exact"] for audit in audits] == [True, True, False]
    assert [audit["offence"] is None for audit in audits] == [True, True, False]
    (refusal,) = [item for item in found if isinstance(item, Rejected)]
    assert 'field "source_response" is missing' in refusal.reason


def test_length_and_limit_choose_without_reordering(source):
    chosen = choose(read_programs(source), min_lines=3, max_lines=None, limit=None, rng=Rng(0))
    assert [p.index for p in chosen if not p.problem] == [0, 1]
    drawn = [
        tuple(
            p.index
            for p in choose(read_programs(source), min_lines=1, max_lines=None, limit=3, rng=Rng(seed))
        )
        for seed in range(30)
    ]
    assert all(len(d) == 3 and list(d) == sorted(d) for d in drawn)
    assert len(set(drawn)) > 5
    assert drawn[0] == tuple(
        p.index for p in choose(read_programs(source), min_lines=1, max_lines=None, limit=3, rng=Rng(0))
    )


def test_python_files_are_a_source(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.py").write_text("y = 2\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "bad.py").write_bytes(b"\xff")
    found = list(read_programs(str(tmp_path)))
    assert [p.code for p in found if not p.problem] == ["x = 1\n", "y = 2\n"]
    assert "not UTF-8" in next(p.problem for p in found if p.problem)
    assert [asdict(p)["code"] for p in read_programs(str(tmp_path / "a.py"))] == ["x = 1\n"]


def test_misspelt_sources():
    with pytest.raises(BadConfig, match='Did you mean "stdlib:functions"'):
        list(read_programs("stdlib:function"))
    with pytest.raises(BadInput, match="does not exist"):
        list(read_programs("nowhere.py"))
