import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core import records
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve import Label, LabelStore, Snippet, Verdict
from gnomon.methods.sieve.choosing import Pick
from gnomon.methods.sieve.judging import as_label, read_label


def pick(number, reason="interval", text="töxt\u2028 <b>"):
    snippet = Snippet(f"d{number}:0-4", f"d{number}", text, 0, 4)
    return Pick(snippet, 0.25, 0.5, (0.2, 0.75), reason)


def label(number, verdict=1, reason="seed", text="töxt\u2028 <b>"):
    answer = Verdict(verdict, "PASS", 0.5, 10, 2, "j")
    row = as_label(
        pick(number, "uniform" if reason == "seed" else reason, text), answer, int(reason != "seed")
    )
    return replace(row, time=1.5)


def test_a_row_has_the_columns_of_the_specification(tmp_path):
    store = LabelStore(tmp_path / "labels.jsonl")
    store.append([label(1, reason="uniform")])
    (row,) = (json.loads(line) for line in (tmp_path / "labels.jsonl").read_text("utf-8").split("\n")[:-1])
    assert set(row) == {
        "snippet_id", "doc_id", "text_sha", "text", "label", "verdict_text", "score_at_query", "rank_at_query",
        "interval", "round", "reason", "usd", "tokens_in", "tokens_out", "model", "time",
    }  # fmt: skip
    assert row["interval"] == [0.2, 0.75] and row["time"] == 1.5 and row["text"] == "töxt\u2028 <b>"
    assert len(fields(Label)) == len(row)


def test_what_was_written_is_found_again_in_order(tmp_path):
    rows = [label(3), label(1, 0, "uniform"), label(2, None, "interval"), label(5, 1, "nearest")]
    path = tmp_path / "deep" / "labels.jsonl"
    store = LabelStore(path)
    store.append(rows[:2])
    store.append(rows[2:3])
    store = LabelStore(path)
    store.append(rows[3:])
    assert store.rows == rows and len(store) == 4
    assert store["d1:0-4"] == rows[1] and "d1:0-4" in store
    assert "d9:0-4" not in store
    assert store.training_rows() == [rows[0], rows[1], rows[3]]
    assert store.uniform_rows() == rows[:2]
    assert store.counts() == {
        "seed": 1, "uniform": 1, "interval": 1, "nearest": 1, "pass": 2, "fail": 1, "unlabelled": 1,
    }  # fmt: skip
    assert list(records.read(path, Label)) == rows


def test_of_several_rows_for_a_snippet_the_last_counts(tmp_path):
    store = LabelStore(tmp_path / "l.jsonl")
    store.append([label(1, None), label(2), replace(label(1, 0), round=3)])
    store = LabelStore(tmp_path / "l.jsonl")
    assert [(row.doc_id, row.label, row.round) for row in store.rows] == [("d1", 0, 3), ("d2", 1, 0)]


def test_a_seed_has_no_score_and_a_choice_keeps_its_own():
    seed, chosen = as_label(pick(1, "uniform"), Verdict(1), 0), as_label(pick(1, "nearest"), Verdict(1), 4)
    assert (seed.reason, seed.score_at_query, seed.rank_at_query, seed.interval) == ("seed", None, None, None)
    assert (chosen.reason, chosen.score_at_query, chosen.rank_at_query) == ("nearest", 0.25, 0.5)
    assert (chosen.interval, chosen.round, seed.round) == ([0.2, 0.75], 4, 0)


def test_an_interval_without_ends_is_the_whole_range_and_can_be_read_again(tmp_path):
    choice = replace(pick(1), interval=(-math.inf, math.inf))
    store = LabelStore(tmp_path / "l.jsonl")
    store.append([as_label(choice, Verdict(1), 1)])
    store = LabelStore(tmp_path / "l.jsonl")
    assert store["d1:0-4"].interval == [0.0, 1.0]


def test_a_failed_verdict_says_why():
    snippet = Snippet("d:0-1", "d", "x", 0, 1)
    row = as_label(
        Pick(snippet, 0.0, 0.0, (0, 1), "uniform"),
        Verdict(None, "I won't.", problem="the judge refused"),
        2,
    )
    assert (row.label, row.verdict_text) == (None, "the judge refused: I won't.")
    assert time.time() - row.time < 5


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400), n=st.integers(1, 4))
def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(tmp_path_factory, cut, n):
    path = tmp_path_factory.mktemp("store") / "labels.jsonl"
    store = LabelStore(path)
    store.append([label(i, text="word " * 20_000 if i == 3 else "words") for i in range(n)])
    whole = path.read_bytes()
    torn = whole[: max(0, len(whole) - cut)]
    path.write_bytes(torn)
    left = torn.count(b"\n")
    store = LabelStore(path)
    assert [row.doc_id for row in store.rows] == [f"d{i}" for i in range(left)]
    store.append([label(9)])
    assert [row.doc_id for row in records.read(path, Label)] == [*(f"d{i}" for i in range(left)), "d9"]


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_labels import label
from gnomon.methods.sieve.judging.labels import LabelStore

store = LabelStore(Path(sys.argv[1]))
for n in range(len(store), 100_000):
    store.append([label(n, text="word " * 400)])
    print(n, flush=True)
"""


@pytest.mark.slow
def test_pitfall_7_kill_9_loses_no_label_that_was_reported(tmp_path):
    path = tmp_path / "labels.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    told = -1
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), os.path.dirname(__file__)],  # noqa: PTH120
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for _ in range(25):
            told = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        rest = writer.communicate()[0].split()
        told = int(rest[-1]) if rest else told
        store = LabelStore(path)
        assert [row.doc_id for row in store.rows] == [f"d{n}" for n in range(len(store))]
        assert told < len(store) <= told + 2  # the one under way may be whole on disk already
    assert told >= 74


def test_a_damaged_line_in_the_middle_is_told_with_its_number(tmp_path):
    path = tmp_path / "labels.jsonl"
    store = LabelStore(path)
    store.append([label(1), label(2)])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0][:40] + b"\n" + lines[1])
    with pytest.raises(BadInput, match=r"labels\.jsonl, line 1: not valid JSON"):
        LabelStore(path)
    path.write_text('{"snippet_id": "a"}\n')
    with pytest.raises(BadInput, match=r'labels\.jsonl, line 1: field "doc_id" is missing'):
        LabelStore(path)


def test_rows_are_checked():
    with pytest.raises(BadConfig, match="reason must be one of seed, uniform, interval, nearest; got 'luck'"):
        label(1, reason="luck")
    with pytest.raises(BadInput, match="d1:0-4: a label is 1, 0 or null; got 2"):
        label(1, 2)


@pytest.mark.parametrize(
    ("word", "found"),
    [("PASS", 1), (" fail ", 0), (1, 1), ("0", 0), (True, 1), (False, 0), ("", None), (None, None)],
)
def test_labels_as_people_write_them(word, found):
    assert read_label(word, "here") == found


def test_words_that_are_no_labels():
    with pytest.raises(BadInput, match="here: 'passable' is no label"):
        read_label("passable", "here")
