"""An encoder in this process: texts to tokens, windows where they are too long, batches by length, vectors."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.config import fingerprint
from gnomon.core.env import device_for
from gnomon.core.models import batch as batches
from gnomon.core.models.load import (
    LoadConfig,
    load_config,
    load_model,
    load_tokenizer,
    load_weights,
    model_at,
)
from gnomon.core.models.load.config import KINDS
from gnomon.core.models.load.faults import check_hub
from gnomon.core.models.load.placement import from_pretrained_arguments
from gnomon.core.models.load.references import is_adapter
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.retrieval.encoders.folders import About, read_folder, write_folder
from gnomon.core.too_long import longest_input
from gnomon.errors import BadInput, ModelMismatch

BATCH_TOKENS = 4096
"""Tokens of a batch, padding among them."""

FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""What is taken from a hub."""

_NOT_NUMBERS = (
    "_name_or_path",
    "name_or_path",
    "transformers_version",
    "architectures",
    "dtype",
    "torch_dtype",
    "use_cache",
)
"""Entries of a model's configuration that do not change its hidden states."""


class LocalEncoder:
    """A transformers model, its tokenizer, and how one vector is read from its hidden states.

    Args:
        model: gives hidden states.
        tokenizer: its tokenizer.
        about: pooling, prefixes, limit.
        batch_tokens: tokens of a batch, padding among them.
    """

    def __init__(self, model: Any, tokenizer: Any, about: About, *, batch_tokens: int = BATCH_TOKENS):
        self.model, self.tokenizer, self.about = model.eval(), tokenizer, about
        self.batch_tokens = batch_tokens
        self.prefixes = about.prefixes
        self.max_tokens = longest_input(model, tokenizer, about.max_tokens)
        self.head, self.tail = _frame(tokenizer)
        self.hidden = int(model.config.get_text_config().hidden_size)
        for step in about.readout.steps:
            if step is not None:
                step.linear.to(model.device)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.about.readout.dim(self.hidden)

    def identity(self, prefixes: Any) -> str:
        """A name that two encoders share only where they give equal vectors; folders and file names are no part of it."""
        kind = self.model.config.model_type
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in _NOT_NUMBERS}
        dense = [step.linear.state_dict() for step in self.about.readout.steps if step is not None]
        tensors = [self.model.state_dict(), *dense]
        key = fingerprint(
            config,
            hash_of(tensor for state in tensors for _, tensor in sorted(state.items())),
            tokenizer_key(self.tokenizer),
            self.about.readout.settings(),
            {role: prefix for role, prefix in sorted(prefixes.items()) if prefix},
            self.max_tokens,
            self.about.lowers,
            "unit length",
            length=24,
        )
        return f"{kind}-{self.dim}-{'+'.join(self.about.readout.pooling)}-{key}"

    def rows(self, text: str, prefix: str, number: int, too_long: str) -> tuple[list[list[int]], bool]:
        """Token ids of a text, one row or one of each of its windows, and whether it is too long.

        Windows are equally long but for one token, and do not overlap; each has the prefix and the special tokens.

        Raises:
            BadInput: it has no tokens, or it is too long and that is an error.
        """
        front = self._ids(prefix) if prefix else []
        ids = self._ids(prefix + text)
        if len(ids) <= len(front):
            raise BadInput(f"Text {number} has no tokens. Leave empty texts out.")
        room = None if self.max_tokens is None else self.max_tokens - len(self.head) - len(self.tail)
        if room is None or len(ids) <= room:
            return [[*self.head, *ids, *self.tail]], False
        if too_long == "error":
            total = len(ids) + len(self.head) + len(self.tail)
            raise BadInput(
                f"Text {number} has {total} tokens and the encoder reads {self.max_tokens}. "
                'Shorten it, or set too_long to "windows" or "cut".'
            )
        if too_long == "cut":
            return [[*self.head, *ids[:room], *self.tail]], True
        body, size = ids[len(front) :], room - len(front)
        if size < 1:
            raise BadInput(f"The prefix has {len(front)} tokens and leaves no room for a text.")
        edges = np.linspace(0, len(body), -(-len(body) // size) + 1).round().astype(int).tolist()
        windows = itertools.pairwise(edges)
        return [[*self.head, *front, *body[a:b], *self.tail] for a, b in windows], True

    def embed(
        self, texts: Sequence[str], prefix: str, too_long: str
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Vectors [N, D] of unit length, and the numbers of the texts that are too long."""
        rows: list[list[int]] = []
        owners: list[int] = []
        long: list[int] = []
        for number, text in enumerate(texts):
            text = text.lower() if self.about.lowers else text
            own, is_long = self.rows(text, prefix, number, too_long)
            rows += own
            owners += [number] * len(own)
            long += [number] * is_long
        read = len(self.head) + len(self._ids(prefix)) if prefix else 0
        pieces = torch.zeros(len(rows), self.dim)
        for numbers in batches.by_length([len(row) for row in rows], self.batch_tokens):
            pieces[numbers] = self._forward([rows[i] for i in numbers], read).cpu()
        pieces = torch.nn.functional.normalize(pieces, dim=-1)
        vectors = torch.zeros(len(texts), self.dim).index_add_(0, torch.tensor(owners), pieces)
        return torch.nn.functional.normalize(vectors, dim=-1).numpy(), long

    @torch.inference_mode()
    def _forward(self, rows: list[list[int]], prefix: int) -> Tensor:
        # Padding stands behind the texts whatever the tokenizer prefers: places are then right for every kind of positions, and
        # a model that reads from left to right never sees it.
        batch = batches.pad(rows, padding_id(self.tokenizer), "right").to(self.model.device)
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.mask.long()}
        return self.about.readout(self.model(**inputs).last_hidden_state, batch.mask, prefix)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def save(self, folder: Path, prefixes: Any) -> Path:
        """Write a folder that sentence-transformers opens to the same vectors."""
        about = replace(self.about, prefixes=prefixes, max_tokens=self.max_tokens)
        return write_folder(folder, about, self.model, self.tokenizer, self.hidden)


def load_local(ref: str | Path, load: LoadConfig) -> tuple[Any, Any, About]:
    """Model, tokenizer and what the folder says; errors as in `load_model`.

    Raises:
        ModelMismatch: the model gives no hidden states, or its folder has modules that are not known here.
    """
    from transformers import AutoModel
    from transformers.models.auto import modeling_auto

    source = model_at(ref)
    if not Path(source).exists():
        from huggingface_hub import snapshot_download

        check_hub(source, load.revision)
        source = snapshot_download(str(source), revision=load.revision, allow_patterns=FILES)
        load = replace(load, revision=None)  # of the hub id; from here on it is a folder
    about = read_folder(Path(source))
    tokenizer = load_tokenizer(about.model, load)
    table: Any = getattr(modeling_auto, KINDS["encoder"][0])
    adapted = load.adapter is not None or is_adapter(about.model)
    if adapted or load_config(about.model).model_type in table:
        return load_model(about.model, load, kind="encoder", asked_by="a text encoder"), tokenizer, about
    device = device_for(load.device)
    arguments = from_pretrained_arguments(load, device)
    # A model that is no encoder by trade, such as a decoder whose last token stands for the text.
    model = load_weights(AutoModel, about.model, **arguments)
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelMismatch(
            f'Model "{ref}" is {type(model).__name__}, and a text encoder needs one stack alone.'
        )
    return (model if "device_map" in arguments else model.to(device)).eval(), tokenizer, about


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Special tokens that the tokenizer puts in front of a text and behind it, seen on one text."""
    full, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    starts = [i for i in range(len(full) - len(bare) + 1) if full[i : i + len(bare)] == bare]
    if not starts:
        raise ModelMismatch("The tokenizer writes a text otherwise with special tokens than without.")
    return full[: starts[0]], full[starts[0] + len(bare) :]


def hash_of(tensors: Iterable[Tensor]) -> str:
    """A hash of numbers, shapes and types."""
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def tokenizer_key(tokenizer: Any) -> str:
    """A hash of what a tokenizer makes of texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return fingerprint(type(tokenizer).__name__, sorted(tokenizer.get_vocab().items()), length=24)
    state = json.loads(backend.to_str())
    # How it last cut and padded is a state of its user.
    return fingerprint({k: v for k, v in state.items() if k not in ("truncation", "padding")}, length=24)
