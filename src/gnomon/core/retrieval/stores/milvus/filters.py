"""Filters as Milvus reads them: values stand beside the text, or are written into it as digits, signs and truth values alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.retrieval.hits import Condition

_OPERATORS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_NONE = '(key == "")'


@dataclass(frozen=True)
class Filter:
    """What rows must meet: text with names in braces for the values, and the values."""

    text: str
    """Holds numbered columns, operators and names of values; no value."""
    values: Mapping[str, Any]
    """Name -> truth value, number, or a text of hexadecimal digits."""

    @classmethod
    def all(cls) -> Filter:
        """Every row."""
        return cls('key != ""', {})

    @classmethod
    def of(cls, wanted: Sequence[Condition], keys: Mapping[str, str]) -> Filter:
        """Rows that meet all conditions.

        Args:
            wanted: the conditions.
            keys: column -> `c0` and so on.
        """
        values: dict[str, Any] = {}
        return cls(" and ".join(_condition(each, keys[each.column], values) for each in wanted), values)

    @property
    def filled(self) -> str:
        """The text with the values in it, for what takes none beside it: all of them are digits, signs, `true` and `false`."""
        return re.sub(r"\{(v[0-9]+)\}", lambda match: _literal(self.values[match[1]]), self.text)


def _condition(wanted: Condition, key: str, values: dict[str, Any]) -> str:
    """One condition in brackets; its values are put into `values`."""

    def named(value: Any) -> str:
        name = f"v{len(values)}"
        values[name] = encoded(value)
        return "{" + name + "}"

    field = f'meta["{key}"]'
    parts: list[str] = []
    if wanted.among is not None:
        # A list of alternatives, because "in" takes no field of JSON everywhere.
        if wanted.kind != "null":
            parts += [f"{field} == {named(value)}" for value in wanted.among]
        if wanted.or_null:
            parts.append(f"not exists {field}")
        return f"({' or '.join(parts)})" if parts else _NONE
    if wanted.kind == "null":
        return _NONE
    parts = [f"{field} {_OPERATORS[name]} {named(value)}" for name, value in wanted.bounds.items()]
    return f"({' and '.join(parts)})"


def encoded(value: Any) -> Any:
    """A value as it lies in a row: a text as hexadecimal digits, all else as it is."""
    return value.encode().hex() if isinstance(value, str) else value


def _literal(value: Any) -> str:
    """A value as `encoded` gives it, written out."""
    if isinstance(value, str) and not re.fullmatch("[0-9a-f]*", value):
        raise ValueError(f"{value!r} is not encoded")
    return json.dumps(value, allow_nan=False)
