import difflib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.errors import BadInput
from gnomon.methods.lintseq import ResolveResult, render_target, resolve
from gnomon.methods.lintseq.edits import forward_diffs, line_sets_of, split_target

AWKWARD = [
    "@@ -0,0 +1 @@",
    "+x",
    "--flag",
    "-",
    "+",
    "++ item",
    "\\ No newline at end of file",
    "",
    "   ",
    "<|diff|>",
]
AWKWARD += [
    "@@",
    "--- a",
    "+++ b",
    "return text",
    "@@ -1,2 +3,4 @@ def f():",
    "\t",
    "x = '\u2028'",
    "a\rb",
    "\x0c",
    "ü",
]


@st.composite
def programs(draw, unique=False):
    """Lines, and a partition of them into edits."""
    size = draw(st.integers(1, 12))
    lines = [f"line {n}" for n in range(size)]
    if not unique:
        line = st.sampled_from(AWKWARD) | st.text(st.characters(exclude_characters="\n"), max_size=6)
        lines = draw(st.lists(line, min_size=size, max_size=size))
    owner = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
    edits = sorted(set(owner), key=lambda edit: draw(st.integers()))
    return lines, [[n for n in range(size) if owner[n] == edit] for edit in edits]


@given(programs())
def test_pitfall_1_insertions_round_trip_byte_for_byte_whatever_the_lines_hold(case):
    lines, line_sets = case
    diffs = forward_diffs(lines, line_sets)
    assert all(line.startswith(("@@ ", "+")) for diff in diffs for line in diff.split("\n"))
    for source in (diffs, render_target(diffs), render_target(diffs).removeprefix("\n<|diff|>")):
        result = resolve(source, strict=True)
        assert result.code == "\n".join(lines)
        assert result.n_malformed == 0
    assert line_sets_of(diffs) == (lines, line_sets)


@given(programs(unique=True))
def test_pitfall_1_diffs_are_those_of_difflib_where_no_line_repeats(case):
    lines, line_sets = case
    present: list[int] = []
    for line_set, diff in zip(line_sets, forward_diffs(lines, line_sets), strict=True):
        after = sorted([*present, *line_set])
        old, new = ([lines[n] for n in state] for state in (present, after))
        assert diff.split("\n") == list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
        present = after


def test_pitfall_1_states_whose_text_would_diff_as_a_replacement():
    lines = ["    # first, indented", "x = 1 ", "x = 1", "x = 1"]
    assert forward_diffs(lines, [[2], [1, 3], [0]]) == [
        "@@ -0,0 +1 @@\n+x = 1",
        "@@ -0,0 +1 @@\n+x = 1 \n@@ -1,0 +3 @@\n+x = 1",
        "@@ -0,0 +1 @@\n+    # first, indented",
    ]


@pytest.mark.parametrize("line_sets", [[[0]], [[0, 1], [1]], [[0, 1, 2]], [[-1, 0]]])
def test_edits_that_are_no_partition_are_refused(line_sets):
    with pytest.raises(BadInput, match="each of the 2 lines exactly once"):
        forward_diffs(["a", "b"], line_sets)


def test_pitfall_2_exactly_one_plus_is_taken_off():
    result = resolve("@@ -0,0 +1,3 @@\n++ item\n+--flag\n+@@ -0,0 +1 @@")
    assert result == ResolveResult("+ item\n--flag\n@@ -0,0 +1 @@", 1, 0)


def test_pitfall_2_code_with_at_signs_survives_beside_real_headers():
    text = "@@ -0,0 +1,2 @@\n+a @@ b\n+@@\n@@ -2,0 +3 @@\n+c"
    assert resolve([text]).code == "a @@ b\n@@\nc"
    assert resolve([text]).n_hunks == 2


def test_pitfall_3_the_end_mark_is_taken_off_as_a_whole():
    diff = "@@ -0,0 +1 @@\n+return text"
    assert resolve(diff + "</text>", eos="</text>").code == "return text"
    assert resolve(diff, eos="</text>").code == "return text"
    assert resolve(diff + "</text>").code == "return text</text>"


@pytest.mark.parametrize(
    "hunk",
    [
        "@@ -1 +1 @@\n-a\n+b",
        "@@ -1,1 +1 @@\n+b",
        "@@ -1,1 +0,0 @@\n-a",
        "@@ -1,0 +2 @@\n b",
        "@@ -1,0 +2 @@\nb",
        "@@ -1,0 +2 @@",
        "@@ -1,0 +0 @@\n+b",
        "@@ -1,0 + @@\n+b",
        "@@ -\u0661,0 +2 @@\n+b",
        "@@",
        "words",
    ],
)
def test_pitfall_4_hunks_that_delete_or_cannot_be_read_are_never_inserted(hunk):
    edits = ["@@ -0,0 +1 @@\n+a", hunk, "@@ -1,0 +2 @@\n+z"]
    assert resolve(edits) == ResolveResult("a\nz", 3, 1)
    assert resolve(edits, strict=True) == ResolveResult(None, 3, 1)
    with pytest.raises(BadInput, match="Edit 2 has a malformed hunk"):
        line_sets_of(edits)


def test_lenient_resolving_forgives_counts_and_places_that_strict_does_not():
    wrong_count = ["@@ -0,0 +1,3 @@\n+a\n+b"]
    beyond = ["@@ -0,0 +1 @@\n+a", "@@ -7,0 +9 @@\n+b"]
    for edits in (wrong_count, beyond):
        assert resolve(edits).code == "a\nb"
        assert resolve(edits).n_malformed == 0
        assert resolve(edits, strict=True).code is None


def test_a_target_ends_with_two_empty_edits_and_nothing_after_them_counts():
    target = render_target(["@@ -0,0 +1 @@\n+a"])
    assert target == "\n<|diff|>@@ -0,0 +1 @@\n+a\n<|diff|>\n<|diff|>"
    assert resolve(target + "@@ -0,0 +1 @@\n+late").code == "a"
    assert split_target(target) == ["@@ -0,0 +1 @@\n+a"]
    assert render_target([], "[D]") == "\n[D]\n[D]"


def test_nothing_generated_is_the_empty_program():
    for text in ("", "\n", "<|diff|>", "\n<|diff|>\n<|diff|>"):
        assert resolve(text) == ResolveResult("", 0, 0)


@given(st.text(alphabet="@+- ,01\na<|dif>", max_size=60) | st.text())
def test_any_text_resolves_without_an_exception(text):
    lenient, strict = resolve(text), resolve(text, strict=True)
    assert lenient.n_malformed <= strict.n_malformed <= strict.n_hunks == lenient.n_hunks
    assert (strict.code is None) == (strict.n_malformed > 0)
    if strict.code is not None:
        assert strict.code == lenient.code
