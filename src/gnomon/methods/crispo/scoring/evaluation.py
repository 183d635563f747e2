"""Evaluation of prompts on rows, racing, and paired comparison.

All pairs of prompt and row are asked side by side, and a prompt is scored as soon as its last row is answered. When the budget
ends, requests under way are waited for, because they are paid for and their replies go into the cache.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gnomon.core.llm.base import LLM
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.metrics.stats import Interval, paired_difference
from gnomon.core.rng import Rng
from gnomon.errors import BudgetSpent
from gnomon.methods.crispo.examples.data import (
    EXAMPLES,
    KEYPHRASES,
    MADE,
    Example,
    answer_in,
    check_slots,
    fill,
    key_phrases,
    slots_in,
)
from gnomon.methods.crispo.examples.neighbours import Neighbours
from gnomon.methods.crispo.scoring.calls import Asker, Call, LLMs
from gnomon.methods.crispo.scoring.candidates import Candidate, Measured
from gnomon.methods.crispo.scoring.metrics import Metric, mean

T = TypeVar("T")


async def side_by_side(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines concurrently; their results in order.

    When one fails the others are cancelled, and its error is raised. When the budget is spent they are waited for: what is under
    way is paid for, and its answer goes into the cache; what is not yet asked is refused by the budget by itself.
    """
    tasks = [asyncio.create_task(task) for task in work]
    waiting = set(tasks)
    try:
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
            errors = [error for task in done if (error := task.exception()) is not None]
            if any(not isinstance(error, BudgetSpent) for error in errors):
                break
    finally:
        for task in waiting:
            task.cancel()
        if waiting:
            await asyncio.wait(waiting)
    failed = [task for task in tasks if not task.cancelled() and task.exception() is not None]
    if failed:
        # An error that a user must mend comes before a budget that is merely spent.
        failed.sort(key=lambda task: isinstance(task.exception(), BudgetSpent))
        failed[0].result()
    return [task.result() for task in tasks]


RACING_SHARE = 3
"""Racing decides after one in so many rows."""


@dataclass(frozen=True)
class Setup:
    """Options of an evaluation: filling of prompts, repeats, and the answer's tag."""

    answer_tag: str | None = "summary"
    """The answer stands inside this tag; None: it is the whole reply."""
    main: str | None = None
    """The fixed prompt before a postscript; None: candidates are whole prompts."""
    neighbours: Neighbours | None = None
    """Fills the example slot; None where no prompt has it."""
    k: int = 15
    """Key phrases, for prompts that are texts and not candidates of a search."""
    repeat: int = 1
    """Requests per row; scores are means over them."""


class Evaluator:
    """Fills prompts, asks the task model and scores its answers.

    Args:
        asker: sends the requests.
        splits: name -> rows.
        metrics: what is measured.
        setup: how prompts are filled and answers read.
        slots: of the first prompt: what of a row the model is given.
        rng: which rows racing asks first.
    """

    def __init__(
        self,
        asker: Asker,
        splits: Mapping[str, Sequence[Example]],
        metrics: Sequence[Metric],
        setup: Setup,
        *,
        slots: Sequence[str] = ("input",),
        rng: Rng | None = None,
    ) -> None:
        self.asker, self.splits, self.metrics, self.setup = asker, splits, list(metrics), setup
        self.slots, self.rng = list(slots), rng or Rng(0)
        self.sources = {split: [row.source(slots) for row in rows] for split, rows in splits.items()}
        self._examples: dict[str, list[str]] = {}
        self.saved = 0
        """Task calls that racing saved."""

    def prompt(self, candidate: Candidate, split: str, index: int) -> str:
        """The request to the task model: the filled prompt, and behind it the postscript unchanged."""
        template = candidate.text if self.setup.main is None else self.setup.main
        filled = fill(template, self._values(template, candidate.k, split, index))
        if self.setup.main is None or not candidate.text:
            return filled
        return f"{filled}\n\n{candidate.text}"

    def _values(self, template: str, k: int | None, split: str, index: int) -> dict[str, str]:
        row, values = self.splits[split][index], {}
        for name in slots_in(template):
            if name == EXAMPLES:
                values[name] = self._near(split)[index]
            elif name == KEYPHRASES:
                assert k is not None
                values[name] = key_phrases(row, k)
            else:
                values[name] = row.value(name)
        return values

    def _near(self, split: str) -> list[str]:
        if split not in self._examples:
            assert self.setup.neighbours is not None
            self._examples[split] = self.setup.neighbours.texts(self.splits[split])
        return self._examples[split]

    async def measure(self, candidate: Candidate, split: str, *, first_draw: int = 0) -> None:
        """Measure a candidate on all rows of a split and enter its scores.

        Args:
            candidate: the prompt.
            split: name of the rows.
            first_draw: number of the first repeat; above 0, earlier scores are pooled as so many repeats.
        """
        indices = range(len(self.splits[split]))
        predictions = await self._ask(candidate, split, indices, first_draw)
        measured = await self._scored(predictions, split, indices)
        if first_draw:
            measured = _pooled(candidate.measured[split], measured, first_draw, self.setup.repeat)
        self._note(candidate, split, measured)

    async def race(self, candidate: Candidate, split: str, bar: float) -> None:
        """Like `measure`, but drop a prompt when a random third of the rows shows that it cannot reach `bar`.

        That is when the upper end of its 95% interval lies below `bar`. Rows are drawn without replacement, which the interval
        knows.

        Args:
            candidate: the prompt.
            split: name of the rows.
            bar: what it must be able to reach, larger being better.
        """
        (metric,) = self.metrics
        rows = len(self.splits[split])
        order = self.rng.child("racing", candidate.number).python().sample(range(rows), rows)
        first = max(2, rows // RACING_SHARE)
        if first >= rows:
            return await self.measure(candidate, split)
        predictions = await self._ask(candidate, split, order[:first], 0)
        measured = await self._scored(predictions, split, order[:first])
        scores = [metric.better(value) for value in measured.scores[metric.name]]
        if upper_bound(scores, rows) < bar:
            self.saved += (rows - first) * self.setup.repeat
            candidate.measured[split] = Measured(
                measured.rows, measured.predictions, measured.scores, complete=False
            )
            return None
        predictions |= await self._ask(candidate, split, order[first:], 0)
        return self._note(candidate, split, await self._scored(predictions, split, range(rows)))

    async def _ask(
        self, candidate: Candidate, split: str, indices: Sequence[int], first_draw: int
    ) -> dict[int, list[str]]:
        """Index of a row -> a prediction per repeat."""
        rows = self.splits[split]
        draws = range(first_draw, first_draw + self.setup.repeat)
        pairs = [(index, draw) for index in indices for draw in draws]
        answers = await side_by_side(
            self._answer(
                self.prompt(candidate, split, index),
                f'prompt {candidate.number}, {split} row "{rows[index].id}"',
                draw,
            )
            for index, draw in pairs
        )
        predictions: dict[int, list[str]] = {index: [] for index in indices}
        for (index, _), answer in zip(pairs, answers, strict=True):
            predictions[index].append(answer)
        return predictions

    async def _answer(self, text: str, what: str, draw: int) -> str:
        reply = await self.asker.ask("task", text, what, draw=draw)
        return answer_in(reply.text, self.setup.answer_tag)

    async def _scored(
        self, predictions: Mapping[int, Sequence[str]], split: str, indices: Sequence[int]
    ) -> Measured:
        """Score predictions in a thread, so that requests go on meanwhile."""
        rows = [self.splits[split][index] for index in indices]
        sources = [self.sources[split][index] for index in indices]

        def work() -> dict[str, list[float]]:
            return {
                metric.name: [
                    mean(values)
                    for values in zip(
                        *(
                            metric.score([predictions[index][draw] for index in indices], rows, sources)
                            for draw in range(self.setup.repeat)
                        ),
                        strict=True,
                    )
                ]
                for metric in self.metrics
            }

        scores = await asyncio.to_thread(work)
        return Measured([str(row.id) for row in rows], [predictions[index][0] for index in indices], scores)

    def _note(self, candidate: Candidate, split: str, measured: Measured) -> None:
        candidate.measured[split] = measured
        candidate.values[split] = {
            metric.name: metric.aggregate(measured.scores[metric.name]) for metric in self.metrics
        }


def upper_bound(scores: Sequence[float], population: int) -> float:
    """The upper end of the 95% interval of the mean of `population` scores, of which these were drawn at random.

    >>> upper_bound([0.0, 1.0, 0.0, 1.0], 4)
    0.5
    """
    from scipy.stats import t

    n, centre = len(scores), mean(scores)
    variance = math.fsum((value - centre) ** 2 for value in scores) / (n - 1)
    left = 1 - n / population  # finite population: rows are drawn without replacement
    return centre + float(t.ppf(0.975, n - 1)) * math.sqrt(left * variance / n)


def _pooled(before: Measured, now: Measured, draws_before: int, draws_now: int) -> Measured:
    total = draws_before + draws_now
    scores: dict[str, list[float]] = {
        name: [(a * draws_before + b * draws_now) / total for a, b in zip(values, now.scores[name], strict=True)]
        for name, values in before.scores.items()
    }  # fmt: skip
    return Measured(before.rows, before.predictions, scores)


def needed_slots(text: str) -> list[str]:
    """The slots that every prompt must have because the first one has them: those that hold the row."""
    return [name for name in slots_in(text) if name not in MADE]


# Finished prompts


def evaluate(
    prompts: Sequence[str | Candidate],
    rows: Sequence[Example],
    llm: LLM | LLMs,
    metrics: Sequence[Metric],
    setup: Setup | None = None,
    *,
    seed: int = 0,
    calls: list[Call] | None = None,
) -> list[Measured]:
    """Measure prompts on rows, all pairs of prompt and row asked side by side.

    Args:
        prompts: texts with slots, or candidates of a search.
        rows: what to measure on.
        llm: the task model; as `LLMs`, with a longest answer of its own.
        metrics: what is measured.
        setup: how prompts are filled and answers read; None takes the defaults.
        seed: of the search, so that its requests are read from the cache; for endpoints that take seeds.
        calls: every call is appended here.

    Raises:
        BadInput: a prompt cannot be filled from every row.
        LLMFailure: the model did not answer.
    """
    setup = setup or Setup()
    candidates = [
        prompt if isinstance(prompt, Candidate) else Candidate(number, prompt, k=setup.k)
        for number, prompt in enumerate(prompts)
    ]
    for text in {candidate.text for candidate in candidates} if setup.main is None else {setup.main}:
        check_slots(text, rows, has_encoder=setup.neighbours is not None)
    asker = Asker(llm if isinstance(llm, LLMs) else LLMs.of(llm), seed=seed)
    slots = needed_slots(candidates[0].text if setup.main is None else setup.main)
    evaluator = Evaluator(asker, {"test": rows}, metrics, setup, slots=slots)
    run_async(side_by_side([evaluator.measure(candidate, "test") for candidate in candidates]))
    if calls is not None:
        calls += asker.close_step()
    return [candidate.measured["test"] for candidate in candidates]


def compare(tuned: Measured, baseline: Measured, metric: Metric) -> Interval:
    """Difference of two prompts' mean scores, with a paired bootstrap over rows.

    Above 0 `tuned` is better, whichever way the metric goes.
    """
    a, b = ([metric.better(value) for value in side.scores[metric.name]] for side in (tuned, baseline))
    return paired_difference([a], [b])


def score_table(
    names: Sequence[str], measured: Sequence[Measured], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """A row per prompt and metric: score, and the difference from the first prompt with its interval."""
    rows = []
    for name, of_prompt in zip(names, measured, strict=True):
        for metric in metrics:
            score = metric.aggregate(of_prompt.scores[metric.name])
            row: dict[str, Any] = {"prompt": name, "metric": metric.name, "score": score}
            if of_prompt is not measured[0]:
                gain = compare(of_prompt, measured[0], metric)
                row["better than the first by"] = (gain.estimate, gain.low, gain.high)
            rows.append(row)
    return rows
