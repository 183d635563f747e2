"""How likely each snippet was to be labelled: what turns chosen labels back into a picture of the whole stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.methods.sieve.intervals import EVERYTHING, Interval


@dataclass
class Design:
    """Which scores were labelled in one round, and out of how many snippets.

    While the stream passes, every snippet whose score lies in the interval of the moment is labelled; afterwards, every snippet of
    the round in the `bands` is. The chance that a snippet with a given score was labelled follows from that alone.
    """

    spans: list[tuple[Interval, int]] = field(default_factory=list)
    """Interval and the number of snippets that passed while it stood, in order."""
    bands: list[Interval] = field(default_factory=list)
    """Score intervals of which every snippet read in the round was labelled."""
    idle: int = 0
    """Snippets that were read while none was picked from the stream; only the bands reach them."""

    @property
    def n_read(self) -> int:
        """Snippets that the round read."""
        return sum(count for _, count in self.spans) + self.idle

    def passed(self, interval: Interval, count: int) -> None:
        """`count` more snippets went by while `interval` stood."""
        if self.spans and self.spans[-1][0] == interval:
            self.spans[-1] = (interval, self.spans[-1][1] + count)
        else:
            self.spans.append((interval, count))

    def chances(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probability of having been labelled, for snippets of the round with these scores, [N]."""
        wanted = np.asarray(scores, float)
        share = np.zeros(wanted.shape)
        for (low, high), count in self.spans:
            share += count * ((wanted >= low) & (wanted <= high))
        share /= max(self.n_read, 1)
        for low, high in self.bands:
            share[(wanted >= low) & (wanted <= high)] = 1.0
        return share

    def weights(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Inverse-inclusion weights of labels with these scores, scaled so that they sum to their effective number.

        The effective number is (sum w)^2 / sum w^2 (Kish). Rounds pooled with these weights count for as much as they know: a round
        that rests on a few heavy labels counts little.
        """
        chances = self.chances(scores)
        raw = np.divide(1.0, chances, out=np.zeros_like(chances), where=chances > 0)
        square = float((raw**2).sum())
        return raw * (raw.sum() / square) if square else raw

    def to_plain(self) -> dict[str, Any]:
        """The design as JSON holds it; infinite ends become None."""
        return {
            "idle": self.idle,
            "spans": [[*map(_finite, interval), count] for interval, count in self.spans],
            "bands": [[*interval] for interval in self.bands],
        }

    @classmethod
    def from_plain(cls, raw: dict[str, Any]) -> Design:
        """The design back from `to_plain`."""
        spans = [(_interval(low, high), int(count)) for low, high, count in raw["spans"]]
        return cls(spans, [_interval(low, high) for low, high in raw["bands"]], raw["idle"])


def _finite(end: float) -> float | None:
    return end if np.isfinite(end) else None


def _interval(low: float | None, high: float | None) -> Interval:
    return (EVERYTHING[0] if low is None else low, EVERYTHING[1] if high is None else high)
