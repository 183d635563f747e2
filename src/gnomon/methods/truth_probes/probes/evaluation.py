"""Figures of detectors: AUC with its interval, decisions at one half, the paper's protocol over seeds, and P(True)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from gnomon.core.files import room_file
from gnomon.core.metrics.ranking import Auc, auc, auc_interval
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.truth_probes.answers.answers import Answer
from gnomon.methods.truth_probes.probes.grid import fit_cells, score_cells
from gnomon.methods.truth_probes.probes.probe import ErrorProbe, FitOptions
from gnomon.methods.truth_probes.states.states import RepStore, split

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """Figures of one detector on one set of answers."""

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
    """Figures of one detector.

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
    hits, flagged, errors = int((truth & wrong).sum()), int(wrong.sum()), int(truth.sum())
    accuracy = float((truth == wrong).mean())
    precision, recall = hits / flagged if flagged else None, hits / errors if errors else None
    f1 = 2 * hits / (flagged + errors) if flagged + errors else None
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
    """Figures of several detectors on the same answers, the best AUC first.

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
    detectors = [
        detector(name, z, values, ids, is_probability=name in probabilities)
        for name, values in scores.items()
    ]
    return sorted(detectors, key=lambda d: -1.0 if d.auc.value is None else d.auc.value, reverse=True)


@dataclass(frozen=True)
class Seeds:
    """AUC of probes under several splits: trained on 80% of the questions, layer chosen on the others, tested elsewhere."""

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
    options: FitOptions | None = None,
) -> Seeds:
    """The paper's protocol at one position: per seed a split, the layer by validation, and one resample of the test questions.

    Args:
        train: states to train and validate on.
        z_train: their labels.
        test: states of other questions.
        z_test: their labels.
        position: where to read.
        seeds: one split and one resample each.
        options: of the probes.

    Source: the paper (arXiv 2410.02707), appendix on implementation: 80/20 splits, layer by validation, bootstrap of the test set.
    """
    labels, aucs, layers = np.asarray(z_train, np.int64), [], []
    for seed in seeds:
        probe = choose_layer(train, labels, position, seed, options)
        rows = _resample([key[0] for key in test.keys], seed)
        value = auc(np.asarray(z_test)[rows], probe.predict_proba(test.at(probe.layer, position)[rows]))
        layers.append(probe.layer)
        aucs.append(np.nan if value is None else value)
    values = np.array(aucs)
    # A resample may hold one class only; it is left out of mean and deviation.
    if np.isnan(values).all():
        return Seeds(None, None, tuple(layers), tuple(seeds))
    return Seeds(float(np.nanmean(values)), float(np.nanstd(values)), tuple(layers), tuple(seeds))


def choose_layer(
    store: RepStore,
    z: ArrayLike,
    position: str,
    seed: int,
    options: FitOptions | None = None,
    share: float = 0.2,
) -> ErrorProbe:
    """The probe of the layer that does best on the questions set aside for choosing, fitted to the others.

    Raises:
        BadInput: a class is missing among the answers to train on.
    """
    labels = np.asarray(z, np.int64)
    at_position = RepStore(
        store.states[:, :, [store.positions.index(position)]],
        store.model_id, store.model_key, store.site, store.layers, (position,), store.keys,
    )  # fmt: skip
    train, valid = split([key[0] for key in store.keys], seed, share)
    probes = fit_cells(at_position, labels, train, options)
    table = score_cells(probes, at_position, labels, valid)[:, 0]
    # An undefined AUC counts as the worst; of equals the lowest layer is taken.
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


# P(True).


def p_true(
    model: Any,
    tokenizer: Any,
    answers: Sequence[Answer],
    *,
    exact: bool = False,
    swapped: bool = False,
    batch_size: int = 16,
) -> NDArray[np.float64]:
    """Probability of "True" against "False" for each answer, [N].

    Args:
        model: a `ModelHandle`, or a causal transformers model.
        tokenizer: its tokenizer; None with a handle.
        answers: what the model wrote.
        exact: ask about the exact answer in place of the whole one.
        swapped: `(A) False (B) True`: some models like one letter whatever it means.
        batch_size: prompts read side by side.

    Raises:
        ModelMismatch: the tokenizer writes both letters as the same token.

    Source: Kadavath et al., "Language Models (Mostly) Know What They Know" (2022).
    """
    from gnomon.core.models import as_handle
    from gnomon.core.models.sampling.decoding import read_prompts
    from gnomon.core.models.sampling.text import padding_id

    handle = as_handle(model, tokenizer)
    prompts, letters = zip(
        *(_prompt(handle.processor, answer, exact, swapped) for answer in answers), strict=True
    )
    room = getattr(handle.model.config.get_text_config(), "max_position_embeddings", None)
    probabilities = np.empty(len(prompts))
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        # A prompt that is too long loses its beginning: the question with its two letters stands at the end.
        rows = [prompts[i] if room is None else prompts[i][-room:] for i in part]
        with torch.no_grad():
            logits = read_prompts(handle.model, rows, part, padding_id(handle.processor)).logits
        pairs = torch.tensor([letters[i] for i in part], device=logits.device)
        chosen = logits.float().gather(-1, pairs).softmax(-1)[:, 0]
        probabilities[part] = chosen.cpu().numpy()
    return probabilities


def _prompt(tokenizer: Any, answer: Answer, exact: bool, swapped: bool) -> tuple[list[int], tuple[int, int]]:
    """Token ids up to the letter, and the letters' ids: True first. They are read off the whole text, so that spaces are right."""
    template = room_file(__name__, "prompts/p_true.txt").read_text("utf-8").rstrip("\n")
    text_of_answer = answer.exact_answer if exact else answer.answer.strip()
    text = template.format(
        question=answer.question,
        answer=text_of_answer,
        a="False" if swapped else "True",
        b="True" if swapped else "False",
    )
    a, b = (tokenizer(text + letter)["input_ids"] for letter in "AB")
    first = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if first is None:
        raise ModelMismatch(
            "The tokenizer writes A and B as the same token; P(True) cannot be asked of this model."
        )
    return a[:first], (b[first], a[first]) if swapped else (a[first], b[first])
