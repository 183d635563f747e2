"""What filtering costs, with the student and with the judge alone, and from which size on the student pays.

Numbers that a finished fit has measured take the place of assumptions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gnomon.core import records
from gnomon.core.config import check
from gnomon.core.files import artifact, is_run_folder
from gnomon.errors import BadInput
from gnomon.methods.sieve.fitting.state import RoundFolder
from gnomon.methods.sieve.judging.labels import Label


def call_usd(tokens_in: float, tokens_out: float, price_in: float, price_out: float) -> float:
    """Price of one judge call in USD, from its tokens and USD per million tokens.

    >>> call_usd(700, 150, price_in=2.5, price_out=10)
    0.00325
    """
    return (tokens_in * price_in + tokens_out * price_out) / 1e6


def snippet_usd(snippets_per_s: float, usd_per_hour: float) -> float:
    """Price of scoring one snippet with the student, in USD.

    >>> snippet_usd(500, usd_per_hour=1.8)
    1e-06
    """
    return usd_per_hour / 3600 / snippets_per_s


@dataclass(frozen=True)
class Cost:
    """The bill for a corpus. All prices in USD."""

    snippets: int
    """Size of the corpus."""
    labels: int
    """Snippets that the judge labelled for the training."""
    usd_per_call: float
    """Price of one judge call, see `call_usd`."""
    training_s: float
    """Seconds of all trainings together."""
    snippets_per_s: float
    """Snippets that the student scores per second, on the same machine."""
    usd_per_hour: float
    """Price of that machine."""
    stream_scored: int = 0
    """Snippets that the student scored while labels were chosen."""

    def __post_init__(self) -> None:
        check(self.snippets >= 1, "snippets", ">= 1", self.snippets)
        check(self.snippets_per_s > 0, "snippets_per_s", "> 0", self.snippets_per_s)
        for name in ("labels", "usd_per_call", "training_s", "usd_per_hour", "stream_scored"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))

    @property
    def usd_per_snippet(self) -> float:
        """Price of scoring one snippet with the student."""
        return snippet_usd(self.snippets_per_s, self.usd_per_hour)

    @property
    def judge_usd(self) -> float:
        """The labels."""
        return self.labels * self.usd_per_call

    @property
    def training_usd(self) -> float:
        """The machine while it trains, and while it scores the stream to choose labels."""
        return self.training_s * self.usd_per_hour / 3600 + self.stream_scored * self.usd_per_snippet

    @property
    def scoring_usd(self) -> float:
        """The machine while it scores the corpus."""
        return self.snippets * self.usd_per_snippet

    @property
    def total_usd(self) -> float:
        """Labels, training and scoring."""
        return self.judge_usd + self.training_usd + self.scoring_usd

    @property
    def judge_all_usd(self) -> float:
        """The judge on every snippet."""
        return self.snippets * self.usd_per_call

    @property
    def ratio(self) -> float:
        """Total over the judge on everything; infinite for a judge that costs nothing."""
        return self.total_usd / self.judge_all_usd if self.judge_all_usd else math.inf

    @property
    def calls_per_judge_call(self) -> float:
        """Student calls for the price of one judge call; infinite for a machine that costs nothing."""
        return self.usd_per_call / self.usd_per_snippet if self.usd_per_snippet else math.inf

    @property
    def break_even(self) -> float:
        """Snippets from which on the student is the cheaper way; infinite when it never is."""
        saved = self.usd_per_call - self.usd_per_snippet
        return math.ceil((self.judge_usd + self.training_usd) / saved) if saved > 0 else math.inf

    def figures(self) -> dict[str, float]:
        """Everything above by name, for reports."""
        names = (
            "usd_per_call", "usd_per_snippet", "judge_usd", "training_usd", "scoring_usd", "total_usd", "judge_all_usd",
            "ratio", "calls_per_judge_call", "break_even",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


# Numbers measured by a fit.


def measured(run: Path) -> dict[str, float]:
    """Labels, tokens per call, seconds of training, snippets scored per second, and snippets scored while choosing.

    Numbers that the fit could not measure, such as tokens of a judge that is no language model, are left out.

    Args:
        run: the run folder of a finished fit.

    Raises:
        BadInput: it is not one.
    """
    if not is_run_folder(run):
        raise BadInput(f"{run} is not the folder of a run. Name one that `gnomon sieve fit` has finished.")
    rows = list(records.read(artifact(run, "labels"), Label))
    rounds = RoundFolder(run / "rounds").load()
    numbers: dict[str, float] = {"labels": len(rows)}
    billed = [row for row in rows if row.tokens_in]
    if billed:
        numbers["tokens_in"] = sum(row.tokens_in for row in billed) / len(billed)
        numbers["tokens_out"] = sum(row.tokens_out for row in billed) / len(billed)
    numbers["training_s"] = sum(state.fitted.seconds for state in rounds if state.fitted)
    numbers["stream_scored"] = sum(state.read for state in rounds)
    scoring_s = sum(state.scoring_s for state in rounds)
    if scoring_s:
        numbers["snippets_per_s"] = numbers["stream_scored"] / scoring_s
    return numbers
