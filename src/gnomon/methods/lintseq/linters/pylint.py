"""pylint in this process: one linter object for thousands of texts, with the messages of a plain run.

A plain run builds its linter, reads its options and sorts its checkers anew for each text, which costs
several times the linting. Here all of that happens once; and a text that does not parse never reaches the
checkers.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pylint
from astroid import MANAGER, nodes
from astroid.manager import AstroidManager
from pylint.checkers import BaseRawFileChecker, BaseTokenChecker
from pylint.lint import PyLinter, Run
from pylint.message import Message
from pylint.reporters import CollectingReporter
from pylint.utils import ASTWalker, FileState

from gnomon.methods.lintseq.linters.base import Diagnostic, parse

logger = logging.getLogger(__name__)

ENABLED = ("E", "F", "bad-indentation", "super-init-not-called")
"""Every error counts, and of the warnings W0311 and W0231. Source: section A, linter of the reference."""

DISABLED = ("import-error", "no-name-in-module", "relative-beyond-top-level")
"""Messages that depend on what else is installed. Source: pitfall 5."""

_MODULE = "program"
_FAILED = "a checker of pylint failed"
_CLEAR_EVERY = 2000
"""Texts after which astroid's caches are emptied; it takes as long as two dozen texts, so not after each."""


_LANGUAGE = frozenset(
    {
        "_io",
        "abc",
        "builtins",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "io",
        "pathlib",
        "types",
        "typing",
    }
)
"""The modules that astroid itself needs to understand named tuples, enumerations, data classes ..."""


class _OtherModules(set[str]):
    """The set of all modules but those of the language."""

    def __contains__(self, name: object) -> bool:
        return name not in _LANGUAGE


_DENIED = _OtherModules()


@contextmanager
def _imports_unresolved() -> Iterator[None]:
    """Within it, astroid looks up `_LANGUAGE` alone: no diagnostic depends on what is installed.

    New managers, which astroid makes all the time, take the set from the shared brain; `MANAGER` holds its
    own.
    """
    before = MANAGER.module_denylist
    MANAGER.module_denylist = AstroidManager.brain["module_denylist"] = _DENIED
    try:
        yield
    finally:
        MANAGER.module_denylist = AstroidManager.brain["module_denylist"] = before


class _TextLinter(PyLinter):
    """A pylint linter whose checkers are set up once and which reads its text from memory."""

    def __init__(self) -> None:
        super().__init__()
        self.load_default_plugins()
        self.disable("all")
        for message in ENABLED:
            self.enable(message)
        for message in DISABLED:
            self.disable(message)
        self.collected = CollectingReporter()
        self.set_reporter(self.collected)
        self.initialize()
        self.active = self.prepare_checkers()
        self.walker = ASTWalker(self)
        self.walker.exception_msg = True  # we log failures ourselves; pylint would print them
        for checker in self.active:
            self.walker.add_checker(checker)
        self.raw = [checker for checker in self.active if isinstance(checker, BaseRawFileChecker)]
        self.token = [checker for checker in self.active if isinstance(checker, BaseTokenChecker)]

    def lint(self, text: str) -> list[Message]:
        """The messages for `text`, which parses."""
        self.collected.messages = []
        self.set_current_module(_MODULE, f"{_MODULE}.py")
        MANAGER.astroid_cache.pop(_MODULE, None)
        try:
            module = self.get_ast(f"{_MODULE}.py", _MODULE, text)
            if module is not None:
                self._check(module)
        except Exception as error:  # a plain run reports F0002 too when one of its checkers fails
            logger.info("pylint failed on a text: %r", error)
            self.add_message("astroid-error", args=(f"{_MODULE}.py", _FAILED))
        return self.collected.messages

    def _check(self, module: nodes.Module) -> None:
        self._ignore_file = False
        self.file_state = FileState(_MODULE, self.msgs_store, module)
        for checker in self.active:
            checker.open()
        self.check_astroid_module(module, self.walker, self.raw, self.token)
        for checker in reversed(self.active):
            checker.close()


class PylintBackend:
    """pylint, errors only (`ENABLED`), without looking up imports (`DISABLED`).

    Source: section A and Performance. Differs: imports are not resolved, so that the data depend on the
    programs alone.
    """

    name = "pylint"
    version = pylint.__version__

    def __init__(self) -> None:
        self._linter = _TextLinter()
        self._until_clear = _CLEAR_EVERY

    def check(self, text: str) -> list[Diagnostic]:
        """The messages of a plain pylint run over `text`, in the order of their lines."""
        broken = _syntax_error(text)
        if broken is not None:
            return [broken]
        self._until_clear -= 1
        if not self._until_clear:
            self._until_clear = _CLEAR_EVERY
            MANAGER.clear_cache()
        with _imports_unresolved():
            return sorted(map(_diagnostic, self._linter.lint(text)), key=_order)


def run_pylint(text: str) -> list[Diagnostic]:
    """The messages of pylint's entry point, run afresh for one text: the reference for tests and benchmarks.

    It writes the text to a temporary file, as one does who starts pylint for every state.
    """
    with tempfile.TemporaryDirectory() as folder, _imports_unresolved():
        file = Path(folder) / f"{_MODULE}.py"
        file.write_text(text, encoding="utf-8")
        reporter = CollectingReporter()
        MANAGER.astroid_cache.pop(_MODULE, None)
        Run([*entry_point_switches(), str(file)], reporter=reporter, exit=False)
    return sorted(map(_diagnostic, reporter.messages), key=_order)


def entry_point_switches() -> list[str]:
    """The switches that make pylint's entry point report what `PylintBackend` reports, imports aside."""
    return [
        f"--rcfile={os.devnull}",
        "--disable=all",
        f"--enable={','.join(ENABLED)}",
        f"--disable={','.join(DISABLED)}",
        "--persistent=n",
        "--score=n",
    ]


def _syntax_error(text: str) -> Diagnostic | None:
    """E0001 for a text that does not parse; astroid parses with type comments, and so do we."""
    try:
        parse(text + "\n", type_comments=True)
    except SyntaxError as error:
        if "type:" in (error.text or ""):
            return None  # astroid retries without type comments; the linter decides
        error.filename = _MODULE
        return Diagnostic("E0001", error.lineno or 1, f"Parsing failed: '{error}'", True)
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def _diagnostic(message: Message) -> Diagnostic:
    text = _FAILED if message.msg_id == "F0002" else message.msg
    return Diagnostic(message.msg_id, message.line, text, message.msg_id == "E0001")


def _order(diagnostic: Diagnostic) -> tuple[int, str, str]:
    return diagnostic.line, diagnostic.code, diagnostic.message
