"""Words in the vocabulary of a model: their spellings in pieces, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.models import as_handle
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle
    from gnomon.core.rng import Rng

HOW = ("last", "mean_embedding")


@dataclass(frozen=True)
class Spelling:
    """One way to write a word in a vocabulary."""

    text: str
    """With a space in front or without."""
    ids: tuple[int, ...]
    """Its pieces."""


def spell(tokenizer: Any, word: str) -> tuple[Spelling, ...]:
    """The spellings of `word`: first that within running text, as captions have it, then that of the word alone if it differs.

    This is the one place that says which tokens a word has: the lens scores all spellings, a word's vector is read from the first.
    A piece of spaces alone in front is left off: such a piece is everywhere. Spaces around `word` play no part.

    Raises:
        BadInput: no spelling is free of unknown pieces, and of pieces of spaces alone within.
    """
    word = word.strip()
    alone, within = _encode(tokenizer, word), _within_text(tokenizer, word)
    spellings: dict[tuple[int, ...], Spelling] = {}
    for text, ids in ((word if within == alone else f" {word}", within), (word, alone)):
        if ids and tokenizer.unk_token_id not in ids and not any(_is_blank(tokenizer, i) for i in ids):
            spellings.setdefault(ids, Spelling(text, ids))
    if not spellings:
        raise BadInput(
            f'The model\'s vocabulary cannot write the word "{word}" without unknown pieces. Choose another word.'
        )
    return tuple(spellings.values())


def _encode(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Pieces of a text, without those of spaces alone in front."""
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    return tuple(dropwhile(lambda i: _is_blank(tokenizer, i), ids))


def _within_text(tokenizer: Any, word: str) -> tuple[int, ...]:
    """Pieces of a word behind another word: the space in front belongs to its first piece, or to none."""
    # A space in front of a text is not enough: some tokenizers write one of their own before it.
    head, whole = (
        tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("a", f"a {word}")
    )
    if whole[: len(head)] != head:
        return _encode(tokenizer, f" {word}")
    return tuple(dropwhile(lambda i: _is_blank(tokenizer, i), whole[len(head) :]))


def _is_blank(tokenizer: Any, token: int) -> bool:
    return not tokenizer.decode([token]).strip()


def layer_sites(handle: ModelHandle) -> tuple[str, ...]:
    """The sites of H[0] .. H[L]: the embeddings, then the stream after each block; the last one has passed the final norm."""
    blocks = len(handle.sites.top.blocks)
    return ("embed", *(f"{i}.resid_post" for i in range(blocks - 1)), "final_norm")


def check_layer(handle: ModelHandle, layer: int, name: str) -> None:
    """Refuse a layer that the model does not have.

    Raises:
        BadInput: it is not in 0..L.
    """
    last = len(handle.sites.top.blocks)
    if not 0 <= layer <= last:
        raise BadInput(
            f"{name} must be in 0..{last} (0: embeddings, {last}: after the last block); got {layer}."
        )


def check_tokens(handle: ModelHandle) -> None:
    """Refuse a model whose blocks look at the image themselves.

    Raises:
        ModelMismatch: no token of a prompt stands for a piece of the image.
    """
    token = handle.sites.top.image_token
    if token is not None and token < 0:
        raise ModelMismatch(
            f"{type(handle.model).__name__} has no image tokens: its blocks look at the image by cross-attention, so there is "
            "nothing to read or to edit. Take a model with image tokens, such as LLaVA."
        )


def word_vectors(
    model: Any, words: Sequence[str], layer: int, *, how: str = "last", tokenizer: Any = None
) -> Float[Tensor, "W D"]:
    """Vectors of words: H[layer] at the last piece of each, read alone after the begin-of-text token.

    The last piece has attended to the earlier ones. Words are read whenever they are asked for, by the model as it is then, with
    the adapters and edits that are in force; a word takes one short forward pass.

    Args:
        model: a handle, or a transformers model.
        words: each is read in its spelling within running text; see `spell`.
        layer: l_T in 0..L; 0 is the plain embedding.
        how: `"last"`, or `"mean_embedding"`: the mean of the input embeddings of the pieces, whatever the layer.
        tokenizer: tokenizer or processor of a plain transformers model.

    Raises:
        BadInput: a layer that the model does not have, or a word that its vocabulary does not have.

    Source: section 4.1 (text embeddings) and the published code. Differs: `mean_embedding` is an alternative.
    """
    handle = as_handle(model, tokenizer)
    check_layer(handle, layer, "text_layer")
    if how not in HOW:
        raise BadInput(f'how must be one of {", ".join(HOW)}; got "{how}".')
    pieces = [spell(handle.tokenizer, word)[0].ids for word in words]
    vectors: dict[tuple[int, ...], Tensor] = {}
    for ids in dict.fromkeys(pieces):
        vectors[ids] = _mean(handle, ids) if how == "mean_embedding" else _last(handle, ids, layer)
    return torch.stack([vectors[ids] for ids in pieces])


def word_vector(model: Any, word: str, layer: int, *, how: str = "last") -> Float[Tensor, " D"]:
    """Vector of one word; see `word_vectors`."""
    return word_vectors(model, [word], layer, how=how)[0]


def random_like(vector: Float[Tensor, " D"], rng: Rng) -> Float[Tensor, " D"]:
    """A direction drawn by chance, as long as `vector`: the control for erasing it."""
    noise: Tensor = torch.randn(vector.shape, generator=rng.torch()).to(vector)
    drawn: Tensor = noise * (vector.norm() / noise.norm())
    return drawn


@torch.no_grad()
def _last(handle: ModelHandle, pieces: Sequence[int], layer: int) -> Float[Tensor, " D"]:
    """H[layer] of the word's last piece."""
    begin = handle.tokenizer.bos_token_id
    ids = [*([] if begin is None else [begin]), *pieces]
    batch, site = handle.pad([ids]).to(handle.model.device), layer_sites(handle)[layer]
    vector: Tensor = handle.capture(batch, [site], where="last")[site][0]
    return vector


@torch.no_grad()
def _mean(handle: ModelHandle, pieces: Sequence[int]) -> Float[Tensor, " D"]:
    ids = torch.tensor(pieces, device=handle.model.device)
    embedding: Any = handle.model.get_input_embeddings()
    vectors: Tensor = embedding(ids)
    return vectors.mean(0)
