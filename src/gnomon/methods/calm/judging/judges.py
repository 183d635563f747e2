"""Judges that are language models with a prompt, and functions as judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from gnomon.core.llm import ask, close, complete
from gnomon.core.llm.base import is_simulated
from gnomon.errors import BadInput, BudgetSpent, LLMFailure
from gnomon.methods.calm.judging.prompts import Prompting, harmless, read_opinion
from gnomon.methods.calm.judging.trials import LETTERS, TIE, Opinion, Trial

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM, Reply

OnOpinion = Callable[[int, Opinion], None]
"""Called with the number of a trial and the opinion on it, as each arrives."""

READS_ALL = frozenset({"order", "answers", "notes", "names", "thinking", "scores"})
"""What a judge may read of a trial; see `Probe.target`."""

ANSWERING = "Answer the question below.\n\n[Question]\n{question}"


class Judge(Protocol):
    """A judge of trials."""

    name: str
    """As reports show it."""
    reads: frozenset[str]
    """Parts of a trial that it reads, out of `READS_ALL`."""
    is_simulated: bool

    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial, in order.

        Raises:
            BudgetSpent: the budget ended; opinions until then have been handed to `on_opinion`.
            LLMFailure: no trial was answered.
        """
        ...


class PairwiseJudge:
    """A language model that is shown all answers of a trial and names the best.

    Args:
        llm: who is asked.
        prompting: how a trial is put into words.
        temperature: of its answers; the paper's is 0.7.
        max_tokens: longest answer.
        concurrency: requests under way at once.
        name: what it is called; None: the model's name.
    """

    reads = READS_ALL

    def __init__(
        self,
        llm: LLM,
        prompting: Prompting | None = None,
        *,
        temperature: float = 0.7,
        max_tokens: int = 1024,
        concurrency: int = 8,
        name: str | None = None,
    ) -> None:
        self.llm, self.prompting = llm, prompting or Prompting()
        self.temperature, self.max_tokens, self.concurrency = temperature, max_tokens, concurrency
        self.name, self.is_simulated = name or llm.name, is_simulated(llm)

    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial; as in `Judge`."""
        prompts = [self.prompting.prompt(trial) for trial in trials]
        opinions: dict[int, Opinion] = {}

        def read(i: int, reply: Reply) -> None:
            if reply.finish != "budget":
                opinions[i] = read_opinion(trials[i], reply, self.prompting)
                if on_opinion is not None:
                    on_opinion(i, opinions[i])

        def is_readable(i: int, reply: Reply) -> bool:
            return read_opinion(trials[i], reply, self.prompting).status == "ok"

        self.ask(prompts, [trial.draw for trial in trials], on_reply=read, is_readable=is_readable)
        return [opinions[i] for i in range(len(trials))]

    def answer(self, questions: Sequence[str], draw: int = 0) -> list[str | None]:
        """Its own answer to each question; None where it gave none."""
        prompts = [ANSWERING.format(question=harmless(question)) for question in questions]
        replies = self.ask(prompts, [draw] * len(prompts))
        return [
            reply.text.strip()
            if reply.error is None and reply.finish == "stop" and reply.text.strip()
            else None
            for reply in replies
        ]

    def ask(
        self,
        prompts: Sequence[str],
        draws: Sequence[int],
        on_reply: Callable[[int, Reply], None] | None = None,
        is_readable: Callable[[int, Reply], bool] | None = None,
    ) -> list[Reply]:
        """Replies to prompts, each with its draw.

        Raises:
            BudgetSpent: the budget ended.
            LLMFailure: every request failed.
        """
        requests = [
            ask(prompt, temperature=self.temperature, max_tokens=self.max_tokens, draw=draw)
            for prompt, draw in zip(prompts, draws, strict=True)
        ]
        replies: list[Reply] = complete(
            self.llm,
            requests,
            concurrency=self.concurrency,
            on_reply=on_reply,
            is_readable=is_readable,
        )
        unasked = [reply for reply in replies if reply.finish == "budget"]
        if unasked:
            raise BudgetSpent(f"{unasked[0].error} {len(replies) - len(unasked)} replies are kept.")
        if replies and all(reply.error is not None for reply in replies):
            raise LLMFailure(f"{self.name} answered none of {len(replies)} requests. {replies[0].error}")
        return replies

    def close(self) -> None:
        """Close the model."""
        close(self.llm)


class PointwiseJudge:
    """A judge that scores every answer alone: the one with the higher score is preferred, and equal scores are a tie.

    Args:
        scorer: gives the scores, such as a `PairwiseJudge` asked for scores.
    """

    reads = frozenset({"answers", "scores"})

    def __init__(self, scorer: Judge) -> None:
        self.scorer, self.name, self.is_simulated = scorer, scorer.name, scorer.is_simulated

    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial; as in `Judge`."""
        singles = [alone(trial, slot) for trial in trials for slot in range(_answers(trial))]
        scored = iter(self.scorer.judge(singles))
        opinions = []
        for i, trial in enumerate(trials):
            opinions.append(_of_scores(trial, [next(scored) for _ in range(_answers(trial))]))
            if on_opinion is not None:
                on_opinion(i, opinions[-1])
        return opinions

    def answer(self, questions: Sequence[str], draw: int = 0) -> list[str | None]:
        """As the scorer answers."""
        return self.scorer.answer(questions, draw)  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        """Close the scorer."""
        if hasattr(self.scorer, "close"):
            self.scorer.close()


class FunctionJudge:
    """A Python function as a judge.

    Args:
        function: takes a `Trial`; gives the slot it prefers (0, 1 ...), its letter, `"tie"`, or None for "cannot say"; for a
            trial of kind `score`, a number.
        name: what it is called.
        reads: what it reads of a trial; see `Judge`.
        is_simulated: true when it stands in for a judge that it is not.
    """

    def __init__(
        self,
        function: Callable[[Trial], Any],
        name: str = "function",
        *,
        reads: frozenset[str] = READS_ALL,
        is_simulated: bool = False,
    ) -> None:
        self.function, self.name, self.reads, self.is_simulated = function, name, reads, is_simulated

    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial; as in `Judge`.

        Raises:
            BadInput: the function gives something else.
        """
        opinions = []
        for i, trial in enumerate(trials):
            opinions.append(self._read(trial, self.function(trial)))
            if on_opinion is not None:
                on_opinion(i, opinions[-1])
        return opinions

    def _read(self, trial: Trial, returned: Any) -> Opinion:
        if returned is None:
            return Opinion(status="unparsed")
        if trial.kind == "score":
            if isinstance(returned, (int, float)) and not isinstance(returned, bool):
                return Opinion(score=float(returned), text=str(returned))
            raise BadInput(
                f"{self.name} must give a number for a score; got {returned!r} for item {trial.item}."
            )
        letters = LETTERS[: len(trial.answers)]
        if returned == "tie":
            return Opinion(TIE, text="tie")
        if isinstance(returned, str) and len(returned) == 1 and returned in letters:
            return Opinion(letters.index(returned), text=returned)
        if isinstance(returned, int) and not isinstance(returned, bool) and 0 <= returned < len(letters):
            return Opinion(returned, text=letters[returned])
        raise BadInput(
            f'{self.name} must give a slot (0 to {len(letters) - 1}), a letter, "tie" or None; '
            f"got {returned!r} for item {trial.item}."
        )


def alone(trial: Trial, slot: int) -> Trial:
    """The trial that scores one answer of `trial` by itself."""
    return replace(
        trial, kind="score", answers=(trial.answers[slot],), slots=(trial.slots[slot],), names=(), note=""
    )


def _answers(trial: Trial) -> int:
    return 1 if trial.kind == "score" else len(trial.answers)


def _of_scores(trial: Trial, scored: Sequence[Opinion]) -> Opinion:
    """The comparison that scores make; without a verdict when one score is missing."""
    shared = {
        "text": "\n---\n".join(opinion.text for opinion in scored),
        "tokens_in": sum(opinion.tokens_in for opinion in scored),
        "tokens_out": sum(opinion.tokens_out for opinion in scored),
    }
    missing = next((opinion for opinion in scored if opinion.score is None), None)
    if missing is not None:
        return Opinion(None, None, missing.status, **shared)  # type: ignore[arg-type]
    if trial.kind == "score":
        return scored[0]
    values = [float(opinion.score) for opinion in scored if opinion.score is not None]
    best = [slot for slot, value in enumerate(values) if value == max(values)]
    return Opinion(best[0] if len(best) == 1 else TIE, None, "ok", **shared)  # type: ignore[arg-type]
