"""Words in the vocabulary of a model: their spellings in pieces, and their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.models import as_handle
from gnomon.errors import BadInput

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
    """The spellings of `word`, as it stands and with a space in front; a vocabulary may have either as one piece.

    A spelling with a piece of spaces alone is left out: such a piece is everywhere. So is one with unknown pieces.

    Raises:
        BadInput: no spelling is left.
    """
    spellings: dict[tuple[int, ...], Spelling] = {}
    for text in (word.strip(), " " + word.strip()):
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
        is_known = ids and tokenizer.unk_token_id not in ids
        if is_known and all(tokenizer.decode([i]).strip() for i in ids):
            spellings.setdefault(ids, Spelling(text, ids))
    if not spellings:
        raise _unknown(word)
    return tuple(spellings.values())


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


@dataclass
class _Cached:
    """Vectors of one model's words."""

    stamp: int
    """Sum of the versions of its weights, which grows when they change."""
    vectors: dict[tuple[str, str], Tensor]
    """(word, how) -> one vector, or one per layer."""


_cache: WeakKeyDictionary[Any, _Cached] = WeakKeyDictionary()


def word_vectors(
    model: Any, words: Sequence[str], layer: int, *, how: str = "last", tokenizer: Any = None
) -> Float[Tensor, "W D"]:
    """Vectors of words: H[layer] at the last piece of each, read alone after the begin-of-text token.

    The last piece has attended to the earlier ones. Every word is read once per model, however many layers are asked for,
    and again after its weights have changed.

    Args:
        model: a handle, or a transformers model.
        words: each is written as it stands; begin it with a space where the vocabulary has words so.
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
    vectors = _vectors_of(handle)
    for word in words:
        if (word, how) not in vectors:
            vectors[word, how] = _mean(handle, word) if how == "mean_embedding" else _last(handle, word)
    of_words = [vectors[word, how] for word in words]
    return torch.stack(of_words if how == "mean_embedding" else [layers[layer] for layers in of_words])


def word_vector(model: Any, word: str, layer: int, *, how: str = "last") -> Float[Tensor, " D"]:
    """Vector of one word; see `word_vectors`."""
    return word_vectors(model, [word], layer, how=how)[0]


def random_like(vector: Float[Tensor, " D"], rng: Rng) -> Float[Tensor, " D"]:
    """A direction drawn by chance, as long as `vector`: the control for erasing it."""
    noise: Tensor = torch.randn(vector.shape, generator=rng.torch()).to(vector)
    drawn: Tensor = noise * (vector.norm() / noise.norm())
    return drawn


def _vectors_of(handle: ModelHandle) -> dict[tuple[str, str], Tensor]:
    """Vectors of this model's words so far; none once its weights have changed."""
    # torch counts in-place changes of every parameter.
    stamp = sum(parameter._version for parameter in handle.model.parameters())
    if handle.model not in _cache or _cache[handle.model].stamp != stamp:
        _cache[handle.model] = _Cached(stamp, {})
    return _cache[handle.model].vectors


def _unknown(word: str) -> BadInput:
    return BadInput(
        f'The model\'s vocabulary cannot write the word "{word}" without unknown pieces. Choose another word.'
    )


def _pieces(handle: ModelHandle, word: str) -> list[int]:
    ids = list(handle.tokenizer(word, add_special_tokens=False)["input_ids"])
    if not word.strip() or not ids or handle.tokenizer.unk_token_id in ids:
        raise _unknown(word)
    return ids


@torch.no_grad()
def _last(handle: ModelHandle, word: str) -> Float[Tensor, "L D"]:
    """All layers of the word's last piece."""
    begin = handle.tokenizer.bos_token_id
    ids = ([] if begin is None else [begin]) + _pieces(handle, word)
    batch, sites = handle.pad([ids]).to(handle.model.device), layer_sites(handle)
    states = handle.capture(batch, sites, where="last")
    return torch.stack([states[site][0].to(states[sites[0]].device) for site in sites])


@torch.no_grad()
def _mean(handle: ModelHandle, word: str) -> Float[Tensor, " D"]:
    ids = torch.tensor(_pieces(handle, word), device=handle.model.device)
    embedding: Any = handle.model.get_input_embeddings()
    vectors: Tensor = embedding(ids)
    return vectors.mean(0)
