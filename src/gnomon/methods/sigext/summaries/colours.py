"""Coloured texts of the reports: documents with phrases shown and missed, summaries with phrases taken up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gnomon.core.files import room_file
from gnomon.core.report import Page
from gnomon.methods.sigext.phrases.data import Row
from gnomon.methods.sigext.phrases.phrases import Phrase, extract_phrases, locate
from gnomon.methods.sigext.summaries.summaries import Summary

TEMPLATE = room_file(__name__, "summaries/reading.html.j2")
LONGEST = 4000
"""Characters of a text that a page shows."""

Piece = tuple[str, str]
"""Class of the colour, empty for plain text; and the text."""

Mark = tuple[int, int, str]

LEGEND = {
    "said": "shown, and the reference says it",
    "unsaid": "shown, and the reference does not",
    "missed": "not shown, though the reference says it",
    "invented": "in the summary and not in the document",
}


def pieces(text: str, marks: Iterable[Mark], longest: int = LONGEST) -> list[Piece]:
    """A text cut where its colour changes; of marks that overlap the first stays, and what is behind `longest` is left out.

    >>> pieces("an old bridge", [(3, 6, "said")])
    [('', 'an '), ('said', 'old'), ('', ' bridge')]
    """
    cut: list[Piece] = []
    at = 0
    for start, end, kind in sorted(marks):
        if start < at or end > min(len(text), longest) or start == end:
            continue
        cut += [("", text[at:start]), (kind, text[start:end])]
        at = end
    cut.append(("", text[at:longest] + (" [...]" if len(text) > longest else "")))
    return [piece for piece in cut if piece[1]]


def document_marks(row: Row, shown: Sequence[Phrase]) -> list[Mark]:
    """Phrases shown, by whether the reference says them, and phrases missed."""
    wanted = {phrase for phrase, positive in zip(row.phrases, row.labels, strict=False) if positive}
    marks = [(p.start, p.end, "said" if _inside(p, wanted) or not row.labels else "unsaid") for p in shown]
    return marks + [(p.start, p.end, "missed") for p in wanted if not _inside(p, shown)]


def _inside(phrase: Phrase, others: Iterable[Phrase]) -> bool:
    """Whether it overlaps one of the others: words and sentences are other pieces than phrases."""
    return any(phrase.start < other.end and other.start < phrase.end for other in others)


def summary_marks(text: str, shown: Sequence[Phrase], row: Row, invented: Sequence[str]) -> list[Mark]:
    """Phrases shown that the summary took up, and words that the document lacks."""
    colour = {(p.start, p.end): kind for p in shown for *_, kind in document_marks(row, [p])[:1]}
    marks = [
        (match.start, match.end, colour[p.start, p.end])
        for p, match in zip(shown, locate([p.text for p in shown], text), strict=True)
        if match is not None
    ]
    places = locate(invented, text)
    return marks + [(match.start, match.end, "invented") for match in places if match is not None]


def show_labels(page: Page, rows: Sequence[Row], near: Sequence[Sequence[str]]) -> None:
    """Documents with their positive phrases, and the reference phrase that each of those is near to."""
    articles = []
    for row, names in zip(rows, near, strict=True):
        marks = [
            (p.start, p.end, "said")
            for p, is_positive in zip(row.phrases, row.labels, strict=True)
            if is_positive
        ]
        others = [
            (p.start, p.end, "unsaid")
            for p, is_positive in zip(row.phrases, row.labels, strict=True)
            if not is_positive
        ]
        wanted = [(p.start, p.end, "said") for p in extract_phrases(row.summary)]
        pairs = [
            f"{phrase.text} ~ {name}"
            for phrase, is_positive, name in zip(row.phrases, row.labels, names, strict=True)
            if is_positive
        ]
        texts = [
            ("document", pieces(row.document, marks + others)),
            ("reference", pieces(row.summary, wanted)),
            ("why", [("", "; ".join(pairs) or "no phrase is positive")]),
        ]
        articles.append(
            {"title": row.id, "note": f"{sum(row.labels)} of {len(row.phrases)} phrases", "texts": texts}
        )
    legend = [("said", "positive"), ("unsaid", "negative")]
    page.panel(TEMPLATE, caption="Candidate phrases and their labels", legend=legend, rows=articles)


def show_scores(page: Page, documents: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> None:
    """Documents, by name and text, with the phrases of a scored row: those kept and the others."""
    articles = []
    for name, text, phrases in documents:
        marks = [(p["start"], p["end"], "said" if p["kept"] else "unsaid") for p in phrases]
        kept = [p["text"] for p in sorted((p for p in phrases if p["kept"]), key=lambda p: p["rank"])]
        texts = [
            ("document", pieces(text, marks)),
            ("shown to the model", [("", "; ".join(kept) or "nothing")]),
        ]
        articles.append({"title": name, "note": f"{len(kept)} of {len(phrases)} phrases", "texts": texts})
    legend = [("said", "kept"), ("unsaid", "candidate")]
    page.panel(TEMPLATE, caption="Scored phrases", legend=legend, rows=articles)


def show_summaries(
    page: Page,
    rows: Sequence[Row],
    arms: Mapping[str, Mapping[str, Summary]],
    invented: Mapping[str, Sequence[str]],
) -> None:
    """Documents with the phrases of one arm (the extractor's, else the last), their references, and the summary of every arm."""
    articles = []
    name_shown = next((name for name in arms if name.partition(",")[0] == "sigext"), list(arms)[-1])
    for row in rows:
        shown = arms[name_shown][row.id].phrases
        texts = [("document", pieces(row.document, document_marks(row, shown)))]
        texts.append(("reference", pieces(row.summary, summary_marks(row.summary, shown, row, ()))))
        for name, by_id in arms.items():
            text, own = by_id[row.id].text, by_id[row.id].phrases or shown
            marks = summary_marks(text, own, row, invented.get(f"{name}: {row.id}", ()))
            texts.append((f"summary: {name}", pieces(text, marks)))
        articles.append({"title": row.id, "note": f"phrases of {name_shown}", "texts": texts})
    page.panel(
        TEMPLATE, caption="Documents, references and summaries", legend=list(LEGEND.items()), rows=articles
    )
