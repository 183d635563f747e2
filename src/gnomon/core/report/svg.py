"""Matplotlib's SVG made fit for a page: ids of its own, the page's colours, nothing that reaches outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from markupsafe import Markup

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
