"""What a run did not get, such as replies that failed: counted, shown, and too much of it ends the run in failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST = 0.2
"""Largest share that may fail where nobody says otherwise."""


@dataclass(frozen=True)
class Shortfall:
    """How much of one kind of thing a run did not get."""

    what: str
    """What is missing, in the plural, such as `replies of judge`."""
    failed: int
    """How many were tried for and failed."""
    of: int
    """How many were tried for."""
    reason: str
    """The commonest reason, or what stopped the rest; empty where none is known."""
    limit: float = MOST
    """Largest share that may fail, 0..1."""
    unasked: int = 0
    """How many more were not tried for, because a budget was spent or too much had failed."""
    is_final: bool = False
    """Whether the same command would miss the same again, such as rows that are too long: the run is then through."""
    is_stopped: bool = False
    """Whether some of these were not tried for because too much had failed, be it a small share of all that came before."""

    @property
    def is_too_much(self) -> bool:
        """Whether the run has failed.

        >>> Shortfall("verdicts", 3, 10, "").is_too_much, Shortfall("verdicts", 2, 10, "").is_too_much
        (True, False)
        """
        return self.is_stopped or (self.of > 0 and self.failed > self.limit * self.of + 1e-9)

    @property
    def count(self) -> str:
        """The number in words.

        >>> Shortfall("verdicts", 70, 80, "", unasked=20).count
        '70 of 80 verdicts failed, 20 more were not asked for'
        """
        how = "were left out" if self.is_final else "failed"
        failed = f"{self.failed} of {self.of} {self.what} {how}" if self.failed else ""
        left = f"{self.unasked} {'more' if failed else self.what} were not asked for" if self.unasked else ""
        return ", ".join(part for part in (failed, left) if part)

    @property
    def sentence(self) -> str:
        """The number with its reason: the commonest one, or what stopped the rest."""
        how = ":" if self.is_final else ", in the end:" if self.is_stopped else ", most often:"
        return f"{self.count}{f'{how} {self.reason}' if self.reason else '.'}"

    def as_row(self) -> dict[str, Any]:
        """For `report.json`."""
        return {
            "what": self.what,
            "failed": self.failed,
            "of": self.of,
            "not_asked": self.unasked,
            "reason": self.reason,
            "stopped": self.is_stopped,
            "final": self.is_final,
            "too_much": self.is_too_much,
        }
