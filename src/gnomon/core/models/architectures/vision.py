"""How a vision-language model sees: where its tower, projector and language model are, and which tokens are an image.

The vision-language architectures that are known: one row each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from gnomon.core.config import read_settings
from gnomon.core.models.architectures import geometry
from gnomon.core.models.architectures.parts import Family, LayOut, Layout, VLFamily
from gnomon.core.models.architectures.text import FAMILIES
from gnomon.core.models.batch import Batch
from gnomon.errors import BadInput, ModelMismatch, nearest


def image_token(model: Any) -> int:
    """The id that stands for a piece of an image.

    Raises:
        ModelMismatch: the config does not name one.
    """
    for name in ("image_token_id", "image_token_index"):
        token_id = getattr(model.config, name, None)
        if token_id is not None:
            return int(token_id)
    raise ModelMismatch(
        f"The config of this {type(model).__name__} does not say which token stands for an image. "
        "Set model.config.image_token_index to the id of the tokenizer's image token."
    )


# The vision-language architectures that are known: one row each.

# model_type of a language model that exists only inside a vision-language model -> the plain one it is built like
_LIKE = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2"}


def _text(config: Any, path: str, *, base: bool, reader: str) -> Family:
    """The table of the language model at `path`: a headless one (`base`), or one with its output embedding."""
    text = config.text_config
    table = FAMILIES.get(_LIKE.get(text.model_type, text.model_type))
    family = table(text) if callable(table) else table
    if not isinstance(family, Family):
        raise ModelMismatch(
            f'A "{config.model_type}" model with a language model of type "{text.model_type}" is not supported. '
            f"Take a checkpoint with one of {', '.join(sorted(set(FAMILIES) - {'t5'}))}, or describe it: "
            "ModelHandle(model, processor, family=VLFamily(...))."
        )

    def inside(name: str | None) -> str | None:
        return None if name is None else f"{path}.{name.partition('.')[2] if base else name}"

    return replace(
        family,
        blocks=inside(family.blocks) or "",
        final_norm=inside(family.final_norm),
        project=inside(family.project),
        reader=reader,
    )


def _tower(
    blocks: str, *, norm: str | None = None, attn: str = "self_attn", mid: str = "layer_norm2"
) -> Family:
    return Family(blocks, norm, attn, "mlp", mid_into=mid)


# model_type of a vision tower -> (its blocks, the norm after them that the projector reads through)
_TOWERS = {
    "clip_vision_model": ("encoder.layers", None),
    "siglip_vision_model": ("encoder.layers", "post_layernorm"),
}


def _vision(config: Any, path: str) -> Family:
    """The table of the vision tower at `path`, for families that take any."""
    kind = config.vision_config.model_type
    if kind not in _TOWERS:
        raise ModelMismatch(
            f'A "{config.model_type}" model with a vision tower of type "{kind}" is not known (known: '
            f"{', '.join(_TOWERS)}). Describe it: ModelHandle(model, processor, family=VLFamily(vision=Family(...), ...))."
        )
    blocks, norm = _TOWERS[kind]
    return _tower(f"{path}.{blocks}", norm=None if norm is None else f"{path}.{norm}")


def _llava(config: Any, **other: Any) -> VLFamily:
    return VLFamily(
        vision=_vision(config, "model.vision_tower"),
        text=_text(config, "model.language_model", base=True, reader="model"),
        projector="model.multi_modal_projector",
        **{"lay_out": geometry.llava, "prompt": "USER: {images}\n{text} ASSISTANT:", **other},
    )


def _llava_next(config: Any) -> VLFamily:
    return _llava(config, lay_out=geometry.llava_next)


def _paligemma(config: Any) -> VLFamily:
    def from_one(model: Any, batch: Batch) -> tuple[Tensor, Int[Tensor, "B 1"]]:
        return batch.position_ids + 1, batch.input_ids.new_ones(len(batch.input_ids), 1)

    # A prompt is read in both directions. Without kinds the library would do so only after padding.
    return _llava(
        config,
        lay_out=geometry.paligemma,
        prompt="{images}{text}",
        positions=from_one,
        kinds="token_type_ids",
    )


def _blip(config: Any, prompt: str) -> VLFamily:
    return VLFamily(
        vision=_tower("vision_model.encoder.layers"),
        text=_text(config, "language_model", base=False, reader="language_model"),
        projector="language_projection",
        lay_out=geometry.queries,
        language="language_model",
        prompt=prompt,
        placeholder="",
    )


def _instructblip(config: Any) -> VLFamily:
    return _blip(config, "{text}")


def _blip2(config: Any) -> VLFamily:
    return _blip(config, "Question: {text} Answer:")


def by_axis(model: Any, batch: Batch) -> tuple[Tensor, Int[Tensor, "B 1"]]:
    """Time, row and column of each token after its place in the text, [4, B, T]; what follows goes on after the largest.

    By the model's own `get_rope_index`.
    """
    text = batch.position_ids
    if not batch.pixels:
        return text[None].expand(4, -1, -1), text.new_zeros(len(text), 1)
    owner = next(module for module in model.modules() if hasattr(module, "get_rope_index"))
    takes = inspect.signature(owner.get_rope_index).parameters
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    inputs = {"attention_mask": batch.mask.long(), **batch.pixels}
    places, shift = owner.get_rope_index(
        batch.input_ids, **{name: value for name, value in inputs.items() if is_open or name in takes}
    )
    return torch.cat([text[None], places]), shift


def _qwen(config: Any) -> VLFamily:
    return VLFamily(
        vision=_tower("model.visual.blocks", attn="attn", mid="norm2"),
        text=_text(config, "model.language_model", base=True, reader="model"),
        projector="model.visual.merger",
        lay_out=geometry.qwen,
        prompt="<|im_start|>user\n{images}{text}<|im_end|>\n<|im_start|>assistant\n",
        placeholder="<|vision_start|>{token}<|vision_end|>",
        positions=by_axis,
    )


def _idefics(config: Any, **other: Any) -> VLFamily:
    return VLFamily(
        vision=_tower("model.vision_model.encoder.layers", norm="model.vision_model.post_layernorm"),
        text=_text(config, "model.text_model", base=True, reader="model"),
        projector="model.connector",
        prompt="User:{images}{text}<end_of_utterance>\nAssistant:",
        **other,
    )


def _idefics2(config: Any) -> VLFamily:
    return _idefics(config, lay_out=geometry.resampled)


def _idefics3(config: Any) -> VLFamily:
    return _idefics(config, lay_out=geometry.idefics3)


VLMS: dict[str, Callable[[Any], VLFamily]] = {
    "blip-2": _blip2,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
    "instructblip": _instructblip,
    "llava": _llava,
    "llava_next": _llava_next,
    "paligemma": _paligemma,
    "qwen2_5_vl": _qwen,
    "qwen2_vl": _qwen,
}


# A table as a file.

LAY_OUTS: dict[str, LayOut] = {
    "idefics3": geometry.idefics3,
    "llava": geometry.llava,
    "llava_next": geometry.llava_next,
    "queries": geometry.queries,
    "qwen": geometry.qwen,
    "resampled": geometry.resampled,
}
"""Name in a file -> where the tokens of an image lie."""


def read_family(path: str | Path) -> Layout | VLFamily:
    """The table of an architecture in a JSON or YAML file.

    The fields of a `Family`; or of a `VLFamily`, with `vision` and `text` as tables of their own; or a table for each stack by the
    prefix of its sites, the one that writes last. `lay_out` is a name of `LAY_OUTS`, or left out: then it is measured.

    Raises:
        BadInput: the file cannot be read, or a field is missing, unknown or no text; the file and the field are named.
    """
    fields = read_settings(Path(path))
    if "projector" in fields or {"vision", "text"} <= set(fields):
        vision, text = (_table(path, name, fields.pop(name, None)) for name in ("vision", "text"))
        name = fields.pop("lay_out", None)
        if name is not None and name not in LAY_OUTS:
            raise BadInput(f'{path}: lay_out "{name}" is unknown. {nearest(str(name), LAY_OUTS)}')
        _check_fields(path, "", fields, {"projector"}, {"projector", "language", "prompt", "placeholder"})
        lay_out = None if name is None else LAY_OUTS[name]
        return VLFamily(vision, text, **fields, lay_out=lay_out, positions=None)
    if fields and all(isinstance(part, Mapping) for part in fields.values()):
        return {str(prefix): _table(path, str(prefix), part) for prefix, part in fields.items()}
    return _table(path, "", fields)


def _table(path: str | Path, name: str, part: Any) -> Family:
    """One stack of blocks."""
    where = f"{name}: " if name else ""
    if not isinstance(part, Mapping):
        raise BadInput(
            f'{path}: {where}a table of module paths is missing, such as {{"blocks": "model.layers", ...}}.'
        )
    names = {field.name: field.default is MISSING for field in dataclass_fields(Family)}
    needed = {field for field, is_needed in names.items() if is_needed} - {"final_norm"}
    _check_fields(path, where, part, needed, set(names))
    return Family(**{"final_norm": None, **part})


def _check_fields(
    path: str | Path, where: str, part: Mapping[str, Any], needed: set[str], names: set[str]
) -> None:
    for field, value in part.items():
        if field not in names:
            raise BadInput(f'{path}: {where}field "{field}" is unknown. {nearest(str(field), names)}')
        if not isinstance(value, str) and value is not None:
            raise BadInput(f'{path}: {where}field "{field}" must be a module path; got {value!r}.')
    if lacking := sorted(needed - set(part)):
        raise BadInput(f'{path}: {where}field "{lacking[0]}" is missing.')
