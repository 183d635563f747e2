"""The number of phrases and the threshold, chosen on validation rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.metrics.rouge import rouge
from gnomon.errors import BadInput
from gnomon.methods.sigext.phrases import Phrase
from gnomon.methods.sigext.rows import Row
from gnomon.methods.sigext.selection import select, threshold

Judge = Callable[[int, float, list[list[Phrase]]], tuple[float, float, float] | None]
"""K, percentile and the phrases shown -> precision, recall and F in points; None where it could not be told."""


@dataclass(frozen=True)
class Tuned:
    """What was chosen, and what was tried."""

    k: int
    """Phrases shown, at most."""
    percentile: float
    """Share of phrases that the threshold cuts off, in percent."""
    tau: float
    """The threshold itself."""
    tried: list[dict[str, Any]]
    """A row per K and percentile: `K`, `percentile`, `tau`, `phrases` (mean number shown), `precision`, `recall`, `F`."""


def tune(
    rows: Sequence[Row],
    scores: Sequence[Sequence[float]],
    ks: Sequence[int],
    percentiles: Sequence[float],
    judge: Judge | None = None,
) -> Tuned:
    """The K and percentile with the best F; of equals the fewer phrases, then the higher threshold.

    Args:
        rows: validation documents with references.
        scores: of their phrases.
        ks: numbers to try.
        percentiles: thresholds to try.
        judge: how a choice is measured; None: by the ROUGE-1 of the phrases themselves against the reference.

    Raises:
        BadInput: nothing could be measured.
    """
    judge = judge or proxy(rows)
    tried: list[dict[str, Any]] = []
    for percentile in percentiles:
        tau = threshold(scores, percentile)
        for k in ks:
            shown = [
                [row.phrases[i] for i in select(row.phrases, values, k, tau=tau)]
                for row, values in zip(rows, scores, strict=True)
            ]
            found = judge(k, percentile, shown)
            if found is not None:
                mean = sum(map(len, shown)) / len(shown)
                numbers = dict(zip(("precision", "recall", "F"), found, strict=True))
                tried.append({"K": k, "percentile": percentile, "tau": tau, "phrases": mean, **numbers})
    if not tried:
        raise BadInput("No number of phrases could be measured: there were no summaries.")
    best = max(tried, key=lambda row: (row["F"], -row["K"], row["percentile"]))
    return Tuned(best["K"], best["percentile"], best["tau"], tried)


def proxy(rows: Sequence[Row]) -> Judge:
    """Measures phrases by their own ROUGE-1 against the reference, without asking anybody."""

    def judge(_: int, __: float, shown: list[list[Phrase]]) -> tuple[float, float, float]:
        texts = ["; ".join(phrase.text for phrase in phrases) for phrases in shown]
        table = rouge(texts, [row.summary for row in rows], ("rouge1",))["rouge1"]
        precision, recall, f = (100 * table.mean(axis=0)).tolist()
        return precision, recall, f

    return judge
