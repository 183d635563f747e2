"""A text with images in reading order, put together from its pieces, so that nothing a user wrote is taken for a marker."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnomon.core.models.architectures.parts import ImageLayout, Seeing
from gnomon.core.models.images.seen import TOKENWISE, SeenText, image_sign, named_token, processed
from gnomon.core.vision import open_image
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from PIL.Image import Image


class Markup(str):
    """A piece whose markers count, such as the beginning of a chat template; plain strings are a user's text."""


Piece = Any
"""A string, `Markup`, a token id (int), or an image: a PIL image or the `Path` of a file."""


def text_ids(tokenizer: Any, text: str, reserved: Iterable[str] = ()) -> list[int]:
    """Token ids of a user's text without special tokens; a marker in it, such as "<image>" or a chat marker, stays text.

    A tokenizer finds its special tokens in any text, and some have no way to be told not to. A marker that is written out is
    therefore cut behind its first character, and both parts are tokenised by themselves.

    Args:
        tokenizer: of the model.
        text: whatever a user wrote.
        reserved: further markers that are ordinary tokens of the tokenizer, such as a learned token for the end.
    """
    parts = [text]
    markers = [m for m in {*_special(tokenizer), *reserved} if len(m) > 1 and m in text]
    if markers:
        # Overlapping ones too: a cut is made behind the first character of every occurrence.
        cuts = {match.start() + 1 for m in markers for match in re.finditer(f"(?={re.escape(m)})", text)}
        edges = [0, *sorted(cuts), len(text)]
        parts = [text[a:b] for a, b in itertools.pairwise(edges) if a < b]
    return [
        token
        for part in parts
        for token in tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]
    ]


def _special(tokenizer: Any) -> set[str]:
    """Texts that the tokenizer takes for special tokens."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token) for token in added.values() if token.special} | set(tokenizer.all_special_tokens)


def begin_ids(tokenizer: Any) -> list[int]:
    """What the tokenizer puts in front of every text."""
    full, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = [i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare]
    return list(full[: starts[0]]) if starts else []


def see_pieces(
    processor: Any,
    config: Any,
    sees: Seeing | None,
    pieces: Sequence[Piece],
    name: str,
    *,
    reserved: Iterable[str] = (),
) -> SeenText:
    """A text as the model takes it, from its pieces in reading order.

    Each string is tokenised by itself without special tokens and ids are joined, behind what the tokenizer puts in front of every
    text. Strings that follow each other are tokenised as one. All images go through the processor together, so that their
    pixels are those of the library.

    Args:
        processor: the model's; a tokenizer where there are no images.
        config: the model's.
        sees: its family; None: there are no images.
        pieces: see `Piece`.
        name: what an error calls the text.
        reserved: see `text_ids`.

    Raises:
        BadInput: it is empty, or an image cannot be read.
        ModelMismatch: the model has one fixed place for images, or the processor does not keep them apart.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    reserved = tuple(reserved)
    shown = [open_image(piece, f"An image of {name}") for piece in pieces if not isinstance(piece, str | int)]
    runs: list[list[int]] = []
    kinds: dict[str, Tensor] = {}
    pixels: dict[str, Tensor] = {}
    if shown:
        assert sees is not None
        runs, kinds, pixels = _expanded(processor, sees, shown, name)
    ids, token_kinds = begin_ids(tokenizer), {key: [0] for key in kinds}
    for values in token_kinds.values():
        values *= len(ids)
    images = iter(range(len(runs)))
    start = 0
    for piece in _joined(pieces):
        if isinstance(piece, str | int):
            more = _ids_of(tokenizer, piece, reserved)
            of_piece = {key: [0] * len(more) for key in kinds}
        else:
            k = next(images)
            more, start = runs[k], sum(map(len, runs[:k]))
            of_piece = {key: values[start : start + len(more)].tolist() for key, values in kinds.items()}
        ids += more
        for key, values in of_piece.items():
            token_kinds[key] += values
    if not ids:
        raise BadInput(f"{name} has no tokens. Leave empty texts out.")
    pixels |= {key: torch.tensor([values]) for key, values in token_kinds.items()}
    return SeenText(ids, pixels, _layouts(processor, config, sees, shown, runs, pixels) if shown else ())


def see_each(
    processor: Any, config: Any, sees: Callable[[], Seeing], texts: Sequence[Sequence[Piece]]
) -> list[SeenText]:
    """`see_pieces` of several texts; `sees` is called where there are images."""
    shows = any(not isinstance(piece, str | int) for text in texts for piece in text)
    how = sees() if shows else None
    return [see_pieces(processor, config, how, text, f"Text {i}") for i, text in enumerate(texts)]


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces with neighbouring texts made one."""
    joined: list[Piece] = []
    for piece in pieces:
        if type(piece) is str and joined and type(joined[-1]) is str:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def _ids_of(tokenizer: Any, piece: str | int, reserved: Sequence[str]) -> list[int]:
    if isinstance(piece, int):
        return [piece]
    if isinstance(piece, Markup):
        return list(tokenizer(str(piece), add_special_tokens=False, verbose=False)["input_ids"])
    return text_ids(tokenizer, piece, reserved)


def _expanded(
    processor: Any, sees: Seeing, images: Sequence[Image], name: str
) -> tuple[list[list[int]], dict[str, Tensor], dict[str, Tensor]]:
    """Token ids of each image, the kinds of these tokens one after another, and the pixels of all.

    The processor reads the places of all images with an end-of-text token between them, by which its ids are then cut.
    """
    tokenizer = processor.tokenizer
    if not sees.placeholder or sees.kinds is not None or not tokenizer.eos_token:
        raise ModelMismatch(
            f"{type(processor).__name__} has one fixed place for images, so they cannot stand within a text. Take a model whose "
            "texts may have images anywhere, such as LLaVA, Qwen-VL or Idefics."
        )
    placeholder, end = sees.placeholder.format(token=image_sign(processor)), tokenizer.eos_token
    inputs = dict(processed(processor, end + end.join([placeholder] * len(images)) + end, images))
    ids = inputs.pop("input_ids")[0]
    ends = (ids == tokenizer.eos_token_id).nonzero().flatten().tolist()[: len(images) + 1]
    if len(ends) != len(images) + 1:
        raise ModelMismatch(f"{type(processor).__name__} does not keep the images of {name} apart.")
    spans = [slice(a + 1, b) for a, b in itertools.pairwise(ends)]
    tokenwise = {key: inputs.pop(key)[0] for key in TOKENWISE if key in inputs}
    kinds = {key: torch.cat([value[span] for span in spans]) for key, value in tokenwise.items()}
    pixels = {key: v for key, v in inputs.items() if key not in ("attention_mask", "labels")}
    return [ids[span].tolist() for span in spans], kinds, pixels


def _layouts(
    processor: Any,
    config: Any,
    sees: Seeing | None,
    images: Sequence[Image],
    runs: Sequence[Sequence[int]],
    pixels: Mapping[str, Tensor],
) -> tuple[ImageLayout, ...]:
    """Where the tokens of each image lie; counted where no layout is known."""
    token = named_token(config, processor)
    counts = [list(run).count(token) if token is not None else len(run) for run in runs]
    layouts = []
    for k, (image, count) in enumerate(zip(images, counts, strict=True)):
        if sees is None or sees.lay_out is None:
            layouts.append(ImageLayout(image.size, count))
            continue
        layout = sees.lay_out(processor, config, image.size, pixels, k)
        if layout.n_tokens != count:
            raise ModelMismatch(
                f"Image {k} has {count} image tokens and its layout says {layout.n_tokens}. Check that the processor's sizes are "
                "the model's."
            )
        layouts.append(layout)
    return tuple(layouts)
