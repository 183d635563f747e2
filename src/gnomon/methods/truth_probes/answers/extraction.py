"""The exact answer: the part of a model's output that is the answer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gnomon.core.files import room_file
from gnomon.core.rollout.rewards import load_rule
from gnomon.core.text.matching import Match, Span, earliest, spans_of
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes.answers.answers import NO_ANSWER, Answer
from gnomon.methods.truth_probes.answers.labels import (
    ask_until,
    find_gold,
    find_wrong,
)
from gnomon.methods.truth_probes.answers.tasks import task_of

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM

Extractor = Callable[[str, str], str | None]
"""Question, answer -> the exact answer, a part of the answer; NO ANSWER for a refusal, None where nothing is located."""

_END_MARKS = re.compile(r"</s>|<\|[^|>]*\|>|<eos>|<end_of_turn>|\[/?INST\]")


@dataclass(frozen=True)
class Extraction:
    """How exact answers are found. `kind` is one of `known`, `line`, `regex`, `rule`, `llm`."""

    kind: str
    detail: str = ""
    """The pattern, the rule's reference or the model's."""

    @classmethod
    def parse(cls, text: str, tasks: Sequence[str]) -> Extraction:
        """The way that a setting names.

        Args:
            text: `auto`, `known`, `line`, `regex:PATTERN`, `rule:module:function`, or the reference of a language model. auto:
                `known` where all tasks have known alternatives, else `line`.
            tasks: the tasks of the answers.

        Raises:
            BadConfig: the text is none of these, or the pattern does not compile.
        """
        kind, _, rest = text.partition(":")
        if text == "auto":
            return cls("known" if all(task_of(task).is_closed for task in tasks) else "line")
        if text in ("known", "line"):
            return cls(text)
        if kind == "regex" and rest:
            try:
                re.compile(rest)
            except re.error as error:
                raise BadConfig(f'extract "{text}": the pattern does not compile ({error}).') from None
            return cls("regex", rest)
        if kind == "rule":
            return cls("rule", text)
        from gnomon.core.llm.references import FORMS

        if kind in (*FORMS, "https") and rest:
            return cls("llm", text)
        raise BadConfig(
            f"extract must be auto, known, line, regex:PATTERN, rule:module:function or a language model such as "
            f'hf:FOLDER; got "{text}".'
        )

    def __str__(self) -> str:
        return {"regex": f"regex:{self.detail}", "rule": self.detail, "llm": self.detail}.get(
            self.kind, self.kind
        )


def extract(
    answers: Sequence[Answer],
    how: Extraction,
    *,
    match: Match = "boundary",
    llm: LLM | None = None,
    concurrency: int = 8,
) -> list[Answer]:
    """The answers with their exact answers, or with `valid` 0 where none could be found.

    - `known`: the accepted answer that stands there, or else the wrong alternative; nothing else is looked for.
    - `line`, `regex`, `rule`: the same function for all answers, right or wrong, so that its habits do not tell the label.
    - `llm`: the accepted answer where the label is 1, as the paper does; `llm` copies the exact answer out of all others.

    An output without text gives no answer, whatever the way: it is a refusal (`NO ANSWER`), and no failure to locate one.

    Args:
        answers: judged answers.
        how: which of these.
        match: how accepted answers are compared.
        llm: the model that copies.
        concurrency: requests under way at once.

    Returns:
        The answers in their order. Where the model's reply failed the exact answer has not been looked for (`valid` is None).

    Raises:
        BadInput: an answer was not judged, or a rule gives something else than a part of the answer.
        EndpointDown: the model answers nothing.
        BudgetSpent: the budget ended; the model's replies so far are in its cache.
    """
    silent = {i for i, answer in enumerate(answers) if not answer.answer.strip()}
    spoken = [answer for i, answer in enumerate(answers) if i not in silent]
    located = iter(_extracted(spoken, how, match, llm, concurrency))
    exact = [
        _with_text(answer, NO_ANSWER) if i in silent else next(located) for i, answer in enumerate(answers)
    ]
    return [replace(answer, found_by=str(how)) for answer in exact]


def _extracted(
    answers: Sequence[Answer], how: Extraction, match: Match, llm: LLM | None, concurrency: int
) -> list[Answer]:
    if how.kind == "llm":
        if llm is None:
            raise BadConfig("Exact answers by a language model need one to ask.")
        return _by_llm(answers, match, llm, concurrency)
    if how.kind == "known":
        places = ((answer, (find_gold(answer, match), find_wrong(answer, match))) for answer in answers)
        return [_at(answer, earliest(span for span in spans if span)) for answer, spans in places]
    find = extractor(how)
    return [
        _with_text(answer, _checked(find(answer.question, answer.answer), answer, how)) for answer in answers
    ]


def extractor(how: Extraction) -> Extractor:
    """The function behind `line`, `regex` or `rule`."""
    if how.kind == "regex":
        pattern = re.compile(how.detail)
        return lambda question, answer: _group(pattern.search(answer))
    if how.kind == "rule":
        return load_rule(how.detail)  # type: ignore[return-value]
    return lambda question, answer: trim(answer)


def _group(match: re.Match[str] | None) -> str | None:
    if match is None:
        return None
    return match.group(1) if match.re.groups else match.group()


def trim(text: str) -> str:
    """A short answer without end marks, what follows the first line break or "(", and full stops around it.

    >>> trim(" Paris (France).</s>")
    'Paris'
    """
    line = _END_MARKS.sub("", text).strip().partition("\n")[0]
    return line.partition("(")[0].strip().strip(".").strip()


def _checked(text: object, answer: Answer, how: Extraction) -> str | None:
    if text is not None and not isinstance(text, str):
        raise BadInput(
            f'{how} must give a part of the answer or None; got {text!r} for question "{answer.id}".'
        )
    return text


def _with_text(answer: Answer, text: str | None) -> Answer:
    """The answer with `text` as its exact answer, searched in the output alone; all its places are kept."""
    if text == NO_ANSWER:
        return replace(answer, exact_answer=NO_ANSWER, spans=[], valid=1)
    spans = (
        spans_of(text, answer.answer, "boundary") or spans_of(text, answer.answer, "substring")
        if text
        else []
    )
    if not text or not spans:
        return replace(answer, exact_answer="", spans=[], valid=0)
    first = spans[0]
    return replace(
        answer, exact_answer=answer.answer[first[0] : first[1]], spans=[list(s) for s in spans], valid=1
    )


def _at(answer: Answer, span: Span | None) -> Answer:
    """The answer with the exact answer at `span`, and wherever else the same text stands behind it."""
    if span is None:
        return _with_text(answer, None)
    text = answer.answer[span[0] : span[1]]
    later = [s for s in spans_of(text, answer.answer) if s[0] > span[0]]
    return replace(answer, exact_answer=text, spans=[list(s) for s in (span, *later)], valid=1)


def _by_llm(answers: Sequence[Answer], match: Match, llm: LLM, concurrency: int) -> list[Answer]:
    prompt = room_file(__name__, "prompts/extract.txt").read_text("utf-8")
    answered: dict[int, Answer] = {}
    for i, answer in enumerate(answers):
        span = find_gold(answer, match) if answer.z else None
        if span is None and task_of(answer.task).is_closed:
            span = find_wrong(answer, match)
        if span is not None:
            answered[i] = _at(answer, span)

    def read(i: int, text: str) -> Answer | None:
        copied = trim(text)
        is_part = bool(copied) and copied.casefold() in answers[i].answer.casefold()
        return _with_text(answers[i], copied) if copied == NO_ANSWER or is_part else None

    prompts = {
        i: prompt.format(question=answer.question, answer=answer.answer.strip())
        for i, answer in enumerate(answers)
        if i not in answered
    }
    copies, failed = ask_until(llm, prompts, read, concurrency=concurrency, max_tokens=64)
    answered |= copies
    return [
        answered.get(i, replace(answer, exact_answer="", spans=[], valid=None if i in failed else 0))
        for i, answer in enumerate(answers)
    ]


def drop_report(answers: Sequence[Answer]) -> dict[str, float | int]:
    """How many answers can be used, the share that cannot among right and wrong ones, and why: refused, not located, cut off."""
    count = Counter((answer.correct, answer.is_usable) for answer in answers)
    rates = {}
    for z, name in ((1, "right"), (0, "wrong")):
        n = count[z, True] + count[z, False]
        rates[f"dropped of {name}"] = count[z, False] / n if n else float("nan")
    reasons = {
        "refused": sum(answer.exact_answer == NO_ANSWER for answer in answers),
        "not located": sum(answer.valid == 0 for answer in answers),
        "cut off": sum(answer.finish == "length" for answer in answers),
    }
    return {"answers": len(answers), "usable": count[1, True] + count[0, True], **rates, **reasons}
