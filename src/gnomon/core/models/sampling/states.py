"""Hidden states without an output embedding, with gradients: what encoders are made of."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gnomon.core.models.architectures.parts import base_of
from gnomon.core.models.batch import Batch
from gnomon.errors import ModelMismatch

Pick = Literal["last", "before", "mean"]
"""last: the state of a text's last token; before: of the one before it; mean: over all its tokens."""


class States(nn.Module):
    """A causal or vision-language model as a module from a batch to one state a text, after the final norm.

    The output embedding is never applied, so no logits exist; nothing is cached. It can be wrapped for several processes.

    Args:
        model: a transformers model, with or without adapters.
        pick: which state stands for a text.

    Raises:
        ModelMismatch: the model has no part that makes hidden states alone.
    """

    def __init__(self, model: Any, pick: Pick = "last"):
        super().__init__()
        self.model, self.pick = model, pick
        body(model)

    def forward(self, inputs: dict[str, Tensor], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """The states [B, D] of texts whose tokens are True in `mask`; see `inputs_of`."""
        output = body(self.model)(**inputs, use_cache=False)
        hidden = getattr(output, "last_hidden_state", None)
        if not isinstance(hidden, Tensor):
            raise ModelMismatch(f"{type(base_of(self.model)).__name__} returns no last hidden state.")
        mask = mask.to(hidden.device)
        if self.pick == "mean":
            weights = mask.float() / mask.sum(1, keepdim=True)
            return (hidden.float() * weights[..., None]).sum(1) + self._unused(hidden)
        # The last place that is no padding, on whichever side that stands.
        columns = torch.arange(mask.shape[1], device=mask.device)
        last = (columns * mask).argmax(1) - int(self.pick == "before")
        return hidden[torch.arange(len(mask), device=mask.device), last.clamp(min=0)].float() + self._unused(
            hidden
        )

    def _unused(self, hidden: Tensor) -> Tensor | float:
        """Zero, by way of the trained weights that these states do not come from: each weight has a gradient in every pass.

        A text without images does not use the tower, some towers have layers that nobody reads, and which experts a token goes to
        differs from pass to pass; several processes wait for the gradient of every weight, and an optimiser's state is saved whole.
        """
        if not torch.is_grad_enabled():
            return 0.0
        used = _leaves_of(hidden)
        idle = (p for p in self.model.parameters() if p.requires_grad and p not in used)
        return sum((p.sum() * 0.0 for p in idle), torch.zeros(()))


def _leaves_of(tensor: Tensor) -> set[Tensor]:
    """The tensors with gradients that a tensor was computed from."""
    leaves, seen, waiting = set(), set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.add(leaf)
        waiting.extend(before for before, _ in node.next_functions)
    return leaves


def freeze_head(model: Any) -> None:
    """Freeze the output embedding, which `States` never applies, unless it is the input embedding too."""
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    # Adapters make the weight anew in every pass and have frozen their own base.
    if head is not None and head.weight is not words.weight and head.weight.is_leaf:
        head.weight.requires_grad_(False)


def inputs_of(batch: Batch, kind: str, model: Any) -> tuple[dict[str, Tensor], Tensor]:
    """What `States` takes of a batch, for a model of this kind."""
    return batch.inputs(kind, base_of(model)), batch.mask


def body(model: Any) -> Any:
    """The part of a model that makes hidden states of tokens and images, and no logits.

    Raises:
        ModelMismatch: there is none.
    """
    base = base_of(model)
    inner = base.base_model
    if inner is base and base.get_output_embeddings() is not None:
        raise ModelMismatch(f"{type(base).__name__} has no part that makes hidden states without logits.")
    return inner
