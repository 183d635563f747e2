import json

import pytest

from gnomon.errors import BadInput
from gnomon.methods.crispo import Example, read_examples
from gnomon.methods.crispo.examples import (
    check_apart,
    check_slots,
    copied,
    key_phrases,
    next_k,
    phrases_of,
    stated_k,
)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_rows_of_every_kind(tmp_path):
    rows = [
        {"dialogue": "a", "summary": "b", "context": "c"},
        {"dialogue": "d", "summary": ["e", "f"], "id": 7},
    ]
    columns = {"dialogue": "input", "summary": "output"}
    found = read_examples(write(tmp_path / "r.jsonl", rows), columns=columns)
    assert [(r.id, r.input, r.references) for r in found] == [("0", "a", ("b",)), ("7", "d", ("e", "f"))]
    assert found[0].value("context") == "c"
    assert found[0].source(["input"]) == "a"
    assert found[0].source(["context", "input", "examples"]) == "context: c\ninput: a"
    assert len(read_examples(str(tmp_path / "r.jsonl"), columns=columns, limit=1)) == 1


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "holds no rows"),
        ([{"input": "a"}], "the output is empty"),
        ([{"input": "a", "output": " "}], "the output is empty"),
        ([{"input": "a", "output": []}], "the output is empty"),
        ([{"input": "a", "output": "b", "id": 1}, {"input": "c", "output": "d", "id": "1"}], 'rows are called "1"'),
        ([{"input": "a", "output": 3}], 'field "output" must be'),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used(tmp_path, rows, says):
    with pytest.raises(BadInput) as told:
        read_examples(write(tmp_path / "r.jsonl", rows))
    assert says in str(told.value)


def test_splits_must_not_share_inputs():
    one, same, other = Example("a", "x", "1"), Example("b", "x", "2"), Example("c", "y", "1")
    check_apart({"train": [one], "dev": [other]}, ["input"])
    with pytest.raises(BadInput, match=r'Row "a" of train is row "b" of test \(1 in all\)'):
        check_apart({"train": [one], "dev": [other], "test": [same]}, ["input"])
    # What counts is what the model is given: the same passage with another question is another row.
    q1, q2 = (Example(i, "p", "1", {"question": q}) for i, q in (("a", "who?"), ("b", "when?")))
    check_apart({"train": [q1], "dev": [q2]}, ["input", "question"])
    with pytest.raises(BadInput, match="is row"):
        check_apart({"train": [q1], "dev": [q2]}, ["input"])


PHRASES = [
    {"text": "late", "rank": 2, "start": 0, "end": 4, "score": 0.1, "kept": False},
    {"text": "the new roof", "rank": 0, "start": 9, "end": 21, "score": 0.9, "kept": True},
    {"text": "new roof", "rank": 1, "start": 13, "end": 21, "score": 0.8, "kept": False},
    {"text": "council", "rank": 3, "start": 30, "end": 37, "score": 0.05, "kept": True},
]


def test_key_phrases_are_the_best_that_differ():
    unread = {"text": "beyond the encoder's reach", "score": None, "rank": None, "kept": False}
    row = Example("a", "x", "y", {"phrases": [*PHRASES, unread]})
    assert phrases_of(row) == ("the new roof", "new roof", "late", "council")
    assert key_phrases(row, 2) == "the new roof; late"  # "new roof" says nothing new
    assert key_phrases(row, 60) == "the new roof; late; council"


def test_what_a_prompt_needs_is_checked_row_by_row():
    row = Example("a", "x", "y", {"context": "c", "phrases": PHRASES})
    check_slots("INSERT_INPUT_HERE INSERT_CONTEXT_HERE INSERT_KEYPHRASES_HERE", [row], has_encoder=False)
    for text, says in (
        ("Summarise.", "no slot for the input. Write INSERT_INPUT_HERE"),
        ("INSERT_EXAMPLES_HERE", "no slot for the input"),
        ("INSERT_INPUT_HERE INSERT_EXAMPLES_HERE", "--encoder FOLDER"),
        ("INSERT_QUESTION_HERE", 'Row "a" has no text "question"'),
    ):
        with pytest.raises(BadInput) as told:
            check_slots(text, [row], has_encoder=False)
        assert says in str(told.value)
    for meta, says in (({}, "gnomon sigext score"), ({"phrases": ["x"]}, '"text" and "rank"')):
        with pytest.raises(BadInput) as told:
            check_slots(
                "INSERT_INPUT_HERE INSERT_KEYPHRASES_HERE", [Example("b", "x", "y", meta)], has_encoder=False
            )
        assert 'Row "b"' in str(told.value)
        assert says in str(told.value)


def test_k_moves_by_half_within_its_limits():
    import random

    draws = [random.Random(i) for i in range(40)]
    assert {next_k(20, d) for d in draws} == {30, 13}
    assert {next_k(3, d) for d in draws} == {3, 4}
    assert {next_k(60, d) for d in draws} == {60, 40}
    assert [stated_k(t) for t in ("7", " 60 ", "2", "61", "many", None, "1.5")] == [7, 60] + [None] * 5


def test_copies_are_told_from_coincidences():
    rows = [
        Example("a", "long enough to be an input of its own", "yes"),
        Example("b", "x", "this is a long reference"),
    ]
    assert copied("yes, and this is a long reference.", rows) == ["b"]
    assert copied("a long enough to be an input of its own", rows) == []
    assert copied("a long enough to be an input of its own", rows, inputs=True) == ["a"]
