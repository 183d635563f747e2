"""Values made of JSON's own types, whatever they were made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any


def to_plain(value: Any) -> Any:
    """`value` made of dicts, lists, strings, numbers, booleans and None only.

    Dataclasses become dicts, numbers that JSON lacks become None, and other objects (paths, errors) their text.

    >>> to_plain({"share": float("nan"), "seeds": (0, 1)})
    {'share': None, 'seeds': [0, 1]}
    """
    if type(value) is str:  # most values are; the rest of the list would find that out later
        return value
    value = python_scalar(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(map(to_plain, value), key=repr)
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value)


def python_scalar(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, without importing either; anything else as it is."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value
