import ast
import random
import warnings

import pytest

from gnomon.methods.lintseq import Program
from gnomon.methods.lintseq.programs import candidates, python_layout


def together(code: str, line: int) -> list[int]:
    return sorted(python_layout(code.split("\n")).together[line])


class Silent:
    """A linter that never complains: what is removed is then the layout's doing."""

    name = "silent"
    version = "1"

    def check(self, text):
        return []


def removed(code: str, *lines: int) -> list[int]:
    program = Program(code, linter=Silent())
    return sorted(program.close(lines, program.full).lines)


def test_indentation_of_short_and_blank_lines_comes_from_above():
    lines = ["def f(", "        a", "):", "", "    b", "    c = 1", "#", "# x"]
    assert python_layout(lines).indent == (0, 0, 0, 0, 4, 4, 4, 0)
    assert python_layout(lines).tab_width() == 4
    assert python_layout(["if a:", "  b"]).tab_width() == 2


def test_a_block_reaches_to_the_first_line_that_is_not_deeper():
    code = "if a:\n    b()\n    if c:\n        d()\n\n    # last\ne()"
    assert together(code, 0) == [0, 1, 2, 3, 4, 5]
    assert together(code, 2) == [2, 3, 4]
    assert together(code, 1) == [1]
    assert together(code, 6) == [6]


def test_a_comment_at_the_margin_does_not_cut_a_block():
    assert together("if a:\n    b()\n# note\n    c()\nd()", 0) == [0, 1, 2, 3]


def test_pitfall_7_a_statement_over_several_lines_is_one_unit():
    string = 'x = """a\nb\n"""\ny = 1'
    bracket = "x = [\n    1,\n    # two\n    2,\n]\ny = 1"
    backslash = "x = 1 + \\\n    2\ny = 1"
    for code, size in ((string, 3), (bracket, 5), (backslash, 2)):
        for line in range(size):
            assert together(code, line) == list(range(size))
        assert together(code, size) == [size]


def test_pitfall_7_decorators_go_with_their_def():
    code = "@one\n# why\n@two(\n    1)\ndef f():\n    return 1\nx = 1"
    for line in range(5):
        assert together(code, line) == [0, 1, 2, 3, 4, 5]
    assert together(code, 5) == [5]


def test_pitfall_7_clauses_go_with_their_owner_and_not_the_other_way():
    code = "if a:\n    b\nelif c:\n    d\nelse:\n    e\nf"
    assert together(code, 0) == [0, 1, 2, 3, 4, 5]
    assert together(code, 2) == [2, 3]
    assert removed(code, 4) == [4, 5]
    loop = "for a in b:\n    if a:\n        break\nelse:\n    c\nif d:\n    e\nelse:\n    f"
    assert together(loop, 0) == [0, 1, 2, 3, 4]
    assert together(loop, 1) == [1, 2]
    assert together(loop, 5) == [5, 6, 7, 8]


def test_pitfall_7_a_try_does_not_stay_without_handler():
    code = "try:\n    a\nexcept B:\n    c\nexcept D:\n    e\nelse:\n    f\nfinally:\n    g"
    assert removed(code, 2) == [2, 3]
    assert removed(code, 2, 4) == [2, 3, 4, 5, 6, 7]
    assert removed(code, 2, 4, 8) == list(range(10))
    assert removed("try:\n    a\nexcept B:\n    c\nx", 2) == [0, 1, 2, 3]


def test_a_header_does_not_stay_without_body():
    assert removed("def f():\n    # note\n    return 1\nx", 2) == [0, 1, 2]
    assert removed("if a:\n    b\nelse:\n    c", 3) == [2, 3]
    assert removed("while a:\n    if b:\n        c", 2) == [0, 1, 2]
    assert removed("if a: b\nc", 1) == [1]


def test_candidates_leave_out_blanks_comments_and_open_globals():
    lines = [
        "import a",
        "",
        "# note",
        "TABLE = [",
        "    1,",
        "    2,",
        "]",
        "low = (",
        "    3,",
        ")",
        "A, B = 1, 2",
    ]
    assert candidates(lines) == [0, 3, 7, 8, 9, 10]
    assert candidates(lines, skip_comments=False) == [0, 2, 3, 7, 8, 9, 10]
    assert candidates(lines, skip_globals=False) == [0, 3, 4, 5, 6, 7, 8, 9, 10]


@pytest.mark.slow
def test_what_the_layout_leaves_always_parses(functions):
    draws = random.Random(1)
    n_cut = 0
    for function in functions[::16]:
        program = Program(function.code, linter=Silent())
        state = program.full
        for _ in range(6):
            if (deletion := program.draw(state, draws)) is None:
                break
            state -= deletion.lines
            n_cut += bool(state)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(program.text(state))
    assert n_cut > 500
