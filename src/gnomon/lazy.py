"""Import on first use: a package exports public names without loading the modules behind them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from gnomon.errors import BadInput, MissingExtra, nearest


def exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` for a package that resolves its public names on first use.

    Args:
        package: the package's `__name__`.
        names: public name -> submodule that defines it, relative to the package (`"edits"`).

    Returns:
        The two functions, to be assigned to `__getattr__` and `__dir__` in the package's `__init__.py`.
    """

    def load(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{names[name]}"), name)

    return load, lambda: sorted(names)


def resolve(reference: str) -> Any:
    """The object behind `"module:name"`."""
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


def function(module: str, name: str) -> Callable[..., Any]:
    """The function `name` of a user's module.

    Raises:
        BadInput: there is no such module, or no such function in it.
    """
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise BadInput(f'There is no Python module "{module}". Put its folder on PYTHONPATH.') from None
    found = getattr(loaded, name, None)
    if not callable(found):
        names = [n for n, value in vars(loaded).items() if callable(value) and not n.startswith("_")]
        raise BadInput(f'Module "{module}" has no function "{name}". {nearest(name, names)}')
    return found


def optional(module: str, package: str, extra: str) -> Any:
    """Import `module`, or raise the error that names the extra to install.

    Raises:
        MissingExtra: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtra.of(package, extra) from None
