"""Classifiers from a model folder or a hub id: safetensors only, and never code from the checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gnomon.core.models.load import load_config, load_weights
from gnomon.core.rng import Rng, seeded
from gnomon.errors import ModelMismatch
from gnomon.methods.sieve.students.t5 import T5EncoderClassifier, T5EncoderClassifierConfig

T5, SEQUENCE = "t5-encoder", "sequence-classifier"
NEW_WEIGHTS = Rng(0).child("sieve", "new weights")  # of heads and decoders that a checkpoint does not have


def find_kind(ref: str | Path, asked: str | None = None) -> str:
    """Which student a checkpoint makes: `T5` for a plain T5, `SEQUENCE` for what transformers can put a classifier on.

    Args:
        ref: a model folder or hub id.
        asked: the kind it must be; None takes what fits.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: it is a model of another kind.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = read_config(ref)
    is_own = config.model_type == T5EncoderClassifierConfig.model_type
    is_t5 = config.model_type == "t5" and (asked == T5 or not _has_head(config))
    if is_own or is_t5:
        return T5
    found = ", ".join(config.architectures or [config.model_type])
    if asked == T5:
        raise ModelMismatch(
            f'Model "{ref}" is {found}; t5-encoder needs a T5. Leave out "t5-encoder:" for others.'
        )
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelMismatch(
            f'Model "{ref}" is {found}, which cannot classify text. Name an encoder such as BERT or T5.'
        )
    return SEQUENCE


def read_config(ref: str | Path) -> Any:
    """The configuration of the model at `ref`.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: transformers does not know the model, or it brings its own code.
    """
    from transformers import AutoConfig

    AutoConfig.register(T5EncoderClassifierConfig.model_type, T5EncoderClassifierConfig, exist_ok=True)
    return load_config(ref)


def load_classifier(ref: str | Path, kind: str, dropout: float) -> Any:
    """A classifier with one or two logits, float32, on the CPU; a head that the checkpoint lacks is new.

    Args:
        ref: a model folder or hub id.
        kind: `T5` or `SEQUENCE`.
        dropout: on the pooled text of a new T5 head.

    Raises:
        BadInput: nothing is at `ref`, or it has no safetensors weights.
    """
    from transformers import AutoModelForSequenceClassification, T5EncoderModel

    config = read_config(ref)
    if config.model_type == T5EncoderClassifierConfig.model_type:
        return _load(T5EncoderClassifier, ref)
    if kind == T5:
        return T5EncoderClassifier.around(_load(T5EncoderModel, ref), dropout)
    if _has_head(config) and config.num_labels in (1, 2):
        return _load(AutoModelForSequenceClassification, ref)
    return _load(AutoModelForSequenceClassification, ref, num_labels=1, ignore_mismatched_sizes=True)


def load_t5(ref: str | Path) -> Any:
    """The whole T5 at `ref`, float32, on the CPU; a decoder that the checkpoint lacks is new."""
    from transformers import T5ForConditionalGeneration

    return _load(T5ForConditionalGeneration, ref)


def longest_input(model: Any, tokenizer: Any, wanted: int) -> int:
    """Tokens that the model can read, at most `wanted`; T5 counts positions relatively and knows no limit."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if model.config.model_type in ("t5", T5EncoderClassifierConfig.model_type) or not positions:
        return wanted
    for name, module in model.named_modules():
        # Models of RoBERTa's family begin to count behind the padding id.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
    return int(min(wanted, positions, tokenizer.model_max_length))


def _has_head(config: Any) -> bool:
    return any("SequenceClassification" in name for name in config.architectures or [])


def _load(loader: Any, ref: str | Path, **more: Any) -> Any:
    # That a head is new is what is wanted here, no news.
    with quiet(), seeded(NEW_WEIGHTS):
        model = load_weights(loader, ref, dtype=torch.float32, **more)
    # Weights may lie anywhere in the mapped file, and where they lie changes the rounding of products; copies are aligned.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the `with`, transformers shows no bars and no warnings; errors are raised as ever."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
