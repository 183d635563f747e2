"""One round of selection: scored snippets in, picks for the judge out. It depends on neither judge nor student.

picks, taken = round.look(snippets, scores, most=10)     # as the stream passes; `taken` of them were looked at
round.learn(picks, labels)                               # verdicts narrow the interval
picks = round.rest()                                     # when the round has read its share: the nearest to the target
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.methods.sieve.choosing.intervals import EVERYTHING, Design, Interval, estimate
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.strategies import Plan, Reservoir

log = logging.getLogger(__name__)

WIDE = 0.5
"""Rank mass of the interval at a round's end above which a warning says that it did not narrow."""


@dataclass(frozen=True)
class Pick:
    """A snippet to be labelled, with the reason."""

    snippet: Snippet
    score: float
    rank: float
    interval: Interval
    reason: str
    """`uniform`, `interval` or `nearest`."""


class Round:
    """One round.

    Args:
        number: of the round; 0 is the seed round.
        plan: how the labels are spent.
        labels: how many.
        uniform: how many of them at least are drawn uniformly, at the round's beginning.
        reservoir: scores of recent snippets by the round's student; the round adds to it.
        base_rate: share of passes in the stream, as far as known.
    """

    def __init__(
        self, number: int, plan: Plan, labels: int, uniform: int, reservoir: Reservoir, base_rate: float
    ):
        self.number, self.plan, self.labels, self.uniform = number, plan, labels, min(uniform, labels)
        self.reservoir, self.base_rate = reservoir, base_rate
        self.interval: Interval = EVERYTHING
        self.design = Design()
        self.widths: list[float] = []
        self.from_stream = max(round(plan.stream_share * labels), self.uniform)
        self._asked = 0
        self._pool: list[Snippet] = []
        self._pool_scores: list[NDArray[np.float64]] = []
        self.picked: dict[str, str] = {}
        """Identifier of each chosen snippet -> the reason."""
        self._known: list[tuple[float, int]] = []

    @property
    def wanted(self) -> int:
        """Labels still to be chosen."""
        return self.labels - self._asked

    @property
    def wanted_from_stream(self) -> int:
        """Labels still to be chosen as the stream passes."""
        return max(self.from_stream - self._asked, 0)

    @property
    def until_shrink(self) -> int:
        """Labels that are still to be drawn uniformly, before the interval may narrow."""
        return max(self.uniform - self._asked, 0)

    @property
    def width(self) -> float:
        """Rank mass of the interval."""
        return self.reservoir.mass(*self.interval)

    def look(
        self, snippets: Sequence[Snippet], scores: NDArray[np.float64], *, most: int | None = None
    ) -> tuple[list[Pick], int]:
        """Look at scored snippets in the order of the stream.

        Args:
            snippets: unlabelled snippets.
            scores: their scores, [N].
            most: stop behind the pick that completes this number; None: as many as the round still wants from the stream.

        Returns:
            The picks, and how many of the snippets were looked at; the others are to be shown again.
        """
        limit = self.wanted_from_stream if most is None else min(most, self.wanted_from_stream)
        low, high = self.interval
        inside = np.flatnonzero((scores >= low) & (scores <= high))[:limit]
        taken = len(snippets) if len(inside) < limit or not limit else int(inside[-1]) + 1
        if limit:
            self.design.passed(self.interval, taken)
        self._pool += snippets[:taken]
        self._pool_scores.append(scores[:taken])
        reason = "uniform" if self.interval == EVERYTHING else "interval"
        return [self._pick(snippets[i], float(scores[i]), reason) for i in inside], taken

    def learn(self, picks: Sequence[Pick], labels: Sequence[int | None], *, shrink: bool = True) -> None:
        """Take in verdicts, and narrow the interval if the plan does so. None is a verdict that could not be had."""
        for pick, label in zip(picks, labels, strict=True):
            if label is not None and pick.reason != "nearest":
                self._known.append((pick.score, label))
        if shrink and self.plan.shrink is not None and not self.until_shrink:
            scores, answers = self._inside()
            if len(scores):
                self.interval = self.plan.shrink(scores, answers, self.interval)
        self.widths.append(self.width)

    def rest(self) -> list[Pick]:
        """Picks for all labels that are left: the snippets read in this round that lie nearest to the target.

        A round whose interval held too few unseen snippets comes here too: it widens to the nearest ranks.
        """
        if self.plan.shrink is not None and self.width > WIDE:
            log.warning(
                "Round %d: the interval still holds %.0f%% of the stream, so labels were hardly chosen. "
                "Use a larger --selection.batch, a smaller --selection.bound-scale, or --selection.shrink halving.",
                self.number,
                100 * self.width,
            )
        if not self.wanted or not self._pool:
            return []
        if self.wanted_from_stream:
            log.info(
                "Round %d: %d labels short inside the interval; widened to the nearest ranks.",
                self.number,
                self.wanted_from_stream,
            )
        scores = np.concatenate(self._pool_scores)
        free = np.array([s.snippet_id not in self.picked for s in self._pool])
        distance = np.where(free, self._distance(scores), math.inf)
        chosen = np.sort(np.argsort(distance, kind="stable")[: min(self.wanted, int(free.sum()))])
        if not len(chosen):
            return []
        self._widen_design(scores, chosen)
        return [self._pick(self._pool[i], float(scores[i]), "nearest") for i in chosen]

    @property
    def target(self) -> float:
        """The rank that the nearest picks are near to."""
        if self.plan.target == "quantile" or not self._known:
            return self._rank_of(self.reservoir.score_at(1 - self.base_rate))
        scores, labels = self._inside()
        return estimate(scores, labels, self.interval, self._rank_of)

    def _distance(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each score is from the target, [N]: in rank, but for uncertainty, which is about score 0.5 itself."""
        if self.plan.target == "half":
            return np.abs(scores - 0.5)
        return np.abs(self.reservoir.ranks(scores) - self.target)

    def _rank_of(self, score: float) -> float:
        return float(self.reservoir.ranks(score))

    def _inside(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores and labels of the round that lie in the interval: independent draws from the stream, given that they lie there."""
        low, high = self.interval
        rows = [(score, label) for score, label in self._known if low <= score <= high]
        return np.array([score for score, _ in rows]), np.array([label for _, label in rows], dtype=np.int64)

    def _pick(self, snippet: Snippet, score: float, reason: str) -> Pick:
        self._asked += 1
        self.picked[snippet.snippet_id] = reason
        return Pick(snippet, score, self._rank_of(score), self.interval, reason)

    def _widen_design(self, scores: NDArray[np.float64], chosen: NDArray[np.int64]) -> None:
        """Record that every snippet of the round in this band of scores is labelled, also those read while nothing was picked."""
        self.design.idle = len(scores) - (self.design.n_read - self.design.idle)
        self.design.bands.append((float(scores[chosen].min()), float(scores[chosen].max())))
