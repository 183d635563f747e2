"""What a training leaves behind and how it is opened again, whichever method it was."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from gnomon.core.files import write_json
from gnomon.core.models import load_model, load_tokenizer, save_lora
from gnomon.core.run import artifact
from gnomon.errors import BadInput
from gnomon.methods.neutral_residues.design import Method
from gnomon.methods.neutral_residues.extension import Extended
from gnomon.methods.neutral_residues.storage import CONFIG, load_extension, read_config, save_extension

NOTE = "training.json"


@dataclass(frozen=True)
class Trained:
    """A trained model beside its backbone."""

    model: Any
    """`Extended`, a PEFT model or a transformers model."""
    tokenizer: Any
    """Its tokenizer."""
    method: str
    """What was trained."""
    base: str
    """Where the backbone is."""
    reference: Any
    """The backbone as a model of its own, where the model cannot become it again; else None."""


def save(model: nn.Module, tokenizer: Any, folder: Path, method: Method, base: str) -> Path:
    """Write a trained model in the format of its kind: extension, PEFT adapter, or plain checkpoint."""
    if isinstance(model, Extended):
        save_extension(model, folder, base=base, tokenizer=tokenizer)
    elif method == "lora":
        save_lora(cast("Any", model), tokenizer, folder)
    else:
        cast("Any", model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(folder / NOTE, {"method": method, "base": base})
    return folder


def open_trained(ref: str, *, base: str | None = None, device: str = "auto") -> Trained:
    """The model of a run, or of a folder, with its backbone.

    Args:
        ref: a run of `train`, or a folder with an extension, an adapter or a model.
        base: where the backbone is; None: as the folder says.
        device: where to compute.

    Raises:
        BadInput: nothing is there, or nothing says what the backbone was.
    """
    folder = artifact(Path(ref), "model")
    note = json.loads((folder / NOTE).read_text("utf-8")) if (folder / NOTE).is_file() else {}
    if (folder / CONFIG).is_file():
        base = base or read_config(folder)["base"]
        if not base:
            raise BadInput(f"{folder} does not say what its backbone was. Name it with --base.")
        model = load_extension(load_model(base, device=device, asked_by="an extension"), folder)
        method = note.get("method", "neutral")
        tokenizer = load_tokenizer(folder if any(folder.glob("*token*")) else base)
        return Trained(model, tokenizer, method, base, None)
    if (folder / "adapter_config.json").is_file():
        model = load_model(folder, device=device)
        return Trained(model, load_tokenizer(folder), "lora", base or note.get("base", ""), None)
    base = base or note.get("base")
    if not base:
        raise BadInput(
            f"{folder} holds a whole model and does not say what its backbone was. Name it with --base."
        )
    model = load_model(folder, device=device)
    return Trained(model, load_tokenizer(folder), "full", base, load_model(base, device=device))
