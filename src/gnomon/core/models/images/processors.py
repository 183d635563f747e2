"""Processors of vision-language models, with or without torchvision."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnomon.core.models.load import load_config, model_at, with_padding
from gnomon.errors import BadInput, ModelMismatch


def load_processor(ref: str | Path, *, revision: str | None = None) -> Any:
    """The processor of the vision-language model at `ref`, its tokenizer with a padding token.

    Raises:
        BadInput: no processor is at `ref`.
        ModelMismatch: its tokenizer has neither a padding nor an end-of-text token, or it needs a package that is not installed.
    """
    ref = model_at(ref)
    no_processor = (
        f'No processor could be loaded from "{ref}". Save one there with processor.save_pretrained.'
    )
    try:
        processor = _processor_class(ref, revision).from_pretrained(
            str(ref), revision=revision, trust_remote_code=False
        )
    except ImportError as error:
        # The library's message is a paragraph; its first line names the package.
        needs = next(
            (line for line in str(error).splitlines() if line.strip()), "a package that is not installed"
        )
        raise ModelMismatch(f'The processor of "{ref}" cannot be used here: {needs.strip()}') from error
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
    from transformers import ProcessorMixin

    parts = [name for name in processor_class.get_attributes() if name != "video_processor"]  # type: ignore[attr-defined]

    class Parts(
        ProcessorMixin
    ):  # between the class and its base, which would take the missing part for a wrong one
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("video_processor", None)
            super().__init__(*(arg for arg in args if arg is not None), **kwargs)

    takes = inspect.signature(processor_class.__init__).parameters  # type: ignore[misc]

    def from_args_and_dict(cls: Any, /, args: Sequence[Any], settings: dict[str, Any], **more: Any) -> Any:
        # By name: some have the missing part before the others.
        arguments = dict(zip(parts, args, strict=True)) | {
            name: value for name, value in (settings | more).items() if name in takes and name not in parts
        }
        return cls(**dict.fromkeys({"video_processor"} & set(takes)) | arguments)

    return type(
        processor_class.__name__,
        (processor_class, Parts),
        {
            "get_attributes": classmethod(lambda cls: parts),
            "from_args_and_dict": classmethod(from_args_and_dict),
        },
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
    processor_class = getattr(transformers, name)
    reads_videos = (
        "video_processor" in processor_class.get_attributes()
        or "video_processor" in inspect.signature(processor_class.__init__).parameters
    )
    return without_videos(processor_class) if reads_videos else transformers.AutoProcessor
