"""What came of it: retrieval against BM25, answers against references, confidence against outcomes, uncertainty against truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics import mean_interval, paired_difference
from gnomon.core.metrics.retrieve import RetrievalScore, evaluate
from gnomon.core.metrics.rouge import rouge
from gnomon.core.metrics.squad import squad_match, squad_words, token_f1
from gnomon.core.retrieval.answers import (
    Confidence,
    Fit,
    RiskCoverage,
    calibration_error,
    fit_confidence,
    risk_coverage,
)
from gnomon.core.retrieval.passages import Passage
from gnomon.core.rng import Rng
from gnomon.errors import BadInput

KS = (2, 5, 10)
METRICS = ("recall@2", "recall@5", "recall@10", "success@10", "MRR@10", "nDCG@10")
BINS = 10


def by_document(ids: Sequence[str], passages: Mapping[str, Passage]) -> list[str]:
    """The documents of passages, each at the place of its best passage: judgements are about documents."""
    return list(dict.fromkeys(passages[name].doc_id for name in ids))


def compare_rankings(
    rankings: Mapping[str, Mapping[str, Sequence[str]]],
    qrels: Mapping[str, Mapping[str, int]],
    base: str = "bm25",
) -> list[dict[str, Any]]:
    """A row per arm: its metrics with intervals, and the difference to the base paired by query.

    Args:
        rankings: arm -> query -> documents, the best first.
        qrels: query -> document -> relevance.
        base: the arm that others are compared with.
    """
    scores: dict[str, Mapping[str, RetrievalScore]] = {
        arm: evaluate(ranking, qrels, ks=KS) for arm, ranking in rankings.items()
    }
    rows = []
    for arm, of_arm in scores.items():
        row: dict[str, Any] = {"arm": arm}
        for name in METRICS:
            row[name] = (of_arm[name].mean, of_arm[name].low, of_arm[name].high)
        if arm != base and base in scores:
            for name in ("recall@10", "MRR@10"):
                mine, theirs = ([list(s[name].per_query.values())] for s in (of_arm, scores[base]))
                gap = paired_difference(mine, theirs)
                row[f"{name} - {base}"] = (gap.estimate, gap.low, gap.high)
        rows.append(row)
    return rows


def answer_coverage(references: Sequence[Sequence[str]], texts: Sequence[str]) -> float:
    """Share of questions of which an answer stands wholly inside one chunk; a cut can go through it.

    Compared as SQuAD compares answers, word by word.
    """
    if not references:
        raise BadInput("There is no question with a reference.")
    padded = [f" {' '.join(squad_words(text))} " for text in texts]
    covered = 0
    for answers in references:
        wanted = [f" {' '.join(words)} " for answer in answers if (words := squad_words(answer))]
        covered += any(answer in text for answer in wanted for text in padded)
    return covered / len(references)


@dataclass(frozen=True)
class AnswerScores:
    """Answers against references, each the best over a question's references; [N]."""

    exact: NDArray[np.float64]
    """Equal words, 0 or 1."""
    f1: NDArray[np.float64]
    """SQuAD's token F1."""
    rouge_l: NDArray[np.float64]
    """F of the longest common subsequence."""
    contains: NDArray[np.float64]
    """Whether a reference stands in the answer, word by word: accuracy of a class named in a sentence."""

    def rows(self) -> list[dict[str, Any]]:
        """Mean and interval of each."""
        rows = []
        for name in ("exact", "f1", "rouge_l", "contains"):
            interval = mean_interval([getattr(self, name)])
            rows.append({"metric": name, "mean": (interval.estimate, interval.low, interval.high)})
        return rows


def score_answers(texts: Sequence[str], references: Sequence[Sequence[str]]) -> AnswerScores:
    """Token F1 and exact match as in SQuAD, ROUGE-L, and whether a reference is named.

    Raises:
        BadInput: there are no answers, not as many of both, or a question without a reference.
    """
    if len(texts) != len(references) or not texts:
        raise BadInput(
            f"{len(texts)} answers and {len(references)} lists of references; as many of both are needed."
        )
    if not all(references):
        raise BadInput("A question has no reference. Leave it out.")
    pairs = list(zip(texts, references, strict=True))

    def best(compare: Any) -> NDArray[np.float64]:
        return np.array([max(compare(text, right) for right in answers) for text, answers in pairs])

    def named(text: str, right: str) -> float:
        return float(f" {' '.join(squad_words(right))} " in f" {' '.join(squad_words(text))} ")

    subsequence = rouge(texts, [list(answers) for answers in references], ["rougeL"])["rougeL"][:, 2]
    return AnswerScores(best(squad_match), best(token_f1), subsequence, best(named))


@dataclass(frozen=True)
class Fitted:
    """A confidence, and how far it can be trusted on answers that it was not fitted on."""

    confidence: Confidence | None
    """Of all labelled answers; None: they are too few or all alike."""
    held_out: NDArray[np.float64]
    """Probability of each answer by a confidence fitted on the other half, [N]; empty where there is none."""
    error: float | None
    """Expected calibration error of these."""


def cross_fitted(
    signals: NDArray[np.float64], right: NDArray[np.bool_], names: Sequence[str], kind: Fit, rng: Rng
) -> Fitted:
    """A confidence of all labelled answers, judged by two that each saw half of them."""
    whole = fit_confidence(signals, right, names, kind)
    order = rng.child("halves").numpy().permutation(len(right))
    held_out = np.full(len(right), np.nan)
    for fit_on, test_on in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        part = fit_confidence(signals[fit_on], right[fit_on], names, kind)
        if part is None:
            return Fitted(whole, np.empty(0), None)
        held_out[test_on] = part.probabilities(signals[test_on])
    return Fitted(whole, held_out, calibration_error(held_out, right))


@dataclass(frozen=True)
class Judged:
    """Labelled answers, measured."""

    scores: AnswerScores
    """Against their references."""
    right: NDArray[np.bool_]
    """Which count as right, [N]."""
    fitted: Fitted
    """Confidence from the raw signals."""
    curve: RiskCoverage | None
    """Of the probabilities that were fitted on the other half; None where none could be."""
    coverage: float
    """Share of questions whose answer stands within one chunk."""

    def summary(self) -> dict[str, Any]:
        """What is written."""
        return {
            "metrics": self.scores.rows(),
            "right": float(self.right.mean()),
            "answer coverage": self.coverage,
            "calibration error": self.fitted.error,
            "risk_coverage": None if self.curve is None else self.curve.rows(),
        }


def judge_answers(
    rows: Sequence[Mapping[str, Any]], texts: Sequence[str], right: str, fit: Fit, rng: Rng
) -> Judged:
    """Answers against references, and a confidence fitted on them. A withheld answer is never right.

    Args:
        rows: of `ask`: `answer`, `abstained`, `references`, `trace` with `signals`.
        texts: of all chunks of the index.
        right: which count as right: `exact`, `contains`, or `f1` from 0.5 on.
        fit: how confidence is fitted.
        rng: halves the answers.
    """
    references = [row["references"] for row in rows]
    scores = score_answers(["" if row["abstained"] else row["answer"] for row in rows], references)
    is_right = scores.f1 >= 0.5 if right == "f1" else getattr(scores, right) == 1
    names = sorted(rows[0]["trace"]["signals"])
    signals = np.array([[row["trace"]["signals"][name] for name in names] for row in rows], np.float64)
    fitted = cross_fitted(signals, is_right, names, fit, rng)
    curve = risk_coverage(fitted.held_out, is_right) if len(fitted.held_out) else None
    return Judged(scores, is_right, fitted, curve, answer_coverage(references, texts))


@dataclass(frozen=True)
class Calibration:
    """Whether a lower uncertainty means a more related pair."""

    bins: list[dict[str, float]]
    """Bins of equal counts by U: `U`, `same` (share of related pairs), `p` (by the fit), `pairs`."""
    alpha: float
    """p(same) = sigmoid(alpha - beta U)."""
    beta: float
    """Above 0 where lower uncertainty means more related."""
    error: float
    """Expected calibration error on the half that was not fitted on."""
    spearman: float | None
    """Rank correlation of -U with a reference similarity; None without one."""


def calibration(
    values: NDArray[np.float64],
    same: NDArray[np.bool_],
    rng: Rng,
    reference: NDArray[np.float64] | None = None,
) -> Calibration:
    """Fit `p(same) = sigmoid(alpha - beta U)` on half of the pairs and test it on the other half.

    Args:
        values: uncertainty of each pair, [N]; of other scores, minus the similarity.
        same: whether its chunks are related, [N].
        rng: halves the pairs.
        reference: a similarity to correlate with, [N]; None: none.

    Raises:
        BadInput: fewer than 20 pairs, or one class alone in a half.
    """
    from scipy.stats import spearmanr

    if len(values) < 20:
        raise BadInput(f"Calibration needs 20 pairs or more; got {len(values)}.")
    order = rng.child("calibration").numpy().permutation(len(values))
    fit_on, test_on = order[::2], order[1::2]
    fitted = fit_confidence(values[fit_on, None], same[fit_on], ["U"])
    if fitted is None:
        raise BadInput(
            "All pairs of the half that is fitted on are related, or none is: there is nothing to calibrate."
        )
    p = fitted.probabilities(values[test_on, None])
    slope = fitted.weights[0] / fitted.spread[0]
    rows = []
    for part in np.array_split(np.argsort(values[test_on], kind="stable"), BINS):
        if len(part):
            at = test_on[part]
            means = {"U": values[at].mean(), "same": same[at].mean(), "p": p[part].mean(), "pairs": len(part)}
            rows.append({name: float(value) for name, value in means.items()})
    correlation = None if reference is None else float(spearmanr(-values, reference).statistic)
    return Calibration(
        rows, fitted.bias - slope * fitted.mean[0], -slope, calibration_error(p, same[test_on]), correlation
    )
