"""Labels: 1 where an accepted answer stands in what the model wrote before any wrong one, else 0."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gnomon.core.files import room_file
from gnomon.errors import BadConfig, BadInput
from gnomon.lazy import function
from gnomon.methods.truth_probes.answers import Answer
from gnomon.methods.truth_probes.insisting import ask_until
from gnomon.methods.truth_probes.matching import Match, Span, earliest, number_of, number_spans, spans_of
from gnomon.methods.truth_probes.tasks import task_of

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM

Labeller = Callable[[str, str, Sequence[str]], int]
"""Question, answer, accepted answers -> 1 right, 0 wrong."""


def find_gold(answer: Answer, match: Match = "boundary") -> Span | None:
    """The first place of an accepted answer; of several that begin there, the longest."""
    return earliest(span for gold in answer.gold for span in _places(gold, answer, match))


def find_wrong(answer: Answer, match: Match = "boundary") -> Span | None:
    """The first place of a known wrong answer that is not inside of an accepted one."""
    right = [span for gold in answer.gold for span in _places(gold, answer, match)]
    return earliest(
        span
        for wrong in answer.wrong
        for span in _places(wrong, answer, match)
        if not any(a <= span[0] and span[1] <= b for a, b in right)
    )


def _places(text: str, answer: Answer, match: Match) -> list[Span]:
    """Where an accepted or a wrong answer stands in what was written; numbers are compared by value."""
    if task_of(answer.task).rule == "number":
        value = number_of(text)
        if value is None:
            raise BadInput(
                f'Question "{answer.id}": the answer "{text}" is no number. Use the task "open" for text.'
            )
        if match == "boundary":
            return number_spans(value, answer.answer)
        written = dict.fromkeys(
            (f"{value:g}", str(value), *((str(int(value)),) if value == int(value) else ()))
        )
        return [span for form in written for span in spans_of(form, answer.answer, match)]
    return spans_of(text, answer.answer, match)


def label_by_text(answer: Answer, match: Match = "boundary") -> int:
    """1 where an accepted answer occurs, and before any wrong alternative."""
    right, wrong = find_gold(answer, match), find_wrong(answer, match)
    return int(right is not None and (wrong is None or right[0] <= wrong[0]))


def label(
    answers: Sequence[Answer],
    how: str | Labeller = "match",
    *,
    match: Match = "boundary",
    llm: LLM | None = None,
    concurrency: int = 8,
) -> list[Answer]:
    """The answers with their labels.

    Args:
        answers: what to judge.
        how: `match` compares with the accepted answers; `judge` asks `llm`; `rule:module:function`, or a function itself, gives 1
            or 0 for question, answer and accepted answers.
        match: how texts are compared.
        llm: the judge.
        concurrency: requests under way at once.

    Raises:
        BadConfig: there is no such way.
        BadInput: a rule gives something else, or an accepted answer does not fit its task.
        LLMFailure: the judge answers nothing; what it has said is in its cache.
    """
    if how == "match":
        return [replace(answer, correct=label_by_text(answer, match)) for answer in answers]
    if how == "judge":
        if llm is None:
            raise BadConfig("Labels by a judge need a language model to ask.")
        return _by_judge(answers, llm, concurrency)
    rule = load_rule(how) if isinstance(how, str) else how
    return [
        replace(answer, correct=_checked(rule(answer.question, answer.answer, answer.gold), answer))
        for answer in answers
    ]


def load_rule(ref: str) -> Callable[..., object]:
    """The function behind `rule:module:function`.

    Raises:
        BadConfig: the reference is written in another way.
        BadInput: there is no such module or function.
    """
    kind, _, rest = ref.partition(":")
    if kind != "rule":
        raise BadConfig(f'"{ref}" must be written rule:module:function or rule:path/to/file.py:function.')
    return function(rest)


def _checked(found: object, answer: Answer) -> int:
    if found not in (0, 1):
        raise BadInput(f'The rule must give 1 or 0; got {found!r} for the answer to question "{answer.id}".')
    return int(found == 1)


def read_digit(text: str) -> int | None:
    """The earliest of the digits 1 and 0 in a judge's reply.

    >>> read_digit("Label: 0, though 1 is near"), read_digit("correct")
    (0, None)
    """
    found = re.search(r"[01]", text)
    return int(found.group()) if found else None


def _by_judge(answers: Sequence[Answer], llm: LLM, concurrency: int) -> list[Answer]:
    """Ask until a digit comes; where none does, the answer counts as wrong."""
    prompt = room_file(__name__, "prompts/judge.txt").read_text("utf-8")
    prompts = {
        i: prompt.format(question=one.question, gold=" | ".join(one.gold), answer=one.answer)
        for i, one in enumerate(answers)
    }
    labels = ask_until(
        llm,
        prompts,
        lambda _, text: read_digit(text),
        concurrency=concurrency,
        first_temperature=0.0,
        max_tokens=8,
    )
    return [replace(answer, correct=labels.get(i, 0)) for i, answer in enumerate(answers)]
