"""What each verb shows on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.report import Page
from gnomon.core.retrieval.hits import Hit
from gnomon.core.vision import open_image
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval import config
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query
from gnomon.methods.interleaved_retrieval.documents.serialise import Troubles
from gnomon.methods.interleaved_retrieval.documents.tables import linear_table
from gnomon.methods.interleaved_retrieval.evaluation.comparison import Comparison
from gnomon.methods.interleaved_retrieval.evaluation.controls import Leaks
from gnomon.methods.interleaved_retrieval.evaluation.explanation import Reason
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged
from gnomon.methods.interleaved_retrieval.store import DocumentIndex, Shown

SHOWN = 3
"""Documents or queries to look at."""
SIDE = 320
"""Longest side of a picture on a page."""


def imported(
    page: Page,
    figures: Mapping[str, Any],
    refused: Sequence[Mapping[str, Any]],
    documents: Sequence[Document],
) -> None:
    """Counts, what was left out, and some documents as they were read."""
    page.title = f"{figures['documents']:,} documents of {figures['files']:,} files"
    page.figures(figures)
    _refused(page, refused)
    for document in documents[:SHOWN]:
        page.section(f"{document.title or document.id}")
        for section in document.sections[:3]:
            page.text(f"**{section.heading or 'no heading'}**")
            for block in section.blocks[:6]:
                _block(page, block.type, block.text or block.caption, block.file)
                if block.type == "table":
                    page.table([{"table": linear_table(block)[:1500]}])


def _refused(page: Page, refused: Sequence[Mapping[str, Any]]) -> None:
    if refused:
        page.section("Left out")
        page.table([{"reason": row["reason"]} for row in refused[:20]], caption=f"{len(refused)} in all")


def _block(page: Page, kind: str, text: str, file: str) -> None:
    """A block as one looks at it."""
    if kind == "image" and file:
        try:
            image = open_image(file)
        except BadInput as error:
            page.text(str(error))
            return
        image.thumbnail((SIDE, SIDE))
        page.image(image, caption=text[:200])
    elif text:
        page.table([{kind: text[:400]}])


def trained(
    page: Page, cfg: config.Train, history: Any, troubles: Troubles, shared: Leaks, pairs: int
) -> None:
    """The loss, what could not be shown, and pictures that queries share with documents."""
    losses = history.curve("loss")
    page.title = f"A {cfg.part} from {pairs:,} pairs"
    page.figures(
        {
            "pairs": pairs,
            "steps": len(losses),
            "last loss": losses[-1] if losses else None,
            "images left out": len(troubles.images),
            "blocks that did not fit": len(troubles.dropped),
            "queries whose picture stands in a document": len(shared.same),
            "queries with a picture that looks like a document's": len(shared.alike),
        }
    )
    if losses:
        width = max(1, len(losses) // 200)
        means = [
            (float(i + 1), sum(losses[i : i + width]) / len(losses[i : i + width]))
            for i in range(0, len(losses), width)
        ]
        page.lines({"training": means}, x_label="step", y_label="loss per query")
    for name, reasons in (("images", troubles.images), ("blocks", troubles.dropped)):
        if reasons:
            rows = [{"where": where, "reason": reason} for where, reason in list(reasons.items())[:20]]
            page.table(rows, caption=f"{len(reasons)} {name} that were left out")


def indexed(
    page: Page, figures: Mapping[str, Any], refused: Sequence[Mapping[str, Any]], built: DocumentIndex
) -> None:
    """What was read, what was taken over, and what was left out."""
    page.title = f"An index of {len(built):,} documents"
    page.figures({"documents": len(built), **figures, "merge": built.merge})
    _refused(page, refused)


def searched(
    page: Page,
    queries: Sequence[Query],
    documents: Sequence[Sequence[Hit]],
    sections: Sequence[Sequence[Hit]],
    built: DocumentIndex,
    reasons: Mapping[str, tuple[str, float, list[Reason]]],
) -> None:
    """Ranked documents, and sections with their blocks and pictures."""
    page.title = f"{len(queries):,} queries in {len(built):,} documents"
    page.figures({"queries": len(queries), "documents": len(built)})
    for query, hits, parts in list(zip(queries, documents, sections, strict=True))[: 2 * SHOWN]:
        page.section(query.text[:120] or query.id)
        if query.image is not None:
            _block(page, "image", "the query", str(query.image))
        page.table(
            [{"rank": hit.rank, "document": hit.id, "cosine": hit.score} for hit in hits], caption="documents"
        )
        for hit in parts[:SHOWN]:
            title, heading, blocks = built.shown(hit.id)
            page.text(
                f"**{hit.rank}. {' / '.join(dict.fromkeys(filter(None, (title, heading)))) or hit.id}**, score {hit.score:.3f}"
            )
            for block in blocks[:8]:
                _shown(page, block)
        if query.id in reasons:
            _reasons(page, *reasons[query.id])


def _shown(page: Page, block: Shown) -> None:
    _block(page, block.type, block.text, block.file)


def _reasons(page: Page, document: str, score: float, reasons: Sequence[Reason]) -> None:
    page.text(f"Why **{document}** (cosine {score:.3f}): what is lost without each block.")
    for reason in reasons[:4]:
        content = reason.content
        text = linear_table(content)[:400] if content.type == "table" else content.text or content.caption
        page.table(
            [
                {
                    "section": reason.section,
                    "block": reason.block,
                    "kind": content.type,
                    "lost without it": reason.drop,
                }
            ]
        )
        _block(page, content.type, text, content.file)


def compared(page: Page, both: Judged, result: Comparison, shared: Leaks) -> None:
    """The arms, the price of each modality, both stages, and how vectors drown."""
    rows = result.arms.rows
    first = rows[0]
    page.title = f"{len(both.queries):,} queries over {len(both.documents):,} documents: success at 1 {first['success@1'][0]:.3f}"
    page.figures(
        {
            "documents": len(both.documents),
            "queries": len(both.queries),
            "success@1": first["success@1"][0],
            "MRR@10": first["MRR@10"][0],
            "queries whose picture stands in a document": len(shared.same),
        }
    )
    if result.alarm is not None:
        page.section("Are pictures looked at?")
        page.text(("**ALARM.** " if result.alarm.rings else "") + result.alarm.sentence)
    page.section("Arms")
    page.text(
        "success@k: any relevant document among the first k; recall@k: the share of all relevant ones. Intervals over queries."
    )
    page.table(rows, caption="documents", best=dict.fromkeys(("success@1", "success@10", "MRR@10"), "max"))
    page.section("What each modality brings and costs")
    page.table(result.gains, caption="the row of all less that without it")
    if result.sections:
        page.section("Sections")
        page.table(
            result.sections, caption="a section counts only in its own document", best={"MRR@10": "max"}
        )
    page.section("Dilution")
    page.table(result.lengths, caption="by the number of sections of the relevant document")
    page.lines(
        {
            name: [(float(row["pool"]), row[name]) for row in result.pools]
            for name in ("success@1", "success@10")
        },
        x_label="documents in the pool",
        y_label="share of queries",
        log_x=True,
        caption="by the size of the pool",
    )
    if both.left_out:
        page.table(
            [{"left out": reason} for reason in both.left_out[:20]], caption=f"{len(both.left_out)} in all"
        )
