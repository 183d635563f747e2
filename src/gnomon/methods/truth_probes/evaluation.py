"""How good detectors are: AUC with its interval, decisions, and what is gained over the model's own probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.metrics.ranking import Auc, auc, auc_interval
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.probe import ErrorProbe
from gnomon.methods.truth_probes.splits import split
from gnomon.methods.truth_probes.states import RepStore

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """What one detector reached on one set of answers."""

    name: str
    auc: Auc
    """Of P(right) against the label."""
    decided: Mapping[str, float | None]
    """Accuracy and the like at a threshold of one half; empty for scores that are no probabilities."""

    @property
    def row(self) -> dict[str, Any]:
        """For tables; |AUC| is the AUC or one minus it, whichever is larger."""
        value = self.auc.value
        return {
            "detector": self.name,
            "AUC": self.auc.cell,
            "|AUC|": None if value is None else max(value, 1 - value),
            "std": self.auc.std,
            "n": self.auc.n,
            "right": self.auc.base_rate,
            **self.decided,
        }


def detector(
    name: str,
    z: ArrayLike,
    scores: ArrayLike,
    ids: Sequence[str] | None = None,
    *,
    is_probability: bool = False,
) -> Detector:
    """The figures of one detector.

    Args:
        name: what it is called.
        z: labels, 1 for right, [N].
        scores: higher for more likely right, [N].
        ids: the questions; answers to one question are drawn together.
        is_probability: whether one half decides.
    """
    return Detector(name, auc_interval(z, scores, ids), decisions(z, scores) if is_probability else {})


def decisions(z: ArrayLike, probabilities: ArrayLike) -> dict[str, float | None]:
    """Accuracy, what it gains over always saying the larger class, and precision, recall and F1 of finding errors.

    >>> decisions([1, 1, 0, 0], [0.9, 0.3, 0.2, 0.1])["recall of errors"]
    1.0
    """
    truth, wrong = np.asarray(z) == 0, np.asarray(probabilities, np.float64) < 0.5
    hits, found, there = int((truth & wrong).sum()), int(wrong.sum()), int(truth.sum())
    accuracy = float((truth == wrong).mean())
    precision, recall = hits / found if found else None, hits / there if there else None
    f1 = 2 * hits / (found + there) if found + there else None
    return {
        "accuracy": accuracy,
        "over majority": accuracy - max(float(truth.mean()), 1 - float(truth.mean())),
        "precision of errors": precision,
        "recall of errors": recall,
        "F1 of errors": f1,
    }


def evaluate(
    z: ArrayLike,
    scores: Mapping[str, ArrayLike],
    ids: Sequence[str] | None = None,
    probabilities: Sequence[str] = (),
) -> list[Detector]:
    """The figures of several detectors on the same answers, the best AUC first.

    Args:
        z: labels, [N].
        scores: name -> scores, [N].
        ids: the questions.
        probabilities: names of those that give probabilities of being right.

    Raises:
        BadInput: there are no answers, or lengths differ.
    """
    if not len(np.asarray(z)):
        raise BadInput("There is no answer with a label and an exact answer to evaluate on.")
    found = [
        detector(name, z, values, ids, is_probability=name in probabilities)
        for name, values in scores.items()
    ]
    return sorted(found, key=lambda one: -1.0 if one.auc.value is None else one.auc.value, reverse=True)


@dataclass(frozen=True)
class Seeds:
    """What probes reached under several splits: trained on 80% of the questions, layer chosen on the others, tested elsewhere."""

    mean: float | None
    std: float | None
    layers: tuple[int, ...]
    """The layer that each split chose."""
    seeds: tuple[int, ...]


def over_seeds(
    train: RepStore,
    z_train: ArrayLike,
    test: RepStore,
    z_test: ArrayLike,
    position: str,
    seeds: Sequence[int],
    **options: Any,
) -> Seeds:
    """The paper's protocol at one position: per seed a split, the layer by validation, and one resample of the test questions.

    Args:
        train: states to train and validate on.
        z_train: their labels.
        test: states of other questions.
        z_test: their labels.
        position: where to read.
        seeds: one split and one resample each.
        **options: for the probes: `C`, `scale`, `max_iter`.
    """
    from gnomon.methods.truth_probes.grid import fit_cells

    labels, found, layers = np.asarray(z_train, np.int64), [], []
    for seed in seeds:
        probe = choose_layer(train, labels, position, seed, fit=fit_cells, **options)
        rows = _resample([key[0] for key in test.keys], seed)
        value = auc(np.asarray(z_test)[rows], probe.predict_proba(test.at(probe.layer, position)[rows]))
        layers.append(probe.layer)
        found.append(np.nan if value is None else value)
    values = np.array(found)
    if np.isnan(values).all():
        return Seeds(None, None, tuple(layers), tuple(seeds))
    return Seeds(float(np.nanmean(values)), float(np.nanstd(values)), tuple(layers), tuple(seeds))


def choose_layer(
    store: RepStore,
    z: ArrayLike,
    position: str,
    seed: int,
    *,
    fit: Any = None,
    share: float = 0.2,
    **options: Any,
) -> ErrorProbe:
    """The probe of the layer that does best on the questions set aside for choosing, fitted to the others.

    Raises:
        BadInput: a class is missing among the answers to train on.
    """
    from gnomon.methods.truth_probes.grid import fit_cells, score_cells

    labels = np.asarray(z, np.int64)
    one = RepStore(
        store.states[:, :, [store.positions.index(position)]],
        store.model_id, store.model_key, store.site, store.layers, (position,), store.keys,
    )  # fmt: skip
    train, valid = split([key[0] for key in store.keys], seed, share)
    probes = (fit or fit_cells)(one, labels, train, **options)
    table = score_cells(probes, one, labels, valid)[:, 0]
    best = store.layers[int(np.where(np.isnan(table), -1.0, table).argmax())]
    chosen = None if np.isnan(table).all() else float(np.nanmax(table))
    return ErrorProbe.of(
        probes[best, position], store, best, position, seed=seed, metrics={"validation AUC": chosen}
    )


def _resample(ids: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Rows of questions drawn with replacement."""
    names = sorted(set(ids))
    rows: dict[str, list[int]] = {name: [] for name in names}
    for i, name in enumerate(ids):
        rows[name].append(i)
    draw = Rng(seed).child("resample").numpy().integers(len(names), size=len(names))
    return np.array([row for i in draw for row in rows[names[i]]])
