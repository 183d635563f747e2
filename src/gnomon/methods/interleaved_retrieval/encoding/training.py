"""Training a retriever: the query's document against all others of the batch, by the vectors that are searched later."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnomon.core.config import fingerprint
from gnomon.core.models.images import SeenText
from gnomon.core.models.sampling.states import States, freeze_head, inputs_of
from gnomon.core.retrieval.terms import Terms
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch, History, TrainConfig, cached_step, fit, gather
from gnomon.core.train.batches import Order
from gnomon.core.train.contrastive import NOTHING, offset_of, score_nce, share_of, text_ids
from gnomon.core.train.memory import is_distributed
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, plain_text
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder, adapted, batches_of
from gnomon.methods.interleaved_retrieval.encoding.units import Unit, Units

COLDEST, HOTTEST = 0.01, 1.0
"""Range of a temperature that is learned."""


@dataclass(frozen=True)
class Pair:
    """A query with a document that answers it."""

    query: Query
    document: int
    """Its number among the documents."""
    section: int | None = None
    """The section that holds the evidence, where that is judged."""
    negatives: tuple[int, ...] = ()
    """Numbers of documents that look like it and do not answer."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a retriever's training needs beside `TrainConfig`."""

    sections: int = 4
    """Sections of a document in a step, chosen anew each time; the one with the evidence is always among them."""
    negatives: int = 0
    """Documents beside the batch's own that each query is held against: those whose words are most like its, by BM25."""
    learn_temperature: bool = False
    """Train the temperature too, within 0.01 .. 1; on one process."""
    piece_tokens: int = 8192
    """Tokens computed at once; a larger batch is embedded piece by piece, with the loss of the whole."""

    def __post_init__(self) -> None:
        for name, least in (("sections", 1), ("negatives", 0), ("piece_tokens", 1)):
            if getattr(self, name) < least:
                raise BadConfig(f"{name} must be >= {least}; got {getattr(self, name)}.")


def train_retriever(
    encoder: InterleavedEncoder,
    documents: Sequence[Document],
    pairs: Sequence[Pair],
    cfg: TrainConfig,
    *,
    run: Any,
    options: Training = Training(),
    eval: Callable[[nn.Module], Mapping[str, float]] | None = None,
) -> History:
    """Train the encoder's model in place, or with `cfg.lora_rank` the adapters that it has, and return the curve.

    The loss of a query is the cross entropy of its document among all documents of the batch, by the cosine over a temperature;
    other columns of the same document are left out. Over several processes the batch is put together from all of them.

    Args:
        encoder: made by `InterleavedEncoder.new`.
        documents: that the pairs are about.
        pairs: queries with their documents.
        cfg: how it is trained; a batch counts pairs.
        run: folder, random numbers, log and progress.
        options: sections, negatives, temperature.
        eval: measured as in `fit`.

    Raises:
        BadInput: there is no pair, or a document has nothing to show.
    Source: section 3 of the paper; its printed loss lacks an exp, this is the intended one.
    """
    if not pairs:
        raise BadInput("There is no pair of query and document to train on.")
    if options.learn_temperature and is_distributed():
        raise BadConfig("A temperature is learned on one process. Leave out learn_temperature.")
    freeze_head(encoder.handle.model)
    if options.negatives:
        pairs = mined(documents, pairs, options.negatives)
    module = _Trained(encoder.module, encoder.how.temperature, learned=options.learn_temperature)
    loss = Contrastive(encoder, documents, pairs, options, rng=run.rng.child("sections"))
    # Dropout must be drawn, so the model is in training mode while it is trained.
    history = fit(
        module,
        PairBatches(len(pairs), cfg.batch_size, run.rng.child("pairs"), loss.key),
        loss,
        cfg,
        run=run,
        eval=eval,
    )
    if module.log_temperature is not None:
        from dataclasses import replace

        encoder.how = replace(encoder.how, temperature=float(torch.as_tensor(module.temperature()).detach()))
    encoder.module.eval()
    vars(encoder).pop("fingerprint", None)  # it was of the weights before
    return history


def with_adapters(encoder: InterleavedEncoder, rank: int) -> InterleavedEncoder:
    """The encoder with low-rank adapters of its linear maps and the rows of its end tokens to train, and nothing else."""
    handle = adapted(encoder.handle, encoder.units, rank)
    return InterleavedEncoder(
        handle, encoder.how, batch_tokens=encoder.batch_tokens, strict=encoder.units.strict
    )


class _Trained(nn.Module):
    """The model and, where it is learned, the temperature."""

    def __init__(self, states: States, temperature: float, *, learned: bool):
        super().__init__()
        self.states = states
        self.fixed = temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learned else None

    def temperature(self) -> Tensor | float:
        """Within its range."""
        if self.log_temperature is None:
            return self.fixed
        return self.log_temperature.exp().clamp(COLDEST, HOTTEST)

    def forward(self, inputs: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Vectors [B, D], float32."""
        vectors: Tensor = self.states(inputs, mask)
        return vectors


class PairBatches:
    """Numbers of pairs by step; each process has a share of equal size, filled up with pairs that count for nothing.

    Args:
        count: pairs.
        batch_size: of a step.
        rng: names the shuffles.
        key: tells data from other data.
    """

    def __init__(self, count: int, batch_size: int, rng: Rng, key: int):
        self._order, self._key = Order(count, batch_size, rng), key

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of a process."""
        rows = self._order.at(step)
        mine = share_of(rows, process, processes, NOTHING)
        # Labels are what checkpoints know the data by: the content of all pairs, and which are in this step.
        labels = torch.tensor([*mine, self._key])
        micro = {"pairs": torch.tensor(mine), "step": torch.tensor(step), "labels": labels}
        return GlobalBatch([micro], len(rows))


class Contrastive:
    """The loss of a step's pairs.

    Args:
        encoder: says how texts are read.
        documents: all of them.
        pairs: all of them.
        options: sections, negatives, memory.
        rng: chooses sections.
    """

    def __init__(
        self,
        encoder: InterleavedEncoder,
        documents: Sequence[Document],
        pairs: Sequence[Pair],
        options: Training,
        *,
        rng: Rng,
    ):
        self.encoder, self.documents, self.pairs, self.options, self.rng = (
            encoder, documents, pairs, options, rng,
        )  # fmt: skip
        self.units: Units = encoder.units
        self._document = lru_cache(maxsize=2048)(self._read_document)
        self._query = lru_cache(maxsize=8192)(lambda i: self.units.of_query(self.pairs[i].query))
        self._ids = lru_cache(maxsize=None)(self._content)
        words = [(p.query.id, p.query.text, documents[p.document].id, p.section, p.negatives) for p in pairs]
        self.key = int(fingerprint(words, repr(encoder.how), length=12), 16)

    def _read_document(self, i: int) -> list[Unit]:
        units = self.units.of_document(self.documents[i])
        if not units:
            raise BadInput(f'Document "{self.documents[i].id}" has nothing to show; leave its pairs out.')
        return units

    def _content(self, i: int) -> int:
        """A number of what a document says: equal documents are no negatives of each other."""
        document = self.documents[i]
        keys = [block.key for section in document.sections for block in section.blocks]
        return int(text_ids([fingerprint(document.title, [s.heading for s in document.sections], keys)])[0])

    def chosen(self, pair: int, document: int, step: int) -> list[Unit]:
        """The units of a document in a step: all, or the evidence and others by chance, in reading order."""
        units = self._document(document)
        room = self.options.sections
        if len(units) <= room:
            return units
        own = self.pairs[pair]
        evidence = [i for i, u in enumerate(units) if document == own.document and u.section == own.section][
            :room
        ]
        others = [i for i in range(len(units)) if i not in evidence]
        draw = self.rng.child(step, pair, document).python()
        return [units[i] for i in sorted([*evidence, *draw.sample(others, room - len(evidence))])]

    def __call__(self, model: nn.Module, micro: Mapping[str, Tensor]) -> Tensor:
        """The loss, summed over this step's queries; over several processes this process's part of it."""
        step = int(micro["step"])
        rows = [int(i) for i in micro["pairs"]]
        counts = torch.tensor([i != NOTHING for i in rows])
        rows = [max(i, 0) for i in rows]
        documents = [(i, j) for i in rows for j in (self.pairs[i].document, *self.pairs[i].negatives)]
        units = [self.chosen(i, j, step) for i, j in documents]
        seen = [*(self._query(i) for i in rows), *(unit.seen for group in units for unit in group)]
        owners = torch.tensor([d for d, group in enumerate(units) for _ in group])
        weights = torch.tensor([float(len(unit.seen.ids)) for group in units for unit in group])
        columns = len(documents) // len(rows)
        ids = torch.tensor([self._ids(j) for _, j in documents])
        ids = torch.where(counts.repeat_interleave(columns), ids, NOTHING)
        places = torch.where(counts, torch.arange(len(rows)) * columns, NOTHING)

        def whole(embedded: Tensor) -> Tensor:
            queries = gather(nn.functional.normalize(embedded[: len(rows)].float(), dim=-1))
            return self._loss(queries, embedded[len(rows) :].float(), owners, weights, ids, places, trained)

        trained = getattr(model, "module", model)  # wrapped where processes are several
        return self._embedded(model, seen, whole, trained)

    def _loss(
        self,
        queries: Tensor,
        sections: Tensor,
        owners: Tensor,
        weights: Tensor,
        ids: Tensor,
        places: Tensor,
        trained: Any,
    ) -> Tensor:
        device, count = sections.device, len(ids)
        owners, weights, ids = owners.to(device), weights.to(device), gather(ids.to(device))
        places = gather(offset_of(places.to(device), count))
        merge = self.encoder.how.merge
        if merge == "max_sim":
            scores = _best(queries, sections, owners, count, self.options.sections)
        else:
            scores = (
                queries
                @ gather(
                    nn.functional.normalize(merge_sections(sections, owners, weights, count, merge), dim=-1)
                ).T
            )
        return score_nce(scores, places, ids, temperature=trained.temperature())

    def _embedded(
        self, model: nn.Module, seen: Sequence[SeenText], whole: Callable[[Tensor], Tensor], trained: Any
    ) -> Tensor:
        """The loss of embeddings: with the graph of all where they are few, else piece by piece."""
        handle = self.encoder.handle
        pieces = batches_of(seen, self.options.piece_tokens)
        back = torch.tensor(np.argsort(np.concatenate(pieces)))

        def encode(numbers: Sequence[int]) -> Tensor:
            batch = handle.gather([seen[i] for i in numbers], side="right")
            vectors: Tensor = model(*inputs_of(batch, handle.kind, handle.model))
            return vectors

        def loss(embedded: Tensor) -> Tensor:
            return whole(embedded[back.to(embedded.device)])

        learned = [p for p in (trained.log_temperature,) if p is not None]
        tokens = sum(len(text.ids) for text in seen)
        if tokens <= self.options.piece_tokens and not is_distributed():
            return loss(torch.cat([encode(numbers) for numbers in pieces]))
        value: Tensor = cached_step(model, encode, pieces, loss, also=learned)
        return value


def merge_sections(sections: Tensor, owners: Tensor, weights: Tensor, count: int, merge: str) -> Tensor:
    """Raw vectors of sections [M, D] merged into [count, D], as `MERGES` does, with gradients."""
    if merge == "norm_mean":
        sections = nn.functional.normalize(sections, dim=-1)
    share = weights if merge == "token_weighted_mean" else torch.ones_like(weights)
    total = torch.zeros(count, device=sections.device).index_add_(0, owners, share)
    rows = torch.zeros(count, sections.shape[1], device=sections.device)
    return rows.index_add_(0, owners, sections * (share / total[owners])[:, None])


def _best(queries: Tensor, sections: Tensor, owners: Tensor, count: int, room: int) -> Tensor:
    """Scores [Q, N] by the best section of each document, over all processes."""
    padded = torch.zeros(count, room, sections.shape[1], device=sections.device)
    there = torch.zeros(count, room, device=sections.device)
    first = torch.zeros(len(owners), dtype=torch.long, device=sections.device)
    for i in range(1, len(owners)):
        first[i] = first[i - 1] + 1 if owners[i] == owners[i - 1] else 0
    padded[owners, first] = nn.functional.normalize(sections, dim=-1)
    there[owners, first] = 1.0
    padded, there = gather(padded), gather(there)
    scores = torch.einsum("qd,nsd->qns", queries, padded)
    return scores.masked_fill(there[None] == 0, -torch.inf).amax(-1)


def mined(documents: Sequence[Document], pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Pairs with the documents whose words are most like the query's and that are not its own, by BM25.

    Raises:
        BadInput: there are not enough other documents.
    """
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    if len(documents) <= count:
        raise BadInput(f"{count} negatives of each query need more than {len(documents)} documents.")
    form = Form(images="captions")
    texts = {f"{i:09d}": plain_text(document, form=form) for i, document in enumerate(documents)}
    positives: dict[str, set[int]] = {}
    for pair in pairs:
        positives.setdefault(pair.query.id, set()).add(pair.document)
    with TemporaryDirectory() as folder:
        terms = Terms.build(Path(folder) / "terms", texts)
        hits = terms.search([pair.query.text or " " for pair in pairs], count + 8)
    new = []
    for pair, alike in zip(pairs, hits, strict=True):
        own = positives[pair.query.id]
        numbers = [n for hit in alike if (n := int(hit.id)) not in own]
        numbers += [n for n in range(len(documents)) if n not in own and n not in numbers]
        new.append(replace(pair, negatives=tuple(numbers[:count])))
    return new


@dataclass
class Pairing:
    """Pairs of queries and documents from judgements, and what was left out."""

    pairs: list[Pair] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """Reasons, with the query's id."""


def pairs_of(
    queries: Sequence[Query], documents: Sequence[Document], qrels: Mapping[str, Mapping[str, int]]
) -> Pairing:
    """A pair for each relevant document of each query; judgements may name documents or sections (`doc#3`)."""
    from gnomon.methods.interleaved_retrieval.documents.rows import encoded

    by_code = {encoded(document.id): i for i, document in enumerate(documents)}
    plain = {document.id: i for i, document in enumerate(documents)}
    result = Pairing()
    for query in queries:
        relevant = [name for name, rel in qrels.get(query.id, {}).items() if rel > 0]
        if not relevant:
            result.left_out.append(f'query "{query.id}" has no relevant document')
        for name in relevant:
            head, mark, number = name.rpartition("#")
            if name in plain:
                result.pairs.append(Pair(query, plain[name]))
            elif mark and head in by_code and number.isdigit():
                if int(number) < len(documents[by_code[head]].sections):
                    result.pairs.append(Pair(query, by_code[head], int(number)))
                else:
                    result.left_out.append(f'query "{query.id}": document "{head}" has no section {number}')
            else:
                result.left_out.append(f'query "{query.id}": there is no document "{name}"')
    return result
