"""Numbers that are not finite: found in a model's weights and in what it computes, before they become part of a result.

A sum over a tensor is not finite where one of its numbers is not: one pass, and nothing stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    import torch

_OUTPUTS = ("logits", "last_hidden_state")
"""What a model of transformers gives, by the names that its output has for it."""


def check_weights(tensors: Iterable[tuple[str, torch.Tensor]], name: str) -> None:
    """Refuse weights that are not finite.

    Args:
        tensors: names and weights, such as `model.named_parameters()`.
        name: what the model is called.

    Raises:
        BadInput: a weight is not finite; the message names its tensor.
    """
    for tensor_name, tensor in tensors:
        if not is_finite(tensor):
            raise BadInput(
                f'Model "{name}" has weights that are not finite numbers ({tensor_name}). Its training may have failed: '
                "use an earlier checkpoint."
            )


def check_numbers(numbers: torch.Tensor, name: str, what: str) -> None:
    """Refuse numbers that a model computed and that are not finite.

    Args:
        numbers: of real tokens; what stands at padding means nothing.
        name: what the model is called.
        what: what the numbers are: a site, or `logits`.

    Raises:
        ModelMismatch: one of them is not finite.
    """
    if not is_finite(numbers):
        raise ModelMismatch(
            f'Model "{name}" computes numbers that are not finite ({what}). '
            "Load it in float32 or bfloat16, or look at its weights."
        )


def check_states(
    states: dict[str, torch.Tensor], masks: Mapping[str, torch.Tensor], model: Any
) -> dict[str, torch.Tensor]:
    """The states, refused where those of a real token are not finite.

    Args:
        states: site -> numbers; [B, T, D] for every token, else those of some tokens.
        masks: site -> which tokens are no padding, [B, T].
        model: whose states they are.

    Raises:
        ModelMismatch: a state is not finite; the message names model and site.
    """
    name = str(getattr(model, "name_or_path", "")) or type(model).__name__
    for site, numbers in states.items():
        mask = masks[site].to(numbers.device)
        check_numbers(numbers[mask] if numbers.shape[:2] == mask.shape else numbers, name, site)
    return states


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every number of a tensor is finite; weights that are no floating-point numbers always are."""
    import torch

    if tensor.is_meta or not tensor.is_floating_point() or not tensor.numel():
        return True
    if (
        type(tensor.detach()) is not torch.Tensor
    ):  # quantised, or spread over processes: what it computes is looked at
        return True
    if tensor.element_size() == 1:  # 8-bit formats have no sum
        return bool(torch.isfinite(tensor.to(torch.float32)).all())
    total = tensor.detach().sum(dtype=torch.float64 if tensor.dtype == torch.float64 else torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor).all())  # a sum alone may overflow


def watched(model: Any, name: str) -> Any:
    """The model, its weights checked, and from now on what it computes outside of training: whoever asks it.

    Raises:
        BadInput: a weight is not finite.
    """
    check_weights(model.named_parameters(), name)
    model.register_forward_hook(partial(_check_output, name), with_kwargs=True)
    return model


def _check_output(name: str, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
    if model.training:  # a loss that is not finite ends a training with a sentence of its own
        return
    for what in _OUTPUTS:
        numbers = getattr(output, what, None)
        if numbers is None or numbers.is_meta:
            continue
        if not is_finite(numbers):
            check_numbers(_of_real_tokens(numbers, kwargs), name, what)
        return


def _of_real_tokens(numbers: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    """Those at tokens that are no padding; minus infinity is a logit that a model gives to what it may not say."""
    import torch

    mask = kwargs.get("attention_mask")
    if numbers.ndim == 3 and isinstance(mask, torch.Tensor) and mask.ndim == 2:
        width = min(numbers.shape[1], mask.shape[1])
        if mask.shape[0] == numbers.shape[0]:
            numbers = numbers[:, -width:][mask[:, -width:].bool()]
    return numbers.where(numbers != -torch.inf, torch.zeros_like(numbers))
