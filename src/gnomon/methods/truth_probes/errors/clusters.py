"""Kinds of errors, from many sampled answers to the same question."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from gnomon.core import records
from gnomon.core.rollout.rewards import load_rule
from gnomon.core.text.matching import number_of
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.truth_probes.answers.answers import NO_ANSWER, Answer
from gnomon.methods.truth_probes.answers.tasks import label_named, task_of

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


FORMS = ("auto", "exact", "text", "number")
"""How exact answers are brought to a common form. exact: as they stand; text: without case, an article and marks around;
number: by value, other texts as `text`; auto: the label of a closed set, else `number` for tasks of numbers, else `text`."""


@dataclass(frozen=True)
class Equality:
    """Which exact answers are the same answer. Nothing is compared by substring: 1 and 15 are two answers."""

    form: str = "auto"
    """One of `FORMS`, or `rule:module:function`: question, exact answer -> their common form."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names -> the name of the answer, compared in their common form."""

    def __post_init__(self) -> None:
        if self.form not in FORMS and not self.form.startswith("rule:"):
            raise BadConfig(
                f'normalise must be {", ".join(FORMS)} or rule:module:function; got "{self.form}". {nearest(self.form, FORMS)}'
            )

    @cached_property
    def _rule(self) -> Callable[..., object]:
        return load_rule(self.form)

    @cached_property
    def _names(self) -> dict[str, dict[str, str]]:
        return {}

    def of(self, answer: Answer) -> str:
        """Common form of an answer's exact answer.

        Raises:
            BadInput: the rule gives no text, or two names have one form.
        """
        text = answer.exact_answer.strip()
        if text == NO_ANSWER:
            return NO_ANSWER
        if not self.aliases:
            return self._form(text, answer)
        # Forms depend on the task alone, except those of a rule, which sees the question as well.
        key = answer.question if self.form.startswith("rule:") else answer.task
        if key not in self._names:
            self._names[key] = self._named(answer)
        form = self._form(text, answer)
        return self._names[key].get(form, form)

    def _named(self, answer: Answer) -> dict[str, str]:
        names: dict[str, str] = {}
        for alias, name in self.aliases.items():
            form, target = self._form(alias, answer), self._form(name, answer)
            if names.setdefault(form, target) != target:
                raise BadInput(f'aliases: "{alias}" is a name of "{names[form]}" and of "{target}".')
        return names

    def _form(self, text: str, answer: Answer) -> str:
        if self.form.startswith("rule:"):
            form = self._rule(answer.question, text)
            if not isinstance(form, str):
                raise BadInput(
                    f'{self.form} must give the common form of an answer as text; got {form!r} for "{text}".'
                )
            return form
        if self.form == "exact":
            return text
        task = task_of(answer.task)
        if self.form == "auto" and task.labels and (label := label_named(text, task.labels)):
            return label
        by_value = self.form == "number" or (self.form == "auto" and task.rule == "number")
        value = number_of(text) if by_value else None
        return f"{value:.15g}" if value is not None else plain_form(text)


def plain_form(text: str) -> str:
    """A text without case, an article and marks around it.

    >>> plain_form(" The  Who. "), plain_form("the")
    ('who', 'the')
    """
    words = unicodedata.normalize("NFKC", text).casefold().strip(" .,:;!?\"'()[]").split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("the", "a", "an") else words)


def read_aliases(path: Path) -> dict[str, str]:
    """Other name -> name of an answer, from a JSON object `{name: [other names]}`.

    Raises:
        BadInput: the file is no such object, or a name stands for two answers.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict) or not content:
        raise BadInput(f"{path} must be an object {{name: [other names]}}; got {type(content).__name__}.")
    aliases: dict[str, str] = {}
    for name, others in content.items():
        if not isinstance(others, list) or not all(isinstance(text, str) and text.strip() for text in others):
            raise BadInput(f'{path}: "{name}" needs a list of other names, none of them empty.')
        for text in (name, *others):
            if aliases.setdefault(text, name) != name:
                raise BadInput(f'{path}: "{text}" is a name of "{aliases[text]}" and of "{name}".')
    return aliases


def taxonomy(answers: Sequence[Answer], rule: Rule = "code", equality: Equality | None = None) -> list[Typed]:
    """Each question with its counts and types, in the order in which the questions appear.

    A wrong sample whose exact answer was not located is wrong and no more: it joins no group and is no refusal. Thresholds stay
    shares of all samples of the question. Where a judge gave some samples no label, a question has fewer; one with fewer than
    `FEWEST` is left out.

    Args:
        answers: samples of every question, judged, with exact answers; see `answers.merge`.
        rule: which thresholds.
        equality: which wrong answers are the same one; None: by the form that suits the task.

    Raises:
        BadInput: a sample is greedy or not judged, or all questions have too few samples.
    """
    by_id: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.draw == 0:
            raise BadInput(
                f'Question "{answer.id}": greedy answers are no samples. Draw some with `gnomon truth-probes resample`.'
            )
        by_id.setdefault(answer.id, []).append(answer)
    if (size := max(map(len, by_id.values()), default=0)) < FEWEST:
        raise BadInput(
            f"Kinds of errors need at least {FEWEST} samples of every question; got {size}. Draw more with another --seed."
        )
    typed, equality = [], equality or Equality()
    for name, rows in by_id.items():
        if len(rows) < FEWEST:
            continue
        errors = [answer for answer in rows if answer.z == 0]
        located = [answer for answer in errors if answer.is_located]
        wrong = Counter(equality.of(answer) for answer in located)
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
