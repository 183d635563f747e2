"""Candidate prompts with their scores, and the choice of the best by one metric or by several.

In the functions that choose, larger values are better. A rank depends on all prompts that were measured on a split, so that ranks
are computed anew whenever a prompt is added, and never stored.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.llm.base import TOO_LONG
from gnomon.methods.crispo.scoring.metrics import Metric

# Choice

Policy = Literal["rank", "zsum", "pareto"]
Key = tuple[float, ...]
"""Sort key of a prompt, larger is better."""


def mean_ranks(table: ArrayLike) -> NDArray[np.float64]:
    """The mean over metrics of the number of prompts with a strictly better score, [N]; smaller is better.

    Args:
        table: scores, [N, J].

    Source: section on automatic suffix tuning; zero-based competition ranks.

    >>> mean_ranks([[10], [10], [9]]).tolist()
    [0.0, 0.0, 2.0]
    """
    scores = np.asarray(table, np.float64)
    better: NDArray[np.bool_] = scores[None, :, :] > scores[:, None, :]
    ranks: NDArray[np.float64] = better.sum(1).mean(1)
    return ranks


def z_sums(table: ArrayLike, weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """The weighted sum of the standardised metrics, [N]; a metric in which all prompts agree adds nothing.

    Args:
        table: scores, [N, J].
        weights: of the metrics; None weighs them alike.
    """
    scores = np.asarray(table, np.float64)
    spread = scores.std(0)
    # A metric without spread would divide by zero; it cannot tell prompts apart and adds nothing.
    z = (scores - scores.mean(0)) / np.where(spread > 0, spread, 1.0)
    sums: NDArray[np.float64] = z @ np.asarray(weights if weights is not None else np.ones(scores.shape[1]))
    return sums


def pareto_front(table: ArrayLike) -> list[int]:
    """Numbers of the prompts that no other one beats: at least as good in everything and better in something.

    >>> pareto_front([[1, 3], [2, 2], [1, 2], [2, 2]])
    [0, 1, 3]
    """
    scores = np.asarray(table, np.float64)
    at_least: NDArray[np.bool_] = np.all(scores[None, :, :] >= scores[:, None, :], axis=2)
    better: NDArray[np.bool_] = np.any(scores[None, :, :] > scores[:, None, :], axis=2)
    return [int(i) for i in np.flatnonzero(~(at_least & better).any(1))]


def sort_keys(
    table: Sequence[Sequence[float]],
    policy: Policy = "rank",
    *,
    eps: float = 0.0,
    weights: Sequence[float] | None = None,
) -> list[Key]:
    """Sort keys of prompts, one each.

    Args:
        table: scores, [N, J]; the first row is the prompt that the search began with.
        policy: `rank`, `zsum`, or `pareto`: never lose more than `eps` on the first metric against the first row; among those that
            do not, the best sum of the other metrics' z-scores.
        eps: in the first metric's unit.
        weights: of the metrics, for `zsum`.
    """
    if not table:
        return []
    scores = np.asarray(table, np.float64)
    if scores.shape[1] == 1:
        return [(float(value),) for value in scores[:, 0]]
    if policy == "rank":
        return [(float(-rank),) for rank in mean_ranks(scores)]
    if policy == "zsum":
        return [(float(value),) for value in z_sums(scores, weights)]
    first, rest = scores[:, 0], z_sums(scores[:, 1:])
    keeps = first >= first[0] - eps - 1e-12  # the slack absorbs rounding of means
    return [
        (1.0, float(other), float(main)) if kept else (0.0, float(main), float(other))
        for kept, main, other in zip(keeps, first, rest, strict=True)
    ]


def best_of(keys: Sequence[Key]) -> int:
    """Index of the largest key; of equal ones the first.

    >>> best_of([(1.0,), (2.0,), (2.0,)])
    1
    """
    return max(range(len(keys)), key=lambda i: (keys[i], -i))


# Record

MOST_UNANSWERED = 0.2
"""A prompt with a larger share of rows without an answer is left out of the choice: the rows that came may be the easy ones.

A verb takes the share that it allows for replies in general, `llm.max_failed`.
"""


@dataclass
class Measured:
    """Predictions and scores of one prompt on one split.

    A row without an answer has no prediction, and its scores are NaN: it counts neither for nor against the prompt.
    """

    rows: list[str]
    """Names of the rows."""
    predictions: list[str | None]
    """One per row; with repeats, the first that came. None where none came."""
    scores: dict[str, list[float]]
    """Metric -> a score per row, the mean over the repeats that were answered; NaN where none was."""
    complete: bool = True
    """False when racing stopped it before all rows were asked."""
    unanswered: dict[int, str] = field(default_factory=dict)
    """Index of a row that has no answer -> why."""
    most_unanswered: float = MOST_UNANSWERED
    """Largest share of such rows, 0..1."""

    @property
    def reasons(self) -> dict[str, int]:
        """Reason -> rows that have no answer for it, the commonest first."""
        return dict(Counter(self.unanswered.values()).most_common())

    @property
    def lacks_answers(self) -> bool:
        """Whether so many rows have no answer that the rest says nothing of the prompt."""
        n = len(self.rows)
        failed = sum(
            reason != TOO_LONG for reason in self.unanswered.values()
        )  # a long row is long under every prompt
        return failed > self.most_unanswered * n + 1e-9 or 0 < n == len(self.unanswered)

    @property
    def is_whole(self) -> bool:
        """Whether it can be compared with that of other prompts."""
        return self.complete and not self.lacks_answers

    def of(self, metric: str) -> list[float]:
        """The scores of the rows that were answered."""
        return [score for score in self.scores[metric] if not math.isnan(score)]


@dataclass
class Candidate:
    """One prompt of a search."""

    number: int
    """Its number, in the order of the proposals; the first prompt is 0."""
    text: str
    """The prompt, or the postscript where a suffix is tuned."""
    step: int = 0
    """The step that proposed it; 0: given."""
    k: int | None = None
    """Key phrases that it is filled with; None without that slot."""
    parent: int | None = None
    """The prompt that it is nearest to among those its author was shown."""
    shown: tuple[int, ...] = ()
    """All prompts that its author was shown, worst to best."""
    repairs: tuple[str, ...] = ()
    """Additions, such as a missing slot."""
    copies: tuple[str, ...] = ()
    """Rows of train whose references stand in it word for word."""
    critique: str | None = None
    """The critic's text; None: no critique was requested, or none came."""
    measured: dict[str, Measured] = field(default_factory=dict)
    """Split -> predictions and scores."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Split -> metric -> score."""

    @property
    def is_racing_loss(self) -> bool:
        """Whether it was dropped before all rows of train were asked."""
        measured = self.measured.get("train")
        return measured is not None and not measured.complete and not measured.lacks_answers

    @property
    def is_dropped(self) -> bool:
        """Whether it is out of the choice: a racing loss, or without answers to too many rows of train."""
        return "train" in self.measured and not self.measured["train"].is_whole

    def row(self) -> dict[str, Any]:
        """The candidate as a line of `history.jsonl`."""
        return {
            "number": self.number,
            "step": self.step,
            "prompt": self.text,
            "k": self.k,
            "parent": self.parent,
            "shown": list(self.shown),
            "repairs": list(self.repairs),
            "copies": list(self.copies),
            "dropped": self.is_racing_loss,
            "unanswered": {
                split: measured.reasons for split, measured in self.measured.items() if measured.unanswered
            },
            "scores": self.values,
            "critique": self.critique,
        }


@dataclass
class Step:
    """One step of the search."""

    step: int
    """Number; 0 are the given prompts."""
    new: list[int] = field(default_factory=list)
    """Prompts that it added."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Reason -> how many proposals were refused for it."""
    proposals: int = 0
    """Proposals requested, refused ones included."""
    best: dict[str, int] = field(default_factory=dict)
    """Split -> the best prompt so far."""
    values: dict[str, dict[str, float]] = field(default_factory=dict)
    """Split -> metric -> the score of that prompt."""
    task_calls: int = 0
    """Requests to the task model so far, cached ones included."""

    def row(self) -> dict[str, Any]:
        """The step as a row of `metrics.jsonl`."""
        flat = {f"{split} {name}": v for split, scores in self.values.items() for name, v in scores.items()}
        return {
            "step": self.step,
            "new": len(self.new),
            "rejected": self.rejected,
            "task_calls": self.task_calls,
        } | flat


class History:
    """All prompts and steps of a search, in order, and the choice among them.

    Args:
        metrics: what they are measured by; the first one is the main one.
        policy: how several metrics are weighed.
        eps: of the policy `pareto`.
        weights: of the policy `zsum`.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        *,
        policy: Policy = "rank",
        eps: float = 0.0,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.metrics, self.policy, self.eps, self.weights = list(metrics), policy, eps, weights
        self.candidates: list[Candidate] = []
        self.steps: list[Step] = []

    def add(self, candidate: Candidate) -> Candidate:
        """Take a candidate in and number it."""
        candidate.number = len(self.candidates)
        self.candidates.append(candidate)
        return candidate

    def knows(self, text: str, k: int | None) -> bool:
        """Whether a prompt with this text and K is there."""
        return any(candidate.text == text and candidate.k == k for candidate in self.candidates)

    def on(self, split: str) -> list[Candidate]:
        """The candidates that were measured on all of a split and answered by enough of it, in their order."""
        return [
            candidate
            for candidate in self.candidates
            if split in candidate.measured and candidate.measured[split].is_whole
        ]

    def keys(self, split: str) -> list[Key]:
        """Sort keys of the candidates of `on(split)`. Every call ranks all of them anew."""
        table = [
            [m.better(candidate.values[split][m.name]) for m in self.metrics] for candidate in self.on(split)
        ]
        return sort_keys(table, self.policy, eps=self.eps, weights=self.weights)

    def ranked(self, split: str) -> list[Candidate]:
        """The candidates of a split from worst to best; of equal ones the earlier is the better."""
        keyed = zip(self.keys(split), self.on(split), strict=True)
        return [candidate for _, candidate in sorted(keyed, key=lambda pair: (pair[0], -pair[1].number))]

    def best(self, split: str) -> Candidate:
        """The best candidate of a split; of equal ones the earlier."""
        return self.on(split)[best_of(self.keys(split))]

    def bar(self, split: str, k: int) -> float | None:
        """The `k`th best score so far on the only metric, larger being better; None while there are fewer prompts."""
        (metric,) = self.metrics
        scores = sorted(
            (metric.better(candidate.values[split][metric.name]) for candidate in self.on(split)),
            reverse=True,
        )
        return scores[k - 1] if len(scores) >= k else None

    def front(self, split: str) -> list[Candidate]:
        """The candidates of a split that none other beats in every metric."""
        measured = self.on(split)
        table = [[m.better(candidate.values[split][m.name]) for m in self.metrics] for candidate in measured]
        return [measured[i] for i in pareto_front(table)] if measured else []
