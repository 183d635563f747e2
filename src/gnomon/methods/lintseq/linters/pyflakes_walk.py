"""One walk of pyflakes over a program, written down name by name."""

from __future__ import annotations

import ast
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Literal

from pyflakes import checker


@dataclass(frozen=True)
class Step:
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
class Name:
    """All that happens to one name."""

    steps: list[Step] = field(default_factory=list)
    binds_on: set[int] = field(default_factory=set)
    """Lines with a step that may make the name known or unknown."""
    is_fragile: bool = False
    """The steps do not tell the whole story: its lines stay all, or go all, or pyflakes is asked."""
    is_typing: bool = False
    """It is imported from `typing`, whose members switch how pyflakes reads their arguments."""


class Recorder(checker.Checker):  # type: ignore[misc]
    """pyflakes' own walk, writing down each step.

    Names are fragile when something other than these steps decides about them: an annotation without value,
    `:=`, the true name behind an alias, `__all__`. Lines in `anchors` change how other lines are read;
    programs with a star import get no tables at all.
    """

    def __init__(self, tree: ast.Module, filename: str):
        self.names: dict[str, Name] = defaultdict(Name)
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
        step = Step(kind, node.lineno - 1, self._id(self.scope), scopes, is_forgiven)
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
        """A name is looked up."""
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
        """A name is about to be assigned."""
        name = checker.getNodeName(node)
        if name and not isinstance(node, ast.ExceptHandler):
            self._note("store", name, node, self._shadowed())
        super().handleNodeStore(node)

    def addBinding(self, node: Any, value: Any) -> None:
        """A name is bound: by an assignment, an import, a definition, an argument."""
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
        """A name is deleted."""
        above = self._parents.get(node)
        while above is not None and not isinstance(above, ast.If | ast.While | ast.IfExp):
            above = self._parents.get(above)
        if above is None:  # pyflakes ignores a `del` under a condition
            self._note("delete", node.id, node)
        super().handleNodeDelete(node)

    def EXCEPTHANDLER(self, node: Any) -> None:
        """A name is bound for the length of a handler."""
        if node.name:
            self._note("enter", node.name, node, self._shadowed())
        super().EXCEPTHANDLER(node)
        if node.name:
            self._note("leave", node.name, node)

    def TRY(self, node: Any) -> None:
        """Handlers of `NameError` silence the names inside."""
        for handler in node.handlers:
            if handler.type is not None and any(
                getattr(part, "id", None) == "NameError" for part in ast.walk(handler.type)
            ):
                self.anchors.update(other.lineno - 1 for other in node.handlers)
        super().TRY(node)

    TRYSTAR = TRY

    def GLOBAL(self, node: Any) -> None:
        """Names are declared to live further out."""
        if len(self.scopeStack) > 1:
            for name in node.names:
                self._note("global", name, node, tuple(self._id(scope) for scope in self.scopeStack[1:]))
        super().GLOBAL(node)

    NONLOCAL = GLOBAL
