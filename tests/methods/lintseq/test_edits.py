import ast
import random

import pytest

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.lintseq import (
    Program,
    Rejected,
    Rules,
    audit_path,
    render_target,
    resolve,
    sample_edits,
    sample_path,
)
from gnomon.methods.lintseq.linters import Diagnostic, shared_linter
from gnomon.methods.lintseq.programs import normalise

MEAN = """\
def mean(numbers):
    total = 0
    for number in numbers:
        total = total + number
    count = len(numbers)
    return total / count"""


def check_path(path, code=None):
    """What holds for every path: a partition, exact round trip, insertions only, clean states."""
    assert sorted(line for lines in path.line_sets for line in lines) == list(range(len(path.lines)))
    assert path.states[0] == "" and path.states[-1] == path.code
    assert len(path.states) == len(path.diffs) + 1 == len(path.lint_clean)
    assert all(path.lint_clean)
    assert all(line.startswith(("@@ ", "+")) for diff in path.diffs for line in diff.split("\n"))
    assert resolve(render_target(path.diffs), strict=True).code == path.code
    if code is not None:
        assert path.code == code


def check_states(path, linter):
    """The written diffs, judged by the audit, which lints every state anew and does not know the sampler."""
    audit = audit_path(path.code, path.diffs, shared_linter(linter))
    assert audit.is_exact and audit.n_clean == audit.n_states, audit.offence


class Scripted(random.Random):
    """Draws the given candidates, one after the other."""

    def __init__(self, *lines):
        super().__init__(0)
        self.lines = list(lines)

    def choices(self, population, weights=None, **_):
        line = self.lines.pop(0)
        assert line in population
        return [line]


@pytest.mark.parametrize("linter", ["pylint", "pyflakes", "ruff"])
def test_a_deletion_takes_what_depends_on_it(linter):
    code = """\
def f(side):
    half = side / 2
    if half:
        full = half + half
    note = 1
    return half * half"""
    program = Program(code, linter=linter)
    # Without `half` lines 2, 3 and 5 have no meaning; `note` stays.
    path = sample_path(program, Scripted(1, 4))
    assert path.line_sets[-1] == [1, 2, 3, 5]
    # Then the function holds `note` alone, which takes the header with it.
    assert path.line_sets == [[0, 4], [1, 2, 3, 5]]
    check_path(path, code)


def test_the_diffs_of_a_path_worked_by_hand():
    path = sample_path(Program(MEAN, linter="pyflakes"), Scripted(5, 3, 4, 0))
    assert path.line_sets == [[0, 1], [4], [2, 3], [5]]
    assert path.diffs == [
        "@@ -0,0 +1,2 @@\n+def mean(numbers):\n+    total = 0",
        "@@ -2,0 +3 @@\n+    count = len(numbers)",
        "@@ -2,0 +3,2 @@\n+    for number in numbers:\n+        total = total + number",
        "@@ -5,0 +6 @@\n+    return total / count",
    ]


def test_comments_that_are_left_come_first():
    code = "# what\nx = 1\n\n# why\ny = x"
    path = sample_path(Program(code, linter="pyflakes"), Scripted(4, 1))
    assert path.line_sets == [[0, 2, 3], [1], [4]]
    check_path(path, code)


def test_deep_lines_are_drawn_in_proportion_to_their_depth():
    code = "a = 1\nif a:\n    b = 2\n    if b:\n        c = 3"
    program = Program(code, linter="pyflakes", rules=Rules(indent_bias=3))
    draws = random.Random(0)
    firsts = [program.draw(program.full, draws).lines for _ in range(4000)]
    # Weights 1, 1, 3, 3, 6 of 14; drawing `c` empties `if b`, drawing `b` takes `if b` and with it `if a`.
    share = sum(lines == {3, 4} for lines in firsts) / 4000
    assert share == pytest.approx(9 / 14, abs=0.03)
    assert sum(lines == {1, 2, 3, 4} for lines in firsts) / 4000 == pytest.approx(4 / 14, abs=0.03)


def test_the_same_generator_gives_the_same_path_whatever_came_before():
    program = Program(MEAN, linter="pyflakes")
    first = sample_path(program, Rng(0).child(7, 1))
    for number in range(5):
        sample_path(program, Rng(0).child(7, number))
    assert sample_path(program, Rng(0).child(7, 1)).line_sets == first.line_sets
    assert sample_edits(MEAN, linter="pyflakes", rng=Rng(0).child(7, 1)).line_sets == first.line_sets
    assert len({str(sample_path(program, Rng(0).child(7, n)).line_sets) for n in range(30)}) > 5


@pytest.mark.parametrize("linter", ["pylint", "pyflakes"])
def test_remembered_states_cost_no_lint_and_change_nothing(linter):
    plain = Program(MEAN, linter=linter, memoise=False, incremental=False)
    quick = Program(MEAN, linter=linter, incremental=False)
    for number in range(30):
        one = sample_path(plain, Rng(1).child(number))
        two = sample_path(quick, Rng(1).child(number))
        assert one.line_sets == two.line_sets
    assert quick.n_lint_calls < plain.n_lint_calls / 3


def test_max_edits_inserts_the_rest_at_once():
    for limit in (1, 2, 3):
        path = sample_edits(MEAN, linter="pyflakes", max_edits=limit, rng=Rng(3))
        assert len(path.line_sets) <= limit
        check_path(path, MEAN)
    with pytest.raises(BadConfig, match="max_edits must be >= 1; got 0"):
        sample_edits(MEAN, max_edits=0, rng=Rng(0))


def test_pitfall_5_a_program_with_another_indentation_keeps_its_steps():
    code = MEAN.replace("    ", "  ")
    assert {found.code for found in shared_linter("pylint").check(code)} == {"W0311"}
    paths = [sample_edits(code, rng=Rng(0).child(n)) for n in range(5)]
    assert [path.line_sets for path in paths] == [
        sample_edits(MEAN, rng=Rng(0).child(n)).line_sets for n in range(5)
    ]
    for path in paths:
        check_path(path, code)
    kept = [sample_edits(code, rules=Rules(baseline_errors="keep"), rng=Rng(0).child(n)) for n in range(5)]
    assert all(path.line_sets == [list(range(6))] for path in kept)
    with pytest.raises(Rejected, match=r"5 lint errors of its own, the first on line 2: W0311") as caught:
        sample_edits(code, rules=Rules(baseline_errors="fail"), rng=Rng(0))
    assert caught.value.reason == "baseline-errors"


def test_pitfall_5_a_missing_package_changes_nothing():
    code = "from {} import f\n\n\ndef g(x):\n    y = f(x)\n    return y"
    there, missing = code.format("math"), code.format("no_such_package")
    for number in range(6):
        path = sample_edits(there, rng=Rng(number))
        assert path.line_sets == sample_edits(missing, rng=Rng(number)).line_sets


def test_baseline_errors_are_keyed_by_code_and_line():
    code = "x = a\ny = x"
    program = Program(code, linter="pyflakes")
    assert program.errors(program.full) == frozenset()
    assert program.errors(frozenset({1})) == {("UndefinedName", 1)}
    kept = Program(code, linter="pyflakes", rules=Rules(baseline_errors="keep"))
    assert kept.errors(kept.full) == {("UndefinedName", 0)}


class Grumbler:
    """Complains about a line that the text does not have."""

    name = "grumbler"
    version = "1"

    def __init__(self, line, needle):
        self.line, self.needle = line, needle

    def check(self, text):
        return [Diagnostic("grumble", self.line, "no")] if self.needle not in text else []


@pytest.mark.parametrize("line", [-3, 0, 1, 4, 99])
def test_pitfall_6_lines_outside_the_text_are_clamped_and_the_fixpoint_ends(line):
    code = "\n".join(f"x{n} = {n}" for n in range(60)) + "\nlast = 1"
    path = sample_edits(code, linter=Grumbler(line, "last"), rng=Scripted(60))
    assert path.line_sets == [list(range(61))]
    assert path.n_lint_calls <= 61


def test_pitfall_6_a_linter_that_never_is_content_takes_whole_blocks_in_the_end():
    body = "\n".join(f"    x{n} = {n}" for n in range(80))
    code = f"def f():\n{body}\nlast = 1"
    path = sample_edits(code, linter=Grumbler(2, "last"), rng=Scripted(81))
    assert path.line_sets == [list(range(82))]
    assert path.n_lint_calls < 40


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("# only\n\n# words", "no-code"),
        ("def f(:\n    pass", "syntax-error"),
        ("x = 1\0", "syntax-error"),
    ],
)
@pytest.mark.parametrize("linter", ["pylint", "pyflakes", "ruff"])
def test_programs_without_a_path_are_rejected_with_a_reason(code, reason, linter):
    with pytest.raises(Rejected) as caught:
        Program(code, linter=linter)
    assert caught.value.reason == reason
    assert "\n" not in str(caught.value)


def test_text_that_the_linter_accepts_but_python_does_not_is_rejected():
    with pytest.raises(Rejected, match="does not parse"):
        Program("x = (", linter=Grumbler(1, "x"))


def test_bad_settings_are_named():
    with pytest.raises(BadConfig, match="indent_bias must be > 0; got 0"):
        Program(MEAN, rules=Rules(indent_bias=0))
    with pytest.raises(BadConfig, match=r'baseline_errors cannot be "substract". Did you mean "subtract"'):
        Program(MEAN, rules=Rules(baseline_errors="substract"))


@pytest.mark.slow
@pytest.mark.parametrize(("linter", "count"), [("pyflakes", 150), ("pylint", 40), ("ruff", 6)])
def test_paths_of_real_functions_are_clean_and_exact(functions, linter, count):
    n_edits = 0
    for number, function in enumerate(functions[:: len(functions) // count]):
        program = Program(function.code, linter=linter)
        for sample in range(2):
            path = sample_path(program, Rng(0).child(number, sample))
            check_path(path)
            check_states(path, linter)
            n_edits += len(path.line_sets)
    assert n_edits > 3 * count


@pytest.mark.slow
@pytest.mark.parametrize("linter", ["pyflakes", "pylint"])
def test_humaneval_programs_are_clean_and_exact(humaneval, linter):
    for number, code in enumerate(humaneval):
        path = sample_edits(code, linter=linter, rng=Rng(0).child(number))
        check_path(path, normalise(code))
        check_states(path, linter)
        assert ast.dump(ast.parse(normalise(code))) == ast.dump(ast.parse(code))


@pytest.mark.slow
def test_pitfall_5_edit_paths_equal_one_plain_pylint_run_per_state(functions):
    from gnomon.methods.lintseq.linters.pylint import run_pylint

    class Plain:
        name = "pylint"
        version = "plain"
        check = staticmethod(run_pylint)

    short = [function for function in functions if function.code.count("\n") in range(8, 12)]
    for number, function in enumerate(short[:: len(short) // 10]):
        plain = sample_path(Program(function.code, linter=Plain(), memoise=False), Rng(0).child(number))
        quick = sample_path(Program(function.code, linter="pylint"), Rng(0).child(number))
        assert plain.line_sets == quick.line_sets
