"""Answers against gold ones: exact match, routes, citations, abstention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.retrieval import Answer
from gnomon.errors import BadInput


@dataclass(frozen=True)
class Question:
    """A question with its right answer."""

    text: str
    answer: str | None
    """Number, name or phrase; several are joined by `|`, and all must be in the answer. None: nothing in the corpus answers."""
    kind: str = ""
    route: str | None = None
    """graph, passages or outside; None: not judged."""
    evidence: tuple[str, ...] = ()
    """Ids of papers that support the answer; none: citations are not judged."""

    @classmethod
    def of(cls, raw: Mapping[str, Any], where: str) -> Question:
        """A row of questions.

        Raises:
            BadInput: it has no question.
        """
        text = raw.get("question")
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f'{where}: field "question" is missing.')
        answer = raw.get("answer")
        return cls(
            text, None if answer is None else str(answer), str(raw.get("kind") or ""), raw.get("route"),
            tuple(map(str, raw.get("evidence") or ())),
        )  # fmt: skip


def normal(text: str) -> str:
    """A text without case, marks and space at its ends.

    >>> normal(" The Answer, is: 42. ")
    'the answer is 42'
    """
    return " ".join(re.findall(r"[\w.]*\w", text.casefold()))


def is_right(question: Question, answer: Answer) -> bool:
    """Whether an answer is the gold one: its number, or every gold phrase among its words; or that it abstains where it must.

    The number of an answer of the graph is the first it gives; elsewhere a number must stand alone among its words.
    """
    if question.answer is None:
        return bool(answer.abstained)
    if answer.abstained:
        return False
    number = answer.trace.get("number")
    if question.answer.isdigit() and number is not None:
        return int(question.answer) == int(number)
    words = f" {normal(answer.text)} "
    return all(f" {normal(part)} " in words for part in question.answer.split("|"))


def judged(question: Question, answer: Answer) -> dict[str, Any]:
    """A row of what became of a question."""
    papers = {name.partition("#")[0] for name in answer.cited}
    support = len(papers & set(question.evidence)) / len(papers) if papers and question.evidence else None
    route = str(answer.trace.get("route"))
    return {
        "question": question.text, "kind": question.kind, "gold": question.answer, "answer": answer.text,
        "right": is_right(question, answer),
        "abstained": answer.abstained, "route": route, "right route": None if question.route is None else route == question.route,
        "citation precision": support, "cites": list(answer.cited)[:10],
    }  # fmt: skip


def summarised(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares over judged rows; None where nothing was to be judged."""

    def mean(values: Sequence[Any]) -> float | None:
        numbers = [float(value) for value in values if value is not None]
        return sum(numbers) / len(numbers) if numbers else None

    answerable = [row for row in rows if row["gold"] is not None]
    outside = [row for row in rows if row["gold"] is None]
    abstained = [row for row in rows if row["abstained"]]
    return {
        "exact match": mean([row["right"] for row in answerable]),
        "abstention recall": mean([row["abstained"] for row in outside]),
        "abstention precision": mean([row["gold"] is None for row in abstained]),
        "right route": mean([row["right route"] for row in rows]),
        "citation precision": mean([row["citation precision"] for row in rows]),
    }


def by_kind(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each kind of question."""
    kinds = sorted({row["kind"] for row in rows})
    return [
        {"kind": kind, "questions": len(some), "right": sum(row["right"] for row in some) / len(some)}
        for kind in kinds
        if (some := [row for row in rows if row["kind"] == kind])
    ]
