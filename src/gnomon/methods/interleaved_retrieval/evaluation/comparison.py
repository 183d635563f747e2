"""All arms on one set of judged queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gnomon.core.rng import Rng
from gnomon.methods.interleaved_retrieval.documents.serialise import Form
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder
from gnomon.methods.interleaved_retrieval.evaluation.arms import MERGE_ARMS, Arms, forms_of
from gnomon.methods.interleaved_retrieval.evaluation.controls import (
    Alarm,
    Leaks,
    alarm,
    by_length,
    by_pool,
    swapped,
)
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged
from gnomon.methods.interleaved_retrieval.evaluation.sections import section_stage, terms_over_sections
from gnomon.methods.interleaved_retrieval.reranking.reranker import SectionReranker


@dataclass
class Comparison:
    """What `compare` measured."""

    arms: Arms
    """Rows and rankings of documents."""
    gains: list[dict[str, Any]]
    """What each modality brings and costs."""
    sections: list[dict[str, Any]] = field(default_factory=list)
    """Rows of section rankings; empty where no sections are judged."""
    lengths: list[dict[str, Any]] = field(default_factory=list)
    """By number of sections."""
    pools: list[dict[str, Any]] = field(default_factory=list)
    """By size of the pool."""
    alarm: Alarm | None = None
    """Whether pictures are looked at; None where there are none."""

    def as_rows(self, shared: Leaks) -> dict[str, Any]:
        """For `metrics.json`."""
        rings = None if self.alarm is None else {**vars(self.alarm), "rings": self.alarm.rings}
        return {
            "arms": self.arms.rows,
            "gain of each modality": self.gains,
            "sections": self.sections,
            "by number of sections": self.lengths,
            "by size of the pool": self.pools,
            "alarm": rings,
            "query images in documents": {"same": len(shared.same), "alike": len(shared.alike)},
        }


def compare(
    both: Judged,
    encoder: Any,
    *,
    rivals: Mapping[str, Any],
    texts: Any = None,
    reranker: SectionReranker | None = None,
    top: int = 25,
    pools: Sequence[int] = (25, 50, 100),
    rng: Rng,
) -> Comparison:
    """Run all arms.

    Args:
        both: documents, queries and judgements.
        encoder: of sections.
        rivals: encoders that were trained otherwise, by name.
        texts: an encoder of text on the same serialised sections.
        reranker: of sections.
        top: documents that the first stage hands on.
        pools: sizes for the dilution curve.
        rng: draws pools.
    """
    arms = Arms(both)
    queries = encoder.encode_queries(both.queries)
    base: Form = encoder.how.form if isinstance(encoder, InterleavedEncoder) else encoder.form
    sees = any(b.type == "image" for d in both.documents for s in d.sections for b in s.blocks)
    encoded = None
    for name, form in forms_of(base).items():
        own = encoder if form == base else encoder.with_form(form)
        sections = arms.encoded(name, own, queries, merges=MERGE_ARMS if name == "all" else (encoder.merge,))
        encoded = sections if name == "all" else encoded
    assert encoded is not None
    ring = None
    if sees and isinstance(encoder, InterleavedEncoder) and base.images == "seen":
        with_others = swapped(both.documents) if _has_two(both) else None
        if with_others is not None:
            arms.encoded("images swapped", encoder, queries, documents=with_others, merges=(encoder.merge,))
            rows = {row["arm"]: row for row in arms.rows}
            ring = alarm(rows, "all", "images swapped", "without images")
    for name, rival in rivals.items():
        arms.encoded(name, rival, rival.encode_queries(both.queries), merges=(rival.merge,))
    if texts is not None:
        arms.encoded("encoder of text", texts, texts.encode_queries(both.queries), merges=("mean", "max_sim"))
    arms.terms("BM25", base)
    arms.fused("all and BM25 fused", "all", "BM25")
    result = Comparison(
        arms, arms.gains("all", ["without images", "without tables", "text alone"]), alarm=ring
    )
    result.lengths = by_length(both, arms.hits["all"])
    sizes = [*pools, len(both.documents)]
    result.pools = by_pool(both, encoded, queries, encoder.merge, sizes, rng)
    if both.sections:
        judged_alone = _with_sections(both)
        places = [i for i, query in enumerate(both.queries) if query.id in both.sections]
        ways = section_stage(
            judged_alone, encoded, queries[places], merge=encoder.merge, reranker=reranker, top=top
        )
        ways["BM25 over sections"] = terms_over_sections(both.documents, judged_alone.queries, base, 100)
        result.sections = [judged_alone.row(way, hits, sections=True) for way, hits in ways.items()]
    return result


def _has_two(both: Judged) -> bool:
    having = (
        any(b.type == "image" for section in document.sections for b in section.blocks)
        for document in both.documents
    )
    return sum(having) >= 2


def _with_sections(both: Judged) -> Judged:
    """The queries whose sections are judged."""
    queries = [query for query in both.queries if query.id in both.sections]
    return Judged(both.documents, queries, {q.id: both.qrels[q.id] for q in queries}, both.sections)
