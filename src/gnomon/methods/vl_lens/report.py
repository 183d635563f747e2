"""Report pages: an image to explore patch by patch, captions before and after an edit, and the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL.Image import Image

from gnomon.core.files import room_file
from gnomon.core.models.architectures.parts import ImageLayout, Tile
from gnomon.core.report.markup import data_uri
from gnomon.core.vision.draw import overlay
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.erasure.mitigation import Rewritten

if TYPE_CHECKING:
    from gnomon.core.report import Page
    from gnomon.methods.vl_lens.lens.lens import LensResult

Rows = Sequence[Mapping[str, Any]]

SHOWN = 20
"""Rows that a table shows, at most."""

MAX_LAYERS = 12
"""Layers that a page shows; of deeper models these are spread evenly."""


def explore(page: Page, result: LensResult, b: int, picture: Image, *, name: str, lens: str) -> None:
    """An image whose patches show their likeliest words, with a heat map of every word.

    Args:
        page: where it goes.
        result: what the lens read.
        b: which of its images.
        picture: that image.
        name: of the image.
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
    """Box of each image token: left, top, width and height in percent of the image.

    Where tiles lie over each other (the whole image and its parts) the finest is shown, since a click means one token. Tokens
    without a place stand in a row of their own: their `left` is None.
    """
    width, height = layout.size
    taken = np.zeros((32, 32), bool)  # a grid is fine enough to see which tiles overlap
    chosen = []
    for tile in sorted(layout.tiles, key=_cell_area):
        covered = _covered(tile, width, height)
        if not (taken & covered).any():
            taken |= covered
            chosen.append(tile)
    boxes = []
    for tile in chosen:
        for (row, column), token in np.ndenumerate(tile.tokens):
            left, top, right, bottom = tile.cell(row, column)
            left, right = max(left, 0.0) / width, min(right / width, 1.0)
            top, bottom = max(top, 0.0) / height, min(bottom / height, 1.0)
            if left < right and top < bottom:
                box = {"left": left, "top": top, "width": right - left, "height": bottom - top}
                boxes.append({"token": int(token), **{n: round(100 * v, 3) for n, v in box.items()}})
    if not boxes:
        return [{"token": token, "left": None} for token in range(layout.n_tokens)]
    return boxes


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
        caption: of the panel.
    """
    pieces = [
        {
            "image_id": image_id,
            "erased": change.erased,
            "before": marked(change.caption, vocabulary, removed=change.removed),
            "after": marked(change.caption_edited, vocabulary, new=change.new),
        }
        for image_id, change in rows
    ]
    page.panel(room_file(__name__, "templates/changes.html.j2"), rows=pieces, caption=caption)


def marked(
    caption: str, vocabulary: Vocabulary, *, removed: Sequence[str] = (), new: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """A caption in pieces, each with the fate of its object: removed, kept, new, or nothing for plain text."""
    pieces, at = [], 0
    for mention in vocabulary.mentions(caption):
        kind = "removed" if mention.object in removed else "new" if mention.object in new else "kept"
        pieces += [("", caption[at : mention.start]), (kind, caption[mention.start : mention.end])]
        at = mention.end
    return [(kind, text) for kind, text in [*pieces, ("", caption[at:])] if text]


def sweep(page: Page, swept: Mapping[str, Any]) -> None:
    """The chosen setting, on the half that was not used to choose it, and all settings."""
    page.figures(
        {
            f"{name}, other half": swept["measured"][name]
            for name in ("removed_hallucinated", "kept", "removed_correct")
        }
    )
    page.text(
        "Each mention was erased by itself and its caption written again. The setting was chosen on every second image and "
        "measured on the others."
    )
    if not swept["within_bound"]:
        page.text("**No setting keeps enough of the other objects.** The one that loses least was taken.")
    page.table(
        [{"half": half, **swept[half]} for half in ("chosen", "measured")], caption="the chosen setting"
    )
    page.table(
        swept["tried"],
        caption="every setting, on the half that chose",
        best={"removed_hallucinated": "max", "kept": "max"},
    )


def captions(page: Page, rows: Rows) -> None:
    """Captions and the objects they mention."""
    page.figures({"images": len(rows)})
    page.table(rows[:SHOWN], caption="captions")


def confidences(page: Page, images: Sequence[str], rows: Rows, lens: str) -> None:
    """Internal confidence of each word in each image."""
    page.text(
        f"Internal confidence: the most that any image token at any layer gives to a word, by the {lens} lens."
    )
    by_image: dict[str, dict[str, Any]] = {name: {"image": name} for name in images}
    for row in rows:
        by_image[row["image_id"]][row["word"]] = row["confidence"]
    page.table(list(by_image.values())[:SHOWN], caption="internal confidence")


def detections(page: Page, rows: Rows, scored: Rows) -> None:
    """Mentions that are not supported; with ground truth, how well each score detects hallucinated ones."""
    doubtful = [row for row in rows if not row["is_supported"]]
    page.figures({"mentions": len(rows), "not supported": len(doubtful)})
    if scored:
        page.table(
            scored,
            caption="telling hallucinated mentions: average precision and area under the ROC curve",
            best={"ap": "max", "auc": "max"},
        )
    page.table(
        (doubtful or rows)[:SHOWN], caption="mentions that are not supported" if doubtful else "mentions"
    )


def rewritten(page: Page, rows: Sequence[tuple[str, Rewritten]], vocabulary: Vocabulary) -> None:
    """Objects removed, kept and new over all images, and the captions that changed."""
    page.figures(
        {
            "images": len(rows),
            **{name: sum(len(getattr(c, name)) for _, c in rows) for name in ("removed", "kept", "new")},
        }
    )
    changed = [(name, c) for name, c in rows if c.caption != c.caption_edited]
    caption = f"{len(changed)} of {len(rows)} captions changed"
    changes(page, (changed or rows)[:SHOWN], vocabulary, caption=caption)


def segments(page: Page, rows: Rows, word: str, folder: Path) -> None:
    """Masks over their images.

    Args:
        page: where it goes.
        rows: one per image; `mask` is a path below `folder`.
        word: what the masks are of.
        folder: of the run.
    """
    page.table(rows[:SHOWN], caption=f"masks of {word}: share of the image, and the largest score")
    for row in rows[:SHOWN]:
        target = folder / row["mask"]
        page.image(target.with_suffix(".overlay.png"), caption=str(row["image_id"]), width=320)


def chair(page: Page, figures: Mapping[str, Any], rows: Rows) -> None:
    """The CHAIR metrics, and captions with hallucinated objects."""
    page.figures({"CHAIR_i": figures["chair_i"], "CHAIR_s": figures["chair_s"], "recall": figures["recall"]})
    page.table([figures], caption="all captions")
    wrong = [row for row in rows if row["hallucinated"]]
    page.table(
        [
            {name: ", ".join(v) if isinstance(v, list) else v for name, v in row.items()}
            for row in wrong[:SHOWN]
        ],
        caption="captions with hallucinated objects",
    )
