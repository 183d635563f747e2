"""From what names a model to the folder that holds it: runs, embedded models, GGUF files, folders of the cache that are gone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gnomon.core.files import artifact, is_run_folder
from gnomon.core.models.load.embedded import EMBEDDED, SCHEME, Embedded, embedded, locate
from gnomon.core.models.load.store import converted, hash_of
from gnomon.errors import BadInput

if TYPE_CHECKING:
    import torch


def model_at(ref: str | Path) -> str | Path:
    """The folder of the model that `ref` names where it is made here, else `ref` itself.

    - the folder of a run that made a model: that model;
    - `embedded:NAME`, and a file `*.gguf`: its folder in the user's cache, converted on first use;
    - the folder of an embedded model in a cache that was cleared, or in another user's: the same in this one. Adapters name it.

    Raises:
        BadInput: the run has not finished, or made no model; no such embedded model or file; a file is damaged.
        MissingExtra: a package is not installed.
        ModelMismatch: a GGUF file holds an architecture that transformers cannot read.
    """
    if str(ref).startswith(SCHEME):
        return _embedded_folder(embedded(str(ref)))
    path = Path(ref)
    if is_run_folder(path):
        return artifact(path, "model")
    if path.suffix.lower() == ".gguf":
        return _gguf_folder(path)
    if not path.exists() and (model := _BY_KEY.get(path.name)) is not None:
        return _embedded_folder(model)
    return ref


_BY_KEY = {model.key: model for model in EMBEDDED.values()}


def _embedded_folder(model: Embedded) -> Path:
    def convert(folder: Path) -> None:
        # Torch and transformers are loaded only where something is converted.
        from gnomon.core.models.load import conversion

        getattr(conversion, f"from_{model.format}")(locate(model), folder)

    return converted(model.key, convert)


def _gguf_folder(file: Path) -> Path:
    if not file.is_file():
        raise BadInput(f"{file} does not exist.")

    def convert(folder: Path) -> None:
        from gnomon.core.models.load import conversion

        conversion.from_gguf([file], folder)

    return converted(f"{file.stem}-{hash_of(file)[:12]}", convert)


KEY_CHUNK, KEY_FACTOR = 1 << 24, 0x1E3779B97F4A7C15
"""Numbers hashed at once, and an odd factor that spreads them over 64 bits."""


def weights_key(tensors: Iterable[torch.Tensor]) -> str:
    """A hash of every number of a model's weights, in their order; computed where they are.

    Numbers are rounded to bfloat16 first, so that a checkpoint loaded in float32 and in bfloat16 has one key.

    Args:
        tensors: such as `model.state_dict().values()`; tied ones count once.
    """
    import torch

    digest, hashed = hashlib.blake2b(digest_size=16), set()
    for tensor in (part for whole in tensors for part in _held_by(whole)):
        if (tensor.data_ptr(), tensor.shape) in hashed:
            continue
        hashed.add((tensor.data_ptr(), tensor.shape))
        bits = tensor.detach().reshape(-1)
        total = 0
        for first in range(0, len(bits), KEY_CHUNK):
            part = bits[first : first + KEY_CHUNK].to(torch.bfloat16).view(torch.int16).long()
            # Every number times an odd factor of its place: int64 wraps around, so the sum does not depend on its order.
            places = torch.arange(first, first + len(part), device=part.device)
            total += int((part * (2 * places + 1) * KEY_FACTOR).sum())
        digest.update(f"{tuple(tensor.shape)} {total % 2**64}".encode())
    return digest.hexdigest()


def _held_by(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors that a tensor holds: itself, or of one in 8 or 4 bits its whole numbers and their scales."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    names, _ = tensor.__tensor_flatten__()
    for name in names:
        yield from _held_by(getattr(tensor, name))


def is_adapter(ref: str | Path) -> bool:
    """Whether `ref` is the folder of a PEFT adapter."""
    return (Path(ref) / "adapter_config.json").is_file()


def base_of_adapter(folder: Path) -> str | None:
    """The model that the adapter in a folder belongs on; None where it names none."""
    from peft import PeftConfig

    return PeftConfig.from_pretrained(str(folder)).base_model_name_or_path or None
