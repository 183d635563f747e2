"""Text from anybody as safe HTML: everything is escaped first, then a few marks are honoured."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from gnomon.core.vision import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

_CODE = re.compile(r"`([^`\n]+)`")
_BOLD = re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*")
_ITALIC = re.compile(r"(?<![\w*])\*(?=[^\s*])(.+?)(?<=[^\s*])\*(?![\w*])")
_LINK = re.compile(r"\[([^\]\n]+)\]\((https?://[^\s()<>]+)\)")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]|[\ud800-\udfff]")

MAX_IMAGE_SIDE = 1600
"""Pixels; larger pictures are scaled down before they go into a page."""


def printable(text: object) -> str:
    """`text` without control characters and lone surrogates, which neither HTML nor SVG can hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def prose(text: str) -> Markup:
    """Paragraphs and bullet lists, with `code`, **bold**, *italic* and [links](https://example.org).

    >>> print(prose("a *b* <i> `x*y*z`"))
    <p>a <em>b</em> &lt;i&gt; <code>x*y*z</code></p>
    """
    parts = []
    for block in re.split(r"\n\s*\n", printable(text).strip()):
        lines = [line.strip() for line in block.split("\n")]
        if all(line.startswith("- ") for line in lines):
            items = "".join(f"<li>{_inline(line[2:])}</li>" for line in lines)
            parts.append(f"<ul>{items}</ul>")
        else:
            parts.append(f"<p>{_inline(' '.join(lines))}</p>")
    return Markup("\n".join(parts))  # made of escaped text and our own tags


def _inline(text: str) -> str:
    """One line: code spans are set aside, so that nothing inside them is read as a mark."""
    pieces = _CODE.split(text)
    for i, piece in enumerate(pieces):
        safe = str(escape(piece))
        if i % 2:
            pieces[i] = f"<code>{safe}</code>"
            continue
        safe = _LINK.sub(r'<a href="\2" rel="noopener noreferrer">\1</a>', safe)
        pieces[i] = _ITALIC.sub(r"<em>\1</em>", _BOLD.sub(r"<strong>\1</strong>", safe))
    return "".join(pieces)


def data_uri(picture: str | Path | Image) -> tuple[str, int, int]:
    """A picture as a PNG data URI, with its width and height in pixels.

    The picture is decoded and encoded anew, so that no metadata of the original (place, camera, author)
    travels along.

    Raises:
        BadInput: see `open_image`.
    """
    image = open_image(picture, "A picture of the report")
    if max(image.size) > MAX_IMAGE_SIDE:
        image.thumbnail((MAX_IMAGE_SIDE, MAX_IMAGE_SIDE))
    clean: Any = image.copy()
    clean.info = {}
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", optimize=True)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/png;base64,{encoded}", image.width, image.height
