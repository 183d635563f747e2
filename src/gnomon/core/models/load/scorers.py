"""Scorers: a model's backbone with a head of one output, which gives every token, or a whole text, a value.

Sequence classifiers of transformers in its own file format; `load_scorer` loads one with its head or not at all.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnomon.core.models.load.checkpoint import without_deprecations
from gnomon.errors import ModelMismatch

if TYPE_CHECKING:
    from gnomon.core.rng import Rng

Batch = Any
"""A `gnomon.core.models.Batch`, which stands above this module."""


def new_scorer(model: Any, rng: Rng, *, pad_id: int | None = None) -> Any:
    """A scorer with a copy of a text model's backbone and a head of zeros.

    Args:
        model: a causal model, with adapters or without: they become part of the copy; or a scorer, of which all is copied.
        rng: names what the class draws before its weights are replaced.
        pad_id: written into its config, for readers that look for padding.

    Raises:
        ModelMismatch: transformers has no sequence classifier of this type.
    """
    from transformers import AutoModelForSequenceClassification

    if hasattr(model, "merge_and_unload"):
        with without_deprecations():
            model = copy.deepcopy(model).merge_and_unload()
    if "ForSequenceClassification" in type(model).__name__:
        return copy.deepcopy(model)
    config = copy.deepcopy(model.config)
    config.num_labels = 1
    if pad_id is not None:
        config.pad_token_id = pad_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.child("scorer").key & (2**63 - 1))
        try:
            scorer: Any = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise ModelMismatch(
                f"transformers has no sequence classifier for {type(model).__name__}: {str(error).splitlines()[0]}"
            ) from error
    backbone(scorer).load_state_dict(backbone(model).state_dict())
    for parameter in head_of(scorer)[1].parameters():
        nn.init.zeros_(parameter)
    first = next(model.parameters())
    return scorer.to(first.device, first.dtype).train(model.training)


def add_scorer_lora(model: Any, rank: int, *, alpha: int | None = None, dropout: float = 0.0) -> Any:
    """A scorer with low-rank adapters on its backbone; its head is trained, and saved, in full.

    Args:
        model: a scorer.
        rank: of the adapters.
        alpha: scale; None takes twice the rank.
        dropout: share of an adapter's inputs set to zero in training.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    name, _ = head_of(model)
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        modules_to_save=[name],
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with without_deprecations():
        return get_peft_model(model, config)


def save_scorer(model: Any, tokenizer: Any, folder: str | Path) -> None:
    """Save a scorer, or its adapter with the head, and the tokenizer, as transformers and PEFT write them."""
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


def backbone(model: Any) -> Any:
    """A model without its head."""
    return getattr(model, model.base_model_prefix)


def head_of(model: Any) -> tuple[str, nn.Module]:
    """Name and module of a sequence classifier's head: what is no part of its backbone and has weights."""
    body = backbone(model)
    heads = [
        (name, module)
        for name, module in model.named_children()
        if module is not body and any(True for _ in module.parameters())
    ]
    if len(heads) != 1:
        raise ModelMismatch(
            f"{type(model).__name__} has {len(heads)} parts beside its backbone; a scorer has one head."
        )
    return heads[0]


_by_token: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def scores_tokens(model: Any) -> bool:
    """Whether a classifier's head reads every token, as those of decoders do, and not what a pooling makes of them."""
    plain = plain_of(model)
    if plain not in _by_token:
        shapes: list[int] = []
        _, head = head_of(plain)
        hook = head.register_forward_hook(lambda module, args, output: shapes.append(args[0].ndim))
        was_training = plain.training
        plain.eval()
        try:
            with torch.no_grad():
                plain(input_ids=torch.ones(1, 1, dtype=torch.long, device=plain.device))
        finally:
            hook.remove()
            plain.train(was_training)
        _by_token[plain] = shapes == [3] and isinstance(_innermost(head), nn.Linear)
    return _by_token[plain]


def token_scores(model: Any, batch: Batch) -> Float[Tensor, "B T"]:
    """The value at every token, with gradients where they are on; those at padding mean nothing.

    Args:
        model: a scorer of a decoder, with adapters or without.
        batch: texts, padded on either side.

    Raises:
        ModelMismatch: its head reads a pooled text and no tokens.
    """
    plain = plain_of(model)
    if not scores_tokens(plain):
        raise ModelMismatch(
            f"{type(plain).__name__} pools a text before it scores it, and has no value for each token. Use a scorer of a decoder."
        )
    output = backbone(plain)(**batch.inputs("causal", plain), **_uncached(plain))
    return head_of(plain)[1](output[0])[..., 0].float()


def text_scores(model: Any, batch: Batch) -> Float[Tensor, " B"]:
    """The value of each text: at its last real token by the batch's own mask, also where padding and end of text are one token.

    Args:
        model: a scorer.
        batch: texts, padded on either side.
    """
    plain = plain_of(model)
    if not scores_tokens(plain):
        logits: Tensor = plain(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits
        return logits[:, 0].float()
    places = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    last = (batch.mask * places).argmax(-1)
    return token_scores(plain, batch).gather(-1, last[:, None]).squeeze(-1)


def plain_of(model: Any) -> Any:
    """The classifier itself, in which adapters stay in place."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _innermost(head: nn.Module) -> nn.Module:
    """A head without what PEFT puts around it."""
    return getattr(head, "original_module", head)


def _uncached(model: Any) -> dict[str, Any]:
    import inspect

    return (
        {"use_cache": False} if "use_cache" in inspect.signature(backbone(model).forward).parameters else {}
    )
