"""Where a model's weights go and in which form: what `from_pretrained` is called with."""

from __future__ import annotations

from typing import Any

from gnomon.core.env import version
from gnomon.core.models.load.config import LoadConfig
from gnomon.errors import BadConfig, BadInput, MissingExtra


def from_pretrained_arguments(load: LoadConfig, device: str) -> dict[str, Any]:
    """The arguments of `from_pretrained` for a way of loading.

    Args:
        load: the way.
        device: where the whole model goes unless it is spread out.

    Raises:
        BadInput: no such number type.
        BadConfig: the device cannot hold such weights.
        MissingExtra: quantisation needs a package that is not installed.
    """
    import torch

    if load.dtype != "auto" and not isinstance(getattr(torch, load.dtype, None), torch.dtype):
        raise BadInput(f'dtype "{load.dtype}" is none of torch; try "auto", "float32" or "bfloat16".')
    arguments: dict[str, Any] = {"dtype": load.dtype, "revision": load.revision}
    if load.attention != "auto":
        arguments["attn_implementation"] = load.attention
    if load.device_map is not None:
        arguments["device_map"] = load.device_map
    if load.quantize != "none":
        arguments["quantization_config"] = _quantization(load.quantize, device)
        arguments.setdefault("device_map", {"": device})
    return arguments


def _quantization(quantize: str, device: str) -> Any:
    """The library's settings for a kind of quantisation."""
    import torch
    import transformers

    library, _, bits = quantize.partition("-")
    package = {"bnb": "bitsandbytes", "torchao": "torchao"}[library]
    if version(package) is None:
        raise MissingExtra.of(package, "quant")
    if library == "bnb":
        if bits == "8bit":
            return transformers.BitsAndBytesConfig(load_in_8bit=True)
        return transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if bits == "int4" and device == "cpu":
        raise BadConfig(
            "quantize torchao-int4 needs a GPU: its kernels are for one. On a CPU use torchao-int8."
        )
    return transformers.TorchAoConfig(Int8WeightOnlyConfig() if bits == "int8" else Int4WeightOnlyConfig())
