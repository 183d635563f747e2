"""Scorers: a model's backbone with a head of one output, which gives every token, or a whole text, a value.

A sequence classifier of transformers in its own file format, loaded with its head or not at all.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnomon.core.env import device_for
from gnomon.core.models.load.checkpoint import (
    base_of_adapter,
    is_adapter,
    load_config,
    load_weights,
    without_deprecations,
)
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.load.faults import no_weights
from gnomon.core.models.load.placement import from_pretrained_arguments
from gnomon.core.models.load.references import model_at
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from gnomon.core.models.batch import Batch
    from gnomon.core.rng import Rng

HOW = "Make one of a text model with gnomon.core.models.new_scorer, train it on pairs or labels, and save it with save_scorer."


def load_scorer(
    ref: str | Path,
    load: LoadConfig | None = None,
    *,
    asked_by: str = "this",
    most_labels: int | None = 1,
    **options: Any,
) -> Any:
    """A sequence classifier with its head, in evaluation mode.

    Args:
        ref: a folder or hub id of a transformers checkpoint, or the folder of a PEFT adapter that holds the head in full.
        load: how it is loaded; None takes the defaults.
        asked_by: who needs it, for messages.
        most_labels: outputs at most; 1 is a scorer, None takes any classifier.
        **options: fields of `LoadConfig` that win over those of `load`.

    Raises:
        BadInput: nothing is there, or it has no safetensors weights.
        ModelMismatch: it has no head, or one of more outputs: it is never given a fresh one.
    """
    from transformers import AutoModelForSequenceClassification

    load, source = replace(load or LoadConfig(), **options), model_at(ref)
    device = device_for(load.device)
    arguments = from_pretrained_arguments(load, device)
    adapter = load.adapter or (source if is_adapter(source) else None)
    if adapter is not None:
        return _adapted(Path(model_at(adapter)), None if adapter == source else source, load, asked_by)
    config = load_config(source, load.revision)
    classes = config.architectures or []
    if not any("ForSequenceClassification" in name for name in classes):
        what = ", ".join(classes) or config.model_type
        raise ModelMismatch(
            f'Model "{ref}" is {what} and has no head that scores; {asked_by} needs a sequence classifier. {HOW}'
        )
    if most_labels is not None and (config.num_labels or 1) > most_labels:
        raise ModelMismatch(
            f'Model "{ref}" has {config.num_labels} outputs; {asked_by} needs a sequence classifier with '
            f"{'one' if most_labels == 1 else f'at most {most_labels}'}."
        )
    model = load_weights(_WithHead(AutoModelForSequenceClassification, ref), source, **arguments)
    return (model if "device_map" in arguments else model.to(device)).eval()


class _WithHead:
    """A loader that refuses a checkpoint in which weights are missing, such as the head."""

    def __init__(self, loader: Any, ref: str | Path):
        self._loader, self._ref = loader, ref

    def from_pretrained(self, *args: Any, **options: Any) -> Any:
        """The model, whole."""
        model, report = self._loader.from_pretrained(*args, output_loading_info=True, **options)
        if missing := sorted(report["missing_keys"]):
            raise ModelMismatch(
                f'Model "{self._ref}" lacks the weights {", ".join(missing[:3])}, which would be made up at random. {HOW}'
            )
        return model


def _adapted(folder: Path, base: Any, load: LoadConfig, asked_by: str) -> Any:
    """A base with an adapter that holds the head; the base itself has none."""
    from peft import PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForSequenceClassification

    base = base or base_of_adapter(folder)
    if not base:
        raise BadInput(f'Adapter "{folder}" names no base model; set base_model_name_or_path.')
    if not (folder / "adapter_model.safetensors").is_file():
        raise no_weights(folder)
    device = device_for(load.device)
    bare = replace(load, adapter=None)
    model = load_weights(
        AutoModelForSequenceClassification, base, num_labels=1, **from_pretrained_arguments(bare, device)
    )
    name, _ = head_of(model)
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        if not any(f".{name}." in key for key in weights.keys()):  # noqa: SIM118 - no mapping
            raise ModelMismatch(f'Adapter "{folder}" holds no head that scores; {asked_by} needs one. {HOW}')
    with without_deprecations():
        return PeftModel.from_pretrained(model, str(folder)).to(device).eval()


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
    plain = _plain(model)
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
    plain = _plain(model)
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
    plain = _plain(model)
    if not scores_tokens(plain):
        logits: Tensor = plain(input_ids=batch.input_ids, attention_mask=batch.mask.long()).logits
        return logits[:, 0].float()
    places = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    last = (batch.mask * places).argmax(-1)
    return token_scores(plain, batch).gather(-1, last[:, None]).squeeze(-1)


@torch.no_grad()
def score_rows(
    model: Any, tokenizer: Any, rows: Sequence[Sequence[int]], *, batch_size: int = 16
) -> list[float]:
    """The value of each text, given as token ids, in order; those of similar length are read side by side.

    Raises:
        BadInput: a text has no tokens, or more than the model reads.
    """
    from gnomon.core.models.batch import pad
    from gnomon.core.models.sampling.text import padding_id

    plain = _plain(model)
    positions = getattr(plain.config.get_text_config(), "max_position_embeddings", None)
    for i, row in enumerate(rows):
        if not row or (positions is not None and len(row) > positions):
            raise BadInput(
                f"Text {i} has {len(row)} tokens; {type(plain).__name__} reads 1 to {positions or 'any number'}."
            )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    values = [0.0] * len(rows)
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        batch = pad([rows[i] for i in part], padding_id(tokenizer), "right").to(plain.device)
        for i, value in zip(part, text_scores(plain, batch).tolist(), strict=True):
            values[i] = value
    return values


def _plain(model: Any) -> Any:
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
