import random
from itertools import combinations

import pytest

from gnomon.core.data.corpora import stdlib_modules
from gnomon.core.rng import Rng
from gnomon.methods.lintseq import Program, sample_path
from gnomon.methods.lintseq.linters import shared_linter

# Small programs, one for each way to bind a name; `### title` starts the next.
PROGRAMS = """
### order
a = 1
def f():
    return b + a
b = a
c = d
d = c
### class scope
class A:
    x = 1
    y = [x for _ in x]
    def f(self):
        return x, __class__, y
    z = __qualname__
x = 2
### comprehension
n = 3
m = [i for i in range(n) if i]
k = {i: j for i in m for j in i}
i
### except name
e = 0
try:
    e
except ValueError as e:
    print(e)
    e = 1
except TypeError as e:
    pass
print(e)
### except in function
def f(e):
    try:
        g()
    except ValueError as e:
        h = e
    return e, h
def g():
    pass
### shadowed
def f():
    x = 1
    print(x)
    x = 2
    y = max(x, 1)
    max = y
x = 0
### loop shadows builtin
def f(a):
    for b in a:
        c = len(b)
        len = c
    return len
### del
a = 1
b = 2
if a:
    del a
del b
print(a, b)
### global
def f():
    global a
    a = 1
def g():
    return a
print(a)
a = 2
### nonlocal
def f():
    a = 1
    def g():
        nonlocal a
        a = 2
    g()
    return a
### annotation
a: int
b: int = 1
class C:
    c: 'D'
    d: int = b
    def f(self) -> 'C':
        return a
D = 1
### walrus
def f(a):
    if (b := a):
        return [c := d for d in b], c
    return b
### export
__all__ = ['f', 'g', 'lost']
__all__ += ['a', 'b']
b: int
def f():
    pass
def g():
    pass
a = 1
### star
from a import *
b = c
d = b
### future
from __future__ import annotations
def f(a: B) -> C:
    return a
class B:
    pass
### typing
from typing import Optional, cast
import typing
a: Optional['B'] = None
b = cast('C', a)
c = typing.List['D']
### name error
try:
    a = b
except NameError:
    a = 1
except ValueError:
    pass
c = a
### imports
import os.path
import os.path as p
import a as b
from c import d as e
a = b
def f():
    a
    e
    return p
os
### lambda
f = lambda x, y=a: x + y + z
a = 1
z = 2
def g(*args, k=a, **kw):
    return args, k, kw, f
### decorated
def d(f):
    return f
@d
@e
class A(B, metaclass=M):
    @d
    def f(self):
        return super().f()
B = 1
### match
def f(a):
    match a:
        case [b, *c]:
            return b, c
        case {'k': d, **e} if d:
            return d, e
        case A(x=g) as h:
            return g, h
### outside
x = 1
return x
for i in x:
    continue
class A:
    yield x
break
### twice
import a
try:
    import b
except ImportError:
    b = None
if a:
    c = b
else:
    c = d
print(c, c)
### with
with open(a) as b, b as c:
    d = c
async def f():
    async with d as e:
        await e
    return [g async for g in e]
### aug
a += 1
b = 1
b += a
def f():
    b += 1
    c += 1
"""
CASES = dict(case.strip("\n").split("\n", 1) for case in PROGRAMS.split("### ")[1:])


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


@pytest.mark.parametrize("name", CASES)
def test_every_way_to_bind_a_name_is_judged_as_pyflakes_does(name):
    program = Program(CASES[name], linter=Silent())
    diagnose = shared_linter("pyflakes").prepare(program.lines)
    states = {program.full}
    for size in (1, 2, 3):
        for lines in combinations(range(len(program.lines)), size):
            states.add(program.full - program.close(lines, program.full).lines)
    sure = [compare(program, diagnose, state) for state in states if state]
    # Where a line changes how others are read, or a sentence names a line, pyflakes has to be asked.
    ask_by_nature = {
        "star",
        "future",
        "name error",
        "typing",
        "shadowed",
        "loop shadows builtin",
        "aug",
        "export",
    }
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
def test_thousands_of_deletions_in_functions_are_judged_as_pyflakes_does(functions):
    draws = random.Random(0)
    sure = []
    for function in functions[::4]:
        program = Program(function.code, linter=Silent())
        diagnose = shared_linter("pyflakes").prepare(program.lines)
        sure += [compare(program, diagnose, state) for state in random_states(program, draws, 6)]
    assert len(sure) > 2500
    assert sum(sure) / len(sure) > 0.99


@pytest.mark.slow
def test_deletions_in_modules_are_judged_as_pyflakes_does():
    draws = random.Random(0)
    sure = []
    modules = [module for module in stdlib_modules() if len(module.code) < 30_000]
    for module in modules[::16]:
        program = Program(module.code, linter=Silent())
        diagnose = shared_linter("pyflakes").prepare(program.lines)
        sure += [compare(program, diagnose, state) for state in random_states(program, draws, 4)]
    assert len(sure) > 60
    assert sum(sure) / len(sure) > 0.6


@pytest.mark.slow
def test_paths_are_those_of_linting_every_state(functions):
    n_lints = 0
    for number, function in enumerate(functions[::30]):
        plain = Program(function.code, linter="pyflakes", memoise=False, incremental=False)
        quick = Program(function.code, linter="pyflakes")
        for sample in range(2):
            one = sample_path(plain, Rng(number).child(sample))
            two = sample_path(quick, Rng(number).child(sample))
            assert (one.line_sets, one.lint_clean) == (two.line_sets, two.lint_clean)
        n_lints += quick.n_lint_calls
    assert n_lints < 20
