"""Fitting a detector, and measuring it on unseen questions beside the baselines."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import ModelMismatch
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.probes.evaluation import (
    Detector,
    Seeds,
    choose_layer,
    evaluate,
    over_seeds,
    p_true,
)
from gnomon.methods.truth_probes.probes.probe import ErrorProbe, FitOptions, fit_probe
from gnomon.methods.truth_probes.states.dataset import Prepared
from gnomon.methods.truth_probes.states.positions import baselines
from gnomon.methods.truth_probes.states.states import Capture, represent, require_both, split, usable

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle


@dataclass(frozen=True)
class Trained:
    """A detector and its figures."""

    probe: ErrorProbe
    detectors: list[Detector]
    """On the questions set aside: the probe and the baselines."""
    seeds: Seeds
    """The probe under several splits of the questions that it may learn from."""


def train_probe(
    data: Prepared,
    position: str,
    options: FitOptions | None = None,
    *,
    seeds: Sequence[int],
    share: float,
    seed: int,
    handle: ModelHandle | None = None,
    about: Mapping[str, Any] | None = None,
) -> Trained:
    """A detector whose layer was chosen on questions set aside, fitted to all but the tested questions.

    Args:
        data: usable answers with states.
        position: where to read.
        options: of the probes.
        seeds: splits of the questions that are not tested, into those to fit and those to choose on.
        share: of the questions, for testing.
        seed: of the split into tested questions and others.
        handle: asks for P(True); None leaves that out.
        about: further fields of the probe.

    Raises:
        BadInput: too few right or wrong answers to learn from.
    """
    learn, test = split(data.ids, seed, share)
    dev, held = data.take(learn), data.take(test)
    require_both(dev.z, f"{len(set(dev.ids))} questions to learn from")
    chosen = choose_layer(dev.store, dev.z, position, seeds[0], options)
    # With its layer chosen the probe is fitted anew to all answers that are not tested.
    linear = fit_probe(dev.store.at(chosen.layer, position), dev.z, options)
    tasks = sorted({answer.task for answer in data.answers})
    probe = replace(
        chosen, linear=linear, task="+".join(tasks), extract=data.extract, seed=seed, **(about or {})
    )
    detectors = measure(probe, held, handle)
    repeated = over_seeds(dev.store, dev.z, held.store, held.z, position, seeds, options)
    own = next(d for d in detectors if d.name == "probe")
    metrics = {
        **probe.metrics,
        "test AUC": own.auc.value,
        "test interval": [own.auc.low, own.auc.high],
        "test answers": own.auc.n,
        "test right": own.auc.base_rate,
        "AUC over splits": repeated.mean,
        "std over splits": repeated.std,
        "splits": list(seeds),
        **data.dropped,
    }
    return Trained(replace(probe, metrics=metrics), detectors, repeated)


def measure(probe: ErrorProbe, data: Prepared, handle: ModelHandle | None = None) -> list[Detector]:
    """The probe and all baselines on the same answers, the best first.

    Args:
        probe: the detector.
        data: answers with states.
        handle: asks for P(True), with the letters both ways round; None leaves that out.
    """
    scores: dict[str, NDArray[np.float64]] = {"probe": probe.predict(data.store), **baselines(data.answers)}
    p_true_scores = {} if handle is None else _p_true(handle, data.answers)
    return evaluate(data.z, scores | p_true_scores, data.ids, ("probe", *p_true_scores))


def _p_true(handle: ModelHandle, answers: Sequence[Answer]) -> dict[str, NDArray[np.float64]]:
    """P(True) of the whole and of the exact answers, both ways round; nothing where the model cannot be asked."""
    try:
        return {
            f"p(True){'-exact' if exact else ''}{'-swapped' if swapped else ''}": p_true(
                handle, None, answers, exact=exact, swapped=swapped
            )
            for exact in (False, True)
            for swapped in (False, True)
        }
    except ModelMismatch as error:
        log.warning("P(True) is left out: %s", error)
        return {}


def probabilities(
    probe: ErrorProbe, handle: ModelHandle, answers: Sequence[Answer], folder: Path | None = None
) -> NDArray[np.float64]:
    """P(right) of each answer, 0 where it has no exact answer.

    Args:
        probe: the detector.
        handle: the model that it was trained on.
        answers: with exact answers.
        folder: of the caller's own, where states are kept; None: nowhere.

    Raises:
        ModelMismatch: the probe was trained on another model.
    """
    chances = np.zeros(len(answers))
    rows = usable(answers)
    if rows:
        kept = [answers[i] for i in rows]
        store = represent(
            handle,
            None,
            kept,
            Capture(site=probe.site, layers=(probe.layer,), positions=(probe.position,)),
            folder=folder,
            is_own=True,
        )
        chances[rows] = probe.predict(store)
    return chances
