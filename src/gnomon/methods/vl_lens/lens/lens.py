"""The logit lens on image tokens: how strongly, at which layer and where they carry a word.

Per layer, the states of a few image tokens at a time pass the output embedding; what is kept are the probabilities of
the wanted pieces and the likeliest words of each place. [layers, tokens, vocabulary] never exists.

A `LensResult` maps them back onto the image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gnomon.core import records
from gnomon.core.models import as_handle
from gnomon.core.models.architectures.parts import ImageLayout
from gnomon.errors import BadInput, ModelMismatch, nearest
from gnomon.methods.vl_lens.config import PRESETS
from gnomon.methods.vl_lens.lens.words import Spelling, check_layer, check_tokens, layer_sites, spell

if TYPE_CHECKING:
    from gnomon.core.models import Batch, ModelHandle, StepInfo
    from gnomon.core.models.images import SeenText


# The result, and its maps on the image.


@dataclass(frozen=True)
class LensResult:
    """The words that image tokens carry, by layer and place, for B images.

    Names of axes: L layers that were read, n tokens of an image (images may differ), W words.
    """

    words: tuple[str, ...]
    """The words."""
    layers: tuple[int, ...]
    """Layers that were read, 0 (embeddings) to L."""
    scores: list[Float[np.ndarray, "L n W"]]
    """Per image, the probability of each word at each layer and token, 0..1."""
    layouts: list[ImageLayout]
    """Per image, where its tokens lie."""
    spellings: list[tuple[str, ...]]
    """Per image, the spelling of each word that counted."""
    lens: str
    """`"raw"` or `"norm"`."""
    topk: int | None
    """How many likeliest tokens of each place counted; `None` for all."""
    pieces: str
    """How the pieces of a word were put together."""
    top_ids: list[np.ndarray]
    """Per image [L, n, k], the likeliest tokens of each place."""
    top_probs: list[np.ndarray]
    """Their probabilities."""
    tokenizer: Any
    """Decodes them."""

    @property
    def confidence(self) -> Float[np.ndarray, "B W"]:
        """Internal confidence: the largest score of each word at any layer and token of each image."""
        return np.stack([scores.max((0, 1), initial=0.0) for scores in self.scores])

    def grid(self, b: int, word: str) -> list[Float[np.ndarray, "R C"]]:
        """Per tile of image `b`, the largest score of `word` over the layers, cell by cell.

        Raises:
            ModelMismatch: the tokens of this model are no grid.
            BadInput: the word was not looked for.
        """
        if not self.layouts[b].tiles:
            raise ModelMismatch(
                "The image tokens of this model have looked at the whole image and have no place on it (a Q-Former or a "
                "resampler), or it is not known which: there is a confidence but no map. Take a model with a grid, such as LLaVA."
            )
        most = self.scores[b][..., self._index(word)].max(0)
        return [most[tile.tokens] for tile in self.layouts[b].tiles]

    def heatmap(self, b: int, word: str) -> Float[np.ndarray, "H W"]:
        """The largest score of `word` over the layers at every pixel of the original image `b`; 0 where no token sees.

        Bilinear within a tile; several tiles over a pixel are averaged. Errors are those of `grid`.
        """
        heat, is_seen = self.spread(b, word)
        return np.where(is_seen, heat, 0.0)

    def spread(self, b: int, word: str) -> tuple[Float[np.ndarray, "H W"], Bool[np.ndarray, "H W"]]:
        """The heat map, and which pixels any token sees: a crop leaves margins unseen."""
        width, height = self.layouts[b].size
        total, count = np.zeros((height, width)), np.zeros((height, width))
        for tile, grid in zip(self.layouts[b].tiles, self.grid(b, word), strict=True):
            left, top, right, bottom = tile.box
            x, in_x = _cells(width, left, right, grid.shape[1])
            y, in_y = _cells(height, top, bottom, grid.shape[0])
            across = np.stack([np.interp(x, np.arange(grid.shape[1]), row) for row in grid])
            both = np.stack([np.interp(y, np.arange(grid.shape[0]), column) for column in across.T], axis=1)
            inside = in_y[:, None] & in_x[None]
            total += both * inside
            count += inside
        return total / np.maximum(count, 1), count > 0

    def peaks(self, b: int) -> list[dict[str, Any]]:
        """For each word: its confidence in image `b`, the layer and token where it is largest, and the maximum per layer."""
        scores, rows = np.asarray(self.scores[b]), []
        for w, word in enumerate(self.words):
            layer, token = np.unravel_index(int(scores[:, :, w].argmax()), scores.shape[:2])
            rows.append(
                {
                    "word": word,
                    "confidence": float(scores[:, :, w].max()),
                    "layer": int(self.layers[layer]),
                    "token": int(token),
                    "by_layer": [float(v) for v in scores[:, :, w].max(1)],
                }
            )
        return rows

    def top_tokens(self, b: int, layer: int, i: int, k: int = 5) -> list[tuple[str, float]]:
        """The k likeliest tokens at `layer` (a number of `layers`) of image token `i` of image `b`, and their probabilities.

        Raises:
            BadInput: the layer was not read, the image has no such token, or fewer were kept (`Reading.tops`).
        """
        if layer not in self.layers:
            raise BadInput(f"Layer {layer} was not read; the layers are {list(self.layers)}.")
        ids, probs = self.top_ids[b], self.top_probs[b]
        if not 0 <= i < ids.shape[1]:
            raise BadInput(f"Image {b} has {ids.shape[1]} tokens and no token {i}.")
        if k > ids.shape[2]:
            raise BadInput(
                f"{ids.shape[2]} tokens of each place were kept; for {k} read again with tops={k}."
            )
        row = self.layers.index(layer)
        tops = zip(ids[row, i, :k].tolist(), probs[row, i, :k].tolist(), strict=True)
        return [(str(self.tokenizer.decode([token])), float(prob)) for token, prob in tops]

    def to_parquet(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        """Save a row per image, word and layer; `scores` are those of the tokens in their order.

        Args:
            path: ends in .parquet.
            names: of the images; `None` for their numbers.
        """
        names = [str(b) for b in range(len(self.scores))] if names is None else names
        records.write(
            Path(path),
            (
                {
                    "image": name,
                    "word": word,
                    "spelling": self.spellings[b][w],
                    "layer": layer,
                    "lens": self.lens,
                    "topk": self.topk or 0,
                    "pieces": self.pieces,
                    "scores": [float(score) for score in self.scores[b][row, :, w]],
                }
                for b, name in enumerate(names)
                for w, word in enumerate(self.words)
                for row, layer in enumerate(self.layers)
            ),
        )

    def _index(self, word: str) -> int:
        if word not in self.words:
            raise BadInput(f'The word "{word}" was not looked for. {nearest(word, self.words)}')
        return self.words.index(word)


def _cells(pixels: int, start: float, end: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the middles of pixels lie in a row of cells between `start` and `end`, and whether they lie in it at all."""
    middles = np.arange(pixels) + 0.5
    return (middles - start) / (end - start) * cells - 0.5, (middles >= start) & (middles < end)


# The lens.

LENSES = ("raw", "norm")
PIECES: dict[str, Any] = {"max": np.max, "mean": np.mean, "first": lambda scores, axis: scores.take(0, axis)}
WINDOW = 8
"""Batches of images that are sorted together by their number of tokens, to avoid padding."""


@dataclass(frozen=True)
class Reading:
    """How image tokens are read as words.

    Raises:
        BadInput: a name or a number that does not exist.
    """

    lens: str = "raw"
    """`"raw"`: the stream goes straight into the output embedding, as in the paper; `"norm"`: through the final norm first, which
    the last layer has passed already and never passes twice."""
    topk: int | None = None
    """Only so many likeliest tokens of each place count, renormalised; all others get exactly 0. None: as the preset says."""
    preset: str = "none"
    """`"llava-1.5"`: `topk` 50, as in the published code for that model."""
    pieces: str = "max"
    """Score of a word of several tokens: `"max"`, `"first"` or `"mean"` of theirs."""
    layers: Sequence[int] | None = None
    """Layers to read, 0 (embeddings) to L; None: all."""
    tops: int = 5
    """Likeliest tokens of each place that are kept for `LensResult.top_tokens`."""
    chunk: int = 256
    """Image tokens that pass the output embedding at once; memory is chunk times the vocabulary."""

    def __post_init__(self) -> None:
        for name, value, names in (
            ("lens", self.lens, LENSES), ("pieces", self.pieces, PIECES), ("preset", self.preset, PRESETS),
        ):  # fmt: skip
            if value not in names:
                raise BadInput(f'No {name} is called "{value}". {nearest(value, names)}')
        for name, number in (("topk", self.topk), ("chunk", self.chunk)):
            if number is not None and number < 1:
                raise BadInput(f"{name} must be >= 1; got {number}.")

    @property
    def kept(self) -> int | None:
        """Likeliest tokens of each place that count; None for all."""
        return PRESETS[self.preset] if self.topk is None else self.topk


def lens(
    model: Any,
    images: Sequence[Any],
    prompt: str,
    words: Sequence[str],
    reading: Reading | None = None,
    *,
    batch_size: int = 8,
    processor: Any = None,
) -> LensResult:
    """Probability of each word at every layer and image token, from one pass over each prompt.

    A word is looked for as it is spelled within running text and alone (see `spell`); of an image's spellings that with the largest
    score counts, and the result names it.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        images: PIL images or paths.
        prompt: the question about each image; put into the model's own form.
        words: what to look for; may be empty.
        reading: lens, filter and layers; None: the paper's.
        batch_size: images at once.
        processor: of a plain transformers model.

    Raises:
        BadInput: there are no images, or a layer or a word that the model does not have.
        ModelMismatch: the model has no image tokens.

    Source: section 3 (logit lens on image representations) and the published code.
    """
    handle, reading = as_handle(model, processor), reading or Reading()
    check_tokens(handle)
    if batch_size < 1:
        raise BadInput(f"batch_size must be >= 1; got {batch_size}.")
    if not images:
        raise BadInput("There are no images to look at.")
    chosen = tuple(range(len(layer_sites(handle))) if reading.layers is None else reading.layers)
    for layer in chosen:
        check_layer(handle, layer, "Each of layers")
    spellings = [spell(handle.tokenizer, word) for word in words]
    wanted = sorted({i for forms in spellings for form in forms for i in form.ids})
    read = partial(_read, handle, wanted=wanted, reading=reading)
    images_read: list[Any] = [None] * len(images)
    for rows, batch in _batches(handle, images, prompt, batch_size):
        for row, layout, part in zip(rows, batch.layouts, _look(handle, batch, chosen, read), strict=True):
            scores, forms = _score(part["probs"], wanted, spellings, reading.pieces)
            images_read[row] = (scores, forms, layout[0], part["top_ids"], part["top_probs"])
    columns = [list(column) for column in zip(*images_read, strict=True)]
    return LensResult(
        words=tuple(words),
        layers=chosen,
        scores=columns[0],
        spellings=columns[1],
        layouts=columns[2],
        lens=reading.lens,
        topk=reading.kept,
        pieces=reading.pieces,
        top_ids=columns[3],
        top_probs=columns[4],
        tokenizer=handle.tokenizer,
    )


def _batches(
    handle: ModelHandle, images: Sequence[Any], prompt: str, batch_size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Images with equally many tokens side by side, with their rows in `images`."""
    text = handle.prompt(prompt)
    for start in range(0, len(images), WINDOW * batch_size):
        part = images[start : start + WINDOW * batch_size]
        seen: list[SeenText] = handle.see([text] * len(part), part)
        order = sorted(range(len(seen)), key=lambda i: len(seen[i].ids))
        for i in range(0, len(order), batch_size):
            some = order[i : i + batch_size]
            yield [start + row for row in some], handle.gather([seen[row] for row in some])


def _parted(stacked: np.ndarray, ends: Sequence[int]) -> list[np.ndarray]:
    """[L, N, ...] by images, which end there."""
    return [stacked[:, start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@torch.no_grad()
def _look(handle: ModelHandle, batch: Batch, layers: Sequence[int], read: Any) -> list[dict[str, np.ndarray]]:
    """Results of `read` for each image of a batch, stacked over layers; a layer's states are gone before the next one's."""
    sites, by_layer = layer_sites(handle), {}

    def note(layer: int, hidden: Tensor, step: StepInfo) -> Tensor:
        by_layer[layer] = read(hidden[batch.image_mask.to(hidden.device)], is_normed=False)
        return hidden

    inner = {sites[layer]: partial(note, layer) for layer in layers if layer < len(sites) - 1}
    with handle.edit(inner):
        last = handle.capture(batch, [sites[-1]], where=batch.image_mask)[sites[-1]]
    # The last site has passed the final norm already: the lens must not apply it twice.
    if len(sites) - 1 in layers:
        by_layer[len(sites) - 1] = read(last, is_normed=True)
    ends = batch.image_mask.sum(-1).cumsum(0).tolist()
    parts: list[dict[str, np.ndarray]] = [{} for _ in batch.layouts]
    for name in ("probs", "top_ids", "top_probs"):
        stacked = np.stack([by_layer[layer][name] for layer in layers])
        for part, piece in zip(parts, _parted(stacked, ends), strict=True):
            part[name] = piece
    return parts


def _read(
    handle: ModelHandle,
    hidden: Float[Tensor, "N D"],
    *,
    is_normed: bool,
    wanted: Sequence[int],
    reading: Reading,
) -> dict[str, np.ndarray]:
    """Probabilities of the wanted tokens [N, U], and the likeliest tokens of each place with theirs [N, tops]."""
    columns = torch.tensor(wanted, dtype=torch.long, device=hidden.device)
    kept: dict[str, list[Tensor]] = {"probs": [], "top_ids": [], "top_probs": []}
    topk, tops, is_raw = reading.kept, max(reading.tops, 0), reading.lens == "raw"
    for start in range(0, len(hidden), reading.chunk):
        part = hidden[start : start + reading.chunk]
        logits = handle.lens(part, normed=is_normed or is_raw).float()  # half precision underflows
        size = logits.shape[-1]
        first = torch.topk(logits, min(max(tops, topk or 0), size), dim=-1)
        all_of = logits if topk is None else first.values[:, :topk]
        mass = all_of.logsumexp(-1, keepdim=True)
        probs = (logits[:, columns] - mass).exp()
        if topk is not None:  # as in the published code: outside of the likeliest a word gets exactly 0
            probs = probs.where(logits[:, columns] >= all_of[:, -1:], 0.0)
        kept["probs"].append(probs)
        kept["top_ids"].append(first.indices[:, :tops])
        shown = (first.values[:, :tops] - mass).exp()
        kept["top_probs"].append(
            shown
            if topk is None
            else shown.where(torch.arange(shown.shape[1], device=shown.device) < topk, 0.0)
        )
    return {name: torch.cat(parts).cpu().numpy() for name, parts in kept.items()}


def _score(
    probs: np.ndarray, wanted: Sequence[int], spellings: Sequence[Sequence[Spelling]], pieces: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The scores [L, n, W] of an image's words, each in its best spelling, and those spellings."""
    column = {token: i for i, token in enumerate(wanted)}
    scores = np.zeros((*probs.shape[:2], len(spellings)), dtype=np.float32)
    best = []
    for w, forms in enumerate(spellings):
        tried = [PIECES[pieces](probs[..., [column[i] for i in form.ids]], axis=-1) for form in forms]
        # Of the spellings with and without a space the one with the largest score anywhere counts.
        top = max(range(len(forms)), key=lambda i: tried[i].max(initial=0.0))
        scores[..., w] = tried[top]
        best.append(forms[top].text)
    return scores, tuple(best)
