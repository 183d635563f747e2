"""Real text that every machine has: the interpreter's standard library, its code and its documentation."""

from __future__ import annotations

import ast
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_LEFT_OUT = frozenset({"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages"})
"""Folders without code of general use: test suites, an editor, and files kept broken on purpose."""


@dataclass(frozen=True)
class PythonSource:
    """One function or one module of the standard library.

    `code` carries no trailing newline and a function's code is dedented, decorators included, so that it
    parses alone.
    """

    module: str
    """Dotted module name, e.g. `"json.decoder"`."""
    qualname: str
    """Name within the module, e.g. `"JSONDecoder.decode"`; empty for a whole module."""
    path: str
    """File relative to the standard library's folder, with forward slashes."""
    code: str
    """The source text."""
    docstring: str
    """The docstring, cleaned of indentation; empty when there is none."""
    first_line: int
    """1-based line in the file at which `code` starts."""


def stdlib_modules() -> Iterator[PythonSource]:
    """Every module of the running interpreter's standard library that parses, sorted by path.

    Test suites, `idlelib`, `lib2to3` and installed packages are left out, and so are empty files.
    """
    for path, text, tree in _parsed_files():
        if text.strip():
            yield PythonSource(
                _module_name(path), "", path, text.rstrip("\n"), ast.get_docstring(tree) or "", 1
            )


def stdlib_functions(min_lines: int = 5, max_lines: int = 40) -> Iterator[PythonSource]:
    """Every function and method of the standard library of a given length, by path and position.

    A function that holds another yields both. A method comes dedented, as a function of its own.

    Args:
        min_lines: fewest lines, decorators and docstring included.
        max_lines: most lines.
    """
    for path, text, tree in _parsed_files():
        lines = text.split("\n")
        for qualname, node in _functions(tree, ""):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            last = node.end_lineno or node.lineno
            if not min_lines <= last - first + 1 <= max_lines:
                continue
            code = _dedent(lines[first - 1 : last])
            if code is None:
                continue
            docstring = ast.get_docstring(node) or ""
            yield PythonSource(_module_name(path), qualname, path, code, docstring, first)


def stdlib_code() -> Iterator[Documentation]:
    """Every module of the standard library as bare code, by path: no comment and no documentation string is left.

    Like the documentation, a file is read once in a process, when it is asked for.
    """
    for path in _paths():
        piece = _code(path)
        if piece is not None:
            yield piece


@cache
def _code(path: str) -> Documentation | None:
    read = _read(path)
    if read is None:
        return None
    _, tree = read
    _drop_docstrings(tree)
    text = ast.unparse(tree)
    return Documentation(_module_name(path), path, text) if text.strip() else None


def _drop_docstrings(node: ast.AST) -> None:
    """Take the documentation strings of `node` and of all below out; a body of nothing else becomes `pass`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):  # expressions hold none
            _drop_docstrings(child)
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        if not node.body and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]


@dataclass(frozen=True)
class Documentation:
    """A text of the standard library: a documentation string, a topic of the reference as `help` prints it, or bare code."""

    name: str
    """Dotted name of what it documents, e.g. `"json.JSONDecoder.decode"`; `"topic:NAME"` for a topic."""
    group: str
    """File it is from; a topic is its own group. Texts of one group are about the same thing."""
    text: str
    """What it says."""


def stdlib_documentation() -> Iterator[Documentation]:
    """The topics of `pydoc`, then every documentation string of the standard library, by path and position.

    A file is read once in a process, when it is asked for; the few megabytes of text are kept.
    """
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield Documentation(f"topic:{name}", f"topic:{name}", topics[name])
    for path in _paths():
        yield from _documentation(path)


@cache
def _documentation(path: str) -> tuple[Documentation, ...]:
    read = _read(path)
    if read is None:
        return ()
    return tuple(Documentation(name, path, text) for name, text in _docstrings(read[1], _module_name(path)))


def _docstrings(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    """Dotted name and documentation of `node` and of the classes and functions in it."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        text = ast.get_docstring(node)
        if text and text.strip():
            yield name, text
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child, f"{name}.{child.name}")
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield from _docstrings(child, name)


def _dedent(lines: Sequence[str]) -> str | None:
    """The lines without the first one's indentation; None where a string or a comment reaches further left."""
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    if not all(line.startswith(margin) or not line.strip() for line in lines):
        return None
    return "\n".join([line[len(margin) :] if line.strip() or not margin else "" for line in lines])


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions below `node` with their qualified names, in the order of the text."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + child.name, child
            yield from _functions(child, f"{prefix}{child.name}.<locals>.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):  # expressions hold none
            yield from _functions(child, prefix)


def _parsed_files() -> Iterator[tuple[str, str, ast.Module]]:
    """Relative path, text with line feeds, and tree of every file that parses, sorted by path."""
    for path in _paths():
        read = _read(path)
        if read is not None:
            yield path, *read


@cache
def _paths() -> tuple[str, ...]:
    """The files, relative to the standard library's folder, with forward slashes."""
    root = Path(sysconfig.get_paths()["stdlib"])
    paths = []
    for folder, subfolders, files in os.walk(root):
        subfolders[:] = [name for name in subfolders if name not in _LEFT_OUT]
        paths += [(Path(folder) / name).relative_to(root) for name in files if name.endswith(".py")]
    return tuple(path.as_posix() for path in sorted(paths))


def _read(path: str) -> tuple[str, ast.Module] | None:
    """Text with line feeds and tree of a file; None where it does not parse."""
    try:
        with tokenize.open(Path(sysconfig.get_paths()["stdlib"]) / path) as file:
            text = file.read().lstrip("\ufeff")
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None
    tree = _parse(text)
    return None if tree is None else (text, tree)


def _parse(text: str) -> ast.Module | None:
    """The tree, or None for text that does not parse; quiet about deprecated escapes in old code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return None


def _module_name(path: str) -> str:
    """`"json/__init__.py"` -> `"json"`."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
