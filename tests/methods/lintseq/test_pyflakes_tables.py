import random
from itertools import combinations, islice

import pytest

from gnomon.core.data.corpora import stdlib_functions, stdlib_modules
from gnomon.core.rng import Rng
from gnomon.methods.lintseq.edits import sample_path
from gnomon.methods.lintseq.linters import shared_linter
from gnomon.methods.lintseq.program import Program

PROGRAMS = {
    "order": "a = 1\ndef f():\n    return b + a\nb = a\nc = d\nd = c",
    "class scope": "class A:\n    x = 1\n    y = [x for _ in x]\n    def f(self):\n        return x, __class__, y\n    z = __qualname__\nx = 2",
    "comprehension": "n = 3\nm = [i for i in range(n) if i]\nk = {i: j for i in m for j in i}\ni",
    "except name": "e = 0\ntry:\n    e\nexcept ValueError as e:\n    print(e)\n    e = 1\nexcept TypeError as e:\n    pass\nprint(e)",
    "except in function": "def f(e):\n    try:\n        g()\n    except ValueError as e:\n        h = e\n    return e, h\ndef g():\n    pass",
    "shadowed": "def f():\n    x = 1\n    print(x)\n    x = 2\n    y = max(x, 1)\n    max = y\nx = 0",
    "loop shadows builtin": "def f(a):\n    for b in a:\n        c = len(b)\n        len = c\n    return len",
    "del": "a = 1\nb = 2\nif a:\n    del a\ndel b\nprint(a, b)",
    "global": "def f():\n    global a\n    a = 1\ndef g():\n    return a\nprint(a)\na = 2",
    "nonlocal": "def f():\n    a = 1\n    def g():\n        nonlocal a\n        a = 2\n    g()\n    return a",
    "annotation": "a: int\nb: int = 1\nclass C:\n    c: 'D'\n    d: int = b\n    def f(self) -> 'C':\n        return a\nD = 1",
    "walrus": "def f(a):\n    if (b := a):\n        return [c := d for d in b], c\n    return b",
    "export": "__all__ = ['f', 'g', 'lost']\n__all__ += ['a']\ndef f():\n    pass\ndef g():\n    pass\na = 1",
    "star": "from a import *\nb = c\nd = b",
    "future": "from __future__ import annotations\ndef f(a: B) -> C:\n    return a\nclass B:\n    pass",
    "typing": "from typing import Optional, cast\nimport typing\na: Optional['B'] = None\nb = cast('C', a)\nc = typing.List['D']",
    "name error": "try:\n    a = b\nexcept NameError:\n    a = 1\nexcept ValueError:\n    pass\nc = a",
    "imports": "import os.path\nimport os.path as p\nimport a as b\nfrom c import d as e\na = b\ndef f():\n    a\n    e\n    return p\nos",
    "lambda": "f = lambda x, y=a: x + y + z\na = 1\nz = 2\ndef g(*args, k=a, **kw):\n    return args, k, kw, f",
    "decorated": "def d(f):\n    return f\n@d\n@e\nclass A(B, metaclass=M):\n    @d\n    def f(self):\n        return super().f()\nB = 1",
    "match": "def f(a):\n    match a:\n        case [b, *c]:\n            return b, c\n        case {'k': d, **e} if d:\n            return d, e\n        case A(x=g) as h:\n            return g, h",
    "outside": "x = 1\nreturn x\nfor i in x:\n    continue\nclass A:\n    yield x\nbreak",
    "twice": "import a\ntry:\n    import b\nexcept ImportError:\n    b = None\nif a:\n    c = b\nelse:\n    c = d\nprint(c, c)",
    "with": "with open(a) as b, b as c:\n    d = c\nasync def f():\n    async with d as e:\n        await e\n    return [g async for g in e]",
    "aug": "a += 1\nb = 1\nb += a\ndef f():\n    b += 1\n    c += 1",
}  # fmt: skip


class Silent:
    name = "silent"
    version = "1"

    def check(self, text):
        return []


def compare(program, diagnose, state) -> bool | None:
    """Whether the tables were sure; they must then say what pyflakes says."""
    lines = sorted(state)
    found = diagnose(lines)
    if found is not None:
        assert found == shared_linter("pyflakes").check(program.text(state)), program.text(state)
    return found is not None


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_way_to_bind_a_name_is_judged_as_pyflakes_does(name):
    program = Program(PROGRAMS[name], linter=Silent())
    diagnose = shared_linter("pyflakes").prepare(program.lines)
    states = {program.full}
    for size in (1, 2, 3):
        for lines in combinations(range(len(program.lines)), size):
            states.add(program.full - program.close(lines, program.full).lines)
    sure = [compare(program, diagnose, state) for state in states if state]
    # Where a line changes how others are read, or a sentence names a line, pyflakes has to be asked.
    ask_by_nature = {"star", "future", "name error", "typing", "shadowed", "loop shadows builtin", "aug", "export"}
    assert name in ask_by_nature or sum(sure) > len(sure) / 4


def test_programs_that_do_not_parse_are_left_to_the_linter():
    assert shared_linter("pyflakes").prepare(["def f(:"])([0]) is None


def random_states(program, draws, count):
    """States reached by random deletions, a few or many."""
    for _ in range(count):
        state = program.full
        for _ in range(draws.choice([1, 1, 2, 4, 16])):
            if (deletion := program.draw(state, draws)) is not None:
                state -= deletion.lines
        if state:
            yield state


@pytest.mark.slow
def test_thousands_of_deletions_in_functions_are_judged_as_pyflakes_does():
    draws = random.Random(0)
    sure = []
    for function in islice(stdlib_functions(5, 40), 0, None, 10):
        program = Program(function.code, linter=Silent())
        diagnose = shared_linter("pyflakes").prepare(program.lines)
        sure += [compare(program, diagnose, state) for state in random_states(program, draws, 6)]
    assert len(sure) > 2500
    assert sum(sure) / len(sure) > 0.97


@pytest.mark.slow
def test_deletions_in_modules_are_judged_as_pyflakes_does():
    draws = random.Random(0)
    sure = []
    modules = [module for module in stdlib_modules() if len(module.code) < 30_000]
    for module in modules[::10]:
        program = Program(module.code, linter=Silent())
        diagnose = shared_linter("pyflakes").prepare(program.lines)
        sure += [compare(program, diagnose, state) for state in random_states(program, draws, 4)]
    assert len(sure) > 100
    assert sum(sure) / len(sure) > 0.6


@pytest.mark.slow
def test_paths_are_those_of_linting_every_state():
    n_lints = 0
    for number, function in enumerate(islice(stdlib_functions(5, 25), 0, 4000, 20)):
        plain = Program(function.code, linter="pyflakes", memoise=False, incremental=False)
        quick = Program(function.code, linter="pyflakes")
        for sample in range(2):
            one = sample_path(plain, Rng(number).child(sample))
            two = sample_path(quick, Rng(number).child(sample))
            assert (one.line_sets, one.lint_clean) == (two.line_sets, two.lint_clean)
        n_lints += quick.n_lint_calls
    assert n_lints < 100
