"""Folders of encoders as sentence-transformers writes them: read, and written so that it opens them to the same vectors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from gnomon.core.files import write_json
from gnomon.core.retrieval.encoders.pooling import POOLINGS, Dense, Readout
from gnomon.errors import BadConfig, BadInput, ModelMismatch

MODULES, PROMPTS, LIMITS = "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"

ROLES: Mapping[str, tuple[str, ...]] = {"query": ("query",), "passage": ("document", "passage", "corpus")}
"""Role -> names that its prefix may have in a folder, the first one wins."""

_OLD = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of a pooling's configuration before sentence-transformers 6, which reads them still -> pooling."""


@dataclass(frozen=True)
class About:
    """What a folder says beside the model itself."""

    model: Path
    """Folder of the transformers model."""
    readout: Readout = field(default_factory=Readout)
    """How a vector is read from it."""
    prefixes: Mapping[str, str] = field(default_factory=dict)
    """Role -> what stands in front of its texts."""
    max_tokens: int | None = None
    """Tokens that it reads at most; None: as the model says."""
    lowers: bool = False
    """Whether texts are put into lower case first."""
    is_plain: bool = False
    """Whether the folder names no pooling, so that the mean is a guess."""


def read_folder(folder: Path) -> About:
    """What the folder of an encoder says; one without `modules.json` is a plain model, and the mean over its tokens is taken.

    Raises:
        BadInput: a file is missing or cannot be read.
        ModelMismatch: it has a module that is not known here.
    """
    if not (folder / MODULES).is_file():
        return About(folder, prefixes=_prefixes(folder), is_plain=True)
    model, readout = folder, None
    steps: list[Dense | None] = []
    for module in _json(folder / MODULES):
        kind, at = module["type"].rpartition(".")[2], folder / module["path"]
        if kind == "Transformer":
            model = at
        elif kind == "Pooling":
            readout = _pooling(_json(at / "config.json"))
        elif kind == "Dense":
            steps.append(_dense(at))
        elif kind == "Normalize":
            steps.append(None)
        elif kind != "Dropout":  # which does nothing outside training
            raise ModelMismatch(
                f'"{folder}" has a module {module["type"]}, which is not known here. '
                "Known are Transformer, Pooling, Dense and Normalize."
            )
    if readout is None:
        raise ModelMismatch(f'"{folder}" names no pooling in its {MODULES}.')
    while steps and steps[-1] is None:  # vectors have unit length in any case
        steps.pop()
    limits = _json(model / LIMITS) if (model / LIMITS).is_file() else {}
    return About(
        model,
        Readout(readout.pooling, readout.counts_prefix, tuple(steps)),
        _prefixes(folder),
        limits.get("max_seq_length"),
        bool(limits.get("do_lower_case", False)),
    )


def write_folder(folder: Path, about: About, model: Any, tokenizer: Any, hidden: int) -> Path:
    """Write an encoder so that sentence-transformers, and `read_folder`, open it to the same vectors; returns the folder.

    Args:
        folder: a new or empty one.
        about: what is written beside the model.
        model: of transformers.
        tokenizer: its tokenizer.
        hidden: length of a hidden state.

    Raises:
        BadConfig: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadConfig(f'"{folder}" is not empty. Choose another folder for the encoder.')
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(folder / LIMITS, {"max_seq_length": about.max_tokens, "do_lower_case": about.lowers})
    readout = about.readout
    old = {key: name in readout.pooling for key, name in _OLD.items()}
    in_order = tuple(name for name in _OLD.values() if name in readout.pooling)
    # The old keys know no order, so they are written only where they say all; then older releases read the folder too.
    pooling: dict[str, Any] = (
        dict(old) if in_order == readout.pooling else {"pooling_mode": list(readout.pooling)}
    )
    pooling |= {"word_embedding_dimension": hidden, "include_prompt": readout.counts_prefix}
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    for number, step in enumerate((*readout.steps, None), 2):
        modules.append(("Normalize", f"{number}_Normalize") if step is None else ("Dense", f"{number}_Dense"))
        (folder / modules[-1][1]).mkdir()
        if step is not None:
            _write_dense(folder / modules[-1][1], step)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(
        folder / MODULES,
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ],
    )
    prompts = {ROLES[role][0]: prefix for role, prefix in about.prefixes.items()}
    write_json(folder / PROMPTS, {"prompts": prompts, "similarity_fn_name": "cosine"})
    return folder


def _prefixes(folder: Path) -> dict[str, str]:
    """Role -> prefix, as encode_query and encode_document of sentence-transformers choose them."""
    settings = _json(folder / PROMPTS) if (folder / PROMPTS).is_file() else {}
    prompts: dict[str, str] = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name") or "", "")
    return {role: next((prompts[n] for n in names if n in prompts), default) for role, names in ROLES.items()}


def _pooling(settings: dict[str, Any]) -> Readout:
    named = settings.get("pooling_mode")
    if named is None:
        named = [name for key, name in _OLD.items() if settings.get(key)] or ["mean"]
    names = (named,) if isinstance(named, str) else tuple(named)
    if unknown := set(names) - set(POOLINGS):
        raise ModelMismatch(f"The encoder pools by {min(unknown)}, which is not known here.")
    return Readout(names, settings.get("include_prompt", True))


def _dense(at: Path) -> Dense:
    settings = _json(at / "config.json")
    kind, module = settings.get("activation_function", "torch.nn.Tanh"), torch.nn
    name = kind.rpartition(".")[2]
    if not kind.startswith("torch.nn.") or not hasattr(module, name):
        raise ModelMismatch(
            f'"{at}" has the activation {kind}, which is none of torch.nn; code of a checkpoint is never run.'
        )
    if settings.get("module_input_name", "sentence_embedding") != "sentence_embedding":
        raise ModelMismatch(
            f'"{at}" works on {settings["module_input_name"]} and not on the vector of a text.'
        )
    if not (at / "model.safetensors").is_file():
        raise BadInput(f'"{at}" has no model.safetensors; other formats can run code when they are opened.')
    linear = torch.nn.Linear(settings["in_features"], settings["out_features"], settings.get("bias", True))
    weights = load_file(at / "model.safetensors")
    linear.load_state_dict({key.removeprefix("linear."): value for key, value in weights.items()})
    return Dense(linear.float().eval().requires_grad_(False), name)


def _write_dense(at: Path, dense: Dense) -> None:
    linear = dense.linear
    settings = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
        "activation_function": f"torch.nn.modules.{_file_of(dense.activation)}.{dense.activation}",
    }
    write_json(at / "config.json", settings)
    save_file(
        {f"linear.{k}": v.contiguous().cpu() for k, v in linear.state_dict().items()},
        at / "model.safetensors",
    )


def _file_of(activation: str) -> str:
    return str(getattr(torch.nn, activation).__module__).rpartition(".")[2]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error}).") from None
