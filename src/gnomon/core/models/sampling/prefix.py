"""Prompts that begin alike: what they share is read once, whatever their number.

Judges and task models are asked many things under one instruction. Hooks see the shared part once, as one row; who edits or
captures reads each prompt whole (`read_prompts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.batch import pad, positions_of
from gnomon.core.models.hooks import reading
from gnomon.core.models.reading import keeps_cache, takes_positions
from gnomon.core.models.sampling.cache import new_cache, select_rows
from gnomon.core.models.sampling.decoding import (
    AfterPrompt,
    Decoding,
    last_logits_only,
    read_prompts,
)
from gnomon.core.models.sampling.states import body

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_SHARED = 16
"""Fewer tokens than this are not worth a pass of their own: measured, the call costs as much as reading them a few times."""

_goes_on: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def read_shared(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    places: Sequence[int],
    pad_id: int,
    least: int = LEAST_SHARED,
) -> Decoding:
    """Prompts that the model has read, the tokens that all begin with once; else as `read_prompts`.

    Args:
        model: a causal or a sequence-to-sequence model.
        prompts: token ids.
        places: which prompt of the call each is.
        pad_id: fills what is masked.
        least: fewest shared tokens that are read by themselves.
    """
    shared = shared_length(prompts)
    if len(prompts) < 2 or shared < least or not goes_on_from_shared(model):
        return read_prompts(model, prompts, places, pad_id)
    return _AfterShared(
        model, prompts, shared, torch.tensor(list(places), device=model.device), pad_id=pad_id
    )


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with; each keeps at least one of its own.

    >>> shared_length([[1, 2, 3, 4], [1, 2, 5]]), shared_length([[1, 2], [1, 2]])
    (2, 1)
    """
    # The first and the last in alphabetical order differ at least as early as any two.
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(most) if first[i] != last[i]), max(most, 0))


def goes_on_from_shared(model: Any) -> bool:
    """Whether texts of different lengths go on from the cache of what they begin with as they would alone; asked once a model."""
    base = base_of(model)
    if base.config.is_encoder_decoder or not keeps_cache(model, new_cache):
        return False
    if base not in _goes_on:
        # Windows count slots of the cache, padding among them, and not positions.
        is_sliding = any(getattr(layer, "is_sliding", False) for layer in new_cache(base).layers)
        _goes_on[base] = not is_sliding and _agrees(base)
    return _goes_on[base]


class _AfterShared(AfterPrompt):
    """A causal model that has read the shared tokens as one row, then the rest of each prompt, padded on the left."""

    def __init__(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        shared: int,
        rows: Int[Tensor, " B"],
        *,
        pad_id: int,
    ):
        self.model, self.rows = model, rows
        self.takes_positions = takes_positions(model)
        with reading(rows[:1]):
            start, cache = _read_start(model, model, prompts[0][:shared], **last_logits_only(model))
        self.cache = select_rows(cache, torch.zeros(len(prompts), dtype=torch.long, device=model.device))
        rests = pad([prompt[shared:] for prompt in prompts], pad_id, "left").to(model.device)
        self.mask = torch.cat([start.new_ones(len(prompts), shared), rests.mask.long()], 1)
        self.seen = self.mask.shape[1]
        positions = positions_of(rests.mask) + shared
        self.position = positions[:, -1:]
        with torch.no_grad(), reading(rows):
            output: Any = model(
                input_ids=rests.input_ids,
                attention_mask=self.mask,
                **({"position_ids": positions} if self.takes_positions else {}),
                **last_logits_only(model),
                past_key_values=self.cache,
                use_cache=True,
            )
        self.logits = output.logits[:, -1].clone()


@torch.no_grad()
def last_states(
    model: PreTrainedModel, texts: Sequence[Sequence[int]], pad_id: int, least: int = LEAST_SHARED
) -> Float[Tensor, "B D"] | None:
    """The hidden state of each text's last token after the final norm, what all texts begin with read once.

    Args:
        model: a causal model.
        texts: token ids.
        pad_id: fills what is masked.
        least: fewest shared tokens that are read by themselves.

    Returns:
        None where they share less, or the model does not go on from it as it reads the whole.
    """
    shared = shared_length(texts) if len(texts) > 1 else 0
    if shared < least or not goes_on_from_shared(model):
        return None
    start, cache = _read_start(model, body(model), texts[0][:shared])
    rests = pad([text[shared:] for text in texts], pad_id, "left").to(model.device)
    positions = positions_of(rests.mask) + shared
    output: Any = body(model)(
        input_ids=rests.input_ids,
        attention_mask=torch.cat([start.new_ones(len(texts), shared), rests.mask.long()], 1),
        **({"position_ids": positions} if takes_positions(model) else {}),
        past_key_values=select_rows(cache, torch.zeros(len(texts), dtype=torch.long, device=model.device)),
        use_cache=True,
    )
    last: Tensor = output.last_hidden_state[:, -1].float()
    return last


@torch.no_grad()
def _read_start(
    model: PreTrainedModel, reader: Any, tokens: Sequence[int], **options: Any
) -> tuple[Int[Tensor, "1 S"], Any]:
    """The ids of a text and the cache of `model` after `reader`, all of it or its part without a head, has read them."""
    start = torch.tensor([list(tokens)], device=model.device)
    cache = new_cache(model)
    reader(
        input_ids=start,
        attention_mask=torch.ones_like(start),
        **options,
        past_key_values=cache,
        use_cache=True,
    )
    return start, cache


@torch.no_grad()
def _agrees(base: Any) -> bool:
    """Whether two short texts, the shared part read once, have the logits that they have alone, and go on alike."""
    vocab = base.get_input_embeddings().weight.shape[0]
    ids = [(i + 1) * vocab // 11 for i in range(10)]
    texts = [ids[:7], [*ids[:4], ids[8]]]
    training = base.training
    base.eval()
    try:
        state = _AfterShared(base, texts, 4, torch.arange(2, device=base.device), pad_id=0)
        alone = [base(input_ids=torch.tensor([text], device=base.device)).logits[0, -1] for text in texts]
        if not _close(state.logits, torch.stack(alone)):
            return False
        after = state.start(torch.arange(2, device=base.device), 1)
        after.step(
            torch.tensor([ids[9]] * 2, device=base.device),
            torch.ones(2, dtype=torch.bool, device=base.device),
        )
        alone = [
            base(input_ids=torch.tensor([[*text, ids[9]]], device=base.device)).logits[0, -1]
            for text in texts
        ]
        return _close(after.logits, torch.stack(alone))
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
        return False  # it was not made for this; each prompt is read whole then
    finally:
        base.train(training)


def _close(a: Tensor, b: Tensor) -> bool:
    # Numbers of 16 bits are rounded at every step, and the two ways add in another order.
    tolerance = 1e-3 if a.dtype == torch.float32 else 5e-2
    a, b = a.float(), b.float()
    return bool(torch.allclose(a, b, rtol=tolerance, atol=tolerance * float(b.std())))
