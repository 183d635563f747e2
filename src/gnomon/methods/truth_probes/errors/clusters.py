"""Kinds of errors, from many sampled answers to the same question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from gnomon.core import records
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers.answers import NO_ANSWER, Answer
from gnomon.methods.truth_probes.answers.labels import number_of
from gnomon.methods.truth_probes.answers.tasks import task_of

Rule = Literal["code", "paper"]
"""code: the thresholds of the published code; paper: those of its text, where the two differ."""

TYPES = ("A", "B1", "B2", "C1", "C2", "D", "E1", "E2")
"""A refuses; B consistently right; C consistently wrong; D two competing answers; E many answers. Not exclusive."""

FEWEST = 6
"""Samples of a question below which a sixth of them is none, and the kinds mean nothing."""

MEANINGS = {
    "A": "refuses to answer",
    "B1": "always right",
    "B2": "mostly right",
    "C1": "consistently wrong, never right",
    "C2": "consistently wrong, sometimes right",
    "D": "two answers compete",
    "E1": "many answers, none right",
    "E2": "many answers, one of them right",
}
"""Type -> its meaning."""


@dataclass(frozen=True)
class Counts:
    """Counts over the samples of one question."""

    samples: int
    """K."""
    correct: int
    """c, right samples."""
    largest: int
    """m, size of the largest group of equal wrong answers."""
    distinct: int
    """u, number of different wrong answers."""
    refusals: int
    """Samples that give no answer; they are one of the wrong answers."""
    failed: int = 0
    """Wrong samples whose exact answer was not located; what they answer is not known, so they are in no group."""


@dataclass(frozen=True)
class Typed:
    """One question and the kinds of errors that the model makes on it."""

    id: str
    counts: Counts
    types: tuple[str, ...]
    wrong: Mapping[str, int] = field(default_factory=dict)
    """Wrong answer -> how often, the most frequent first."""

    def is_of(self, kind: str) -> bool:
        """Whether the question is of a type, or of a type that begins so: `C` means C1 or C2."""
        return any(name.startswith(kind) for name in self.types)


def classify(counts: Counts, rule: Rule = "code") -> tuple[str, ...]:
    """The types that fit the counts; thresholds scale with the number of samples, in whole numbers.

    | | code | paper |
    |---|---|---|
    | A | no answer is the largest wrong group, and larger than c | no answer in at least half of the samples |
    | B1 / B2 | c = K / c >= K/2 and some are wrong | the same |
    | C1 / C2 | m >= K/2, not A, c = 0 / c > 0 | the same |
    | D | abs(c - m) <= K/6, c > K/6, m > K/6 | c and m at least K/6, and as near |
    | E1 / E2 | u >= K/3 and c = 0 / u >= K/3 - 1 and c > 0 | u > K/3 |

    Source: the paper (arXiv 2410.02707), section on error types, and its published code.

    >>> classify(Counts(30, 30, 0, 0, 0)), classify(Counts(30, 12, 15, 3, 0))
    (('B1',), ('C2', 'D'))
    """
    K, c, m, u = counts.samples, counts.correct, counts.largest, counts.distinct
    half, third, sixth = K // 2, K // 3, K // 6  # whole numbers, as in the published code at K = 30
    types = []
    if rule == "code":
        refuses = 0 < counts.refusals == m and m > c
        two = abs(c - m) <= sixth and c > sixth and m > sixth
        # One wrong answer less for E2: the right answer is one of the many. u > 0 matters below K = 6.
        many = (u >= third and c == 0, u >= third - 1 and u > 0 and c > 0)
    else:
        refuses = counts.refusals > 0 and 2 * counts.refusals >= K
        two = abs(c - m) <= sixth and c >= sixth and m >= sixth and c > 0
        many = (u > third and c == 0, u > third and c > 0)
    if refuses:
        types.append("A")
    if c == K:
        types.append("B1")
    elif c and c >= half and u + counts.failed > 0:
        types.append("B2")
    if m >= half and m > 0 and not refuses:
        types.append("C1" if c == 0 else "C2")
    if two:
        types.append("D")
    types += [name for name, fits in zip(("E1", "E2"), many, strict=True) if fits]
    return tuple(types)


def normal_form(answer: Answer) -> str:
    """Common form of equal answers: a number's value, or the text without case, articles and marks around it.

    Nothing is compared by substring: 1 and 15 are two answers.
    """
    text = answer.exact_answer.strip()
    if text == NO_ANSWER:
        return NO_ANSWER
    value = number_of(text) if task_of(answer.task).rule == "number" else None
    if value is not None:
        return f"{value:g}"
    words = text.casefold().strip(" .,:;!?\"'()[]").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


def taxonomy(answers: Sequence[Answer], rule: Rule = "code") -> list[Typed]:
    """Each question with its counts and types, in the order in which the questions appear.

    A wrong sample whose exact answer was not located is wrong and no more: it joins no group and is no refusal. Thresholds stay
    shares of all samples.

    Args:
        answers: samples of every question, judged, with exact answers; see `answers.merge`.
        rule: which thresholds.

    Raises:
        BadInput: a sample is greedy or not judged, or the questions have different numbers of samples, or too few.
    """
    by_id: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.draw == 0:
            raise BadInput(
                f'Question "{answer.id}": greedy answers are no samples. Draw some with `gnomon truth-probes resample`.'
            )
        by_id.setdefault(answer.id, []).append(answer)
    sizes = Counter(len(rows) for rows in by_id.values())
    if len(sizes) != 1:
        raise BadInput(f"All questions need equally many samples; got {dict(sizes)} (samples: questions).")
    if (size := next(iter(sizes))) < FEWEST:
        raise BadInput(
            f"Kinds of errors need at least {FEWEST} samples of every question; got {size}. Draw more with another --seed."
        )
    typed = []
    for name, rows in by_id.items():
        errors = [answer for answer in rows if answer.z == 0]
        located = [answer for answer in errors if answer.is_located]
        wrong = Counter(normal_form(answer) for answer in located)
        counts = Counts(
            samples=len(rows),
            correct=len(rows) - len(errors),
            largest=max(wrong.values(), default=0),
            distinct=len(wrong),
            refusals=wrong[NO_ANSWER],
            failed=len(errors) - len(located),
        )
        typed.append(Typed(name, counts, classify(counts, rule), dict(wrong.most_common())))
    return typed


def coverage(typed: Sequence[Typed]) -> float | None:
    """Share of the questions with at least one wrong sample that have a type; None where there are none."""
    erring = [question for question in typed if question.counts.correct < question.counts.samples]
    return sum(bool(question.types) for question in erring) / len(erring) if erring else None


def read_types(source: Path) -> list[Typed]:
    """The questions with their types that a run of `taxonomy` left.

    Raises:
        BadInput: a row cannot be read.
    """
    typed = []
    for where, raw in records.read_raw(source):
        try:
            counts = Counts(**raw["counts"])
            typed.append(Typed(str(raw["id"]), counts, tuple(raw["types"]), dict(raw["wrong"])))
        except (KeyError, TypeError):
            raise BadInput(f"{where}: this is no row of `taxonomy`. Name a run of it.") from None
    return typed
