"""A vision-language model as an encoder of sections and queries: the state of the token that ends a text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.config import fingerprint
from gnomon.core.models.adapters import add_lora, add_token
from gnomon.core.models.batch import by_length
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.images import SeenText
from gnomon.core.models.images.features import ImageFeatures
from gnomon.core.models.load import LoadConfig, model_at
from gnomon.core.models.sampling.states import States, inputs_of
from gnomon.core.retrieval.encoders.local import hash_of, tokenizer_key
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, Troubles, key_of
from gnomon.methods.interleaved_retrieval.encoding.settings import Retrieving, published, read_settings
from gnomon.methods.interleaved_retrieval.encoding.units import Unit, Units
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded, Floats, merged, unit

log = logging.getLogger(__name__)

BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
"""Device -> tokens of a batch, with image tokens and padding. Measured: a core reads large batches at a third of the speed."""


def tokens_for(handle: ModelHandle, named: int | None) -> int:
    """Tokens of a batch: those that are named, else what suits the model's device."""
    return named or BATCH_TOKENS.get(handle.model.device.type, BATCH_TOKENS["cuda"])


class InterleavedEncoder:
    """Sections of text, images and tables, and queries of text and image, to vectors of one space.

    The vector of a text is the last hidden state, after the final norm, at the learned token that ends it. The output embedding is
    never applied.

    Args:
        handle: a vision-language model with its processor, or a causal model with its tokenizer, which sees no images.
        how: how sections are written, read and merged.
        batch_tokens: tokens of a batch, padding among them; None: see `BATCH_TOKENS`.
        strict: an image that cannot be opened, or a block that does not fit, is an error.

    Raises:
        ModelMismatch: the model is of another kind.
    Source: section 3 of the paper.
    """

    def __init__(
        self,
        handle: ModelHandle,
        how: Retrieving | None = None,
        *,
        batch_tokens: int | None = None,
        strict: bool = False,
    ):
        how = how or Retrieving()
        if handle.kind not in ("vlm", "causal"):
            raise ModelMismatch(
                f"{type(handle.model).__name__} is a {handle.kind} model. Sections with images need a vision-language model; "
                "encoders of text are compared by --text-encoder."
            )
        if handle.kind == "causal" and how.form.images == "seen":
            how = replace(how, form=replace(how.form, images="captions"))
        self.handle, self.how, self.batch_tokens = handle, how, tokens_for(handle, batch_tokens)
        self.units = Units(handle, how, strict=strict)
        self.module = States(handle.model, how.pick)
        self.module.eval()
        self._features = ImageFeatures(handle.model)

    @classmethod
    def from_pretrained(
        cls, ref: str | Path, load: LoadConfig | None = None, *, form: Form | None = None, **options: Any
    ) -> InterleavedEncoder:
        """The encoder in a folder or of a hub id.

        How it writes and reads is what its folder says (`retriever_config.json`), or what the folder of a published embedder says
        (modules, prompts, chat template). A model that is neither is read by its last token, which it was not trained for.

        Args:
            ref: a folder, a run of `train`, or a hub id.
            load: how it is loaded.
            form: how sections are written, where the folder does not decide; for comparisons.
            **options: as of `InterleavedEncoder`.
        """
        folder = Path(model_at(ref))
        handle = ModelHandle.load(str(folder), load)
        how = read_settings(folder) if folder.is_dir() else None
        if how is None and folder.is_dir():
            how = published(folder, handle.processor)
        if how is None:
            log.warning("%s is no retriever: its last token was not trained to stand for a text.", ref)
            how = Retrieving(ends={"passage": "", "query": ""})
        return cls(handle, how if form is None else replace(how, form=form), **options)

    @classmethod
    def new(cls, handle: ModelHandle, how: Retrieving | None = None, **options: Any) -> InterleavedEncoder:
        """A model that is to be trained, with the tokens that end sections and queries added to its vocabulary."""
        how = how or Retrieving()
        for end in how.ends.values():
            if end:
                add_token(handle.model, handle.tokenizer, end)
        return cls(handle, how, **options)

    @property
    def merge(self) -> str:
        """How the vectors of sections become one."""
        return self.how.merge

    @property
    def troubles(self) -> Troubles:
        """What could not be shown."""
        return self.units.troubles

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.handle.model.config.get_text_config().hidden_size)

    @cached_property
    def fingerprint(self) -> str:
        """A name that two encoders share only where they give equal vectors of sections."""
        state = self.handle.model.state_dict()
        weights = hash_of(tensor for _, tensor in sorted(state.items()))
        words = tokenizer_key(self.handle.tokenizer)
        own = {k: v for k, v in asdict(self.how).items() if k not in ("merge", "temperature")}
        key = fingerprint(weights, words, own, self.units.room, length=24)
        return f"{self.handle.model.config.model_type}-{self.dim}-{self.how.pick}-{key}"

    def with_form(self, form: Form) -> InterleavedEncoder:
        """The same model with sections written in another form."""
        how = replace(self.how, form=form)
        return InterleavedEncoder(self.handle, how, batch_tokens=self.batch_tokens, strict=self.units.strict)

    def encode_query(self, queries: Query | Sequence[Query]) -> Floats:
        """The vectors [Q, D] of queries, of unit length."""
        return self.encode_queries([queries] if isinstance(queries, Query) else queries)

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """The vectors [Q, D] of queries, of unit length.

        Raises:
            BadInput: a query has nothing to show, or is too long; it is named.
        """
        if not queries:
            return np.zeros((0, self.dim), np.float32)
        return unit(self._states([self.units.of_query(query) for query in queries], exact=False))

    def encode_sections(
        self,
        documents: Sequence[Document],
        *,
        exact: bool = False,
        cache: Mapping[str, Sequence[tuple[tuple[int, ...], int, Floats]]] | None = None,
    ) -> Encoded:
        """The raw vectors of all sections of some documents.

        Args:
            documents: those without anything to show are left out.
            exact: each section is read by itself, so that its vector is the same to the last bit whatever stands beside it; else in
                batches by length, equal up to rounding.
            cache: key of a section's content, see `key_of`, -> blocks, tokens and raw vector of each of its parts.

        Raises:
            BadInput: the encoder is strict, and an image cannot be shown; document and section are named.
        """
        units: list[Unit | None] = []
        rows: list[tuple[int, int, tuple[int, ...]]] = []  # section, part, blocks
        tokens: list[int] = []
        vectors: list[Floats | None] = []
        owners: list[str] = []
        image_tokens = 0
        for document in documents:
            for number in range(len(document.sections)):
                stored = None if cache is None else cache.get(key_of(document, number, self.how.form))
                if stored is not None:
                    for part, (blocks, count, vector) in enumerate(stored):
                        rows.append((number, part, blocks))
                        tokens.append(count)
                        vectors.append(vector)
                        units.append(None)
                        owners.append(document.id)
                    continue
                for new in self.units.of_section(document, number):
                    rows.append((number, new.part, new.blocks))
                    tokens.append(len(new.seen.ids))
                    vectors.append(None)
                    units.append(new)
                    owners.append(document.id)
                    image_tokens += new.image_tokens
        fresh = [i for i, new in enumerate(units) if new is not None]
        states = self._states([units[i].seen for i in fresh], exact=exact) if fresh else ()  # type: ignore[union-attr]
        for i, state in zip(fresh, states, strict=True):
            vectors[i] = state
        return encoded_of(owners, rows, tokens, vectors, self.dim, image_tokens)

    def encode_documents(
        self, documents: Sequence[Document], **options: Any
    ) -> tuple[Floats, Floats, NDArray[np.int64]]:
        """Vectors of documents [N, D] of unit length, raw vectors of sections [M, D], and offsets [N + 1] of the sections."""
        encoded = self.encode_sections(documents, **options)
        how = "mean" if self.merge == "max_sim" else self.merge
        return merged(encoded, how), encoded.vectors, encoded.offsets

    @torch.inference_mode()
    def _states(self, seen: Sequence[SeenText], *, exact: bool) -> Floats:
        """Raw vectors [N, D]."""
        vectors = np.zeros((len(seen), self.dim), np.float32)
        for numbers in batches_of(seen, 1 if exact else self.batch_tokens):
            batch = self.handle.gather([seen[i] for i in numbers], side="right")
            inputs, mask = inputs_of(batch, self.handle.kind, self.handle.model)
            vectors[numbers] = (
                self.module(self._features.read(inputs, alone=exact), mask).float().cpu().numpy()
            )
        return vectors

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, processor and `retriever_config.json`; adapters are merged into the weights.

        Raises:
            BadConfig: the folder is not empty.
        """
        return save_trained(self.handle, self.how, Path(folder))


def adapted(handle: ModelHandle, units: Units, rank: int) -> ModelHandle:
    """A model with low-rank adapters of its linear maps and the rows of its end tokens to train, and nothing else."""
    ends = [end for end in units.ends.values() if end is not None]
    return ModelHandle(add_lora(handle.model, rank, new_tokens=ends), handle.processor)  # type: ignore[arg-type]


def save_trained(handle: ModelHandle, how: Retrieving, folder: Path) -> Path:
    """Write a model, its processor and how it is fed into a new folder.

    Raises:
        BadConfig: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadConfig(f'"{folder}" is not empty. Choose another folder.')
    save_model(handle, folder)
    how.save(folder)
    return folder


def save_model(handle: ModelHandle, folder: Path) -> None:
    """Write a model with its processor; adapters are merged into a copy of the weights."""
    model: Any = handle.model
    if hasattr(model, "merge_and_unload"):
        import copy

        model = copy.deepcopy(model).merge_and_unload()
    model.save_pretrained(folder)
    handle.processor.save_pretrained(folder)


def batches_of(seen: Sequence[SeenText], budget: int) -> list[list[int]]:
    """Numbers of texts in batches by length, those with images apart from those without."""
    batches = []
    for shows in (False, True):
        numbers = [i for i, text in enumerate(seen) if bool(text.layouts) == shows]
        batches += [
            [numbers[k] for k in batch] for batch in by_length([len(seen[i].ids) for i in numbers], budget)
        ]
    return batches


def encoded_of(
    owners: Sequence[str],
    rows: Sequence[tuple[int, int, tuple[int, ...]]],
    tokens: Sequence[int],
    vectors: Sequence[Any],
    dim: int,
    image_tokens: int = 0,
) -> Encoded:
    """Vectors with their documents, in the order in which they came.

    Args:
        owners: per vector the id of its document; those of a document follow each other.
        rows: per vector section, part and blocks.
        tokens: per vector.
        vectors: each [D].
        dim: D.
        image_tokens: of all.
    """
    documents = list(dict.fromkeys(owners))
    counts = dict.fromkeys(documents, 0)
    for name in owners:
        counts[name] += 1
    offsets = np.concatenate([[0], np.cumsum([counts[name] for name in documents])]).astype(np.int64)
    whole = np.stack(list(vectors)).astype(np.float32) if len(vectors) else np.zeros((0, dim), np.float32)
    return Encoded(
        documents,
        offsets,
        [(section, part) for section, part, _ in rows],
        [blocks for _, _, blocks in rows],
        np.array(tokens, np.int64),
        whole,
        image_tokens,
    )
