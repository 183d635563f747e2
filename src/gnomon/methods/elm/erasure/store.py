"""Saved adapters and checkpoints, and pairs of models opened for comparison."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gnomon.core.files import write_json
from gnomon.core.models import load_model, load_tokenizer, save_lora
from gnomon.core.models.load import model_at, weights_key, without_deprecations
from gnomon.core.models.load.config import LoadConfig
from gnomon.errors import BadConfig, BadInput, ModelMismatch

NOTE, BASE = "elm_config.json", "base_weights"


def save_adapter(model: Any, tokenizer: Any, folder: Path, settings: Any) -> Path:
    """Write a PEFT folder that `PeftModel.from_pretrained` and `lm_eval --model_args peft=` load without this package."""
    save_lora(model, tokenizer, folder)
    write_json(folder / NOTE, asdict(settings) | {BASE: base_key(model)})
    return folder


def base_key(adapted: Any) -> str:
    """A hash of all weights of the model beneath an adapter, of whatever kind; of a plain model, of all its weights."""
    tuner = getattr(adapted, "base_model", None)
    ours = (getattr(tuner, "prefix", "lora_"), "modules_to_save.", "trainable_tokens_")
    weights = adapted.state_dict().items()
    return str(weights_key(tensor for name, tensor in weights if not any(mark in name for mark in ours)))


def save_checkpoint(model: Any, tokenizer: Any, folder: Path, settings: Any, base: str) -> Path:
    """Write a full checkpoint, as a baseline leaves it, with `base_key` of the model that it began from."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / NOTE, asdict(settings) | {BASE: base})
    return folder


def open_pair(before: str, after: str, load: LoadConfig, asked_by: str) -> tuple[Any, Any, Any]:
    """Two models and the tokenizer of the first.

    Raises:
        BadConfig: their vocabularies differ, or an adapter is named beside them.
        ModelMismatch: `after` was made from a model of other weights than `before`.
    """
    if load.adapter is not None:
        raise BadConfig("--adapter would change both models. Name the adapter's folder with --after.")
    first, other = (load_model(ref, load, asked_by=asked_by) for ref in (before, after))
    sizes = [model.get_input_embeddings().num_embeddings for model in (first, other)]
    if sizes[0] != sizes[1]:
        raise BadConfig(
            f"{before} has {sizes[0]} tokens and {after} {sizes[1]}; before and after must be the same model."
        )
    _check_base(before, first, after, other, load)
    return first, other, load_tokenizer(before, load)


def _check_base(before: str, first: Any, after: str, other: Any, load: LoadConfig) -> None:
    """Refuse a pair whose second model was not made from the weights of the first, as far as its folder or its adapter says."""
    key, folder = base_key(first), Path(model_at(after))
    if hasattr(other, "peft_config") and base_key(other) != key:
        base = next(iter(other.peft_config.values())).base_model_name_or_path
        raise ModelMismatch(
            f'The adapter in {after} is on "{base}", whose weights are not those of {before}. Name the model it was trained on '
            "with --before."
        )
    note = _note(folder)
    # The key in the note is of weights as they are; those of 8 or 4 bits, or rounded to another type, have another.
    is_plain = load.quantize == "none" and load.dtype in ("auto", "float32", "bfloat16")
    if is_plain and note.get("quantize", "none") == "none" and note.get(BASE, key) != key:
        raise ModelMismatch(
            f"{after} was made from {note.get('model', 'a model')} with other weights than {before} has. Name the model it was "
            "made from with --before."
        )


def _note(folder: Path) -> dict[str, Any]:
    """What `save_adapter` or `save_checkpoint` noted; empty for what others wrote."""
    path = folder / NOTE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def merged(ref: str, base: str | None) -> tuple[Any, Any]:
    """An adapter folded into its base model, and the tokenizer.

    Raises:
        BadInput: there is no adapter.
        ModelMismatch: the base model has not the weights that the adapter was trained on.
    """
    from peft import PeftConfig, PeftModel

    folder = Path(model_at(ref))
    if not (folder / "adapter_config.json").is_file():
        raise BadInput(f"{folder} holds no adapter. Name a run of gnomon elm train, or a PEFT folder.")
    if base is None:
        model: Any = load_model(folder, device="cpu", asked_by="elm merge")
    else:
        with without_deprecations():
            model = PeftModel.from_pretrained(load_model(base, device="cpu"), str(folder))
    note = _note(folder)
    if BASE in note and base_key(model) != note[BASE]:
        raise ModelMismatch(
            f"The adapter in {folder} was trained on a model of other weights than {base or 'the one that it names'} has now. Name "
            "the model it was trained on with --base."
        )
    named = base or PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    has_own = any(folder.glob("*token*"))
    return model.merge_and_unload(), load_tokenizer(folder if has_own else str(named))
