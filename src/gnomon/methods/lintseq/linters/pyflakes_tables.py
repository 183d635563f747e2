"""pyflakes without pyflakes: its verdict on what is left of a program, from tables made in one pass.

pyflakes walks a program in a fixed order and keeps, for each scope, the names that are bound so far. Taking
statements away takes their steps out of that walk and moves no other step. So one walk is recorded, name by
name; a name whose bindings are all still there is judged as before, and for any other the steps that are left
are played back.

Where the walk itself could change (see `_Recorder`), the answer is None: ask pyflakes.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pyflakes import checker, messages

from gnomon.methods.lintseq.linters.base import Diagnostic

_UNDEFINED = "UndefinedName"
_OF_NAMES = frozenset({_UNDEFINED, "UndefinedLocal", "UndefinedExport"})
_OF_ORDER = frozenset({"LateFutureImport", "DefaultExceptNotLast"})


@dataclass(frozen=True)
class _Step:
    """One thing that pyflakes does with a name."""

    kind: Literal["load", "store", "bind", "delete", "global", "enter", "leave"]
    """Look up, check before an assignment, bind, `del`, declare, enter or leave `except ... as name`."""
    line: int
    """0-based line of the program."""
    scope: int
    """The innermost scope at that moment."""
    scopes: tuple[int, ...] = ()
    """For a load where to look, in order; for a store what it may shadow; for `global` where it holds."""
    is_forgiven: bool = False
    """A load that is never reported."""


@dataclass
class _Name:
    """All that happens to one name."""

    steps: list[_Step] = field(default_factory=list)
    binds_on: set[int] = field(default_factory=set)
    """Lines with a step that may make the name known or unknown."""
    is_fragile: bool = False
    """The steps do not tell the whole story: its lines stay all, or go all, or pyflakes is asked."""
    is_typing: bool = False
    """It is imported from `typing`, whose members switch how pyflakes reads their arguments."""


class _Recorder(checker.Checker):  # type: ignore[misc]
    """pyflakes' own walk, writing down each step.

    Names are fragile when something other than these steps decides about them: an annotation without value,
    `:=`, the true name behind an alias, `__all__`. Lines in `anchors` change how other lines are read;
    programs with a star import get no tables at all.
    """

    def __init__(self, tree: ast.Module, filename: str):
        self.names: dict[str, _Name] = defaultdict(_Name)
        self.anchors: set[int] = set()
        self.is_starred = False
        self.exports: tuple[str, ...] = ()
        self._ids: dict[int, int] = {}
        self._kept: list[Any] = []
        super().__init__(tree, filename=filename, withDoctest=False)

    def _id(self, scope: Any) -> int:
        """A small number for a scope, 0 for the module; scopes are kept, so that no `id` comes twice."""
        if id(scope) not in self._ids:
            self._ids[id(scope)] = len(self._kept)
            self._kept.append(scope)
        return self._ids[id(scope)]

    def _note(
        self, kind: Any, name: str, node: Any, scopes: tuple[int, ...] = (), is_forgiven: bool = False
    ) -> None:
        step = _Step(kind, node.lineno - 1, self._id(self.scope), scopes, is_forgiven)
        self.names[name].steps.append(step)
        if kind not in ("load", "store"):
            self.names[name].binds_on.add(step.line)

    def _shadowed(self) -> tuple[int, ...]:
        """The scopes that pyflakes looks at before an assignment in the innermost one, if it looks at all."""
        if not isinstance(self.scope, checker.FunctionScope):
            return ()
        outer = (checker.FunctionScope, checker.ModuleScope)
        return tuple(self._id(scope) for scope in self.scopeStack[:-1] if isinstance(scope, outer))

    def _visible(self) -> tuple[int, ...]:
        """The scopes that a load looks in, innermost first; only comprehensions see the class around them."""
        visible = []
        sees_class = True
        for scope in reversed(self.scopeStack):
            if sees_class or not isinstance(scope, checker.ClassScope):
                visible.append(self._id(scope))
                sees_class = sees_class and isinstance(scope, checker.TypeScope | checker.ComprehensionScope)
        return tuple(visible)

    def handleNodeLoad(self, node: Any, parent: Any) -> None:
        name = checker.getNodeName(node)
        if name:
            in_class = any(isinstance(scope, checker.ClassScope) for scope in self.scopeStack)
            is_forgiven = (
                "NameError" in self.exceptHandlers[-1]
                or (name == "__class__" and in_class)
                or (
                    name in checker.DetectClassScopedMagic.names
                    and isinstance(self.scope, checker.ClassScope)
                )
            )
            self._note("load", name, node, self._visible(), is_forgiven)
        super().handleNodeLoad(node, parent)

    def handleNodeStore(self, node: Any) -> None:
        name = checker.getNodeName(node)
        if name and not isinstance(node, ast.ExceptHandler):
            self._note("store", name, node, self._shadowed())
        super().handleNodeStore(node)

    def addBinding(self, node: Any, value: Any) -> None:
        if node is None:  # a builtin, before anything else: the module's scope gets number 0
            self.scope[value.name] = value
            if not self._kept:
                self._id(self.scope)
            return
        if not isinstance(node, ast.ExceptHandler):
            self._note("bind", value.name, node)
            self.names[value.name].is_fragile |= self._is_special(value)
        super().addBinding(node, value)

    def _is_special(self, value: Any) -> bool:
        if isinstance(value, checker.ExportBinding):
            self.exports = tuple(value.names)
        if isinstance(value, checker.StarImportation):
            self.is_starred = True
        if isinstance(value, checker.FutureImportation):
            self.anchors.add(value.source.lineno - 1)
        if isinstance(value, checker.Importation):
            full = value.fullName
            if full != value.name and isinstance(value.source, ast.Import):
                self.names[full].is_fragile = True
            self.names[value.name].is_typing |= getattr(value, "module", full) in checker.TYPING_MODULES
            return False
        return value.name == "__all__" or isinstance(value, checker.Annotation | checker.NamedExprAssignment)

    def handleNodeDelete(self, node: Any) -> None:
        above = self._parents.get(node)
        while above is not None and not isinstance(above, ast.If | ast.While | ast.IfExp):
            above = self._parents.get(above)
        if above is None:  # pyflakes ignores a `del` under a condition
            self._note("delete", node.id, node)
        super().handleNodeDelete(node)

    def EXCEPTHANDLER(self, node: Any) -> None:
        if node.name:
            self._note("enter", node.name, node, self._shadowed())
        super().EXCEPTHANDLER(node)
        if node.name:
            self._note("leave", node.name, node)

    def TRY(self, node: Any) -> None:
        for handler in node.handlers:
            if handler.type is not None and any(
                getattr(part, "id", None) == "NameError" for part in ast.walk(handler.type)
            ):
                self.anchors.update(other.lineno - 1 for other in node.handlers)
        super().TRY(node)

    TRYSTAR = TRY

    def GLOBAL(self, node: Any) -> None:
        if len(self.scopeStack) > 1:
            for name in node.names:
                self._note("global", name, node, tuple(self._id(scope) for scope in self.scopeStack[1:]))
        super().GLOBAL(node)

    NONLOCAL = GLOBAL


class PyflakesTables:
    """What pyflakes says about any part of one program that its layout allows.

    Args:
        tree: the whole program; it parses.
        errors: the messages that count.
    """

    def __init__(self, tree: ast.Module, errors: tuple[type[messages.Message], ...]):
        walk = _Recorder(tree, "program.py")
        self._names = walk.names
        self._anchors = walk.anchors
        self._exports = frozenset(walk.exports)
        self._known = frozenset(walk.builtIns)
        self._base = [
            (
                message.lineno - 1,
                type(message).__name__,
                message.message % message.message_args,
                message.message_args,
            )
            for message in walk.messages
            if isinstance(message, errors)
        ]
        self._static: list[tuple[int, str, str]] = []
        self._undefined: dict[str, list[int]] = defaultdict(list)
        for line, code, text, args in self._base:
            if code == _UNDEFINED:
                self._undefined[args[0]].append(line)
            else:
                self._static.append((line, code, text))
                if code in _OF_NAMES:
                    self._names[args if isinstance(args, str) else args[0]].is_fragile = True
        self._watch: dict[int, set[str]] = defaultdict(set)
        for name, table in self._names.items():
            fully = table.is_fragile or self._may_shadow(name, table)
            for line in {step.line for step in table.steps} if fully else table.binds_on:
                self._watch[line].add(name)
        self.is_usable = not walk.is_starred and self._agrees()

    def diagnose(self, lines: Sequence[int]) -> list[Diagnostic] | None:
        """The diagnostics of the text of `lines`, ascending and closed under the layout; None when unsure."""
        left = set(lines)
        gone = self._watch.keys() - left
        if not self._anchors <= left:
            return None
        changed: set[str] = set().union(*(self._watch[line] for line in gone))
        undefined = [
            (line, name)
            for name, found in self._undefined.items()
            if name not in changed
            for line in found
            if line in left
        ]
        exports_hold = self._holds_exports(left)
        for name in changed:
            table = self._names[name]
            if table.is_fragile or table.is_typing:
                if any(step.line in left for step in table.steps):
                    return None
                continue
            played = _play(table.steps, left, name in self._known)
            if played is None or (exports_hold and name in self._exports and not played[1]):
                return None
            undefined += [(line, name) for line in played[0]]
        found = [(line, code, text) for line, code, text in self._static if line in left]
        if any(code == "UndefinedLocal" for _, code, _ in found):
            return None  # its sentence names another line, which has moved
        found += [(line, _UNDEFINED, messages.UndefinedName.message % (name,)) for line, name in undefined]
        return [Diagnostic(code, bisect_left(lines, line) + 1, text) for line, code, text in sorted(found)]

    def _holds_exports(self, left: set[int]) -> bool:
        return "__all__" in self._names and any(step.line in left for step in self._names["__all__"].steps)

    def _may_shadow(self, name: str, table: _Name) -> bool:
        """Whether a function loads the name before it assigns it, while an outer scope may know it."""
        loaded: set[int] = set()
        outer = {step.scope for step in table.steps if step.kind in ("bind", "enter", "global")}
        outer |= {0} if name in self._known else set()
        for step in table.steps:
            if step.kind == "load":
                loaded.add(step.scope)
            elif step.kind in ("store", "enter") and step.scope in loaded and outer.intersection(step.scopes):
                return True
        return False

    def _agrees(self) -> bool:
        """Whether playing the sure names back gives what pyflakes said: a new one may walk differently."""
        if any(code in _OF_ORDER for _, code, _, _ in self._base):
            return False
        lines = {step.line for table in self._names.values() for step in table.steps}
        for name, table in self._names.items():
            if not table.is_fragile:
                played = _play(table.steps, lines, name in self._known)
                if played is None or sorted(played[0]) != sorted(self._undefined.get(name, [])):
                    return False
        return True


def _play(steps: Sequence[_Step], left: set[int], is_known: bool) -> tuple[list[int], bool] | None:
    """Lines where the name is undefined, and whether the module knows it at the end; None if shadowed.

    `users` maps each scope that knows the name to the scope that looked it up last.
    """
    users: dict[int, int | None] = {0: None} if is_known else {}
    hidden: list[tuple[bool, int | None]] = []
    undefined = []
    for step in steps:
        if step.line not in left:
            continue
        if step.kind == "load":
            found = next((scope for scope in step.scopes if scope in users), None)
            if found is not None:
                users[found] = step.scope
            elif not step.is_forgiven:
                undefined.append(step.line)
        elif step.kind == "bind":
            users.setdefault(step.scope, None)
        elif step.kind == "delete":
            if step.scope in users:
                del users[step.scope]
            else:
                undefined.append(step.line)
        elif step.kind == "global":
            undefined.clear()
            users.setdefault(0, 0)
            users.update(dict.fromkeys(step.scopes, 0))
        elif step.kind == "leave":
            users.pop(step.scope, None)
            was_known, user = hidden.pop()
            if was_known:
                users[step.scope] = user
        else:
            if step.kind == "enter":
                hidden.append((step.scope in users, users.pop(step.scope, None)))
            if step.scope not in users and any(users.get(scope) == step.scope for scope in step.scopes):
                return None
            if step.kind == "enter":
                users[step.scope] = None
    return undefined, 0 in users
