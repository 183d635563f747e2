"""ProjectAway: take a word's direction out of the image tokens, while they are read and only then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.models import StepInfo, as_handle
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.lens.words import check_tokens, random_like, word_vector, word_vectors

__all__ = ["erase", "project_away", "random_like", "word_vector"]


def project_away(
    states: Float[Tensor, "*N D"], directions: Float[Tensor, "*N W D"], alpha: float, *, joint: bool = False
) -> Float[Tensor, "*N D"]:
    """States without the part that points along the directions; a direction that a state does not point along leaves it.

    For a state k and a direction t, with p = <k, t> / <t, t>: k - alpha p t if p > 0, else k.

    >>> k, t = torch.tensor([[1.0, 2.0], [-1.0, 0.0]]), torch.tensor([[1.0, 1.0]])
    >>> project_away(k, t, 2).tolist()
    [[-2.0, -1.0], [-1.0, 0.0]]

    Args:
        states: one or many.
        directions: W of them, the same for all states ([W, D]) or their own; one of zeros changes nothing.
        alpha: 1 makes the result orthogonal to a direction, more pushes past it.
        joint: take out the span of all directions that a state points along at once, in place of one after another, where the
            order matters.

    Source: section 4.1 and the published code. Differs: `joint` is ours.
    """
    k, t = states.float(), directions.float()
    squares = (t * t).sum(-1)
    if joint:
        k = k - alpha * _in_span(k, t)
    for i in range(0 if joint else t.shape[-2]):
        share = (k * t[..., i, :]).sum(-1) / squares[..., i].clamp(min=torch.finfo(k.dtype).tiny)
        # States that point away from the direction are left as they are.
        k = k - alpha * share.clamp(min=0)[..., None] * t[..., i, :]
    return k.to(states.dtype)


def _in_span(k: Float[Tensor, "*N D"], t: Float[Tensor, "*N W D"]) -> Float[Tensor, "*N D"]:
    """The part of each state in the span of the directions that it points along, by the normal equations of least squares."""
    onto = (t @ k[..., None]).squeeze(-1)
    along = (onto > 0).float()
    gram = t @ t.transpose(-1, -2) * along[..., None] * along[..., None, :] + torch.diag_embed(1 - along)
    # Directions may depend on each other.
    weights: Tensor = torch.linalg.pinv(gram, hermitian=True) @ (onto * along)[..., None]
    part: Tensor = weights * t * along[..., None]
    return part.sum(-2)


@contextmanager
def erase(
    model: Any,
    words: Sequence[str | Tensor] | Sequence[Sequence[str | Tensor]],
    *,
    text_layer: int,
    edit_layer: int,
    alpha: float,
    joint: bool = False,
    how: str = "last",
    processor: Any = None,
) -> Iterator[None]:
    """Inside the `with`, image tokens are without the words behind block `edit_layer`, also in `model.generate`.

    The edit acts when a prompt is read; tokens written later see the edited states through the cache of the blocks above.
    Texts are never touched, and a call without an image token is left as it is. All beams of an image share its edit.

    Args:
        model: a handle, or a transformers model with its processor beside it.
        words: words, or directions [D] in place of some, for every text of a batch; or a list of them for each text, in
            the batch's order.
        text_layer: l_T in 0..L, whose vector stands for a word; see `word_vectors`.
        edit_layer: l_I in 0..L-1, the block behind which the tokens change.
        alpha: strength; 1 leaves nothing of a direction, more pushes past it.
        joint: take several words out at once; see `project_away`.
        how: the vector of a word; see `word_vectors`.
        processor: of a plain transformers model.

    Raises:
        BadInput: alpha is not above 0, a layer or a word that the model does not have, a vector of length 0, or inside:
            not one list per text of the batch.
        ModelMismatch: the model has no image tokens.
    """
    handle = as_handle(model, processor)
    check_tokens(handle)
    last = len(handle.sites.top.blocks) - 1
    if not alpha > 0:
        raise BadInput(f"alpha must be above 0; got {alpha}.")
    if not 0 <= edit_layer <= last:
        raise BadInput(f"edit_layer must be in 0..{last}, the model's blocks; got {edit_layer}.")
    is_own = bool(words) and not isinstance(words[0], str | Tensor)
    lists: list[Any] = list(words) if is_own else [words]
    named = list(dict.fromkeys(w for some in lists for w in some if isinstance(w, str)))
    read = dict(zip(named, word_vectors(handle, named, text_layer, how=how), strict=True)) if named else {}
    vectors = [[w if isinstance(w, Tensor) else read[w] for w in some] for some in lists]
    for some, own_vectors in zip(lists, vectors, strict=True):
        for word, vector in zip(some, own_vectors, strict=True):
            if not vector.any():
                what = (
                    f'The vector of "{word}" at layer {text_layer}'
                    if isinstance(word, str)
                    else "A direction"
                )
                raise BadInput(f"{what} has length 0 and names no direction. Take another layer.")
    directions = _padded(vectors, handle)

    def edit(hidden: Tensor, step: StepInfo) -> Tensor:
        if not directions.shape[1] or not step.is_image.any():
            return hidden
        own = directions[_rows(step, len(lists)) if is_own else [0]].to(hidden.device)
        new = project_away(hidden, own[:, None], alpha, joint=joint)
        return torch.where(step.is_image[..., None], new, hidden)

    with handle.edit({f"{edit_layer}.resid_post": edit}):
        yield


def _rows(step: StepInfo, lists: int) -> Tensor:
    """Which list each row of a call belongs to; beams of a text stand side by side."""
    rows: Tensor = step.rows
    if int(rows.max()) >= lists:
        beams, rest = divmod(len(rows), lists)
        if rest:
            raise BadInput(f"erase has word lists for {lists} texts; the batch has {len(rows)} rows.")
        rows = rows // beams  # all beams of a text share its list
    return rows


def _padded(vectors: list[list[Tensor]], handle: Any) -> Float[Tensor, "B W D"]:
    """Lists of different lengths with zeros after the shorter ones."""
    width, device = handle.model.config.get_text_config().hidden_size, handle.model.device
    # A direction of zeros changes nothing.
    whole = torch.zeros(len(vectors), max(map(len, vectors), default=0), width, device=device)
    for i, row in enumerate(vectors):
        for j, vector in enumerate(row):
            whole[i, j] = vector.to(whole)
    return whole
