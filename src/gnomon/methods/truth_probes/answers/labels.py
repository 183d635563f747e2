"""Labels of answers: 1 where an accepted answer occurs before any wrong one, else 0; or the word of a rule or a judge.

Texts are searched as whole words and numbers, not inside of others. A judge is asked again until its reply can be used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from gnomon.core.files import room_file
from gnomon.core.rollout.rewards import load_rule
from gnomon.core.text.matching import Match, Span, earliest, number_of, number_spans, spans_of
from gnomon.errors import BadConfig, BadInput, BudgetSpent
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.answers.tasks import task_of

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM


# Replies of a language model.

T = TypeVar("T")

TRIES = 5
"""Requests for one reply, at most."""


def ask_until(
    llm: LLM,
    prompts: Mapping[int, str],
    read: Callable[[int, str], T | None],
    *,
    concurrency: int = 8,
    first_temperature: float = 1.0,
    **options: Any,
) -> tuple[dict[int, T], frozenset[int]]:
    """Values read from the first usable reply to each prompt, and the prompts whose reply failed.

    A prompt in neither was answered, and in a way that says nothing. One whose reply failed is asked again by the next command.

    Args:
        llm: who is asked.
        prompts: number -> prompt.
        read: number and reply -> what it says, or None: then it is asked again, at temperature 1.
        concurrency: requests under way at once.
        first_temperature: of the first try.
        **options: more for `gnomon.core.llm.ask`.

    Raises:
        EndpointDown: the first requests show that none will be answered.
        BudgetSpent: the budget ended.
    """
    from gnomon.core.llm import ask, complete

    values: dict[int, T] = {}
    failed: set[int] = set()
    for draw in range(TRIES):  # the first at its own temperature; a repeat at 0 would give the same reply
        waiting = [i for i in prompts if i not in values and i not in failed]
        temperature = 1.0 if draw else first_temperature
        requests = [ask(prompts[i], temperature=temperature, draw=draw, **options) for i in waiting]
        replies = complete(
            llm,
            requests,
            concurrency=concurrency,
            is_readable=lambda at, reply, of=tuple(waiting): read(of[at], reply.text) is not None,
        )
        for i, reply in zip(waiting, replies, strict=True):
            if reply.finish == "budget":
                raise BudgetSpent(str(reply.error))
            if reply.error is not None:  # a missing reply must not count as one that says nothing
                failed.add(i)
            elif (value := read(i, reply.text)) is not None:
                values[i] = value
    return values, frozenset(failed)


# Labels.

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
    on_unread: Callable[[int], None] | None = None,
) -> list[Answer]:
    """The answers with their labels.

    Args:
        answers: not labelled, or to be labelled anew.
        how: `match` compares with the accepted answers; `judge` asks `llm`; `rule:module:function`, or a function itself, gives 1
            or 0 for question, answer and accepted answers.
        match: how texts are compared.
        llm: the judge.
        concurrency: requests under way at once.
        on_unread: called with the number of answers to which the judge replied, and gave no label that can be read.

    Returns:
        The answers in their order. Those that the judge gave no label are not judged (`correct` is None): neither right nor wrong.

    Raises:
        BadConfig: there is no such way.
        BadInput: a rule gives something else, or an accepted answer does not fit its task.
        EndpointDown: the judge answers nothing.
        BudgetSpent: the budget ended; the judge's replies so far are in its cache.
    """
    if how == "match":
        return [replace(answer, correct=label_by_text(answer, match)) for answer in answers]
    if how == "judge":
        if llm is None:
            raise BadConfig("Labels by a judge need a language model to ask.")
        labels, failed = _by_judge(answers, llm, concurrency)
        if on_unread is not None:
            on_unread(len(answers) - len(labels) - len(failed))
        return [replace(answer, correct=labels.get(i)) for i, answer in enumerate(answers)]
    rule = load_rule(how) if isinstance(how, str) else how
    return [
        replace(answer, correct=_checked(rule(answer.question, answer.answer, answer.gold), answer))
        for answer in answers
    ]


def _checked(value: object, answer: Answer) -> int:
    if value not in (0, 1):
        raise BadInput(f'The rule must give 1 or 0; got {value!r} for the answer to question "{answer.id}".')
    return int(value == 1)


def read_digit(text: str) -> int | None:
    """The earliest of the digits 1 and 0 in a judge's reply, as the paper reads it; digits of other numbers are none.

    >>> read_digit("Label: 0, though 1 is near"), read_digit("correct, since 1901")
    (0, None)
    """
    digit = re.search(r"(?<![\w.,])[01](?![.,]?\w)", text)
    return int(digit.group()) if digit else None


def _by_judge(answers: Sequence[Answer], llm: LLM, concurrency: int) -> tuple[dict[int, int], frozenset[int]]:
    """Number of an answer -> its label, and the answers whose request failed; ask until a digit comes."""
    prompt = room_file(__name__, "prompts/judge.txt").read_text("utf-8")
    prompts = {
        i: prompt.format(question=answer.question, gold=" | ".join(answer.gold), answer=answer.answer)
        for i, answer in enumerate(answers)
    }
    return ask_until(
        llm,
        prompts,
        lambda _, text: read_digit(text),
        concurrency=concurrency,
        first_temperature=0.0,
        max_tokens=8,
    )
