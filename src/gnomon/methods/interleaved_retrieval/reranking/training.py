"""Training a section reranker: the section with the evidence against others of its document and of documents that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gnomon.core.config import fingerprint
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.sampling.states import freeze_head, inputs_of
from gnomon.core.rng import Rng
from gnomon.core.train import GlobalBatch, History, TrainConfig, fit
from gnomon.core.train.batches import Order
from gnomon.core.train.contrastive import NOTHING, share_of
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document
from gnomon.methods.interleaved_retrieval.encoding.training import Pair
from gnomon.methods.interleaved_retrieval.reranking.reranker import SectionReranker

Kinds = Literal["both", "in-document", "cross-document"]
Target = Literal["section", "document", "contrastive"]


@dataclass(frozen=True, kw_only=True)
class Negatives:
    """What a section with the evidence is held against."""

    count: int = 4
    """Sections beside it."""
    kinds: Kinds = "both"
    """both: half of them other sections of its document, half sections of the retriever's top documents; or one of the two."""
    target: Target = "section"
    """section: each pair by itself, 1 for the evidence; document: 1 for every section of its document; contrastive: one against
    the others."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadConfig(f"count must be >= 1; got {self.count}.")


class Groups:
    """Numbers of queries by step; a query stands for its section and the negatives.

    Args:
        count: queries.
        batch_size: queries a step.
        micro: queries computed at once; None: the whole share.
        rng: names the shuffles.
        key: tells data from other data.
        targets: that a query counts.
    """

    def __init__(self, count: int, batch_size: int, micro: int | None, *, rng: Rng, key: int, targets: int):
        self._order, self._micro, self._key = Order(count, batch_size, rng), micro, key
        self._targets = targets

    def __len__(self) -> int:
        return len(self._order)

    def at(self, step: int, process: int, processes: int) -> GlobalBatch:
        """The share of a process; what fills it up counts for nothing."""
        rows = self._order.at(step)
        mine = share_of(rows, process, processes, NOTHING)
        size = self._micro or len(mine)
        micro = [
            {
                "pairs": torch.tensor(mine[i : i + size]),
                "step": torch.tensor(step),
                "labels": torch.tensor([*mine[i : i + size], self._key]),
            }
            for i in range(0, len(mine), size)
        ]
        return GlobalBatch(micro, len(rows) * self._targets)


def train_reranker(
    reranker: SectionReranker,
    documents: Sequence[Document],
    pairs: Sequence[Pair],
    top: Sequence[Sequence[int]],
    cfg: TrainConfig,
    *,
    run: Any,
    negatives: Negatives = Negatives(),
) -> History:
    """Train the reranker's head and its model, or the adapters that this has, in place and return the curve.

    Args:
        reranker: made by `SectionReranker.new`, perhaps with adapters.
        documents: that the pairs are about.
        pairs: queries with their documents and sections; those without a section are left out.
        top: per pair the numbers of the retriever's best documents; its own is left out of them.
        cfg: how it is trained; a batch counts queries.
        run: folder, random numbers, log and progress.
        negatives: what the evidence is held against.

    Raises:
        BadInput: no pair names a section, or there is nothing that it could be held against.
    Source: section 3 of the paper: binary cross entropy over the evidence and other sections.
    """
    judged = [(pair, list(best)) for pair, best in zip(pairs, top, strict=True) if pair.section is not None]
    if not judged:
        raise BadInput("No judgement names a section (doc#3), and a reranker is trained by sections.")
    freeze_head(reranker.handle.model)
    loss = SectionLoss(reranker, documents, judged, negatives, rng=run.rng.child("negatives"))
    targets = 1 if negatives.target == "contrastive" else 1 + negatives.count
    words = [(p.query.id, p.query.text, documents[p.document].id, p.section, best) for p, best in judged]
    groups = Groups(
        len(judged), cfg.batch_size, cfg.micro_batch_size, rng=run.rng.child("pairs"),
        key=int(fingerprint(words, repr(reranker.how), repr(negatives), length=12), 16), targets=targets,
    )  # fmt: skip
    history = fit(reranker.module, groups, loss, cfg, run=run)
    reranker.module.eval()
    return history


class SectionLoss:
    """The loss of a micro-batch of queries.

    Args:
        reranker: says how pairs are read.
        documents: all of them.
        judged: pairs with the numbers of the retriever's best documents.
        negatives: what the evidence is held against.
        rng: draws them, anew in each step.
    """

    def __init__(
        self,
        reranker: SectionReranker,
        documents: Sequence[Document],
        judged: Sequence[tuple[Pair, list[int]]],
        negatives: Negatives,
        *,
        rng: Rng,
    ):
        self.reranker, self.documents, self.judged = reranker, documents, judged
        self.negatives, self.rng = negatives, rng
        self._seen = lru_cache(maxsize=8192)(self._read)

    def _read(self, row: int, document: int, section: int) -> Any:
        query = self.judged[row][0].query
        seen = self.reranker.units.of_pair(query, self.documents[document], section)
        if seen is None:
            raise BadInput(
                f'Section {section} of document "{self.documents[document].id}" has nothing to show.'
            )
        return seen

    def _shows(self, document: int) -> list[int]:
        sections = self.documents[document].sections
        return [i for i, section in enumerate(sections) if section.blocks or section.heading]

    def group(self, row: int, step: int) -> list[tuple[int, int]]:
        """Document and section of the evidence and of its negatives; where one kind lacks, the other fills up."""
        pair, top = self.judged[row]
        draw = self.rng.child(step, row).python()
        same = [(pair.document, i) for i in self._shows(pair.document) if i != pair.section]
        other = [(j, i) for j in top if j != pair.document for i in self._shows(j)]
        draw.shuffle(same)
        draw.shuffle(other)
        kinds, count = self.negatives.kinds, self.negatives.count
        want = {"both": count // 2, "in-document": count, "cross-document": 0}[kinds]
        first = same[:want]
        # Where documents have few sections, those of others fill up, and the other way round.
        second = other[: count - len(first)]
        chosen = [*first, *second, *same[want:]][:count]
        if not chosen:
            raise BadInput(
                f'There is no section to hold against that of query "{pair.query.id}": its document has one, and there is no other.'
            )
        while len(chosen) < count:
            chosen.append(draw.choice(chosen))
        return [(pair.document, pair.section or 0), *chosen]

    def __call__(self, model: nn.Module, micro: Mapping[str, Tensor]) -> Tensor:
        """The loss, summed over pairs, or over queries where it is contrastive."""
        step, rows = int(micro["step"]), [int(i) for i in micro["pairs"]]
        weights = torch.tensor([float(i >= 0) for i in rows])
        groups = [self.group(max(i, 0), step) for i in rows]
        seen = [
            self._seen(max(i, 0), document, section)
            for i, group in zip(rows, groups, strict=True)
            for document, section in group
        ]
        logits = self._logits(model, seen).view(len(rows), -1)
        weights = weights.to(logits.device)
        if self.negatives.target == "contrastive":
            first = torch.zeros(len(rows), dtype=torch.long, device=logits.device)
            return (nn.functional.cross_entropy(logits, first, reduction="none") * weights).sum()
        is_document = self.negatives.target == "document"
        labels = torch.tensor(
            [
                [
                    float(k == 0 or (is_document and document == group[0][0]))
                    for k, (document, _) in enumerate(group)
                ]
                for group in groups
            ],
            device=logits.device,
        )
        losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        return (losses * weights[:, None]).sum()

    def _logits(self, model: nn.Module, seen: Sequence[Any]) -> Tensor:
        """With images and without apart, in one order again."""
        handle: ModelHandle = self.reranker.handle
        order: list[int] = []
        parts = []
        for shows in (False, True):
            numbers = [i for i, text in enumerate(seen) if bool(text.layouts) == shows]
            if numbers:
                batch = handle.gather([seen[i] for i in numbers], side="right")
                parts.append(model(*inputs_of(batch, handle.kind, handle.model)))
                order += numbers
        return torch.cat(parts)[torch.tensor(order, device=parts[0].device).argsort()]
