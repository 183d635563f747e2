"""Models and tokenizers from a folder or a hub id: safetensors only, and never code from the checkpoint."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.env import device_for
from gnomon.core.files import artifact, is_run_folder
from gnomon.core.finite import watched
from gnomon.errors import BadInput, ModelMismatch, nearest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("*token*", "vocab*", "*.model")

KEY_CHUNK, KEY_FACTOR = 1 << 24, 0x1E3779B97F4A7C15
"""Numbers hashed at once, and an odd factor that spreads them over 64 bits."""

# kind -> (transformers' table of classes, its loader, words for a message)
KINDS = {
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM", "a causal text model"),
    "seq2seq": (
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "AutoModelForSeq2SeqLM",
        "a sequence-to-sequence text model",
    ),
    "vlm": (
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        "AutoModelForImageTextToText",
        "a vision-language model",
    ),
    "encoder": ("MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES", "AutoModelForTextEncoding", "a text encoder"),
}


def model_at(ref: str | Path) -> str | Path:
    """The model that a run has made where `ref` is the folder of one, else `ref` itself.

    Raises:
        BadInput: the run has not finished, or made no model.
    """
    return artifact(Path(ref), "model") if is_run_folder(Path(ref)) else ref


def load_model(
    ref: str | Path,
    *,
    kind: str = "causal",
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    asked_by: str = "this",
) -> PreTrainedModel:
    """The model at `ref` in evaluation mode.

    Args:
        ref: a folder as `save_pretrained` writes it, a PEFT adapter folder, the folder of a run that made one, or a hub id.
        kind: what the model must be: `"causal"`, `"seq2seq"`, `"vlm"`, or `"encoder"`, which also takes the encoder alone out of a
            sequence-to-sequence checkpoint.
        device: `"auto"` takes a GPU when there is one.
        dtype: `"auto"` keeps the checkpoint's; else a torch name such as `"float32"`.
        revision: branch, tag or commit of a hub id.
        asked_by: who needs the model, for messages: `"sort train"`.

    Raises:
        BadInput: nothing is at `ref`, it has no safetensors weights, or there is no such kind.
        ModelMismatch: the model is not of this kind or brings its own code.
    """
    import torch
    import transformers

    if kind not in KINDS:
        raise BadInput(f'No kind of model is called "{kind}". {nearest(kind, KINDS)}')
    device = device_for(device)
    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise BadInput(f'dtype "{dtype}" is none of torch; try "auto", "float32" or "bfloat16".')
    ref = model_at(ref)
    folder = Path(ref)
    if (folder / "adapter_config.json").is_file():
        return _load_adapter(folder, kind, device, dtype, asked_by)
    config = load_config(ref, revision)
    _check_kind(ref, config, kind, asked_by)
    model = load_weights(getattr(transformers, KINDS[kind][1]), ref, dtype=dtype, revision=revision)
    return model.to(device).eval()


def load_weights(loader: Any, ref: str | Path, **options: Any) -> Any:
    """The model at `ref` by `loader`'s `from_pretrained`, from safetensors, without code from the checkpoint.

    Args:
        loader: a model class of transformers, or one of its `Auto` classes.
        ref: a folder or hub id.
        **options: more for `from_pretrained`.

    Raises:
        BadInput: nothing is at `ref`, it has no safetensors weights, or weights that are not finite.
    """
    folder = Path(ref)
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise BadInput(_no_safetensors(ref))
    try:
        model = loader.from_pretrained(str(ref), use_safetensors=True, trust_remote_code=False, **options)
    except OSError as error:
        raise BadInput(_no_safetensors(ref) if "safetensors" in str(error) else _not_found(ref)) from error
    return watched(model, str(ref))


def weights_key(tensors: Iterable[torch.Tensor]) -> str:
    """A hash of every number of a model's weights, in their order; computed where they are.

    Numbers are rounded to bfloat16 first, so that a checkpoint loaded in float32 and in bfloat16 has one key.

    Args:
        tensors: such as `model.state_dict().values()`; tied ones count once.
    """
    import torch

    digest, hashed = hashlib.blake2b(digest_size=16), set()
    for tensor in tensors:
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


def kind_of(ref: str | Path, *, revision: str | None = None) -> str:
    """The kind of the model at `ref`, by the class that its config names; `"causal"` where that says nothing.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: the model brings its own code.
    """
    from transformers.models.auto import modeling_auto

    ref = model_at(ref)
    folder = Path(ref)
    if (folder / "adapter_config.json").is_file():
        from peft import PeftConfig

        base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
        return kind_of(base) if base else "causal"
    config = load_config(ref, revision)
    named = config.architectures or []
    # Some that see are listed among the text models too, whose texts they read.
    first = ("vlm",) if hasattr(config, "vision_config") else ()
    for kind in (*first, *KINDS):
        table = KINDS[kind][0]
        if set(named) & set(getattr(modeling_auto, table).values()):
            return kind
    return "causal"


def load_tokenizer(ref: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer at `ref`, with a padding token: the end-of-text token where the checkpoint names none.

    Raises:
        BadInput: no tokenizer is at `ref`.
        ModelMismatch: the tokenizer has neither a padding nor an end-of-text token.
    """
    from transformers import AutoTokenizer

    no_tokenizer = (
        f'No tokenizer could be loaded from "{ref}". Save one there with tokenizer.save_pretrained.'
    )
    ref = model_at(ref)
    folder = Path(ref)
    # For some families transformers would make up an empty one.
    if folder.is_dir() and not any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        raise BadInput(no_tokenizer)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(ref), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(no_tokenizer) from error
    return with_padding(tokenizer, ref)


def with_padding(tokenizer: Any, ref: str | Path) -> Any:
    """`tokenizer` with a padding token: the end-of-text token where it names none.

    Raises:
        ModelMismatch: it has neither.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelMismatch(
                f'The tokenizer of "{ref}" has neither a padding nor an '
                "end-of-text token. Set tokenizer.pad_token and save it again."
            )
        tokenizer.pad_token = tokenizer.eos_token
        log.info('Tokenizer "%s" has no padding token; padding with %r.', ref, tokenizer.eos_token)
    return tokenizer


def load_config(ref: str | Path, revision: str | None = None) -> PreTrainedConfig:
    """The configuration of the model at `ref`.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: transformers does not know the model, or it brings its own code.
    """
    from transformers import AutoConfig

    ref = model_at(ref)
    folder = Path(ref)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise BadInput(f'Folder "{ref}" has no config.json. A model folder is what save_pretrained writes.')
    if folder.is_file():
        raise BadInput(f'"{ref}" is a file; name the folder that holds config.json and the weights.')
    try:
        return AutoConfig.from_pretrained(str(ref), revision=revision, trust_remote_code=False)
    except OSError as error:
        raise BadInput(_not_found(ref)) from error
    except (ValueError, KeyError) as error:
        raise ModelMismatch(
            f'Model "{ref}" is of a kind this transformers does not know, or brings code of its own, '
            "which is never run. Use a checkpoint of a class that transformers has, or a newer transformers."
        ) from error


def _check_kind(ref: str | Path, config: PreTrainedConfig, kind: str, asked_by: str) -> None:
    from transformers.models.auto import modeling_auto

    table, _, words = KINDS[kind]
    names: dict[str, Any] = getattr(modeling_auto, table)
    is_right = any(name in names.values() for name in config.architectures or [])
    if not config.architectures or kind == "encoder":
        is_right |= config.model_type in names
    if not is_right:
        classes = ", ".join(config.architectures or [config.model_type])
        raise ModelMismatch(f'Model "{ref}" is {classes}; {asked_by} needs {words}.')


def _load_adapter(folder: Path, kind: str, device: str, dtype: str, asked_by: str) -> Any:
    """The base model that a PEFT adapter names, with the adapter on it."""
    from peft import PeftConfig, PeftModel

    base = PeftConfig.from_pretrained(str(folder)).base_model_name_or_path
    if not base:
        raise BadInput(
            f'Adapter "{folder}" names no base model; set base_model_name_or_path in its adapter_config.json.'
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(_no_safetensors(folder))
    model: Any = load_model(base, kind=kind, device=device, dtype=dtype, asked_by=asked_by)
    if (folder / "tokenizer_config.json").is_file():
        rows = len(load_tokenizer(folder))
        if rows > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(rows, mean_resizing=False)
    with without_deprecations():
        return PeftModel.from_pretrained(model, str(folder)).eval()


def _no_safetensors(ref: str | Path) -> str:
    return (
        f'Model "{ref}" has no safetensors weights, and other formats can run code when they are opened. '
        "Convert it where it came from: model.save_pretrained(folder)."
    )


def _not_found(ref: str | Path) -> str:
    return (
        f'Model "{ref}" is neither a folder here nor a hub model that is cached or can be reached. '
        "Check the name, or download it first and name the folder."
    )


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Inside the `with`, what PEFT still calls in transformers by its old name is not warned about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
