"""How a vision-language model sees: where its tower, projector and language model are, and which tokens are an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Int
from torch import Tensor

from gnomon.core.models.batch import Batch
from gnomon.core.models.layout import ImageLayout
from gnomon.core.models.sites import Family
from gnomon.errors import ModelMismatch

LayOut = Callable[[Any, Any, tuple[int, int], Mapping[str, Tensor], int], ImageLayout]
"""(processor, config, width and height of the original image, what the processor made of a text's images, which of
them) -> where the image's tokens lie."""

Positions = Callable[[Any, Batch], tuple[Tensor, Int[Tensor, "B 1"]]]
"""(model, batch of prompts) -> the position ids that it takes for them, and what is added to the position in the text of
each token that follows."""


def text_positions(model: Any, batch: Batch) -> tuple[Tensor, Int[Tensor, "B 1"]]:
    """Positions counted over real tokens, as in a text model."""
    return batch.position_ids, batch.input_ids.new_zeros(len(batch.input_ids), 1)


@dataclass(frozen=True)
class VLFamily:
    """Where a vision-language architecture keeps its parts, as module paths, and how it lays an image out in tokens."""

    vision: Family
    """The blocks of the vision tower."""
    text: Family
    """The blocks of the language model; `reader` is the module that gets the ids, mask and cache at every call."""
    projector: str
    """The module that makes vectors of the language model's width from those of the tower."""
    lay_out: LayOut
    """Where the tokens of an image lie."""
    language: str = ""
    """The module that takes a text without an image; the whole model unless that insists on an image."""
    prompt: str = "{images}{text}"
    """A question in the model's own form, for processors without a chat template."""
    placeholder: str = "{token}"
    """What stands for an image in a prompt, around the processor's image token; empty where its place is fixed."""
    positions: Positions = text_positions
    """The model's position ids."""
    kinds: str | None = None
    """The input that says of what kind each token is, where a text alone needs it too: 0 for all of a prompt."""


def image_token(model: Any) -> int:
    """The id that stands for a piece of an image.

    Raises:
        ModelMismatch: the config does not name one.
    """
    for name in ("image_token_id", "image_token_index"):
        found = getattr(model.config, name, None)
        if found is not None:
            return int(found)
    raise ModelMismatch(
        f"The config of this {type(model).__name__} does not say which token stands for an image. "
        "Set model.config.image_token_index to the id of the tokenizer's image token."
    )
