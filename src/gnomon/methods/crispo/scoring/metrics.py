"""Metrics of predictions, row by row: by name, a program of the user's own, a Python function, or a `Metric`."""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gnomon.core.llm.parse import choice
from gnomon.core.metrics.rouge import rouge
from gnomon.core.metrics.squad import token_f1
from gnomon.core.metrics.support import SupportScorer, token_support
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.lazy import as_function, named
from gnomon.methods.crispo.examples.data import Example

Many = Callable[[Sequence[str], Sequence[Example], Sequence[str]], Sequence[float]]
"""Predictions, rows and their inputs as the model was given them -> a score each."""

ROUGES = ("rouge1", "rouge2", "rougeL", "rougeLsum")
PARTS = {"precision": 0, "recall": 1}
NAMES = (*ROUGES, "em", "f1", "accuracy", "faithfulness")
STAND_IN = "token support"
"""The measure behind `faithfulness` where no checkpoint is named; reported under this name."""


def mean(scores: Sequence[float]) -> float:
    """The mean, summed without rounding."""
    return math.fsum(scores) / len(scores)


@dataclass(frozen=True)
class Metric:
    """A score of predictions, with its range and direction."""

    name: str
    """As reports show it."""
    score_many: Many
    low: float = 0.0
    """The worst a score can be, or the best where lower is better."""
    high: float = 1.0
    """The other end of the range."""
    higher_is_better: bool = True
    is_exact: bool = False
    """Whether a row is right or wrong and nothing between: critiques then look at wrong rows."""
    aggregate: Callable[[Sequence[float]], float] = mean
    """Scores of the rows -> score of the prompt."""
    describe: Callable[[Sequence[float]], str] | None = None
    """Scores of the rows -> the text that prompts are shown with in place of the number; None shows the number."""
    advise: Callable[[Sequence[str], Sequence[Example]], str] | None = None
    """Predictions and rows -> a sentence for the critic; None has nothing to say."""

    def score(
        self, predictions: Sequence[str], rows: Sequence[Example], sources: Sequence[str]
    ) -> list[float]:
        """A checked score for every row.

        Raises:
            BadInput: a score is no number or out of range; the message names the row.
        """
        scores = [float(value) for value in self.score_many(predictions, rows, sources)]
        if len(scores) != len(rows):
            raise BadInput(
                f'Metric "{self.name}" gave {len(scores)} scores for {len(rows)} rows. It must give one each.'
            )
        for value, row in zip(scores, rows, strict=True):
            if not self.low - 1e-9 <= value <= self.high + 1e-9:  # false for NaN too
                raise BadInput(
                    f'Metric "{self.name}" gave {value} for row "{row.id}"; it must be within {self.low:g} and {self.high:g}.'
                )
        return scores

    def better(self, value: float) -> float:
        """`value` turned so that larger is better."""
        return value if self.higher_is_better else -value

    def shown(self, scores: Sequence[float]) -> str:
        """The score of a prompt as text: its own description, or percent with two decimals where the range is 0..1."""
        if self.describe is not None:
            return self.describe(scores)
        return f"{self.percent(self.aggregate(scores)):.2f}"

    def percent(self, value: float) -> float:
        """`value` times 100 where the range is 0..1."""
        return 100 * value if (self.low, self.high) == (0.0, 1.0) else value


def open_metrics(
    names: Sequence[str], *, slots: Sequence[str] = (), support: str | None = None, workers: int = 1
) -> list[Metric]:
    """Metrics by their names.

    Args:
        names: of `NAMES`; `rouge1.recall` and `rouge1.precision` for one side of ROUGE; `command:...`, a program that reads a row
            per line as JSON and writes a number per line; `module:name`, a function of prediction, reference and input, or an
            object with the fields of `Metric`.
        slots: of the prompt; with key phrases among them, ROUGE advises to cover more or less.
        support: checkpoint for `faithfulness`: AlignScore's folder or an NLI classifier; None takes the stand-in.
        workers: processes for ROUGE.

    Raises:
        BadConfig: a name is unknown, or stands there twice.
    """
    if not names or len(set(names)) < len(names):
        raise BadConfig(
            f"metrics must be one name or more, each once; got {', '.join(map(repr, names)) or 'none'}."
        )
    return [_open(name, "keyphrases" in slots, support, workers) for name in names]


def _open(name: str, advises: bool, support: str | None, workers: int) -> Metric:
    kind, _, part = name.partition(".")
    if kind in ROUGES and (not part or part in PARTS):
        column = PARTS.get(part, 2)
        advise = partial(_cover, kind) if advises else None
        return Metric(name, partial(_rouge, kind, column, workers), advise=advise)
    if name == "em":
        return Metric(name, _each(exact_match), is_exact=True)
    if name == "accuracy":
        return Metric(name, _accuracy, is_exact=True)
    if name == "f1":
        return Metric(name, _each(token_f1))
    if name == "faithfulness":
        return _faithfulness(support)
    if name.startswith("command:"):
        return Metric(name, partial(run_command, name.removeprefix("command:").strip()))
    if ":" in name:
        return _from_python(name)
    raise BadConfig(f'There is no metric "{name}". {nearest(name, NAMES)}')


def exact_match(prediction: str, reference: str) -> float:
    """1 when the two are equal but for case and space around, else 0."""
    return float(prediction.strip().lower() == reference.strip().lower())


def _each(compare: Callable[[str, str], float]) -> Many:
    """The best comparison with any of a row's references."""

    def many(predictions: Sequence[str], rows: Sequence[Example], _: Sequence[str]) -> list[float]:
        return [
            max(compare(text, right) for right in row.references)
            for text, row in zip(predictions, rows, strict=True)
        ]

    return many


def _accuracy(predictions: Sequence[str], rows: Sequence[Example], _: Sequence[str]) -> list[float]:
    """Right when the prediction is, or names alone, the label of the row among all labels there are."""
    labels = sorted({right.strip() for row in rows for right in row.references})
    labelled = [choice(text, labels) for text in predictions]
    return [
        float(label is not None and label in [right.strip() for right in row.references])
        for label, row in zip(labelled, rows, strict=True)
    ]


def _rouge(
    kind: Any, column: int, workers: int, predictions: Sequence[str], rows: Sequence[Example], _: Sequence[str]
) -> list[float]:  # fmt: skip
    table = rouge(predictions, [row.references for row in rows], (kind,), workers=workers)[kind]
    return [float(value) for value in table[:, column]]


def _cover(kind: Any, predictions: Sequence[str], rows: Sequence[Example]) -> str:
    """Advice for the critic on key phrases: cover more where recall is lower than precision, else less."""
    table = rouge(predictions, [row.references for row in rows], (kind,))[kind].mean(0)
    precision, recall = 100 * float(table[0]), 100 * float(table[1])
    if recall < precision:
        return f"{kind}: recall ({recall:.2f}) is lower than precision ({precision:.2f}): cover more of what the references say."
    less = "leave out what the references do not say"
    return f"{kind}: precision ({precision:.2f}) is not higher than recall ({recall:.2f}): {less}."


def _faithfulness(support: str | None) -> Metric:
    if support is None:

        def stand_in(predictions: Sequence[str], _: Sequence[Example], sources: Sequence[str]) -> list[float]:
            scores = [token_support(text, source) for text, source in zip(predictions, sources, strict=True)]
            return [
                0.0 if math.isnan(value) else value for value in scores
            ]  # what says nothing has no support

        return Metric(STAND_IN, stand_in)
    scorer = SupportScorer(support)

    def checkpoint(predictions: Sequence[str], _: Sequence[Example], sources: Sequence[str]) -> list[float]:
        scores = scorer.score_many(predictions, sources)
        return [0.0 if math.isnan(value) else value for value in scores]

    return Metric(scorer.name, checkpoint)


def _from_python(name: str) -> Metric:
    target = named(name)
    return target if isinstance(target, Metric) else metric_of(as_function(target, name), name)


def metric_of(compare: Callable[[str, Any, str], float], name: str | None = None) -> Metric:
    """A function of prediction, reference and input as a metric.

    Args:
        compare: gets a text, the row's output (a text or a list of texts) and the input as the model was given it. Attributes of
            the function named like fields of `Metric` set those.
        name: as reports show it; None takes the function's name.
    """

    def many(predictions: Sequence[str], rows: Sequence[Example], sources: Sequence[str]) -> list[float]:
        return [
            float(compare(text, row.output, source))
            for text, row, source in zip(predictions, rows, sources, strict=True)
        ]

    attributes = {
        field: getattr(compare, field)
        for field in ("low", "high", "higher_is_better", "is_exact", "aggregate", "describe", "advise")
        if hasattr(compare, field)
    }
    return Metric(name or str(getattr(compare, "__name__", "metric")), many, **attributes)


# Programs

TIMEOUT_S = 600.0
"""Longest run of the program for one prompt's predictions, in seconds."""


def run_command(
    command: str, predictions: Sequence[str], rows: Sequence[Example], sources: Sequence[str]
) -> list[float]:
    """The numbers that a program gives for predictions. It is run without a shell.

    Args:
        command: the program and its arguments, quoted as in a shell.
        predictions: what was written.
        rows: what should have been.
        sources: what the model was given.

    Raises:
        BadConfig: there is no such program.
        BadInput: it fails, takes too long, or does not write one number per row.
    """
    lines = "".join(
        json.dumps({"id": row.id, "prediction": text, "reference": row.output, "input": source}) + "\n"
        for text, row, source in zip(predictions, rows, sources, strict=True)
    )
    words = shlex.split(command)
    try:
        done = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, IndexError) as error:
        raise BadConfig(
            f'Metric "command:{command}" cannot be run ({error}). Give a program and its arguments.'
        ) from None
    except subprocess.TimeoutExpired:
        raise BadInput(f'Metric "command:{command}" took longer than {TIMEOUT_S:g} s.') from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BadInput(f'Metric "command:{command}" ended with code {done.returncode}: {last}')
    numbers = done.stdout.split()
    if len(numbers) != len(rows):
        raise BadInput(
            f'Metric "command:{command}" wrote {len(numbers)} numbers for {len(rows)} rows. It must write one each.'
        )
    return [_number(command, word, row) for word, row in zip(numbers, rows, strict=True)]


def _number(command: str, word: str, row: Example) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadInput(
            f'Metric "command:{command}" wrote "{word}" for row "{row.id}"; it must write a number.'
        ) from None
