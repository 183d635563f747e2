"""Weights in other formats as an ordinary folder: configuration, safetensors, tokenizer."""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from gnomon.core.env import version
from gnomon.errors import BadInput, MissingExtra, ModelMismatch

log = logging.getLogger(__name__)


def from_folder(files: Sequence[Path], folder: Path) -> None:
    """Copy a model that is an ordinary folder already.

    Args:
        files: its files, the weights first; the weights' folder is the model's.
        folder: where to.
    """
    for file in files:
        copy = folder / file.relative_to(files[0].parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)


def from_gguf(files: Sequence[Path], folder: Path) -> None:
    """Write the model in a GGUF file as an ordinary one.

    What transformers reads from such a file still counts as quantised: it cannot be saved or trained. The same numbers in a model
    that never was are saved here, in bfloat16; a file whose matrices are all float16 or float32 keeps that.

    Args:
        files: the GGUF file.
        folder: where to.

    Raises:
        MissingExtra: the package gguf is not installed.
        ModelMismatch: transformers cannot read the architecture in the file, or knows no tokenizer for it.
        BadInput: it is no GGUF file.
    """
    import torch
    import transformers

    if version("gguf") is None:
        raise MissingExtra.of("gguf", "gguf")
    (file,) = files
    log.info("Converting %s, once.", file.name)
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": str(file.absolute().parent),
        "gguf_file": file.name,
    }
    with _readable(file):
        dtype = _number_type(file)
        config = transformers.AutoConfig.from_pretrained(**source)
        loader = _loader(config.model_type, file)
        loaded = loader.from_pretrained(**source, dtype=dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    plain_config = type(loaded.config).from_dict(
        {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    )
    state = {name: tensor.detach().to(dtype) for name, tensor in loaded.state_dict().items()}
    with torch.device("meta"):  # every number comes from the file
        plain = type(loaded)(plain_config)
    plain.load_state_dict(state, strict=True, assign=True)
    plain.tie_weights()
    plain.config.dtype = dtype
    plain.generation_config = loaded.generation_config
    with quiet():
        plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def from_efficientnet(files: Sequence[Path], folder: Path) -> None:
    """Write the published EfficientNet-Lite weights as safetensors, with what prepares images for them.

    Args:
        files: the file of weights; only tensors are read from it.
        folder: where to.
    """
    import torch

    from gnomon.core.models.load.efficientnet import EfficientNetLite, EfficientNetLiteConfig, image_processor

    (file,) = files
    config = EfficientNetLiteConfig()
    model = EfficientNetLite(config)
    model.load_published(torch.load(file, map_location="cpu", weights_only=True))
    with quiet():
        model.save_pretrained(folder)
    image_processor(config.image_size).save_pretrained(folder)


def _loader(model_type: str, file: Path) -> Any:
    """The class of transformers that opens models of this type and writes text."""
    import transformers
    from transformers.models.auto import modeling_auto

    for table, loader in (
        ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM"),
        ("MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", "AutoModelForSeq2SeqLM"),
    ):
        if model_type in getattr(modeling_auto, table):
            return getattr(transformers, loader)
    raise ModelMismatch(f"{file} holds a model of type {model_type}, which writes no text.")


def _number_type(file: Path) -> Any:
    """float32 or float16 where every matrix of the file is stored so, else bfloat16, which has room for all that 8 bits can say."""
    import torch
    from gguf import GGMLQuantizationType, GGUFReader

    reader = GGUFReader(file)
    types = {tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) > 1}
    whole = {GGMLQuantizationType.F32: torch.float32, GGMLQuantizationType.F16: torch.float16}
    return whole[types.pop()] if len(types) == 1 and types <= set(whole) else torch.bfloat16


@contextmanager
def quiet() -> Iterator[None]:
    """Inside the `with`, transformers shows no bars and no warnings; errors are raised as ever."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.ERROR)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Inside the `with`, what the readers say of a file that they cannot read becomes one sentence."""
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise BadInput(f"{file} is no GGUF file.")
    try:
        # The reader of GGUF draws its bar by itself.
        with quiet(), redirect_stderr(io.StringIO()):
            yield
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelMismatch(f"transformers cannot read {file}: {reason}") from error
