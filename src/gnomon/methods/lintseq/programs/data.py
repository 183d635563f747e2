"""Where programs come from: records, Python files, or the standard library of the running interpreter."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gnomon.core import records
from gnomon.core.data.corpora import PythonSource, stdlib_functions, stdlib_modules
from gnomon.core.rng import Rng
from gnomon.core.rollout.suites import strip_markdown
from gnomon.errors import BadConfig, BadInput, nearest

STDLIB = {"stdlib", "stdlib:functions", "stdlib:modules"}


@dataclass(frozen=True)
class SourceProgram:
    """A program to take apart, and where it stands in its source."""

    index: int
    """Position in the source, from 0."""
    instruction: str
    """What the program is asked to do; may be empty."""
    code: str
    """The program, or a response with fenced blocks, as it came."""
    source_file: str
    """File (and name) it comes from."""
    problem: str = ""
    """Why the row cannot be used; empty for a good row."""


def read_programs(
    source: str, *, code_field: str = "response", prompt_field: str = "instruction"
) -> Iterator[SourceProgram]:
    """All rows of a source in order; a bad row comes with its `problem` and does not stop the others.

    Args:
        source: records, a `.py` file or a folder of them, or one of `STDLIB`.
        code_field: column of the program.
        prompt_field: column of the instruction; rows may lack it.

    Raises:
        BadInput: nothing is there.
        BadConfig: a misspelt `stdlib:...`.
    """
    if source.startswith("stdlib"):
        rows = _stdlib(source)
    elif Path(source).suffix == ".py" or _holds_python(Path(source)):
        rows = _python_files(Path(source))
    else:
        rows = _records(source, code_field, prompt_field)
    for index, (instruction, code, file, problem) in enumerate(rows):
        yield SourceProgram(index, instruction, code, file, problem)


def choose(
    programs: Iterator[SourceProgram], *, min_lines: int, max_lines: int | None, limit: int | None, rng: Rng
) -> Iterator[SourceProgram]:
    """The programs whose length is in range, at most `limit` of them drawn at random; bad rows pass through.

    Order is kept. A reservoir of `limit` rows is all that is held.
    """
    fitting = (p for p in programs if p.problem or _is_between(p.code, min_lines, max_lines))
    return fitting if limit is None else iter(_reservoir(fitting, limit, rng.child("limit").python()))


def _reservoir(programs: Iterator[SourceProgram], limit: int, draws: random.Random) -> list[SourceProgram]:
    """Algorithm R (Vitter 1985), put back into the source's order."""
    kept: list[SourceProgram] = []
    for seen, program in enumerate(programs):
        if seen < limit:
            kept.append(program)
        elif (index := draws.randrange(seen + 1)) < limit:
            kept[index] = program
    return sorted(kept, key=lambda p: p.index)


def _is_between(code: str, least: int, most: int | None) -> bool:
    n_lines = strip_markdown(code).strip().count("\n") + 1
    return least <= n_lines and (most is None or n_lines <= most)


_Row = tuple[str, str, str, str]
"""Instruction, code, source file, problem."""


def _stdlib(source: str) -> Iterator[_Row]:
    if source not in STDLIB:
        raise BadConfig(f'There is no source "{source}". {nearest(source, STDLIB)}')
    if source != "stdlib:modules":
        yield from map(_documented, stdlib_functions(1, 1_000_000))
    if source != "stdlib:functions":
        yield from map(_documented, stdlib_modules())


def _documented(source: PythonSource) -> _Row:
    name = f"{source.module}.{source.qualname}".rstrip(".")
    summary = source.docstring.split("\n\n")[0].replace("\n", " ")
    return (
        f"{name}: {summary}\n" if summary else f"{name}\n",
        source.code,
        f"{source.path}:{source.first_line}",
        "",
    )


def _holds_python(folder: Path) -> bool:
    return folder.is_dir() and any(folder.rglob("*.py")) and not any(folder.glob("*.jsonl*"))


def _python_files(source: Path) -> Iterator[_Row]:
    if not source.exists():
        raise BadInput(f"{source} does not exist.")
    for path in [source] if source.is_file() else sorted(source.rglob("*.py")):
        try:
            yield f"{path.name}\n", path.read_text("utf-8"), str(path), ""
        except UnicodeDecodeError:
            yield "", "", str(path), f"{path}: not UTF-8. Convert the file to UTF-8 first."
        except OSError as error:
            yield "", "", str(path), f"{path}: cannot be read ({error.strerror})."


def _records(source: str, code_field: str, prompt_field: str) -> Iterator[_Row]:
    for where, raw in records.read_each(source):
        if isinstance(raw, BadInput):
            yield "", "", where, str(raw)
            continue
        code, prompt = raw.get(code_field), raw.get(prompt_field, "")
        problem = ""
        if code_field not in raw:
            problem = f'{where}: field "{code_field}" is missing. Name the column with --code-field.'
        elif not isinstance(code, str) or not isinstance(prompt, str):
            field = prompt_field if isinstance(code, str) else code_field
            problem = f'{where}: field "{field}" must be a string.'
        yield ("", "", where, problem) if problem else (str(prompt), str(code), where, "")
