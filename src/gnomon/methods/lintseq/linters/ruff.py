"""ruff as a subprocess: the same kind of errors as pyflakes, from a binary that many projects run."""

from __future__ import annotations

import json
import subprocess
import sys

from gnomon.errors import MissingExtra, UserError
from gnomon.methods.lintseq.linters.base import Diagnostic

RULES: tuple[str, ...] = (
    "F404",
    "F407",
    "F621",
    "F622",
    "F701",
    "F702",
    "F704",
    "F706",
    "F707",
    "F722",
    "F821",
    "F822",
)
RULES += (
    "F823",
    "PLE0100",
    "PLE0115",
    "PLE0116",
    "PLE0117",
    "PLE0118",
    "PLE0604",
    "PLE0704",
    "PLE1142",
    "PLE1700",
)
"""The rules that count: names without a meaning, and statements that cannot stand where they stand."""


_VERSION = f"py{sys.version_info.major}{sys.version_info.minor}"


class RuffBackend:
    """ruff with `RULES`, one process per text (about 10 ms); comments that silence rules are ignored."""

    name = "ruff"

    def __init__(self) -> None:
        try:
            from ruff import find_ruff_bin
        except ModuleNotFoundError:
            raise MissingExtra('ruff is not installed. Install it with: pip install "ruff"') from None
        self._binary = find_ruff_bin()
        self.version = self._run(["--version"], "").split()[-1]

    def check(self, text: str) -> list[Diagnostic]:
        """The syntax errors of `text`, or the errors that ruff sees in it, in ruff's order."""
        options = [
            "check",
            "--isolated",
            "--no-cache",
            "--exit-zero",
            "--ignore-noqa",
            "--output-format=json",
        ]
        options += [f"--select={','.join(RULES)}", f"--target-version={_VERSION}"]
        options += ["--stdin-filename=program.py", "-"]
        diagnostics = [
            Diagnostic(
                row["code"] or "invalid-syntax",
                row["location"]["row"],
                row["message"],
                (row["code"] or "invalid-syntax") == "invalid-syntax",
            )
            for row in json.loads(self._run(options, text))
        ]
        return [diagnostic for diagnostic in diagnostics if diagnostic.is_syntax] or diagnostics

    def _run(self, options: list[str], text: str) -> str:
        done = subprocess.run(
            [self._binary, *options], input=text, capture_output=True, text=True, encoding="utf-8"
        )
        if done.returncode:
            raise UserError(f"ruff failed with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout
