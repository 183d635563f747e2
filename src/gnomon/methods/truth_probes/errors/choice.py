"""Which of many sampled answers to give: by the probe, the greedy one, at random, or the most frequent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.errors.clusters import TYPES, Typed

STRATEGIES = ("greedy", "random", "majority", "probe", "oracle")
"""greedy: without sampling; random: any valid sample; majority: right where the right samples outnumber the largest group of
wrong ones; probe: the sample with the highest P(right); oracle: right where any sample is."""

FEWEST = 30
"""Questions of a type below which no figure is given for it."""


@dataclass(frozen=True)
class Choice:
    """Questions that each strategy answers right."""

    ids: tuple[str, ...]
    right: Mapping[str, NDArray[np.float64]]
    """Strategy -> 1 or 0 for each question, [Q]; for `random` the share of its valid samples that are right."""
    chosen: tuple[int, ...]
    """The draw that the probe chose, for each question."""

    def accuracy(self, strategy: str, rows: Sequence[int] | None = None) -> float:
        """Share answered right, over all questions or some."""
        values = self.right[strategy] if rows is None else self.right[strategy][list(rows)]
        return float(values.mean())

    def interval(
        self, strategy: str, rows: Sequence[int] | None = None, resamples: int = 1000
    ) -> tuple[float, float, float]:
        """Accuracy with its 95% bootstrap interval over questions."""
        values = self.right[strategy] if rows is None else self.right[strategy][list(rows)]
        draw = Rng(0).child("choice").numpy()
        means = values[draw.integers(len(values), size=(resamples, len(values)))].mean(1)
        return float(values.mean()), float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def choose(
    samples: Sequence[Answer],
    typed: Sequence[Typed],
    probabilities: NDArray[np.float64],
    greedy: Sequence[Answer],
) -> Choice:
    """Right or wrong of each strategy, question by question.

    Args:
        samples: K of every question, judged, with exact answers.
        typed: the questions with their counts; their order is that of the result. Those without a greedy answer are left out:
            its label may be missing.
        probabilities: P(right) of each sample at its exact answer, [samples]; 0 where it is not valid.
        greedy: the greedy answers of the same questions, judged.

    Raises:
        BadInput: no question has a greedy answer, one has no sample, or there is not one probability per sample.

    Source: the paper (arXiv 2410.02707), section on detecting the correct answer.
    """
    if len(probabilities) != len(samples):
        raise BadInput(f"{len(samples)} samples need as many probabilities; got {len(probabilities)}.")
    first = {answer.id: answer.z for answer in greedy}
    typed = [question for question in typed if question.id in first]
    if not typed:
        raise BadInput(
            "No question with samples has a greedy answer. Answer the same questions with `answer`."
        )
    rows: dict[str, list[int]] = {}
    for i, answer in enumerate(samples):
        rows.setdefault(answer.id, []).append(i)
    right: dict[str, list[float]] = {name: [] for name in STRATEGIES}
    chosen = []
    for question in typed:
        if question.id not in rows:
            raise BadInput(f'Question "{question.id}" has no samples.')
        mine = rows[question.id]
        valid = [i for i in mine if samples[i].is_usable]
        best = max(mine, key=lambda i: probabilities[i] if samples[i].is_usable else 0.0)
        right["greedy"].append(first[question.id])
        # The mean over valid samples, in place of one draw.
        right["random"].append(float(np.mean([samples[i].z for i in valid])) if valid else 0.0)
        # Ties count as wrong, as in the paper: the right group must be the larger one.
        right["majority"].append(float(question.counts.correct > question.counts.largest))
        right["probe"].append(samples[best].z)
        right["oracle"].append(float(question.counts.correct > 0))
        chosen.append(samples[best].draw)
    return Choice(
        tuple(question.id for question in typed),
        {name: np.array(values, np.float64) for name, values in right.items()},
        tuple(chosen),
    )


def by_type(choice: Choice, typed: Sequence[Typed], fewest: int = FEWEST) -> dict[str, list[int]]:
    """Type -> rows of its questions, for types that enough questions have; `all` first."""
    groups = {"all": list(range(len(choice.ids)))}
    for kind in TYPES:
        rows = [i for i, question in enumerate(typed) if kind in question.types]
        if len(rows) >= fewest:
            groups[kind] = rows
    return groups
