"""Saving the newest blocks, loading them beside the same backbone, and merging ungated ones into it.

What a training leaves behind and how it is opened again, whichever method it was.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from gnomon.core.config import narrow
from gnomon.core.files import artifact, write_json
from gnomon.core.models import load_model, load_tokenizer, save_lora
from gnomon.core.models.load.config import LoadConfig
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.neutral_residues.extension.design import Design, Method
from gnomon.methods.neutral_residues.extension.extension import Extended, extend, matching_act
from gnomon.methods.neutral_residues.extension.files import (
    CONFIG,
    WEIGHTS,
    base_hash,
    base_weights,
    earlier_folder,
    print_of,
    read_config,
    unwrap,
    wrapped,
    write_blocks,
)

log = logging.getLogger(__name__)


def save_extension(model: Extended, folder: str | Path, *, base: str = "", tokenizer: Any = None) -> Path:
    """Write the newest blocks as `extension.safetensors` and `extension_config.json`; earlier ones have folders of their own.

    Args:
        model: the extended model.
        folder: made when missing.
        base: where the backbone is, so that `open_extended` finds it; empty: not recorded.
        tokenizer: saved beside it.
    """
    folder = Path(folder)
    write_blocks(model.model, folder, base=base)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def load_extension(model: Any, folder: str | Path, *, check_weights: bool = True) -> Extended:
    """`model` with the blocks of `folder` beside its networks.

    Args:
        model: the backbone they were trained on, with the same earlier extensions loaded in the same order.
        folder: what `save_extension` wrote.
        check_weights: whether the backbone must have the weights, to bfloat16, that the blocks were trained beside. False is for a
            quantised copy of it.

    Raises:
        BadInput: nothing is there.
        ModelMismatch: the blocks belong to another backbone.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    description = read_config(folder)
    base = model.model if isinstance(model, Extended) else model
    hash_here = base_hash(base)
    if hash_here != description["base_hash"]:
        raise ModelMismatch(
            f'The extension in {folder} was trained on another backbone ("{description["base"]}", '
            f"config {description['base_hash']}; this one has {hash_here}). Load the model it was trained on."
        )
    if check_weights:
        _check_weights(base, description, folder)
    layers = wrapped(model)
    earlier = [print_of(layers, n) for n in range(len(layers[0].blocks))] if layers else []
    if earlier != description["earlier"]:
        raise ModelMismatch(
            f"The extension in {folder} was trained on top of {len(description['earlier'])} others, and this model has "
            f"{len(earlier)}, or other ones. Load the same ones first, in the same order."
        )
    extended = extend(model, narrow(Design, description["design"]), width=description["width"])
    tensors = load_file(folder / WEIGHTS)

    def tensor(layer: int, name: str) -> torch.Tensor:
        if f"layers.{layer}.{name}" not in tensors:
            raise BadInput(
                f"{folder / WEIGHTS} has no tensor layers.{layer}.{name}; it is not whole. Save the extension again."
            )
        return tensors[f"layers.{layer}.{name}"]

    with torch.no_grad():
        for i, block in enumerate(extended.blocks):
            block.into.weight.copy_(torch.cat([tensor(i, "wg"), tensor(i, "wi")]))
            block.out.weight.copy_(tensor(i, "wo"))
            if block.gate is not None:
                block.gate.weight.copy_(tensor(i, "gate.weight"))
                block.gate.bias.copy_(tensor(i, "gate.bias"))
    return extended.eval()


def _check_weights(base: Any, description: dict[str, Any], folder: Path) -> None:
    if "base_weights" not in description:
        log.warning(
            "The extension in %s does not say which weights its backbone had, only which config. Save it again to have them "
            "checked.",
            folder,
        )
    elif base_weights(base) != description["base_weights"]:
        raise ModelMismatch(
            f'The extension in {folder} was trained on another backbone ("{description["base"]}", loaded in '
            f"{description['base_dtype']}): this one, in {str(base.dtype).removeprefix('torch.')}, has the same config and other "
            "weights. Load the model it was trained on; for a quantised copy of it, use load_extension(..., check_weights=False)."
        )


@torch.no_grad()
def merge(model: Extended) -> Any:
    """The backbone as a plain transformers model with wider feed-forward networks, which compute the same.

    A parallel gated linear unit of the same activation is a wider one: rows of the gate and up matrices and columns of the down
    matrix are put beside each other.

    Raises:
        ModelMismatch: a block has a gate, another activation, or the networks are no gated linear units.
    """
    layers, base = model.layers, model.model
    for layer in layers:
        for block in layer.stacked:
            if block.gate is not None:
                raise ModelMismatch(
                    "A gated block cannot be merged: its gate multiplies what the block says, token by token, and no fixed matrix "
                    "does. Only extensions without a gate (--method adapter, or --gate none) have an equal plain model."
                )
            if block.act_name != matching_act(base):
                raise ModelMismatch(
                    f"The blocks' activation {block.act_name} is not the model's {matching_act(base)}."
                )
        if not all(isinstance(getattr(layer.mlp, name, None), nn.Linear) for name in _GLU):
            raise ModelMismatch(
                f"The feed-forward networks of {type(base).__name__} are no gated linear units of {', '.join(_GLU)}; "
                "nothing can be merged into them."
            )
    for layer in layers:
        blocks, mlp = layer.stacked, cast("Any", layer.mlp)
        halves = [block.into.weight.chunk(2) for block in blocks]
        _widen(mlp.gate_proj, [gate for gate, _ in halves], 0)
        _widen(mlp.up_proj, [value for _, value in halves], 0)
        _widen(mlp.down_proj, [block.out.weight for block in blocks], 1)
    width = cast("Any", layers[0].mlp).gate_proj.out_features
    unwrap(base)
    for layer in layers:
        if hasattr(layer.mlp, "intermediate_size"):
            layer.mlp.intermediate_size = width
    base.config.get_text_config().intermediate_size = width
    return base


_GLU = ("gate_proj", "up_proj", "down_proj")


def _widen(linear: nn.Linear, more: list[torch.Tensor], axis: int) -> None:
    """Put more rows (axis 0) or columns (axis 1) behind those of a linear map; new rows have no bias."""
    weight = torch.cat([linear.weight, *(m.to(linear.weight) for m in more)], axis)
    if linear.bias is not None and axis == 0:
        new = weight.shape[0] - linear.weight.shape[0]
        linear.bias = nn.Parameter(torch.cat([linear.bias, linear.bias.new_zeros(new)]), requires_grad=False)
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.out_features, linear.in_features = weight.shape


def open_extended(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> Extended:
    """The extension in `folder` on the backbone that it names, or that is in the same folder.

    Args:
        folder: what `save_extension` or `save_pretrained` wrote.
        device: where to compute.
        dtype: of the backbone; `"auto"`: its checkpoint's.

    Raises:
        BadInput: nothing is there.
        BadConfig: it names no backbone, or was trained on top of others that are not there: load these by hand.
    """
    folder = Path(folder)
    description = read_config(folder)
    older = [earlier_folder(folder, n) for n in range(len(description["earlier"]))]
    if not description["base"] or not all(path.is_dir() for path in older):
        raise BadConfig(
            f"{folder} names no backbone to load, or stands on other extensions. Load them and use load_extension."
        )
    model: Any = load_model(backbone_of(folder), device=device, dtype=dtype)
    for path in [*older, folder]:
        model = load_extension(model, path)
    return cast("Extended", model)


def backbone_of(folder: Path) -> str:
    """Where the backbone of an extension is: beside it in the same folder, or where its description says; empty: nowhere."""
    base: str = read_config(folder)["base"]
    return str(folder / base) if base and (folder / base / "config.json").is_file() else base


# What a training leaves behind and how it is opened again, whichever method it was.

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


def open_trained(ref: str, load: LoadConfig | None = None, *, base: str | None = None) -> Trained:
    """The model of a run, or of a folder, with its backbone.

    Args:
        ref: a run of `train`, or a folder with an extension, an adapter or a model.
        load: how its models are loaded; None takes the defaults.
        base: where the backbone is; None: as the folder says.

    Raises:
        BadInput: nothing is there, or nothing says what the backbone was.
    """
    folder = artifact(Path(ref), "model")
    note = json.loads((folder / NOTE).read_text("utf-8")) if (folder / NOTE).is_file() else {}
    if (folder / CONFIG).is_file():
        base = base or backbone_of(folder)
        if not base:
            raise BadInput(f"{folder} does not say what its backbone was. Name it with --base.")
        model = load_extension(load_model(base, load, asked_by="an extension"), folder)
        method = note.get("method", "neutral")
        tokenizer = load_tokenizer(folder if any(folder.glob("*token*")) else base)
        return Trained(model, tokenizer, method, base, None)
    if (folder / "adapter_config.json").is_file():
        model = load_model(folder, load)
        return Trained(model, load_tokenizer(folder), "lora", base or note.get("base", ""), None)
    base = base or note.get("base")
    if not base:
        raise BadInput(
            f"{folder} holds a whole model and does not say what its backbone was. Name it with --base."
        )
    model = load_model(folder, load)
    return Trained(model, load_tokenizer(folder), "full", base, load_model(base, load))
