"""Import on first use: a package exports public names without loading the modules behind them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from gnomon.errors import BadConfig, BadInput, MissingExtra, nearest


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


def function(reference: str) -> Callable[..., Any]:
    """A user's function.

    Args:
        reference: `"module:name"` or `"path/to/file.py:name"`.

    Raises:
        BadConfig: the reference is written in another way.
        BadInput: there is no such file or module, or no such function in it.
    """
    return as_function(named(reference), reference)


def as_function(named: Any, reference: str) -> Callable[..., Any]:
    """What `named` found behind a reference, when it can be called.

    Raises:
        BadInput: it cannot.
    """
    if not callable(named):
        raise BadInput(f'"{reference}" is no function but {type(named).__name__}.')
    return cast(Callable[..., Any], named)


def named(reference: str) -> Any:
    """What a user's module or file holds under a name; as `function`, whatever it is."""
    source, _, name = reference.rpartition(":")
    if not source or not name:
        raise BadConfig(
            f'"{reference}" names no function. Write module:function or path/to/file.py:function.'
        )
    try:
        module = _file(Path(source)) if source.endswith(".py") else _module(source)
    except SyntaxError as error:
        raise BadInput(f"{error.filename}, line {error.lineno}: not valid Python ({error.msg}).") from None
    if not hasattr(module, name):
        names = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        what = source if source.endswith(".py") else f'Module "{source}"'
        raise BadInput(f'{what} has no function "{name}". {nearest(name, names)}')
    return getattr(module, name)


def _file(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"{path} does not exist.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # every .py file has a loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise BadInput(
            f'There is no module "{name}". Put its folder on PYTHONPATH, or name the file: path/to/file.py:function.'
        ) from None


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
