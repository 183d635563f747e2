"""Values as people read them in a report, and as JSON stores them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gnomon.core.plain import python_scalar

MISSING = "\N{EN DASH}"


def human(value: Any, decimals: int | None = None) -> str:
    """A value as text: thousands grouped, floats at three significant digits or at `decimals`.

    >>> human(88900), human(0.12345), human(True), human(12.0, 1)
    ('88,900', '0.123', 'yes', '12.0')
    """
    value = python_scalar(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "\N{MINUS SIGN}")
    if isinstance(value, float):
        if decimals is None:
            decimals = decimals_for([value])
        text = f"{value:.3g}" if decimals < 0 or math.isinf(value) else f"{value:,.{decimals}f}"
        return text.replace("-", "\N{MINUS SIGN}")
    return str(value)


def decimals_for(values: Sequence[Any]) -> int:
    """Decimals that give the largest of `values` three significant digits; -1 where only `%.3g` reads well.

    >>> decimals_for([0.21, 0.0312]), decimals_for([12.84, 3.0]), decimals_for([3.0]), decimals_for([2e-7])
    (3, 1, 0, -1)
    """
    finite = [abs(float(v)) for v in values if is_number(v) and math.isfinite(v)]
    if all(v == int(v) for v in finite):
        return 0
    top = max(finite)
    if not 1e-3 <= top < 1e7:
        return -1
    return min(max(2 - math.floor(math.log10(top)), 0), 5)


def is_number(value: Any) -> bool:
    """Whether `value` is a number to be aligned and compared; truth values are not."""
    value = python_scalar(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
