"""Processors of vision-language models, with or without torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnomon.core.models.load import load_config, model_at, with_padding
from gnomon.errors import BadInput


def load_processor(ref: str | Path, *, revision: str | None = None) -> Any:
    """The processor of the vision-language model at `ref`, its tokenizer with a padding token.

    Raises:
        BadInput: no processor is at `ref`.
        ModelMismatch: its tokenizer has neither a padding nor an end-of-text token.
    """
    ref = model_at(ref)
    no_processor = (
        f'No processor could be loaded from "{ref}". Save one there with processor.save_pretrained.'
    )
    try:
        processor = _processor_class(ref, revision).from_pretrained(
            str(ref), revision=revision, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(no_processor) from error
    # Where there is no processor, the library returns the tokenizer or the image processor alone.
    if not hasattr(processor, "tokenizer") or not hasattr(processor, "image_processor"):
        raise BadInput(no_processor)
    with_padding(processor.tokenizer, ref)
    return processor


def without_videos(processor_class: type) -> type:
    """The same class of processor for images and text alone.

    Some processors of images read videos too, which needs torchvision; nothing here shows a model a video.
    """
    parts = [name for name in processor_class.get_attributes() if name != "video_processor"]  # type: ignore[attr-defined]
    return type(
        processor_class.__name__, (processor_class,), {"get_attributes": classmethod(lambda cls: parts)}
    )


def _processor_class(ref: str | Path, revision: str | None) -> Any:
    """What loads the processor at `ref`: the library's automatic choice, unless that could not load here."""
    import transformers
    from transformers.models.auto import processing_auto
    from transformers.utils import import_utils

    table = "PROCESSOR_MAPPING_NAMES"
    name = getattr(processing_auto, table).get(load_config(ref, revision).model_type)
    if name is None or import_utils.is_torchvision_available():
        return transformers.AutoProcessor
    found = getattr(transformers, name)
    return (
        without_videos(found) if "video_processor" in found.get_attributes() else transformers.AutoProcessor
    )
