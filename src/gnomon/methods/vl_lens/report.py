"""The report's panels: an image to explore patch by patch, and captions before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from gnomon.core.files import room_file
from gnomon.core.models.architectures.parts import ImageLayout, Tile
from gnomon.core.report.markup import data_uri
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.data import overlay
from gnomon.methods.vl_lens.erasure.mitigation import Rewritten

if TYPE_CHECKING:
    from gnomon.core.report import Page
    from gnomon.methods.vl_lens.lens.lens import LensResult

MAX_LAYERS = 12
"""Layers that a page shows; of deeper models these are spread evenly."""


def explore(page: Page, result: LensResult, b: int, picture: Image, *, name: str, lens: str) -> None:
    """An image whose patches tell their words, with a heat map of every word that was looked for.

    Args:
        page: where it goes.
        result: what the lens read.
        b: which of its images.
        picture: that image.
        name: what to call it.
        lens: the lens that was used.
    """
    scores = np.asarray(result.scores[b])
    shown = shown_layers(result.layers)
    rows = [result.layers.index(layer) for layer in shown]
    layout: ImageLayout = result.layouts[b]
    uri, width, height = data_uri(picture)
    tokens = [
        [[[text, round(float(p), 4)] for text, p in result.top_tokens(b, layer, i)] for layer in shown]
        for i in range(layout.n_tokens)
    ]
    heat = {
        word: [[round(float(v), 4) for v in scores[row, :, w]] for row in rows]
        for w, word in enumerate(result.words)
    }
    most = {word: [round(float(v), 4) for v in scores[:, :, w].max(0)] for w, word in enumerate(result.words)}
    stills = [
        (word, float(scores[:, :, w].max()), data_uri(overlay(picture, result.heatmap(b, word)))[0])
        for w, word in enumerate(result.words)
        if layout.tiles
    ]
    page.panel(
        room_file(__name__, "templates/explore.html.j2"),
        room_file(__name__, "templates/explore.js"),
        name=name,
        lens=lens,
        uri=uri,
        width=width,
        height=height,
        words=list(result.words),
        layers=len(shown),
        cells=cells(layout),
        stills=stills,
        data={"layers": shown, "tokens": tokens, "heat": heat, "most": most},
    )


def cells(layout: ImageLayout) -> list[dict[str, Any]]:
    """Where each image token is shown: left, top, width and height in percent of the image.

    Where tiles lie over each other (the whole image and its parts) the finest is shown, since a click means one token. Tokens
    without a place stand in a row of their own: their `left` is None.
    """
    width, height = layout.size
    taken = np.zeros((32, 32), bool)
    chosen = []
    for tile in sorted(layout.tiles, key=_cell_area):
        covered = _covered(tile, width, height)
        if not (taken & covered).any():
            taken |= covered
            chosen.append(tile)
    found = []
    for tile in chosen:
        for (row, column), token in np.ndenumerate(tile.tokens):
            left, top, right, bottom = tile.cell(row, column)
            left, right = max(left, 0.0) / width, min(right / width, 1.0)
            top, bottom = max(top, 0.0) / height, min(bottom / height, 1.0)
            if left < right and top < bottom:
                place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
                found.append({"token": int(token), **{n: round(100 * v, 3) for n, v in place.items()}})
    if not found:
        return [{"token": token, "left": None} for token in range(layout.n_tokens)]
    return found


def _cell_area(tile: Tile) -> float:
    left, top, right, bottom = tile.box
    return (right - left) * (bottom - top) / tile.tokens.size


def _covered(tile: Tile, width: int, height: int) -> np.ndarray:
    """Which points of a 32 x 32 grid over the image the tile holds."""
    y, x = (np.mgrid[:32, :32] + 0.5) / 32 * np.array([height, width])[:, None, None]
    left, top, right, bottom = tile.box
    return np.asarray((left <= x) & (x < right) & (top <= y) & (y < bottom))


def shown_layers(layers: Sequence[int]) -> list[int]:
    """All of a few layers, or some of many with the first and the last among them."""
    if len(layers) <= MAX_LAYERS:
        return list(layers)
    places = np.linspace(0, len(layers) - 1, MAX_LAYERS).round().astype(int)
    return [layers[i] for i in places]


def changes(
    page: Page, rows: Sequence[tuple[str, Rewritten]], vocabulary: Vocabulary, *, caption: str
) -> None:
    """Captions before and after an edit, with the objects coloured: removed, kept, new.

    Args:
        page: where it goes.
        rows: image id and what changed.
        vocabulary: the words for objects.
        caption: what it shows.
    """
    told = [
        {
            "image_id": image_id,
            "erased": change.erased,
            "before": marked(change.caption, vocabulary, removed=change.removed),
            "after": marked(change.caption_edited, vocabulary, new=change.new),
        }
        for image_id, change in rows
    ]
    page.panel(room_file(__name__, "templates/changes.html.j2"), rows=told, caption=caption)


def marked(
    caption: str, vocabulary: Vocabulary, *, removed: Sequence[str] = (), new: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """A caption in pieces, each with what became of its object: removed, kept, new, or nothing for plain text."""
    pieces, at = [], 0
    for mention in vocabulary.mentions(caption):
        kind = "removed" if mention.object in removed else "new" if mention.object in new else "kept"
        pieces += [("", caption[at : mention.start]), (kind, caption[mention.start : mention.end])]
        at = mention.end
    return [(kind, text) for kind, text in [*pieces, ("", caption[at:])] if text]
