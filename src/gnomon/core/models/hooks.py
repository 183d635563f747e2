"""Hooks on a model that see hidden states and the tokens they belong to, and that never stay behind.

What hidden states would predict if they were the last: logits through the model's own head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.architectures.sites import VISION, Place, Site, Sites, Stack
from gnomon.core.models.batch import Batch, pad, positions_of
from gnomon.errors import ModelMismatch

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StepInfo:
    """Which tokens an edit is looking at."""

    positions: Int[Tensor, "B T"]
    """Position of each token in its text, from 0; while generating, the new token's true position."""
    mask: Bool[Tensor, "B T"]
    """True at real tokens, False at padding."""
    rows: Int[Tensor, " B"]
    """Which text of the batch, or which prompt of `generate`, each row belongs to."""
    is_image: Bool[Tensor, "B T"]
    """True at the image tokens of a vision-language model's prompt; nowhere while decoding."""


Edit = Callable[[Tensor, StepInfo], Tensor]
"""Hidden states [B, T, D] and where they are -> hidden states [B, T, D]."""

Look = Callable[[Tensor, StepInfo], Tensor | None]
"""The same, but what returns `None` leaves the hidden states as they are."""

_rows: ContextVar[Tensor | None] = ContextVar("rows", default=None)


@contextmanager
def reading(rows: Int[Tensor, " B"]) -> Iterator[None]:
    """Inside the `with`, the rows that the model reads belong to these prompts: `generate` sorts and drops rows."""
    token = _rows.set(rows)
    try:
        yield
    finally:
        _rows.reset(token)


@contextmanager
def hooked(sites: Sites, looks: Mapping[Site, Look]) -> Iterator[None]:
    """Inside the `with`, each look gets the hidden states at its site; what it returns replaces them.

    Raises:
        BadInput: the model has no such site.
    """
    steps: dict[str, StepInfo] = {}
    ids: list[Tensor] = []
    with ExitStack() as hooks:
        for prefix, stack in sites.stacks.items():
            if prefix == VISION:  # sees no text
                continue
            note = partial(_note, steps, ids, prefix, stack)
            hooks.callback(stack.root.register_forward_pre_hook(note, with_kwargs=True).remove)
            if stack.embedding is not None:
                embedded = stack.embedding.register_forward_pre_hook(partial(_note_ids, ids))
                hooks.callback(embedded.remove)
        for site, look in looks.items():
            location = sites[site]
            hook = _register(location, partial(_shaped, look, steps, location.stack))
            hooks.callback(hook.remove)
        yield


def _register(location: Place, see: Callable[[Tensor], Tensor | None]) -> Any:
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        if location.side == "shared":
            new = see(hidden.clone())  # a gradient may need what the edit saw
            if new is not None:
                hidden.copy_(new)
            return None
        new = see(hidden)
        if new is None:
            return None
        return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, list):
            new = see(output[0])
            return None if new is None else [new, *output[1:]]
        is_tuple = isinstance(output, tuple)
        new = see(output[0] if is_tuple else output)
        return None if new is None else (new, *output[1:]) if is_tuple else new

    if location.side == "out":
        return location.module.register_forward_hook(after)
    return location.module.register_forward_pre_hook(before, with_kwargs=True)


def _shaped(look: Look, steps: dict[str, StepInfo], stack: str, hidden: Tensor) -> Tensor | None:
    """Look at [B, T, D], also where the model has flattened the tokens of all texts to [B * T, D]."""
    step = image_step(hidden) if stack == VISION else steps[stack]
    new = look(hidden.view(*step.mask.shape, -1), step)
    return None if new is None else new.reshape(hidden.shape)


def image_step(hidden: Tensor) -> StepInfo:
    """The step of hidden states of images, [images, T, D], [images, rows, columns, D], or those of all in a row, [T, D]."""
    n_images = 1 if hidden.dim() == 2 else len(hidden)
    shape = n_images, hidden.shape[:-1].numel() // max(n_images, 1)
    mask = torch.ones(shape, dtype=torch.bool, device=hidden.device)
    return StepInfo(positions_of(mask), mask, torch.arange(len(mask), device=hidden.device), mask)


def _note_ids(ids: list[Tensor], module: nn.Module, args: tuple[Any, ...]) -> None:
    """Remember which tokens were turned into vectors last: a language model may get the vectors alone."""
    ids[:] = args[:1]


def _note(
    steps: dict[str, StepInfo],
    embedded: list[Tensor],
    prefix: str,
    stack: Stack,
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Read from a stack's own arguments which tokens this call is about."""
    tokens = args[0] if args else kwargs.get("input_ids")
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    batch, width = tokens.shape[:2]
    mask, positions = kwargs.get("attention_mask"), kwargs.get("position_ids")
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        cache = kwargs.get("past_key_values")
        seen = 0 if cache is None else int(cache.get_seq_length())
        mask = torch.ones(batch, seen + width, dtype=torch.bool, device=tokens.device)
    if positions is None or stack.image_token is not None:  # a model that sees may count in its own way
        positions = positions_of(mask.bool())[:, -width:]
    rows = _rows.get()
    if rows is None:
        rows = torch.arange(batch, device=tokens.device)
    ids = embedded[0] if tokens.is_floating_point() and embedded else tokens
    is_image = torch.zeros(batch, width, dtype=torch.bool, device=tokens.device)
    if stack.image_token is not None and mask.shape[1] == ids.shape[1] == width:
        # Beams of one text share its tokens, which were turned into vectors once.
        is_image = (ids == stack.image_token).repeat_interleave(batch // len(ids), 0)
    steps[prefix] = StepInfo(positions.expand(batch, width), mask.bool()[:, -width:], rows, is_image)


# What hidden states would predict if they were the last: logits through the model's own head.


def head_logits(
    model: Any, sites: Sites, hidden: Float[Tensor, "*N D"], *, normed: bool = False
) -> Float[Tensor, "*N V"]:
    """The model's own way from the last residual stream to logits, soft caps and scales included.

    Args:
        model: a transformers model with an output embedding.
        sites: its sites.
        hidden: residual stream at any block.
        normed: True when it has passed the final norm already, or shall not pass it.

    Raises:
        ModelMismatch: the model has no output embedding.
    """
    head, config, top = model.get_output_embeddings(), model.config, sites.top
    if head is None:
        raise ModelMismatch(f"{type(model).__name__} has no output embedding and predicts no tokens.")
    if not normed and top.final_norm is not None:
        # Not as a call: hooks at the site final_norm are about the model's own pass.
        hidden = top.final_norm.forward(hidden)
    if top.project is not None:
        hidden = top.project(hidden)
    if top.head is not None:
        raw: Tensor = (top.head_module or head)(hidden * top.head.scale_in) * top.head.scale_out
        return raw if top.head.cap is None else torch.tanh(raw / top.head.cap) * top.head.cap
    if top.head_is_unknown:
        raise ModelMismatch(
            f"The way from the last block of {type(model).__name__} to its logits could not be verified, so hidden states have no "
            "lens there."
        )
    if getattr(config, "scale_decoder_outputs", False):
        hidden = hidden * config.d_model**-0.5
    logits: Tensor = head(hidden)
    cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def check_lens(handle: Any) -> None:
    """Whether the last block's states of two tokens lead to the logits, so that a table leaves nothing out.

    Raises:
        ModelMismatch: they do not.
    """
    vocab = handle.model.get_input_embeddings().weight.shape[0]
    batch = pad([[vocab // 4, vocab // 2]], 0)  # no special ones: those of padding are often 0
    batch = Batch(batch.input_ids, batch.mask, batch).to(handle.model.device)
    last = f"{len(handle.sites.top.blocks) - 1}.resid_post"
    site = next(name for name in reversed(list(handle.sites)) if name.endswith(last))
    state = handle.capture(batch, [site])[site]
    lens, logits = handle.lens(state).float(), handle.logits(batch).float()
    if not torch.allclose(lens, logits, rtol=1e-2, atol=1e-2 * float(logits.abs().mean())):
        raise ModelMismatch(
            f"By the given table the last block of {type(handle.model).__name__} does not lead to its logits. "
            "Check final_norm, and name in project what stands between it and the output embedding."
        )
