"""Judges: whoever says which snippets pass. A language model, a rule, people's labels, or another classifier."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gnomon.errors import BadConfig, BadInput, BudgetSpent, nearest
from gnomon.lazy import function
from gnomon.methods.sieve.choosing.snippets import Snippet

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.methods.sieve.judging.filters import Filter

OWN_FORMS = {
    "rule": "rule:module:function or rule:path/to/file.py:function, a function of the text",
    "labels": "labels:FILE, labels that people gave (CSV or JSONL)",
    "classifier": "classifier:FOLDER_OR_HUB_ID, a sequence classifier of two classes",
}
"""Scheme -> how a reference is written, for the judges that are no language model."""


@dataclass(frozen=True)
class Verdict:
    """What a judge said of one snippet."""

    label: int | None
    """1 pass, 0 fail; None where no verdict could be had, which is never counted as a fail."""
    text: str = ""
    """The answer that the label was read from."""
    usd: float | None = None
    """What the answers cost when they were asked for; None without prices."""
    tokens_in: int = 0
    """Tokens of the prompts, repeats included."""
    tokens_out: int = 0
    """Tokens of the answers, repeats included."""
    model: str = ""
    """Who judged."""
    cached: bool = False
    """True when nothing was asked this time."""
    problem: str | None = None
    """Why there is no label."""


class Judge(Protocol):
    """Somebody who says which snippets pass."""

    name: str
    """The reference it was opened with."""
    is_simulated: bool
    """True for a simulator: a report then says so in its title."""

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, in order.

        Raises:
            JudgingStopped: the budget ended; the verdicts so far are with it.
        """
        ...


class JudgingStopped(BudgetSpent):
    """The budget ended before all snippets were judged; none of the verdicts is lost.

    Attributes:
        verdicts: one for each snippet, in order; None for those that were not asked.
    """

    def __init__(self, message: str, verdicts: Sequence[Verdict | None]) -> None:
        super().__init__(message)
        self.verdicts = list(verdicts)


def judge_all(judge: Judge, snippets: Sequence[Snippet]) -> list[Verdict]:
    """A verdict for each snippet, in order, from synchronous code.

    Raises:
        JudgingStopped: as in `Judge.ajudge`.
    """
    from gnomon.core.llm.stack.loop import run_async

    return run_async(judge.ajudge(snippets))


class LocalJudge:
    """A Python function as a judge.

    Args:
        function: takes the text, or the whole snippet when its parameter is called `snippet` or annotated `Snippet`; gives true or
            false, 1 or 0, or None for "cannot say".
        name: what it is called in reports.
        is_simulated: true when it stands in for a judge that it is not.
    """

    def __init__(
        self,
        function: Callable[..., bool | int | None],
        name: str = "rule",
        *,
        is_simulated: bool = False,
    ) -> None:
        self.function = function
        self.name = name
        self.is_simulated = is_simulated
        self._takes_snippet = _takes_snippet(function)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, from a thread of its own.

        Raises:
            BadInput: the function fails, or gives something else.
        """
        return await asyncio.to_thread(lambda: [self._judge(snippet) for snippet in snippets])

    def _judge(self, snippet: Snippet) -> Verdict:
        try:
            found = self.function(snippet if self._takes_snippet else snippet.text)
        except Exception as error:
            raise BadInput(
                f"{self.name} failed on snippet {snippet.snippet_id}: {type(error).__name__}: {error}."
            ) from error
        if found is None:
            return Verdict(None, model=self.name, problem="the rule cannot say")
        if found not in (0, 1):
            raise BadInput(
                f"{self.name} must give true, false or None; got {found!r} for snippet {snippet.snippet_id}."
            )
        return Verdict(int(found), "PASS" if found else "FAIL", model=self.name)


def open_judge(
    ref: str,
    chosen: Filter,
    config: LLMConfig | None = None,
    *,
    folder: Path | None = None,
    temperature: float = 0.0,
    draw: int = 0,
) -> Judge:
    """The judge that a reference names, for use outside of a run; a verb takes `source_of` and `judge_of`.

    Args:
        ref: one of `OWN_FORMS`, or a language model as in `gnomon.core.llm.open_llm`.
        chosen: the filter; only language models read it.
        config: how a language model is asked, and what it may cost.
        folder: where a language model's replies and spending are remembered.
        temperature: of a language model's answers.
        draw: which of several opinions of a language model; see `JudgeClient`.

    Raises:
        BadConfig: the reference is misspelt.
        UserError: what it names cannot be opened.
    """
    source = source_of(ref)
    if not isinstance(source, str):
        return source()
    from gnomon.methods.sieve.judging.client import JudgeClient

    return JudgeClient(source, chosen, config, folder=folder, temperature=temperature, draw=draw)


def source_of(ref: str) -> str | Callable[[], Judge]:
    """What `run.asking` opens for a judge: the reference of a language model, or a function that opens another kind of judge.

    Raises:
        BadConfig: the reference is misspelt.
    """
    from gnomon.core.llm.references import FORMS

    scheme, _, rest = ref.partition(":")
    if scheme in OWN_FORMS:
        if not rest:
            raise BadConfig(f'Judge "{ref}" names nothing. Write {OWN_FORMS[scheme]}.')
        return partial(_OPENERS[scheme], rest, ref)
    known = FORMS | {"https": FORMS["http"]}
    if scheme not in known:
        ways = "; ".join((*OWN_FORMS.values(), *FORMS.values()))
        raise BadConfig(
            f'Judge "{ref}" is not known. {nearest(scheme, OWN_FORMS | known)} A judge is {ways}.'
        )
    return ref


def judge_of(
    model: Any,
    chosen: Filter,
    config: LLMConfig | None = None,
    *,
    temperature: float = 0.0,
    draw: int = 0,
) -> Judge:
    """The judge behind what `run.asking` opened: a language model that reads the filter, or a judge as it is.

    Args:
        model: what was opened for `source_of`.
        chosen: the filter.
        config: as in `open_judge`.
        temperature: as in `open_judge`.
        draw: as in `open_judge`.
    """
    if hasattr(model, "ajudge"):
        judge: Judge = model
        return judge
    from gnomon.methods.sieve.judging.client import JudgeClient

    return JudgeClient(model, chosen, config, temperature=temperature, draw=draw)


def _open_rule(rest: str, ref: str) -> Judge:
    return LocalJudge(function(rest), ref)


def _open_labels(rest: str, ref: str) -> Judge:
    from gnomon.methods.sieve.judging.labels import HumanLabels

    return HumanLabels(Path(rest), ref)


def _open_classifier(rest: str, ref: str) -> Judge:
    from gnomon.methods.sieve.judging.classifier import ClassifierJudge

    return ClassifierJudge(rest, ref)


_OPENERS: dict[str, Callable[[str, str], Judge]] = {
    "rule": _open_rule,
    "labels": _open_labels,
    "classifier": _open_classifier,
}


def _takes_snippet(function: Callable[..., Any]) -> bool:
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (TypeError, ValueError):  # a function of C has no signature
        return False
    return first is not None and (first.name == "snippet" or first.annotation in (Snippet, "Snippet"))
