"""Line, bar and dot charts as inline SVG. Matplotlib is imported when the first chart is drawn.

Matplotlib's SVG made fit for a page: ids of its own, the page's colours, nothing that reaches outside.
"""

from __future__ import annotations

import io
import math
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gnomon.core.report.markup import printable
from gnomon.core.report.values import human, is_number
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Matplotlib's SVG made fit for a page: ids of its own, the page's colours, nothing that reaches outside.

INK, SOFT, RULE, PAPER = "#010101", "#020202", "#030303", "#050505"
"""Colours to draw with; the page decides what they look like, in light and in dark."""

_NAMES = {INK: "ink", SOFT: "soft", RULE: "rule", PAPER: "paper"}
_COLOUR = re.compile(r"#0[1-5]0[1-5][0-9a-f]{2}", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(#([^)]*)\)")
_TARGET = re.compile(r"(?:^|url\()#([^)]+)")


def arm_colour(slot: int) -> str:
    """The colour to draw the arm in `slot` with."""
    return f"#0401{slot:02x}"


def embed(source: bytes, prefix: str, title: str) -> Markup:
    """An SVG document as an element for the middle of a page.

    Args:
        source: what matplotlib wrote.
        prefix: goes before every id, so that two charts on a page never share one.
        title: what a screen reader says.
    """
    root = ET.fromstring(source)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style element would restyle the whole page; metadata carries dates and addresses.
            if _local(child.tag) in ("style", "metadata"):
                parent.remove(child)
    used: set[str] = set()
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(name): value for name, value in element.attrib.items()}
        used.update(name for value in attributes.values() for name in _TARGET.findall(value))
        element.attrib.clear()
        element.attrib.update({name: _rewrite(name, value, prefix) for name, value in attributes.items()})
    for element in root.iter():
        if element.get("id", "").removeprefix(f"{prefix}-") not in used:
            element.attrib.pop("id", None)
    view = root.get("viewBox", "0 0 1 1")
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "class": "chart"})
    label = ET.Element("title")
    label.text = title
    root.insert(0, label)
    return Markup(ET.tostring(root, encoding="unicode"))  # the serialiser escapes all text


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _rewrite(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href" and value.startswith("#"):
        return f"#{prefix}-{value[1:]}"
    value = _REFERENCE.sub(lambda match: f"url(#{prefix}-{match[1]})", value)
    return _COLOUR.sub(_variable, value) if name in ("style", "fill", "stroke") else value


def _variable(match: re.Match[str]) -> str:
    colour = match[0].lower()
    if colour in _NAMES:
        return f"var(--{_NAMES[colour]})"
    return f"var(--arm-{int(colour[5:], 16)})" if colour.startswith("#0401") else colour


# Line, bar and dot charts as inline SVG. Matplotlib is imported when the first chart is drawn.

Point = Sequence[float]
"""`(x, y)` or `(x, y, low, high)`."""
Bar = float | Sequence[float]
"""`value` or `(value, low, high)`."""

MARKERS = [("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"), ("P", "✚"), ("X", "✖"), ("*", "★")]
"""One per arm, in the chart and in its legend: colour is never the only sign."""
LARGER = {"*": 1.8, "X": 1.2, "P": 1.2}
"""Thin markers, drawn larger so that all look alike in size."""

_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 10.5,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.color": RULE,
    "ytick.labelcolor": SOFT,
    "ytick.left": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}


def lines(
    series: Mapping[str, Sequence[Point]],
    slots: Mapping[str, int],
    *,
    x_label: str,
    y_label: str,
    log_x: bool,
    prefix: str,
    title: str,
) -> Markup:
    """One line per arm, with a band where the points have an interval.

    Raises:
        BadInput: there is no point, a point has the wrong number of values, or a logarithmic x is not
        positive.
    """
    with _canvas(prefix) as (figure, axes):
        seen: set[float] = set()
        for arm, points in series.items():
            rows = [_finite(point, (2, 4), f'Chart "{title}", line "{arm}"') for point in points]
            rows = sorted(row for row in rows if row)
            if log_x and any(row[0] <= 0 for row in rows):
                raise BadInput(f'Chart "{title}", line "{arm}": a logarithmic axis needs x > 0.')
            slot = slots[arm]
            colour, marker = arm_colour(slot), MARKERS[slot % len(MARKERS)][0]
            xs, ys = [row[0] for row in rows], [row[1] for row in rows]
            seen.update(xs)
            axes.plot(
                xs,
                ys,
                color=colour,
                marker=marker if len(xs) <= 24 else None,
                markersize=6 * LARGER.get(marker, 1),
                markeredgecolor=PAPER,
                markeredgewidth=1,
                linewidth=2,
                solid_capstyle="round",
            )
            banded = [row for row in rows if len(row) == 4]
            if banded:
                x, _, low, high = zip(*banded, strict=True)
                axes.fill_between(x, low, high, color=colour, alpha=0.14, linewidth=0)
        if not seen:
            raise BadInput(f'Chart "{title}" has no points to draw.')
        if log_x:
            from matplotlib.ticker import FuncFormatter

            axes.set_xscale("log")
            # The usual labels of a logarithmic axis are mathematics, which the page does not typeset.
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        if len(seen) <= 8:
            axes.set_xticks(sorted(seen), [human(_whole(x)) for x in sorted(seen)])
            axes.minorticks_off()
        _label(axes, x_label, y_label)
        return _save(figure, prefix, title)


def bars(
    groups: Mapping[str, Mapping[str, Bar]],
    slots: Mapping[str, int],
    *,
    y_label: str,
    prefix: str,
    title: str,
) -> Markup:
    """Grouped bars: one group per category, one bar per arm, an error bar where there is an interval.

    Raises:
        BadInput: there is no bar, or a bar is neither a value nor `(value, low, high)`.
    """
    categories = list(dict.fromkeys(category for row in groups.values() for category in row))
    with _canvas(prefix) as (figure, axes):
        width = min(0.8 / max(len(groups), 1), 0.18)
        drawn = 0
        for i, (arm, row) in enumerate(groups.items()):
            for j, category in enumerate(categories):
                if category not in row:
                    continue
                bar = row[category]
                what = f'Chart "{title}", bar "{arm}", "{category}"'
                values = _finite([bar] if is_number(bar) else bar, (1, 3), what)  # type: ignore[list-item, arg-type]
                if not values:
                    continue
                drawn += 1
                x = j + width * (i + 0.5 - len(groups) / 2)
                axes.bar(x, values[0], width=width * 0.9, color=arm_colour(slots[arm]))
                if len(values) == 3:
                    axes.plot([x, x], values[1:], color=INK, linewidth=1.4, solid_capstyle="round")
        if not drawn:
            raise BadInput(f'Chart "{title}" has no bars to draw.')
        axes.set_xticks(range(len(categories)), [_short(category) for category in categories])
        axes.tick_params(axis="x", length=0)
        axes.axhline(0, color=SOFT, linewidth=0.8)
        if len(categories) > 6 or max(map(len, categories)) * len(categories) > 80:
            axes.tick_params(axis="x", labelrotation=30)
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
        _label(axes, "", y_label)
        return _save(figure, prefix, title)


def dots(
    groups: Mapping[str, Mapping[str, Bar]],
    slots: Mapping[str, int],
    *,
    x_label: str,
    prefix: str,
    title: str,
    zero: float | None = 0.0,
) -> Markup:
    """A dot per arm and category, one category per line, a level bar where there is an interval.

    Args:
        groups: arm -> category -> value or `(value, low, high)`; missing values are left out.
        slots: arm -> its colour and marker.
        x_label: what is measured.
        prefix: of ids.
        title: what a screen reader says.
        zero: where an upright line says "nothing"; None draws none.

    Raises:
        BadInput: there is no dot, or one is neither a value nor `(value, low, high)`.
    """
    categories = list(dict.fromkeys(category for row in groups.values() for category in row))
    height = 1.1 + max(len(categories), 2) * (0.16 + 0.14 * len(groups))
    with _canvas(prefix, height) as (figure, axes):
        drawn = 0
        for i, (arm, row) in enumerate(groups.items()):
            colour, marker = arm_colour(slots[arm]), MARKERS[slots[arm] % len(MARKERS)][0]
            for j, category in enumerate(categories):
                if (dot := row.get(category)) is None:
                    continue
                what = f'Chart "{title}", dot "{arm}", "{category}"'
                values = _finite([dot] if is_number(dot) else dot, (1, 3), what)  # type: ignore[list-item, arg-type]
                if not values:
                    continue
                drawn += 1
                y = j + 0.7 * ((i + 0.5) / len(groups) - 0.5)
                if len(values) == 3:
                    axes.plot(values[1:], [y, y], color=colour, linewidth=2, solid_capstyle="round")
                axes.plot(
                    values[0],
                    y,
                    marker=marker,
                    color=colour,
                    markersize=7 * LARGER.get(marker, 1),
                    markeredgecolor=PAPER,
                    linestyle="",
                )
        if not drawn:
            raise BadInput(f'Chart "{title}" has no dots to draw.')
        axes.set_yticks(range(len(categories)), [_short(category, 44) for category in categories])
        axes.set_ylim(len(categories) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        if zero is not None:
            axes.axvline(zero, color=SOFT, linewidth=0.8)
        _label(axes, x_label, "")
        return _save(figure, prefix, title)


@contextmanager
def _canvas(prefix: str, height: float = 3.7) -> Iterator[tuple[Figure, Axes]]:
    """A figure without any global state of pyplot, drawn under our own style."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    settings: Any = {**_STYLE, "svg.hashsalt": prefix}
    with mpl.rc_context(settings), warnings.catch_warnings():
        # The browser draws the text with its own fonts: a glyph missing here is none of our business.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph", category=UserWarning)
        figure = Figure(figsize=(8.8, height), layout="constrained")
        yield figure, figure.add_subplot()


def _save(figure: Figure, prefix: str, title: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return embed(buffer.getvalue(), prefix, printable(title))


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(_short(x_label, 90), labelpad=6)
    if y_label:
        # Above the axis and level, where it reads like a sentence.
        axes.set_title(_short(y_label, 90), loc="left", fontsize=10.5, color=SOFT, pad=10)


def _finite(values: Sequence[float], sizes: tuple[int, int], what: str) -> list[float]:
    """`values` as floats; nothing if the value itself is missing, no interval if an end is."""
    if isinstance(values, str) or len(values) not in sizes:
        raise BadInput(f"{what}: a point has {sizes[0]} or {sizes[1]} numbers; got {values!r}.")
    row = [math.nan if value is None else float(value) for value in values]
    if not all(map(math.isfinite, row[: sizes[0]])):
        return []
    return row if all(map(math.isfinite, row)) else row[: sizes[0]]


def _short(text: str, width: int = 32) -> str:
    text = " ".join(printable(text).split())
    return text if len(text) <= width else text[: width - 1] + "…"


def _whole(x: float) -> float | int:
    return int(x) if x == int(x) else x
