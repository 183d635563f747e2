"""pyflakes' diagnostics on parts of a program, from tables made in one pass.

pyflakes walks a program in a fixed order and keeps, for each scope, the names that are bound so far. Taking
statements away takes their steps out of that walk and moves no other step. So one walk is recorded, name by
name; a name whose bindings are all still there is judged as before, and for any other the steps that are left
are played back.

Where the walk itself could change (see `Recorder`), the answer is None: ask pyflakes.
"""

from __future__ import annotations

import ast
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence

from pyflakes import messages

from gnomon.methods.lintseq.linters.base import Diagnostic
from gnomon.methods.lintseq.linters.pyflakes_walk import Name, Recorder, Step

_UNDEFINED = "UndefinedName"
_OF_NAMES = frozenset({_UNDEFINED, "UndefinedLocal", "UndefinedExport"})
_OF_ORDER = frozenset({"LateFutureImport", "DefaultExceptNotLast"})


class PyflakesTables:
    """What pyflakes says about any part of one program that its layout allows.

    Args:
        tree: the whole program; it parses.
        errors: the messages that count.
    """

    def __init__(self, tree: ast.Module, errors: tuple[type[messages.Message], ...]):
        walk = Recorder(tree, "program.py")
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
        self._lines = {
            name: sorted({step.line for step in table.steps}) for name, table in self._names.items()
        }
        self._watch: dict[int, set[str]] = defaultdict(set)
        for name, table in self._names.items():
            fully = table.is_fragile or self._may_shadow(name, table)
            for line in self._lines[name] if fully else table.binds_on:
                self._watch[line].add(name)
        self._judged: dict[tuple[str, tuple[int, ...]], tuple[list[int], bool] | None] = {}
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
            for name, complaints in self._undefined.items()
            if name not in changed
            for line in complaints
            if line in left
        ]
        exports_hold = self._holds_exports(left)
        for name in changed:
            played = self._judge(name, tuple([line for line in self._lines[name] if line in left]))
            if played is None or (exports_hold and name in self._exports and not played[1]):
                return None
            undefined += [(line, name) for line in played[0]]
        complaints = [(line, code, text) for line, code, text in self._static if line in left]
        if any(code == "UndefinedLocal" for _, code, _ in complaints):
            return None  # its sentence names another line, which has moved
        complaints += [
            (line, _UNDEFINED, messages.UndefinedName.message % (name,)) for line, name in undefined
        ]
        return [
            Diagnostic(code, bisect_left(lines, line) + 1, text) for line, code, text in sorted(complaints)
        ]

    def _judge(self, name: str, kept: tuple[int, ...]) -> tuple[list[int], bool] | None:
        """What `_play` says about a name of which some lines are kept; None when the steps do not tell."""
        table = self._names[name]
        if kept and (table.is_fragile or table.is_typing):
            return None
        if (name, kept) not in self._judged:
            self._judged[name, kept] = _play(table.steps, set(kept), name in self._known)
        return self._judged[name, kept]

    def _holds_exports(self, left: set[int]) -> bool:
        return "__all__" in self._names and any(line in left for line in self._lines["__all__"])

    def _may_shadow(self, name: str, table: Name) -> bool:
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
        for name, table in self._names.items():
            if not table.is_fragile:
                played = _play(table.steps, set(self._lines[name]), name in self._known)
                if played is None or sorted(played[0]) != sorted(self._undefined.get(name, [])):
                    return False
        return True


def _play(steps: Sequence[Step], left: set[int], is_known: bool) -> tuple[list[int], bool] | None:
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
            owner = next((scope for scope in step.scopes if scope in users), None)
            if owner is not None:
                users[owner] = step.scope
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
