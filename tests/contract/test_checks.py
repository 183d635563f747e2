"""The checks of settings that a verb shares with others are made in every verb, whatever checks it adds."""

import inspect
import re
import sys
from dataclasses import fields, is_dataclass

import pytest

from gnomon.lazy import resolve
from gnomon.registry import METHODS


def settings():
    """Every class of settings that a verb has, itself, its bases and the groups nested in it."""
    seen, waiting = set(), [resolve(m.config(v)) for m in METHODS for v in m.verbs.split()]
    while waiting:
        kind = waiting.pop()
        if kind in seen:
            continue
        seen.add(kind)
        waiting += [base for base in kind.__mro__[1:] if is_dataclass(base)]
        waiting += [
            type(field.default_factory() if callable(field.default_factory) else field.default)
            for field in fields(kind)
            if is_dataclass(field.default) or _makes_settings(field.default_factory)
        ]
    return sorted(seen, key=lambda kind: (kind.__module__, kind.__qualname__))


def _makes_settings(factory):
    return callable(factory) and is_dataclass(factory())


def _checks_of(kind, start=None):
    """The classes whose checks run when a `kind` is made, by what each of them calls."""
    order = list(kind.__mro__)
    behind = order[order.index(start) + 1 :] if start else order
    owner = next((base for base in behind if "__post_init__" in vars(base)), None)
    if owner is None:
        return set()
    source, scope = inspect.getsource(vars(owner)["__post_init__"]), sys.modules[owner.__module__]
    made = {owner}
    if "super().__post_init__()" in source:
        made |= _checks_of(kind, owner)
    for name in re.findall(r"(\w+)\.__post_init__\(self\)", source):
        made |= _checks_of(getattr(scope, name))
    return made


@pytest.mark.parametrize("kind", settings(), ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_own_checks_come_on_top_of_those_that_are_inherited(kind):
    missing = {base for base in kind.__mro__ if "__post_init__" in vars(base)} - _checks_of(kind)
    assert not missing, (
        f"{kind.__qualname__} leaves out the checks of {', '.join(sorted(m.__name__ for m in missing))}"
    )
