"""Answers with their sources: whether citations hold, what an answer rests on, how sure it is, what withholding costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.metrics.support import token_support
from gnomon.errors import BadConfig, BadInput

Supports = Callable[[str, str], float]
"""How far a source supports a sentence, 0..1, NaN where it says nothing: `token_support`, or the `score` of a `SupportScorer`."""

SUPPORTED = 0.5
"""Support from which a sentence counts as supported."""


@dataclass(frozen=True)
class Answer:
    """An answer to a question from passages that were found, or none."""

    question: str
    """What was asked."""
    sentences: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Each sentence, and the ids of the passages that it cites."""
    confidence: float | None = None
    """Probability that it is right, 0..1, from a labelled sample; None: there was no sample, so there is no number."""
    abstained: bool = False
    """Whether no answer is given; sentences may then say why, and are not checked."""
    trace: Mapping[str, Any] = field(default_factory=dict)
    """How it came about: hits, raw signals of confidence, the prompt."""

    @property
    def text(self) -> str:
        """The sentences in a row."""
        return " ".join(text for text, _ in self.sentences)

    @property
    def cited(self) -> tuple[str, ...]:
        """Ids of the passages that are cited, each once, in the order of the sentences."""
        return tuple(dict.fromkeys(name for _, names in self.sentences for name in names))


@dataclass(frozen=True)
class Citations:
    """How well the citations of an answer hold."""

    unknown: tuple[tuple[int, str], ...]
    """Sentence (from 0) and id of citations that name no passage that was shown."""
    bare: tuple[int, ...]
    """Sentences without a citation."""
    support: tuple[float, ...]
    """Per sentence, how far what it cites supports it, 0..1; 0 where it cites nothing that was shown, NaN where it says nothing."""
    recall: float
    """Share of sentences that are supported by what they cite; NaN without a sentence that says something."""
    precision: float
    """Share of citations that their sentence needs, or that support it alone; NaN without a citation."""


def check_citations(
    answer: Answer,
    shown: Mapping[str, str],
    *,
    supports: Supports = token_support,
    least: float = SUPPORTED,
) -> Citations:
    """Whether the citations of an answer hold.

    A sentence is supported when all that it cites, put together, supports it. A citation counts where its sentence is supported and
    it is not idle: it supports the sentence alone, or without it the rest does not. One of a passage that was not
    shown never counts.

    Args:
        answer: one that abstained has nothing to check: no sentences, recall and precision NaN.
        shown: id -> text of the passages that the answer could use.
        supports: measures support; `token_support` is a stand-in that needs no model.
        least: support from which a sentence counts as supported.

    Source: Gao et al., "Enabling Large Language Models to Generate Text with Citations" (2305.14627), section 3.
    """
    sentences = () if answer.abstained else answer.sentences
    unknown = tuple((i, n) for i, (_, names) in enumerate(sentences) for n in names if n not in shown)
    support, counted, citations = [], 0, 0
    for text, names in sentences:
        real = [name for name in dict.fromkeys(names) if name in shown]

        def of(chosen: Sequence[str], text: str = text) -> float:
            return supports(text, "\n".join(shown[name] for name in chosen)) if chosen else 0.0

        # What says nothing, such as "Yes.", is asked of any source: it can be neither supported nor not.
        says_nothing = math.isnan(supports(text, text))
        support.append(math.nan if says_nothing else of(real))
        if says_nothing:
            continue
        citations += len(dict.fromkeys(names))
        if support[-1] >= least:
            counted += sum(of([name]) >= least or of([n for n in real if n != name]) < least for name in real)
    checked = [value for value in support if not math.isnan(value)]
    return Citations(
        unknown,
        tuple(i for i, (_, names) in enumerate(sentences) if not names),
        tuple(support),
        sum(value >= least for value in checked) / len(checked) if checked else math.nan,
        counted / citations if citations else math.nan,
    )


@dataclass(frozen=True)
class Removal:
    """The same question, without one passage that the answer cites."""

    passage: str
    """Id of the passage that was taken away."""
    answer: Answer
    """What was answered then."""
    holds: bool
    """Whether the answer changed or was withheld, as it must if it rested on that passage."""


def without_cited(
    answer: Answer, shown: Mapping[str, str], ask: Callable[[str, Mapping[str, str]], Answer]
) -> list[Removal]:
    """Ask the question again for each cited passage, with that one taken away; empty for an answer that abstained.

    Args:
        answer: the answer.
        shown: id -> text of the passages that it could use.
        ask: answers a question from passages.
    """
    removals = []
    for name in () if answer.abstained else answer.cited:
        if name in shown:
            again = ask(answer.question, {n: text for n, text in shown.items() if n != name})
            is_same = not again.abstained and _plain(again.text) == _plain(answer.text)
            removals.append(Removal(name, again, not is_same))
    return removals


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@dataclass(frozen=True)
class RiskCoverage:
    """What is answered and what goes wrong at each threshold of confidence; the last entry is "always answer"."""

    threshold: NDArray[np.float64]
    """Answers at least as confident are given; falling."""
    coverage: NDArray[np.float64]
    """Share of the questions that are answered."""
    risk: NDArray[np.float64]
    """Share of the given answers that are wrong."""
    wrong_given: NDArray[np.float64]
    """Wrong answers given, of all questions."""
    right_withheld: NDArray[np.float64]
    """Right answers withheld, of all questions."""
    aurc: float
    """Mean risk over all coverages, 0 is best; equal confidences count as in random order."""
    aurc_best: float
    """What the best order of these answers has: every right one before every wrong one."""

    @property
    def always(self) -> float:
        """The risk of answering always, which is also the mean risk of a confidence that knows nothing."""
        return float(self.risk[-1])

    def rows(self) -> list[dict[str, float]]:
        """The curve as rows of a table."""
        names = ("threshold", "coverage", "risk", "wrong_given", "right_withheld")
        columns = [getattr(self, name).tolist() for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def risk_coverage(confidence: ArrayLike, right: ArrayLike) -> RiskCoverage:
    """The curve of risk over coverage: answers are given from the surest on, and both kinds of error are counted.

    Args:
        confidence: of each answer, [N]; any scale, higher is surer.
        right: whether it is right, [N].

    Raises:
        BadInput: there are no answers, not as many of both, or a confidence that is not a number.
    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks" (1705.08500); AURC as in 1805.08206.

    >>> curve = risk_coverage([0.9, 0.8, 0.3], [True, False, True])
    >>> curve.risk.round(3).tolist(), round(curve.aurc, 3), round(curve.aurc_best, 3)
    ([0.0, 0.5, 0.333], 0.278, 0.111)
    """
    sure, is_right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    if sure.ndim != 1 or sure.shape != is_right.shape or not len(sure):
        raise BadInput(
            f"Confidences {sure.shape} and outcomes {is_right.shape} must be two rows of one length, and not empty."
        )
    if np.isnan(sure).any():
        raise BadInput(f"The confidence of answer {int(np.isnan(sure).argmax())} is not a number.")
    # Answers of one confidence are given together or not at all, so that nothing depends on their order.
    values, group = np.unique(-sure, return_inverse=True)
    sizes = np.bincount(group).astype(float)
    wrong = np.bincount(group, weights=~is_right)
    answered, errors, n = sizes.cumsum(), wrong.cumsum(), len(sure)
    # Within a group of g answers with w wrong ones, w / g of each are wrong on average over all orders.
    each = np.repeat(wrong / sizes, sizes.astype(int)).cumsum() / np.arange(1, n + 1)
    n_wrong = int(errors[-1])
    best = np.concatenate([np.zeros(n - n_wrong), np.arange(1, n_wrong + 1)]) / np.arange(1, n + 1)
    return RiskCoverage(
        -values,
        answered / n,
        errors / answered,
        errors / n,
        (n - n_wrong - (answered - errors)) / n,
        float(each.mean()),
        float(best.mean()),
    )


Fit = Literal["logistic", "isotonic"]
FITS = ("logistic", "isotonic")
LEAST_SAMPLE = 10
"""Labelled answers from which a probability is fitted."""


@dataclass(frozen=True)
class Confidence:
    """The probability that an answer is right, from raw signals such as a margin of scores; fitted on a labelled sample."""

    names: tuple[str, ...]
    """The signals, in order."""
    mean: tuple[float, ...]
    """Of each in the sample."""
    spread: tuple[float, ...]
    """Standard deviation of each in the sample; 1 where it never changes."""
    weights: tuple[float, ...]
    """Of the signals in units of their spread."""
    bias: float
    """Log odds of an answer whose signals are average."""
    steps: tuple[tuple[float, float], ...] = ()
    """For an isotonic fit: log odds of the logistic one -> probability, rising; between two it is interpolated. Empty: logistic."""
    n: int = 0
    """Labelled answers behind it."""

    def probabilities(self, signals: ArrayLike) -> NDArray[np.float64]:
        """The probability of each answer.

        Args:
            signals: [N, K], in the order of `names`.

        Raises:
            BadInput: there are not as many signals as names.
        """
        values = np.atleast_2d(np.asarray(signals, np.float64))
        if values.shape[1] != len(self.names):
            raise BadInput(f"Confidence rests on {', '.join(self.names)}; got {values.shape[1]} signals.")
        odds = ((values - self.mean) / self.spread) @ np.asarray(self.weights) + self.bias
        if self.steps:
            at, probability = zip(*self.steps, strict=True)
            return np.interp(odds, at, probability)
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -500, 500))), np.float64)


def fit_confidence(
    signals: ArrayLike, right: ArrayLike, names: Sequence[str], kind: Fit = "logistic"
) -> Confidence | None:
    """A confidence fitted on labelled answers; None where they can teach nothing: too few, or all right, or all wrong.

    Args:
        signals: of each answer, [N, K]; finite.
        right: whether it is right, [N].
        names: of the K signals.
        kind: `logistic`, L2 of strength 1; `isotonic`: a rising step function of the logistic log odds, which needs more answers.

    Raises:
        BadInput: shapes do not fit, or a signal is not finite.
        BadConfig: there is no such kind.
    """
    if kind not in FITS:
        raise BadConfig(f'kind must be {" or ".join(FITS)}; got "{kind}".')
    values, is_right = np.asarray(signals, np.float64), np.asarray(right, bool)
    if values.ndim != 2 or values.shape != (len(is_right), len(names)):
        raise BadInput(f"Signals {values.shape} must be [{len(is_right)}, {len(names)}].")
    if not np.isfinite(values).all():
        raise BadInput("A signal of confidence is not finite.")
    if len(is_right) < LEAST_SAMPLE or is_right.all() or not is_right.any():
        return None
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    mean, spread = values.mean(0), values.std(0)
    spread[spread == 0] = 1.0
    logistic = LogisticRegression(max_iter=1000).fit((values - mean) / spread, is_right)
    weights, bias = logistic.coef_[0], float(logistic.intercept_[0])
    steps: tuple[tuple[float, float], ...] = ()
    if kind == "isotonic":
        odds = ((values - mean) / spread) @ weights + bias
        # The end steps of few answers would say 0% or 100%; none is surer than its sample is large.
        edge = 1 / (len(is_right) + 2)
        isotonic = IsotonicRegression(y_min=edge, y_max=1 - edge).fit(odds, is_right)
        steps = tuple(zip(isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist(), strict=True))
    rows = {"mean": mean, "spread": spread, "weights": weights}
    of: dict[str, Any] = {name: tuple(row.tolist()) for name, row in rows.items()}
    return Confidence(tuple(names), **of, bias=bias, steps=steps, n=len(is_right))


def calibration_error(confidence: ArrayLike, right: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error over bins of equal counts: mean |mean confidence - share right|, weighed by count.

    >>> calibration_error([0.2, 0.2, 0.9, 0.9], [0, 0, 1, 1], bins=2)
    0.15
    """
    sure, is_right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if sure.ndim != 1 or sure.shape != is_right.shape or not len(sure):
        raise BadInput(
            f"Confidences {sure.shape} and outcomes {is_right.shape} must be two rows of one length, not empty."
        )
    # Equal confidences are put in the order of their outcome's mean by a stable sort; which bin they fall in is arbitrary.
    order = np.argsort(sure, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    total = sum(len(part) * abs(sure[part].mean() - is_right[part].mean()) for part in parts)
    return round(float(total / len(sure)), 12)
