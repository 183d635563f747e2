"""The files of an extension: the blocks alone, or with them a checkpoint of the backbone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gnomon.core.config import fingerprint
from gnomon.core.files import write_json
from gnomon.core.models.load import weights_key
from gnomon.errors import BadInput
from gnomon.methods.neutral_residues.extension.blocks import ExtendedMLP

WEIGHTS, CONFIG = "extension.safetensors", "extension_config.json"

BACKBONE = "backbone"
"""Folder of the backbone's own checkpoint, within a folder that is whole."""

MODEL_TYPE = "gnomon_neutral_residues"
"""In `config.json` of such a folder: a type that transformers does not know, so that it refuses to load half of the model."""


def wrapped(model: Any) -> list[ExtendedMLP]:
    """The networks of a model that have blocks beside them; none in a plain model."""
    return [module for module in model.modules() if isinstance(module, ExtendedMLP)]


def unwrap(model: Any) -> dict[tuple[Any, str], ExtendedMLP]:
    """Give a transformers model its own feed-forward networks back, and its own `save_pretrained`.

    Returns:
        What was taken off, by the layer and the name that it had there.
    """
    layers = {
        (parent, name): child
        for parent in list(model.modules())
        for name, child in list(parent.named_children())
        if isinstance(child, ExtendedMLP)
    }
    for (parent, name), layer in layers.items():
        setattr(parent, name, layer.mlp)
    vars(model).pop("save_pretrained", None)
    return layers


@contextmanager
def unwrapped(model: Any) -> Iterator[Any]:
    """Inside the `with`, a transformers model is a plain one."""
    saver = vars(model).get("save_pretrained")
    layers = unwrap(model)
    try:
        yield model
    finally:
        for (parent, name), layer in layers.items():
            setattr(parent, name, layer)
        if saver is not None:
            model.save_pretrained = saver


def write_blocks(model: Any, folder: Path, *, base: str = "", n: int = -1) -> None:
    """Write the n-th block of each layer, and a description of it and of the backbone.

    Args:
        model: the transformers model whose networks are wrapped.
        folder: made when missing.
        base: where the backbone is; empty: not recorded.
        n: which extension, from the oldest; -1: the newest.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    layers = wrapped(model)
    blocks = [layer.stacked[n] for layer in layers]
    tensors: dict[str, torch.Tensor] = {}
    for i, block in enumerate(blocks):
        gate, value = block.into.weight.detach().cpu().chunk(2)
        named = {"wg": gate, "wi": value, "wo": block.out.weight.detach().cpu()}
        if block.gate is not None:
            named |= {
                "gate.weight": block.gate.weight.detach().cpu(),
                "gate.bias": block.gate.bias.detach().cpu(),
            }
        tensors |= {f"layers.{i}.{name}": tensor.contiguous() for name, tensor in named.items()}
    save_file(tensors, folder / WEIGHTS)
    design = layers[0].switch.designs[n]
    earlier = range(n % len(layers[0].blocks))
    write_json(
        folder / CONFIG,
        {
            "design": asdict(design) | {"act": blocks[0].act_name},
            "width": blocks[0].r,
            "base": base,
            "base_hash": base_hash(model),
            "base_weights": base_weights(model),
            "base_dtype": str(model.dtype).removeprefix("torch."),
            "earlier": [print_of(layers, i) for i in earlier],
        },
    )


def earlier_folder(folder: Path, n: int) -> Path:
    """Where the n-th extension is, in a folder that is whole and holds a newer one."""
    return folder / f"earlier-{n}"


def save_checkpoint(model: Any, save_directory: str | Path, **options: Any) -> None:
    """Write backbone and blocks as one folder, which `open_extended` opens; what `save_pretrained` of an extended model does.

    transformers alone has no place for the blocks: its own layout would load silently, with networks drawn at random.
    This one is refused by its model type.

    Args:
        model: the transformers model whose networks are wrapped.
        save_directory: made when missing.
        **options: more for `save_pretrained` of the backbone.

    Raises:
        BadInput: a `state_dict` is handed in, whose names are not those of a checkpoint.
    """
    if options.pop("state_dict", None) is not None:
        raise BadInput(
            "An extended model writes its own weights: call save_pretrained without state_dict. Where weights are spread over "
            "processes, gather them into the model first."
        )
    folder = Path(save_directory)
    folder.mkdir(parents=True, exist_ok=True)
    with unwrapped(model):
        model.save_pretrained(folder / BACKBONE, **options)
    n_older = len(wrapped(model)[0].blocks) - 1
    for n in range(n_older):
        write_blocks(model, earlier_folder(folder, n), n=n)
    write_blocks(model, folder, base=BACKBONE)
    write_json(
        folder / "config.json",
        {
            "model_type": MODEL_TYPE,
            "architectures": [f"{type(model).__name__} with neutral residues"],
            "how_to_load": "gnomon.methods.neutral_residues.open_extended(folder); transformers alone can load backbone/",
        },
    )


def read_config(folder: Path) -> dict[str, Any]:
    """What `write_blocks` wrote about the blocks.

    Raises:
        BadInput: nothing is there, or it is not whole.
    """
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise BadInput(f"{folder} holds no extension: {CONFIG} and {WEIGHTS} are what `train` writes.")
    description: dict[str, Any] = json.loads((folder / CONFIG).read_text("utf-8"))
    return description


def base_hash(model: Any) -> str:
    """A hash of a backbone's class and config; where it was loaded from does not matter."""
    config = model.config.get_text_config().to_dict()
    ours = {
        k: v
        for k, v in config.items()
        if k not in ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
    }
    return fingerprint(type(model).__name__, json.dumps(ours, sort_keys=True, default=str))


def base_weights(model: Any) -> str:
    """A hash of all of a backbone's weights, blocks beside it left out."""
    with unwrapped(model):
        return str(weights_key(model.state_dict().values()))


def print_of(layers: Sequence[ExtendedMLP], n: int) -> str:
    """A hash of every number of the n-th extension's weights."""
    return str(weights_key(p for layer in layers for p in layer.stacked[n].parameters()))
