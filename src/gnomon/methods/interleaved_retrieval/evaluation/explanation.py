"""Why this document: how much of its score is lost when one of its blocks is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded, merged, section_scores


@dataclass(frozen=True)
class Reason:
    """A block and what it brings."""

    section: int
    """Number of its section."""
    block: int
    """Number of it there."""
    content: Block
    """The block."""
    drop: float
    """Score with it less that without; above 0: it speaks for the document."""


def explain(
    encoder: Any, query: Query, document: Document, *, merge: str | None = None
) -> tuple[float, list[Reason]]:
    """The document's cosine, and its blocks by what is lost without each, the most first.

    Args:
        encoder: of sections.
        query: what was searched for.
        document: that was found.
        merge: how sections become a document; None: the encoder's own way.

    Raises:
        BadInput: the document has nothing to show.
    """
    merge = merge or encoder.merge
    vector = encoder.encode_queries([query])[0]
    parts = [encoder.encode_sections([_alone(document, i)]) for i in range(len(document.sections))]
    if not any(len(part.documents) for part in parts):
        raise BadInput(f'Document "{document.id}" has nothing to show.')
    whole = _score(vector, parts, merge)
    reasons = []
    for i, section in enumerate(document.sections):
        for k, block in enumerate(section.blocks):
            rest = tuple(b for n, b in enumerate(section.blocks) if n != k)
            less = _alone(document, i, replace(section, blocks=rest)) if rest else None
            again = encoder.encode_sections([less]) if less is not None else None
            others = [part if n != i else again for n, part in enumerate(parts)]
            left = [part for part in others if part is not None and len(part.documents)]
            reasons.append(Reason(i, k, block, whole - (_score(vector, left, merge) if left else 0.0)))
    return whole, sorted(reasons, key=lambda reason: (-reason.drop, reason.section, reason.block))


def _alone(document: Document, number: int, section: Section | None = None) -> Document:
    return replace(document, sections=(section or document.sections[number],))


def _score(query: Any, parts: list[Encoded], merge: str) -> float:
    """Cosine of a query and a document, of sections that were read one by one."""
    parts = [part for part in parts if len(part.documents)]
    vectors, tokens = np.concatenate([p.vectors for p in parts]), np.concatenate([p.tokens for p in parts])
    whole = Encoded(
        ["document"], np.array([0, len(vectors)]), [(i, 0) for i in range(len(vectors))],
        [() for _ in vectors], tokens, vectors,
    )  # fmt: skip
    if merge == "max_sim":
        return float(section_scores(query[None], whole).max())
    return float(merged(whole, merge)[0] @ query)
