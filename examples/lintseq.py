"""Take a function apart into edits whose every state is free of lint errors, and put it together again."""

import sys
from pathlib import Path

from gnomon.core.rng import Rng
from gnomon.methods.lintseq import Program, audit_path, render_target, resolve, sample_path

CODE = """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)"""

code = Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else CODE
program = Program(code, linter="pyflakes")
path = sample_path(program, Rng(6))
for number, diff in enumerate(path.diffs, start=1):
    print(f"edit {number}\n{diff}")
assert resolve(render_target(path.diffs)).code == program.code
print("clean states:", path.lint_clean, "audit:", audit_path(program.code, path.diffs, program.linter))
