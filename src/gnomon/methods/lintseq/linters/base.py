"""What every linter looks like to the sampler, and the table of linters by name."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gnomon.errors import BadConfig, nearest
from gnomon.lazy import resolve

_ON_LINE = re.compile(r"on line (\d+)")


@dataclass(frozen=True)
class Diagnostic:
    """One complaint of a linter about a text."""

    code: str
    """The linter's name for it, e.g. `"E0602"`."""
    line: int
    """1-based line of the text, as the linter reports it."""
    message: str
    """The linter's sentence."""
    is_syntax: bool = False
    """True when the text does not parse."""

    def blamed_line(self) -> int:
        """The 1-based line to delete: a syntax error "expected ... on line 3" blames line 3.

        Source: section A, linter of the reference.
        """
        named = _ON_LINE.search(self.message) if self.is_syntax else None
        return int(named[1]) if named else self.line


class LinterBackend(Protocol):
    """A linter: text in, diagnostics out. The same text always gives the same diagnostics."""

    name: str
    version: str

    def check(self, text: str) -> list[Diagnostic]:
        """The diagnostics of `text`, in any order."""
        ...


StateDiagnoser = Callable[[Sequence[int]], list[Diagnostic] | None]
"""Diagnostics of the text made of the given line indices (ascending), or None where only the linter can tell.

It is asked about states that are closed under the layout of Python: no unit is cut, no block is without its
header and no header without its block. Such a state parses.
"""


@runtime_checkable
class IncrementalBackend(Protocol):
    """A linter that can prepare tables for one program, and answer from them about what is left of it."""

    def prepare(self, lines: Sequence[str]) -> StateDiagnoser:
        """A function that gives for any subset of `lines` what `check` gives for their text, or None."""
        ...


_FACTORIES: dict[str, Callable[[], LinterBackend]] = {}
_SHARED: dict[str, LinterBackend] = {}


def register_linter(name: str, factory: Callable[[], LinterBackend]) -> None:
    """Make a linter available under `name`, also one for another language; an existing name is replaced.

    Args:
        name: what to write in `linter=`.
        factory: called without arguments, once per process that uses the linter.
    """
    _FACTORIES[name] = factory
    _SHARED.pop(name, None)


def linter_names() -> list[str]:
    """The names that `open_linter` knows, sorted."""
    return sorted(_FACTORIES)


def open_linter(name: str) -> LinterBackend:
    """A new linter of the given name, or of the factory behind `module:function`, which works in every process.

    Raises:
        BadConfig: no linter has this name, or the factory cannot be imported.
    """
    if ":" in name:
        try:
            factory: Callable[[], LinterBackend] = resolve(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadConfig(f'The linter "{name}" cannot be imported ({error}).') from None
        return factory()
    if name not in _FACTORIES:
        raise BadConfig(f'There is no linter "{name}". {nearest(name, _FACTORIES)}')
    return _FACTORIES[name]()


def shared_linter(name: str) -> LinterBackend:
    """The linter of the given name that this process uses for all programs; opened on first use.

    Raises:
        BadConfig: no linter has this name.
    """
    if name not in _SHARED:
        _SHARED[name] = open_linter(name)
    return _SHARED[name]


def parse(text: str, *, type_comments: bool = False) -> ast.Module:
    """The tree of `text`; warnings about its literals are not ours to show.

    Raises:
        SyntaxError: the text does not parse.
        ValueError: the text holds null bytes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text, type_comments=type_comments)
