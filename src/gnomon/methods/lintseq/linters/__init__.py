"""Linters: `pylint` for fidelity, `pyflakes` and `ruff` for speed, and any other that a user registers."""

from gnomon.lazy import resolve
from gnomon.methods.lintseq.linters.base import (
    Diagnostic,
    IncrementalBackend,
    LinterBackend,
    StateDiagnoser,
    linter_names,
    open_linter,
    register_linter,
    shared_linter,
)

__all__ = [
    "Diagnostic",
    "IncrementalBackend",
    "LinterBackend",
    "StateDiagnoser",
    "linter_names",
    "open_linter",
    "register_linter",
    "shared_linter",
]

register_linter("pylint", lambda: resolve("gnomon.methods.lintseq.linters.pylint:PylintBackend")())
register_linter("pyflakes", lambda: resolve("gnomon.methods.lintseq.linters.pyflakes:PyflakesBackend")())
register_linter("ruff", lambda: resolve("gnomon.methods.lintseq.linters.ruff:RuffBackend")())
