"""Evaluation of prompts on rows, racing, and paired comparison.

All pairs of prompt and row are asked side by side, and a prompt is scored as soon as its last row is answered. When the budget
ends, requests under way are waited for, because they are paid for and their replies go into the cache.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from gnomon.core.llm.base import LLM, Reply
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.metrics.stats import Interval, paired_difference
from gnomon.core.rng import Rng
from gnomon.errors import BudgetSpent, LLMFailure
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
from gnomon.methods.crispo.scoring.calls import Asker, Call, LLMs, failure_of
from gnomon.methods.crispo.scoring.candidates import MOST_UNANSWERED, Candidate, Measured
from gnomon.methods.crispo.scoring.metrics import Metric, mean

log = logging.getLogger(__name__)

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
    most_unanswered: float = MOST_UNANSWERED
    """Largest share of rows without an answer with which a prompt is scored."""


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
        replies = await self._ask(candidate, split, indices, first_draw)
        measured = await self._scored(replies, split, indices)
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
        replies = await self._ask(candidate, split, order[:first], 0)
        measured = await self._scored(replies, split, order[:first])
        scores = [metric.better(value) for value in measured.of(metric.name)]
        if measured.lacks_answers or len(scores) < 2 or upper_bound(scores, rows) < bar:
            self.saved += (rows - first) * self.setup.repeat
            candidate.measured[split] = replace(measured, complete=False)
            return None
        replies |= await self._ask(candidate, split, order[first:], 0)
        return self._note(candidate, split, await self._scored(replies, split, range(rows)))

    async def _ask(
        self, candidate: Candidate, split: str, indices: Sequence[int], first_draw: int
    ) -> dict[int, list[Reply]]:
        """Index of a row -> a reply per repeat."""
        rows = self.splits[split]
        draws = range(first_draw, first_draw + self.setup.repeat)
        pairs = [(index, draw) for index in indices for draw in draws]
        answers = await side_by_side(
            self.asker.ask(
                "task",
                self.prompt(candidate, split, index),
                f'prompt {candidate.number}, {split} row "{rows[index].id}"',
                draw=draw,
            )
            for index, draw in pairs
        )
        replies: dict[int, list[Reply]] = {index: [] for index in indices}
        for (index, _), reply in zip(pairs, answers, strict=True):
            replies[index].append(reply)
        return replies

    async def _scored(
        self, replies: Mapping[int, Sequence[Reply]], split: str, indices: Sequence[int]
    ) -> Measured:
        """Score predictions in a thread, so that requests go on meanwhile. A reply that failed is no prediction."""
        rows, sources = self.splits[split], self.sources[split]
        predictions = {
            index: [
                None if failure_of(reply) else answer_in(reply.text, self.setup.answer_tag)
                for reply in replies[index]
            ]
            for index in indices
        }

        def score(metric: Metric, draw: int) -> dict[int, float]:
            texts = {index: text for index in indices if (text := predictions[index][draw]) is not None}
            parts = ([rows[index] for index in texts], [sources[index] for index in texts])
            return dict(zip(texts, metric.score(list(texts.values()), *parts), strict=True)) if texts else {}

        def work() -> dict[str, list[float]]:
            scores = {}
            for metric in self.metrics:
                by_draw = [score(metric, draw) for draw in range(self.setup.repeat)]
                answered = [[scored[index] for scored in by_draw if index in scored] for index in indices]
                scores[metric.name] = [mean(values) if values else math.nan for values in answered]
            return scores

        first = [next((text for text in predictions[index] if text is not None), None) for index in indices]
        unanswered = {
            i: str(failure_of(replies[index][0]))
            for i, (index, text) in enumerate(zip(indices, first, strict=True))
            if text is None
        }
        names = [str(rows[index].id) for index in indices]
        most = self.setup.most_unanswered
        return Measured(
            names, first, await asyncio.to_thread(work), unanswered=unanswered, most_unanswered=most
        )

    def _note(self, candidate: Candidate, split: str, measured: Measured) -> None:
        candidate.measured[split] = measured
        if measured.lacks_answers:
            log.warning("prompt %d is left out: %s.", candidate.number, shortage(measured, split))
        elif measured.unanswered:
            log.info("prompt %d: %s.", candidate.number, shortage(measured, split))
        if measured.is_whole:
            candidate.values[split] = {
                metric.name: metric.aggregate(measured.of(metric.name)) for metric in self.metrics
            }


def shortage(measured: Measured, split: str) -> str:
    """How many rows have no answer, and why, in words."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in measured.reasons.items())
    return f"{len(measured.unanswered)} of {len(measured.rows)} rows of {split} have no answer ({reasons})"


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
    def pool(a: float, b: float) -> float:
        if math.isnan(a) or math.isnan(b):  # answered one time only
            return b if math.isnan(a) else a
        return (a * draws_before + b * draws_now) / (draws_before + draws_now)

    scores = {
        name: [pool(a, b) for a, b in zip(values, now.scores[name], strict=True)]
        for name, values in before.scores.items()
    }
    pairs = zip(before.predictions, now.predictions, strict=True)
    predictions = [first if first is not None else second for first, second in pairs]
    unanswered = {i: reason for i, reason in before.unanswered.items() if i in now.unanswered}
    return replace(before, predictions=predictions, scores=scores, unanswered=unanswered)


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
        LLMFailure: the model answered no row of any prompt.
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
    first = candidates[0].measured["test"]
    if all(len(c.measured["test"].unanswered) == len(rows) for c in candidates):
        raise LLMFailure(
            f"No prompt can be scored: {shortage(first, 'test')}. Repeat the command to ask again."
        )
    if calls is not None:
        calls += asker.close_step()
    return [candidate.measured["test"] for candidate in candidates]


def compare(tuned: Measured, baseline: Measured, metric: Metric) -> Interval:
    """Difference of two prompts' mean scores, with a paired bootstrap over the rows that both have an answer to.

    Above 0 `tuned` is better, whichever way the metric goes.
    """
    both = [
        (metric.better(a), metric.better(b))
        for a, b in zip(tuned.scores[metric.name], baseline.scores[metric.name], strict=True)
        if not math.isnan(a) and not math.isnan(b)
    ]
    if not both:
        return Interval(math.nan, math.nan, math.nan, n_seeds=1, n_units=0, level=0.95)
    return paired_difference([[a for a, _ in both]], [[b for _, b in both]])


def score_table(
    names: Sequence[str], measured: Sequence[Measured], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """A row per prompt and metric: score, and the difference from the first prompt with its interval.

    Where rows have no answer their number stands there too.
    """
    has_gaps = any(of_prompt.unanswered for of_prompt in measured)
    rows = []
    for name, of_prompt in zip(names, measured, strict=True):
        for metric in metrics:
            scores = of_prompt.of(metric.name)
            score = metric.aggregate(scores) if scores else None
            row: dict[str, Any] = {"prompt": name, "metric": metric.name, "score": score}
            if has_gaps:
                row["rows without an answer"] = len(of_prompt.unanswered)
            if of_prompt is not measured[0]:
                gain = compare(of_prompt, measured[0], metric)
                row["better than the first by"] = (gain.estimate, gain.low, gain.high)
            rows.append(row)
    return rows
