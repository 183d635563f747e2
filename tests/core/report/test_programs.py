import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.report.heat import tokens
from gnomon.core.report.programs import difference, frames

program = st.lists(st.sampled_from(["a = 1", "", "b = a", "    c", "return"]), max_size=7).map("\n".join)


def test_each_line_knows_the_edit_that_wrote_it():
    path = frames(["", "b", "a\nb", "a\nb\nc"], ["one", "two", "three"])
    assert [(line.text, line.step, line.kind) for line in path[-1].lines] == [
        ("a", 2, "same"),
        ("b", 1, "same"),
        ("c", 3, "add"),
    ]
    assert [(frame.added, frame.removed, frame.note) for frame in path] == [
        (1, 0, "one"),
        (1, 0, "two"),
        (1, 0, "three"),
    ]


def test_deleted_lines_are_shown_once_and_then_forgotten():
    path = frames(["x\ny", "x", "x\nz"], [])
    assert [(line.kind, line.text, line.number, line.step) for line in path[0].lines] == [
        ("same", "x", 1, 0),
        ("del", "y", None, 0),
    ]
    assert [(line.kind, line.text, line.step) for line in path[1].lines] == [
        ("same", "x", 0),
        ("add", "z", 2),
    ]


@given(st.lists(program, min_size=2, max_size=5))
def test_frames_hold_every_state_whole(states):
    for before, after, frame in zip(states, states[1:], frames(states, []), strict=False):
        kept = [line for line in frame.lines if line.kind != "del"]
        assert [line.text for line in kept] == (after.split("\n") if after else [])
        assert [line.number for line in kept] == list(range(1, len(kept) + 1))
        old = [line.text for line in frame.lines if line.kind != "add"]
        assert old == (before.split("\n") if before else [])


@given(program, program)
def test_difference_is_empty_exactly_for_equal_texts(a, b):
    assert all(line.kind == "same" for line in difference(a, b)) == (a == b)


def test_tokens_scale_to_the_largest_and_keep_blanks_plain():
    shown, top = tokens([("a", 1.0), ("b\n", -2.0), ("c", None), ("d", float("nan")), ("e", 9.0)], peak=None)
    assert top == 9.0
    assert [(t.tint, t.percent) for t in shown] == [
        ("warm", 11),
        ("cool", 22),
        ("", 0),
        ("", 0),
        ("warm", 100),
    ]
    assert shown[1].text == "b↵" and shown[1].breaks
    assert tokens([("a", 4.0)], peak=2.0)[0][0].percent == 100
    assert tokens([("a", 0.0)], peak=None)[0][0].tint == ""


def test_no_frames_without_an_edit():
    assert frames(["x"], []) == [] and frames([], []) == []
    with pytest.raises(IndexError):
        frames(["", "a", "b"], ["only one"])
