"""Models and tokenizers from a folder or a hub id: safetensors only, and never code from the checkpoint."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.env import device_for
from gnomon.core.finite import watched
from gnomon.core.models.load.config import HOW, KINDS, LoadConfig
from gnomon.core.models.load.faults import check_hub, check_revision, fault_of, no_tokenizer, no_weights
from gnomon.core.models.load.placement import from_pretrained_arguments
from gnomon.core.models.load.references import base_of_adapter, is_adapter, model_at
from gnomon.errors import BadConfig, BadInput, ModelMismatch, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

TOKENIZER_FILES = ("*token*", "vocab*", "*.model")

OWN = "efficientnet_lite"
"""The type of the one model whose class is ours; see `EfficientNetLite`."""


def load_model(
    ref: str | Path,
    load: LoadConfig | None = None,
    *,
    kind: str = "causal",
    asked_by: str = "this",
    **options: Any,
) -> PreTrainedModel:
    """The model at `ref` in evaluation mode.

    Args:
        ref: a folder as `save_pretrained` writes it, a PEFT adapter folder, the folder of a run that made one, a hub id,
            `embedded:NAME`, or a GGUF file (see `model_at`).
        load: how it is loaded; None takes the defaults.
        kind: what the model must be, one of `KINDS`: `"causal"`, `"seq2seq"`, `"vlm"`, `"dual"` (CLIP, SigLIP), `"image"` for a
            classifier of images, `"scorer"` (see `load_scorer`), or `"encoder"`, which also takes the encoder alone out of a
            sequence-to-sequence checkpoint.
        asked_by: who needs the model, for messages: `"sort train"`.
        **options: fields of `LoadConfig` that win over those of `load`: `device="cpu"`.

    Raises:
        BadInput: nothing is at `ref`, the hub refuses it, it has no safetensors weights, or there is no such kind.
        BadConfig: no such implementation of attention, or not here.
        MissingExtra: quantisation needs a package that is not installed.
        ModelMismatch: the model is not of this kind or brings its own code.
    """
    import transformers

    load = replace(load or LoadConfig(), **options)
    if kind not in KINDS:
        raise BadInput(f'No kind of model is called "{kind}". {nearest(kind, KINDS)}')
    if kind == "scorer":
        scorer: PreTrainedModel = load_scorer(ref, load, asked_by=asked_by)
        return scorer
    source, device = model_at(ref), device_for(load.device)
    if load.adapter is None:
        check_revision(source, load.revision)
    arguments = from_pretrained_arguments(load, device)
    if load.adapter is not None or is_adapter(source):
        return _load_adapted(source, load, kind, asked_by)
    config = load_config(source, load.revision)
    _check_kind(ref, config, kind, asked_by)
    model = load_weights(getattr(transformers, KINDS[kind][1]), source, **arguments)
    # Spread out or quantised, it is where it belongs already.
    return (model if "device_map" in arguments else model.to(device)).eval()


def load_weights(loader: Any, ref: str | Path, **options: Any) -> Any:
    """The model at `ref` by `loader`'s `from_pretrained`, from safetensors, without code from the checkpoint.

    Args:
        loader: a model class of transformers, or one of its `Auto` classes.
        ref: a folder or hub id, or as in `model_at`.
        **options: more for `from_pretrained`.

    Raises:
        BadInput: nothing is at `ref`, the hub refuses it, it has no safetensors weights, or some that are not finite.
        BadConfig: no such implementation of attention, or not here.
    """
    folder = Path(model_at(ref))
    if folder.is_dir() and not any(folder.glob("*.safetensors")):
        raise no_weights(folder)
    try:
        model = loader.from_pretrained(
            str(model_at(ref)), use_safetensors=True, trust_remote_code=False, **options
        )
    except OSError as error:
        raise (
            no_weights(ref) if "safetensors" in str(error) else fault_of(ref, error, options.get("revision"))
        ) from error
    except (ValueError, ImportError) as error:
        attention = options.get("attn_implementation")
        if attention is None:
            raise
        reason = str(error).splitlines()[0]
        raise BadConfig(
            f'Attention "{attention}" cannot be had: {reason} Leave --attention out, or name sdpa or eager.'
        ) from error
    return watched(model, str(ref))


def kind_of(ref: str | Path, *, revision: str | None = None) -> str:
    """The kind of the model at `ref`, by the class that its config names; `"causal"` where that says nothing.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: the model brings its own code.
    """
    from transformers.models.auto import modeling_auto

    ref = model_at(ref)
    if is_adapter(ref):
        base = base_of_adapter(Path(ref))
        return kind_of(base) if base else "causal"
    config = load_config(ref, revision)
    named = config.architectures or []
    # Some that see are listed among the text models too, whose texts they read.
    first = ("vlm",) if hasattr(config, "vision_config") else ()
    for kind in (*first, *(kind for kind in KINDS if kind != "scorer")):
        table = KINDS[kind][0]
        if set(named) & set(getattr(modeling_auto, table).values()):
            return kind
    return "causal"


def load_tokenizer(
    ref: str | Path, load: LoadConfig | None = None, *, revision: str | None = None
) -> PreTrainedTokenizerBase:
    """The tokenizer at `ref`, with a padding token: the end-of-text token where the checkpoint names none.

    Args:
        ref: as in `load_model`; an adapter without a tokenizer has that of its base.
        load: how the model beside it is loaded: an adapter that it names may bring a tokenizer, and a hub id has its revision.
        revision: branch, tag or commit of a hub id; None: as `load` says.

    Raises:
        BadInput: no tokenizer is at `ref`, or nothing at all.
        ModelMismatch: the tokenizer has neither a padding nor an end-of-text token.
    """
    from transformers import AutoTokenizer

    if load is not None:
        revision = revision or load.revision
        if load.adapter is not None and _has_tokenizer(folder := Path(model_at(load.adapter))):
            return load_tokenizer(folder)
    source = model_at(ref)
    check_revision(source, revision)
    folder = Path(source)
    # For some families transformers would make up an empty one.
    if folder.is_dir() and not _has_tokenizer(folder):
        if is_adapter(folder) and (base := base_of_adapter(folder)):
            return load_tokenizer(base)
        raise no_tokenizer(ref)
    if not folder.is_dir():
        # Where there is no model at all, that is what is wrong; and a hub that is not there is waited for once, not three times.
        check_hub(ref, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source), revision=revision, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise no_tokenizer(ref) from error
    return with_padding(tokenizer, ref)


def _has_tokenizer(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES)


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

    source = model_at(ref)
    check_revision(source, revision)
    folder = Path(source)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise BadInput(f'Folder "{ref}" has no config.json. A model folder is what save_pretrained writes.')
    if folder.is_file():
        raise BadInput(f'"{ref}" is a file; name the folder that holds config.json and the weights.')
    _register_own(folder)
    try:
        return AutoConfig.from_pretrained(str(source), revision=revision, trust_remote_code=False)
    except OSError as error:
        raise fault_of(ref, error, revision) from error
    except (ValueError, KeyError) as error:
        raise ModelMismatch(
            f'Model "{ref}" is of a kind this transformers does not know, or brings code of its own, '
            "which is never run. Use a checkpoint of a class that transformers has, or a newer transformers."
        ) from error


def _register_own(folder: Path) -> None:
    """Let transformers open the one class that is ours, where the folder holds a model of it."""
    config = folder / "config.json"
    if config.is_file() and f'"{OWN}"' in config.read_text("utf-8", "replace"):
        from gnomon.core.models.load.efficientnet import register

        register()


def _check_kind(ref: str | Path, config: PreTrainedConfig, kind: str, asked_by: str) -> None:
    from transformers.models.auto import modeling_auto

    table, _, words = KINDS[kind]
    names: dict[str, Any] = getattr(modeling_auto, table)
    is_right = any(name in names.values() for name in config.architectures or [])
    is_right |= kind == "image" and config.model_type == OWN
    if not config.architectures or kind == "encoder":
        is_right |= config.model_type in names
    if not is_right:
        classes = ", ".join(config.architectures or [config.model_type])
        raise ModelMismatch(f'Model "{ref}" is {classes}; {asked_by} needs {words}.')


def _load_adapted(source: str | Path, load: LoadConfig, kind: str, asked_by: str) -> Any:
    """The base model with a PEFT adapter on it: the one that `load` names, or the one that the folder `source` is."""
    from peft import PeftModel

    folder = Path(source if load.adapter is None else model_at(load.adapter))
    if not is_adapter(folder):
        raise BadInput(f'"{folder}" is no PEFT adapter: it has no adapter_config.json.')
    base = base_of_adapter(folder) if load.adapter is None else source
    if not base:
        raise BadInput(
            f'Adapter "{folder}" names no base model; set base_model_name_or_path in its adapter_config.json, '
            "or name the base as the model and the adapter with --adapter."
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise no_weights(folder)
    # The revision is that of the model which was named: an adapter's base has its own.
    bare = replace(load, adapter=None, revision=load.revision if load.adapter is not None else None)
    model: Any = load_model(base, bare, kind=kind, asked_by=asked_by)
    if (folder / "tokenizer_config.json").is_file():
        rows = len(load_tokenizer(folder))
        if rows > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(rows, mean_resizing=False)
    with without_deprecations():
        try:
            return PeftModel.from_pretrained(model, str(folder)).eval()
        except (RuntimeError, ValueError, KeyError) as error:
            raise ModelMismatch(
                f'Adapter "{folder}" does not fit "{base}": {str(error).splitlines()[0]}'
            ) from error


def load_scorer(
    ref: str | Path,
    load: LoadConfig | None = None,
    *,
    asked_by: str = "this",
    most_labels: int | None = 1,
    **options: Any,
) -> Any:
    """A sequence classifier with its head, in evaluation mode.

    Args:
        ref: a folder or hub id of a transformers checkpoint, or the folder of a PEFT adapter that holds the head in full.
        load: how it is loaded; None takes the defaults.
        asked_by: who needs it, for messages.
        most_labels: outputs at most; 1 is a scorer, None takes any classifier.
        **options: fields of `LoadConfig` that win over those of `load`.

    Raises:
        BadInput: nothing is there, or it has no safetensors weights.
        ModelMismatch: it has no head, or one of more outputs: it is never given a fresh one.
    """
    from transformers import AutoModelForSequenceClassification

    load, source = replace(load or LoadConfig(), **options), model_at(ref)
    device = device_for(load.device)
    arguments = from_pretrained_arguments(load, device)
    adapter = load.adapter or (source if is_adapter(source) else None)
    if adapter is not None:
        return _adapted_scorer(Path(model_at(adapter)), None if adapter == source else source, load, asked_by)
    config = load_config(source, load.revision)
    classes = config.architectures or []
    if not any("ForSequenceClassification" in name for name in classes):
        what = ", ".join(classes) or config.model_type
        raise ModelMismatch(
            f'Model "{ref}" is {what} and has no head that scores; {asked_by} needs a sequence classifier. {HOW}'
        )
    if most_labels is not None and (config.num_labels or 1) > most_labels:
        raise ModelMismatch(
            f'Model "{ref}" has {config.num_labels} outputs; {asked_by} needs a sequence classifier with '
            f"{'one' if most_labels == 1 else f'at most {most_labels}'}."
        )
    model = load_weights(_WithHead(AutoModelForSequenceClassification, ref), source, **arguments)
    return (model if "device_map" in arguments else model.to(device)).eval()


class _WithHead:
    """A loader that refuses a checkpoint in which weights are missing, such as the head."""

    def __init__(self, loader: Any, ref: str | Path):
        self._loader, self._ref = loader, ref

    def from_pretrained(self, *args: Any, **options: Any) -> Any:
        """The model, whole."""
        model, report = self._loader.from_pretrained(*args, output_loading_info=True, **options)
        if missing := sorted(report["missing_keys"]):
            raise ModelMismatch(
                f'Model "{self._ref}" lacks the weights {", ".join(missing[:3])}, which would be made up at random. {HOW}'
            )
        return model


def _adapted_scorer(folder: Path, base: Any, load: LoadConfig, asked_by: str) -> Any:
    """A base with an adapter that holds the head; the base itself has none."""
    from peft import PeftConfig, PeftModel
    from safetensors import safe_open
    from transformers import AutoModelForSequenceClassification

    base = base or base_of_adapter(folder)
    if not base:
        raise BadInput(f'Adapter "{folder}" names no base model; set base_model_name_or_path.')
    if not (folder / "adapter_model.safetensors").is_file():
        raise no_weights(folder)
    device = device_for(load.device)
    bare = replace(load, adapter=None)
    model = load_weights(
        AutoModelForSequenceClassification, base, num_labels=1, **from_pretrained_arguments(bare, device)
    )
    heads = PeftConfig.from_pretrained(str(folder)).modules_to_save or ()
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        if not any(f".{name}." in key for key in weights.keys() for name in heads):  # noqa: SIM118 - no mapping
            raise ModelMismatch(f'Adapter "{folder}" holds no head that scores; {asked_by} needs one. {HOW}')
    with without_deprecations():
        return PeftModel.from_pretrained(model, str(folder)).to(device).eval()


@contextmanager
def without_deprecations() -> Iterator[None]:
    """Inside the `with`, what PEFT still calls in transformers by its old name is not warned about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield
