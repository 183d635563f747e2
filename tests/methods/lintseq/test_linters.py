import random
import subprocess
import sys

import pytest

from gnomon.errors import BadConfig
from gnomon.methods.lintseq.linters import (
    Diagnostic,
    linter_names,
    open_linter,
    register_linter,
    shared_linter,
)

BROKEN = "def f(a):\n    if a:\n    return b"
UNDEFINED = "def f(a):\n    return a + b\n\nimport no_such_module\nno_such_module.x()"


def codes(linter: str, text: str) -> list[tuple[str, int, bool]]:
    return [(found.code, found.line, found.is_syntax) for found in shared_linter(linter).check(text)]


@pytest.mark.parametrize(
    ("linter", "undefined"), [("pylint", "E0602"), ("pyflakes", "UndefinedName"), ("ruff", "F821")]
)
def test_every_linter_sees_names_and_ignores_what_is_installed(linter, undefined):
    assert codes(linter, UNDEFINED) == [(undefined, 2, False)]
    assert codes(linter, "import os\nx = 1\n\n\ndef f( ):\n    y = 2") == []
    assert codes(linter, "") == []


@pytest.mark.parametrize(("linter", "code"), [("pylint", "E0001"), ("pyflakes", "SyntaxError")])
def test_a_syntax_error_is_alone_and_blames_the_line_it_names(linter, code):
    (found,) = shared_linter(linter).check(BROKEN)
    assert (found.code, found.line, found.is_syntax) == (code, 3, True)
    assert "on line 2" in found.message
    assert found.blamed_line() == 2


def test_ruff_reports_syntax_errors_alone():
    found = shared_linter("ruff").check(BROKEN + "\n" + "c = undefined")
    assert found and all(diagnostic.is_syntax for diagnostic in found)


def test_only_a_syntax_error_blames_the_line_in_its_sentence():
    assert Diagnostic("E0102", 7, "function already defined on line 3").blamed_line() == 7


def test_pylint_counts_errors_and_two_warnings():
    code = "class A(B):\n  def __init__(self):\n    self.a = unused = 1\n    eval('1')"
    assert {found.code for found in shared_linter("pylint").check(code)} == {"E0602", "W0311"}
    code = """\
class A:
    def __init__(self):
        self.a = 1


class B(A):
    def __init__(self):
        pass"""
    assert [found.code for found in shared_linter("pylint").check(code)] == ["W0231"]


@pytest.mark.parametrize(("linter", "code"), [("pylint", "F0002"), ("pyflakes", "Failed")])
def test_a_linter_that_fails_says_so_and_goes_on(linter, code):
    text = (
        "from x import __all__\n__all__ += ['a']"
        if linter == "pyflakes"
        else f"x = {' + '.join(['1'] * 900)}"
    )
    assert (code, 1) in {(found.code, found.line) for found in shared_linter(linter).check(text)}
    assert shared_linter(linter).check("x = 1") == []


def test_pylint_forgets_the_text_before():
    linter = shared_linter("pylint")
    first = linter.check("import program\nprogram.f()\n# pylint: skip-file")
    assert first == []
    found = linter.check("from program import f\nx = y")
    assert [(diagnostic.code, diagnostic.line) for diagnostic in found] == [("E0602", 2)]


def test_an_unknown_linter_is_named_with_the_nearest():
    with pytest.raises(BadConfig, match=r'no linter "pylnt". Did you mean "pylint"'):
        open_linter("pylnt")


def test_a_user_may_register_a_linter_and_replace_it():
    class Shouting:
        name = "shouting"

        def __init__(self, version):
            self.version = version

        def check(self, text):
            return [
                Diagnostic("quiet", n, "say it louder")
                for n, line in enumerate(text.split("\n"), 1)
                if line.islower()
            ]

    register_linter("shouting", lambda: Shouting("1"))
    assert "shouting" in linter_names()
    assert codes("shouting", "A\nb") == [("quiet", 2, False)]
    register_linter("shouting", lambda: Shouting("2"))
    assert shared_linter("shouting").version == "2"


def mutilated(functions):
    """Functions of the standard library, every second one with a line missing."""
    draws = random.Random(0)
    for number, function in enumerate(functions):
        lines = function.code.split("\n")
        if number % 2:
            del lines[draws.randrange(len(lines))]
        yield "\n".join(lines)


@pytest.mark.slow
def test_pylint_gives_the_messages_of_a_plain_run(functions):
    from gnomon.methods.lintseq.linters.pylint import run_pylint

    linter = shared_linter("pylint")
    seen = set()
    for text in mutilated(functions[:: len(functions) // 60]):
        expected = run_pylint(text)
        assert linter.check(text) == expected, text
        seen.update(found.code for found in expected)
    assert {"E0001", "E0602"} <= seen


@pytest.mark.slow
@pytest.mark.parametrize("text", [BROKEN, UNDEFINED, "class A:\n  def f(self):\n    return self.b\n"])
def test_pylint_gives_the_messages_of_the_command(tmp_path, text):
    from gnomon.methods.lintseq.linters.pylint import entry_point_switches

    (tmp_path / "program.py").write_text(text)
    command = [
        sys.executable,
        "-m",
        "pylint",
        *entry_point_switches(),
        "--msg-template={msg_id}|{line}|{msg}",
    ]
    printed = subprocess.run([*command, "program.py"], cwd=tmp_path, capture_output=True, text=True).stdout
    expected = sorted(line for line in printed.splitlines() if "|" in line)
    assert expected
    found = shared_linter("pylint").check(text)
    assert sorted(f"{one.code}|{one.line}|{one.message}" for one in found) == expected
