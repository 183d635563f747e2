"""pyflakes in this process: what would fail when the program runs, found in a millisecond."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pyflakes
from pyflakes import messages
from pyflakes.checker import Checker

from gnomon.methods.lintseq.linters.base import Diagnostic, StateDiagnoser, parse
from gnomon.methods.lintseq.linters.pyflakes_tables import PyflakesTables

logger = logging.getLogger(__name__)

ERRORS: tuple[type[messages.Message], ...] = (
    messages.UndefinedName,
    messages.UndefinedLocal,
    messages.UndefinedExport,
    messages.ReturnOutsideFunction,
    messages.YieldOutsideFunction,
    messages.ContinueOutsideLoop,
    messages.BreakOutsideLoop,
    messages.DefaultExceptNotLast,
    messages.DuplicateArgument,
    messages.TwoStarredExpressions,
    messages.TooManyExpressionsInStarredAssignment,
    messages.LateFutureImport,
    messages.FutureFeatureNotDefined,
    messages.ForwardAnnotationSyntaxError,
)
"""The messages that count: names without a meaning, and statements that cannot stand where they stand.

Left out is everything that runs all the same: unused imports and variables, redefinitions, comparisons by
`is`, star imports, suspicious format strings.
"""


class PyflakesBackend:
    """`ast.parse` and pyflakes, errors only (`ERRORS`); codes are the names of pyflakes' message classes."""

    name = "pyflakes"
    version = pyflakes.__version__

    def prepare(self, lines: Sequence[str]) -> StateDiagnoser:
        """Tables for one program, which answer for its states where they are sure."""
        try:
            tables = PyflakesTables(parse("\n".join(lines)), ERRORS)
        except Exception:  # whatever it is, `check` meets it too and says so
            return _unsure
        return tables.diagnose if tables.is_usable else _unsure

    def check(self, text: str) -> list[Diagnostic]:
        """The syntax error of `text`, or the errors that pyflakes sees in it, in the order of their lines."""
        try:
            tree = parse(text)
        except (SyntaxError, ValueError, RecursionError) as error:
            return [syntax_diagnostic(error)]
        try:
            reported = Checker(tree, filename="program.py", withDoctest=False).messages
        except (
            Exception
        ) as error:  # pyflakes fails on a few odd programs, e.g. on an imported `__all__` that grows
            logger.info("pyflakes failed on a text: %r", error)
            return [Diagnostic("Failed", 1, "pyflakes failed")]
        diagnostics = [
            Diagnostic(type(message).__name__, message.lineno, message.message % message.message_args)
            for message in reported
            if isinstance(message, ERRORS)
        ]
        return sorted(
            diagnostics, key=lambda diagnostic: (diagnostic.line, diagnostic.code, diagnostic.message)
        )


def _unsure(_: Sequence[int]) -> list[Diagnostic] | None:
    return None


def syntax_diagnostic(error: Exception) -> Diagnostic:
    """The one diagnostic of a text that does not parse."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return Diagnostic("SyntaxError", line or 1, message, True)
