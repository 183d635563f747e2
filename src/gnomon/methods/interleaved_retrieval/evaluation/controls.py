"""Controls: pictures of other documents, pictures that queries share with documents, and how single vectors drown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnomon.core.retrieval.hits import Hit
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded, Floats, rank_documents
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged

SIDE = 16
"""Of the grey picture whose neighbouring pixels are compared, for pictures that look alike."""
ALIKE = 8
"""Of its 240 comparisons, so many may differ."""


def swapped(documents: Sequence[Document]) -> list[Document]:
    """Every document with the pictures of another: those with pictures pass theirs on in a ring.

    Raises:
        BadInput: fewer than two documents have pictures.
    """
    having = [i for i, document in enumerate(documents) if _images(document)]
    if len(having) < 2:
        raise BadInput("To swap pictures, at least two documents must have some.")
    new = list(documents)
    for k, i in enumerate(having):
        others = _images(documents[having[k - 1]])
        new[i] = _with(documents[i], [others[n % len(others)] for n in range(len(_images(documents[i])))])
    return new


def _images(document: Document) -> list[Block]:
    return [block for section in document.sections for block in section.blocks if block.type == "image"]


def _with(document: Document, images: Sequence[Block]) -> Document:
    rest = iter(images)
    sections = tuple(
        Section(
            section.heading,
            tuple(
                replace(block, image=(new := next(rest)).image, problem=new.problem)
                if block.type == "image"
                else block
                for block in section.blocks
            ),
        )
        for section in document.sections
    )
    return replace(document, sections=sections)


def without_images(document: Document, keys: set[str]) -> Document:
    """A document without the pictures of some contents."""
    sections = tuple(
        replace(
            section, blocks=tuple(b for b in section.blocks if b.type != "image" or _pixels(b) not in keys)
        )
        for section in document.sections
    )
    return replace(document, sections=sections)


@dataclass(frozen=True)
class Leaks:
    """Pictures of queries that documents have too."""

    same: dict[str, list[str]]
    """Query -> documents with the very pixels."""
    alike: dict[str, list[str]]
    """Query -> documents with a picture that looks alike."""
    keys: set[str]
    """Contents of the documents' pictures that are meant."""


def leaks(queries: Sequence[Query], documents: Sequence[Document]) -> Leaks:
    """Pictures of queries that stand in documents: by their pixels, and by a hash of what they look like."""
    same: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    keys: set[str] = set()
    asking = [query for query in queries if query.image is not None]
    table: list[tuple[str, str, Any]] = []
    if asking:
        for document in documents:
            for block in _images(document):
                if key := _pixels(block):
                    table.append((document.id, key, _looks(block)))
    for query in asking:
        own, looks = _pixels(query.block), _looks(query.block)
        for name, key, other in table:
            if key == own:
                same.setdefault(query.id, []).append(name)
                keys.add(key)
            elif looks is not None and int((looks != other).sum()) <= ALIKE:
                alike.setdefault(query.id, []).append(name)
                keys.add(key)
    return Leaks(same, alike, keys)


def _pixels(block: Block) -> str:
    """A hash of the pixels; empty where the picture cannot be opened."""
    try:
        image = block.picture("A picture")
    except BadInput:
        return ""
    return hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).hexdigest()


def _looks(block: Block) -> Any:
    """Which pixels of a small grey copy are lighter than their right neighbours; None without contrast."""
    try:
        image = block.picture("A picture").convert("L").resize((SIDE, SIDE))
    except BadInput:
        return None
    grey = np.asarray(image, np.int16)
    return (grey[:, 1:] > grey[:, :-1]) if int(np.ptp(grey)) > 8 else None


@dataclass(frozen=True)
class Alarm:
    """Whether a model sees its pictures."""

    right: float
    """Success at 1 with each document's own pictures."""
    swapped: float
    """With the pictures of another."""
    without: float
    """Without any."""

    @property
    def rings(self) -> bool:
        """Whether pictures of other documents do no harm: half of what the right ones bring is left, or they bring nothing."""
        gain = self.right - self.without
        return gain <= 0 or self.right - self.swapped < gain / 2

    @property
    def sentence(self) -> str:
        """What to think of it."""
        if not self.rings:
            return f"Pictures of other documents take success at 1 from {self.right:.3f} to {self.swapped:.3f}: they are looked at."
        return (
            f"The model ignores pictures: with those of other documents success at 1 is {self.swapped:.3f}, with the right ones "
            f"{self.right:.3f}, without any {self.without:.3f}. Do not rely on what only a picture shows."
        )


def alarm(rows: Mapping[str, Mapping[str, Any]], right: str, other: str, without: str) -> Alarm:
    """The alarm of three rows of a table."""
    return Alarm(*(rows[name]["success@1"][0] for name in (right, other, without)))


def by_length(judged: Judged, hits: Sequence[Sequence[Hit]]) -> list[dict[str, Any]]:
    """Success at 1 and 10 by the number of sections of the relevant document: one vector of many sections is diluted."""
    lengths = {document.id: len(document.sections) for document in judged.documents}
    bins = ((1, 1), (2, 3), (4, 6), (7, 12), (13, 10**9))
    groups: dict[tuple[int, int], list[tuple[bool, bool]]] = {}
    for query, own in zip(judged.queries, hits, strict=True):
        relevant = {name for name, rel in judged.qrels[query.id].items() if rel > 0}
        n = min(lengths[name] for name in relevant)
        where = next(pair for pair in bins if pair[0] <= n <= pair[1])
        names = [hit.id for hit in own[:10]]
        groups.setdefault(where, []).append(
            (bool(names) and names[0] in relevant, bool(relevant & set(names)))
        )
    return [
        {
            "sections": str(low) if low == high else f"{low}-{high}" if high < 10**9 else f"{low} or more",
            "queries": len(values),
            "success@1": float(np.mean([first for first, _ in values])),
            "success@10": float(np.mean([ten for _, ten in values])),
        }
        for (low, high), values in sorted(groups.items())
    ]


def by_pool(
    judged: Judged, encoded: Encoded, queries: Floats, merge: str, sizes: Sequence[int], rng: Any
) -> list[dict[str, Any]]:
    """Success at 1 and 10 by the size of the pool: the relevant documents of each query and others by chance.

    Args:
        judged: documents and queries.
        encoded: the sections of all documents.
        queries: [Q, D].
        merge: how documents are compared.
        sizes: of pools; larger ones than there are documents mean all.
        rng: chooses the others, nested from size to size.
    """
    everything = rank_documents(queries, encoded, merge, len(encoded.documents))
    table = []
    orders = []
    for query in judged.queries:
        order = list(encoded.documents)
        rng.child("pool", query.id).python().shuffle(order)
        relevant = {name for name, rel in judged.qrels[query.id].items() if rel > 0}
        orders.append((relevant, [*relevant, *(name for name in order if name not in relevant)]))
    for size in sorted({min(size, len(encoded.documents)) for size in sizes}):
        first = ten = 0
        for (relevant, order), hits in zip(orders, everything, strict=True):
            pool = set(order[:size])
            names = [hit.id for hit in hits if hit.id in pool][:10]
            first += bool(names) and names[0] in relevant
            ten += bool(relevant & set(names))
        n = len(judged.queries)
        table.append({"pool": size, "success@1": first / n, "success@10": ten / n})
    return table
