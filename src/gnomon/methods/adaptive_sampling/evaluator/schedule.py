"""Temperatures of a prompt's samples, and of the fresh sample that c compares with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from gnomon.core.config import check
from gnomon.core.models.sampling.config import GenConfig
from gnomon.errors import BadConfig

Anneal = Literal["halving", "linear", "constant"]


@dataclass(frozen=True)
class Schedule:
    """The temperature of the k-th sample."""

    anneal: Anneal = "halving"
    """halving: 1 - 2^-(k-1) of the temperature, so the first is greedy; linear: (k-1)/(n-1) of it; constant: all of it."""
    temperature: float = 1.0
    """Highest temperature."""

    def __post_init__(self) -> None:
        check(
            self.anneal in ("halving", "linear", "constant"),
            "anneal",
            "halving, linear or constant",
            self.anneal,
        )
        check(0 <= self.temperature < float("inf"), "temperature", ">= 0", self.temperature)

    def temperatures(self, n: int) -> tuple[float, ...]:
        """Of n samples; exact at 0, where the likeliest token is taken.

        >>> Schedule().temperatures(4), Schedule("linear").temperatures(3), Schedule("constant", 0.5).temperatures(2)
        ((0.0, 0.5, 0.75, 0.875), (0.0, 0.5, 1.0), (0.5, 0.5))
        """
        if self.anneal == "constant":
            return (self.temperature,) * n
        if self.anneal == "linear":
            return tuple(self.temperature * k / max(1, n - 1) for k in range(n))
        return tuple(self.temperature * (1 - 0.5**k) for k in range(n))

    @property
    def is_exchangeable(self) -> bool:
        """Whether all samples are drawn alike, so that their order says nothing."""
        return self.anneal == "constant"

    def draws(self, gen: GenConfig, n: int, banned: tuple[int, ...] = ()) -> GenConfig:
        """`gen` for the first n samples of this schedule."""
        return replace(gen, n=n, temperature=self.temperatures(n), banned=tuple({*gen.banned, *banned}))


@dataclass(frozen=True)
class Restart:
    """The fresh sample that c compares with: how it is drawn."""

    anneal: Anneal
    """constant: at the temperature; else beyond the first sample of that schedule."""
    temperature: float
    top_p: float = 1.0
    top_k: int | None = None

    @classmethod
    def of(cls, schedule: Schedule, gen: GenConfig, restart: str = "next") -> Restart:
        """What `next` (the schedule's own further samples) or a temperature means.

        Raises:
            BadConfig: it is neither.
        """
        if restart == "next":
            return cls(schedule.anneal, schedule.temperature, gen.top_p, gen.top_k)
        try:
            value = float(restart)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise BadConfig(f'restart must be "next" or a temperature above 0; got {restart!r}.')
        return cls("constant", value, gen.top_p, gen.top_k)

    @property
    def schedule(self) -> Schedule:
        """The schedule of which it is a further sample."""
        return Schedule(self.anneal, self.temperature)

    @property
    def words(self) -> str:
        """In words, for messages."""
        how = "at" if self.anneal == "constant" else f"beyond the first of {self.anneal} annealing up to"
        cut = f", top_p {self.top_p:g}" if self.top_p < 1 else ""
        return f"{how} temperature {self.temperature:g}{cut}{f', top_k {self.top_k}' if self.top_k else ''}"


def check_restart(trained: Restart, schedule: Schedule, gen: GenConfig) -> None:
    """Refuse to draw samples otherwise than those that c was trained to compare with.

    Raises:
        BadConfig: they are drawn otherwise; the message names both.
    """
    wanted = Restart.of(schedule, gen)
    if wanted != trained:
        raise BadConfig(
            f"c was trained for fresh samples {trained.words}, and these are drawn {wanted.words}. Sample as it was trained "
            "(--anneal, --temperature, --gen.top-p, --gen.top-k), build labels anew with --restart, or set --any-restart."
        )
