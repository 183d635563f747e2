"""Labels of given snippets, in a file that a later call continues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from gnomon.core.log import Advances
from gnomon.methods.sieve.fitting import keep_verdicts
from gnomon.methods.sieve.intervals import EVERYTHING
from gnomon.methods.sieve.judges import Judge, judge_all
from gnomon.methods.sieve.labels import Label, LabelStore
from gnomon.methods.sieve.rounds import Pick
from gnomon.methods.sieve.snippets import Snippet

TOGETHER = 256
"""Snippets between two writes."""


def judged(
    judge: Judge, snippets: Sequence[Snippet], path: Path, *, progress: Advances | None = None
) -> list[Label]:
    """A label row for each snippet, in order. What the file holds already is not asked for again.

    Raises:
        BudgetSpent: the judge may spend no more; what it has answered is in the file.
    """
    store = LabelStore(path)
    missing = [s for s in snippets if s.snippet_id not in store]
    if progress:
        progress.advance(len(snippets) - len(missing))
    for start in range(0, len(missing), TOGETHER):
        picks = [Pick(s, 0.0, 0.5, EVERYTHING, "uniform") for s in missing[start : start + TOGETHER]]
        keep_verdicts(store, picks, partial(judge_all, judge, [pick.snippet for pick in picks]), 0)
        if progress:
            progress.advance(len(picks))
    return [store[s.snippet_id] for s in snippets]
