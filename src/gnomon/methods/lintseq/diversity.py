"""How different a task's programs are from one another."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Sequence

import numpy as np


def canonical(code: str) -> str:
    """A text that is equal for programs that differ only in names they choose, layout and comments.

    Names that the program binds (functions, classes, arguments, variables) are numbered in the order in which they
    appear; built-ins, imported names and attributes stay. A program that does not parse stands for itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    renamer = _Renamer(_bound_names(tree))
    return ast.dump(renamer.visit(tree), include_attributes=False)


def _bound_names(tree: ast.AST) -> set[str]:
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            bound.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


class _Renamer(ast.NodeTransformer):
    """Numbers bound names in the order in which the walk meets them."""

    def __init__(self, bound: set[str]) -> None:
        self._bound = bound
        self._numbers: dict[str, str] = {}

    def _number(self, name: str) -> str:
        return self._numbers.setdefault(name, f"v{len(self._numbers)}") if name in self._bound else name

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for attribute in ("name", "id", "arg"):
            name = getattr(node, attribute, None)
            # An alias is an import: its name belongs to another module. A keyword names somebody's parameter, perhaps ours.
            if isinstance(name, str) and not isinstance(node, ast.alias):
                setattr(node, attribute, self._number(name))
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [self._number(name) for name in node.names]
        return super().generic_visit(node)


def distinct_share(programs: Sequence[str]) -> float:
    """Different programs, up to names, among all; 1 when no two are alike."""
    return len({canonical(code) for code in programs}) / len(programs) if programs else float("nan")


def edit_distance(programs: Sequence[str]) -> float:
    """Mean over all pairs of the Levenshtein distance divided by the longer length, 0..1; NaN for fewer than two."""
    if len(programs) < 2:
        return float("nan")
    from rapidfuzz import process
    from rapidfuzz.distance import Levenshtein

    distances = process.cdist(programs, programs, scorer=Levenshtein.normalized_distance)
    return float(distances[np.triu_indices(len(programs), 1)].mean())
