"""Measurements of one seed: detection, presence, places and erasure on one trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.metrics.ranking import auc
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.methods.vl_lens.captions.captions import Writing, describe
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.erasure.mitigation import Rewritten, Setting, rewrite
from gnomon.methods.vl_lens.erasure.sweep import halves, outcome, sweep_halves, writer
from gnomon.methods.vl_lens.lens.detection import SCORES, Detection, detect, score, truth_of
from gnomon.methods.vl_lens.lens.lens import LensResult, lens
from gnomon.methods.vl_lens.lens.words import random_like, word_vector
from gnomon.methods.vl_lens.mini.models import PROMPT, Scale
from gnomon.methods.vl_lens.mini.world import Scene

ALPHAS = (1.0, 2.0, 4.0, 8.0)
"""Strengths that the sweep tries."""
BOUND = 0.05
"""Share of other correct objects that the chosen setting may lose."""


@dataclass
class Trial:
    """Measurements on one trained model."""

    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    """Arm -> metric -> value, as the claims name them."""
    counts: dict[str, int] = field(default_factory=dict)
    """Images, mentions and the hallucinated ones among them."""
    by_layer: list[dict[str, float]] = field(default_factory=list)
    """Per layer: how well it tells which classes are there, and where."""
    sweep: dict[str, Any] = field(default_factory=dict)
    """As `sweep_halves` returns it."""
    changes: list[tuple[str, Rewritten]] = field(default_factory=list)
    """Captions of the half that measured, with their hallucinated object erased by the chosen setting."""

    def add(self, arm: str, metric: str, value: Any) -> None:
        """One number."""
        self.numbers.setdefault(arm, {})[metric] = float(value)


@dataclass(frozen=True)
class Seen:
    """The model and the images that it is tested on."""

    handle: ModelHandle
    scenes: Sequence[Scene]
    pictures: Sequence[Any]
    vocabulary: Vocabulary

    @classmethod
    def of(cls, handle: ModelHandle, scale: Scale, rng: Rng) -> Seen:
        """Fresh scenes without the prior: no class brings its partner."""
        world = scale.world(partner=0)
        scenes = world.scenes(scale.tests, rng)
        vocabulary = Vocabulary.of([[name] for name in world.classes])
        return cls(handle, scenes, [scene.picture() for scene in scenes], vocabulary)


def measure(seen: Seen, scale: Scale, part: PartOfRun) -> Trial:
    """All measurements, in order."""
    trial = Trial()
    writing = Writing(beams=1, max_new_tokens=2 * scale.objects + 2, batch_size=scale.batch_size)
    captions = describe(seen.handle, seen.pictures, PROMPT, writing)
    _detection(trial, seen, captions, scale)
    read = lens(seen.handle, seen.pictures, PROMPT, seen.vocabulary.names, batch_size=scale.batch_size)
    _presence(trial, seen, read)
    _places(trial, seen, read)
    _erasing(trial, seen, captions, scale, part, writing)
    return trial


def _detection(trial: Trial, seen: Seen, captions: Sequence[str], scale: Scale) -> None:
    """Which mentions are hallucinated: internal confidence against the output probability."""
    by_scene = detect(
        seen.handle,
        seen.pictures,
        captions,
        how=Detection(seen.vocabulary, writing=Writing(batch_size=scale.batch_size)),
        prompt=PROMPT,
    )
    findings = [finding for row in by_scene for finding in row]
    labels = [
        label
        for row, scene in zip(by_scene, seen.scenes, strict=True)
        for label in truth_of(row, scene.names)
    ]
    trial.counts |= {"images": len(seen.scenes), "mentions": len(labels), "hallucinated": sum(labels)}
    arms = dict(
        zip(SCORES, ("internal confidence", "output probability", "mean output probability"), strict=True)
    )
    for name, values in score(findings, labels).items():
        trial.add(arms[name], "AUC of hallucinated mentions", values["auc"])
        trial.add(arms[name], "average precision", values["ap"])
    named = [
        len(set(scene.names) & {*caption.split()})
        for scene, caption in zip(seen.scenes, captions, strict=True)
    ]
    trial.add("captions", "recall", np.mean(named) / scale.objects)


def _presence(trial: Trial, seen: Seen, read: LensResult) -> None:
    """Which of all classes are in the image, by internal confidence alone; over all layers and by each."""
    names = seen.vocabulary.names
    there = np.array([[name in scene.names for name in names] for scene in seen.scenes]).ravel()
    trial.add("internal confidence", "presence AUC", _auc(there, np.asarray(read.confidence)))
    scores = np.stack([np.asarray(of_image) for of_image in read.scores])
    for k, layer in enumerate(read.layers):
        area = _auc(there, scores[:, k].max(1))
        trial.by_layer.append({"layer": int(layer), "presence AUC": area})


def _auc(there: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    area = auc(there, scores.ravel())
    return float("nan") if area is None else area


def _places(trial: Trial, seen: Seen, read: LensResult) -> None:
    """Where clearly drawn objects are: the mask above the mean, and whether the hottest point lies on the object.

    The chance of each is what a mask of everything, and a point anywhere, would reach.
    """
    overlap, both, hits, share = [], [], [], []
    for b, scene in enumerate(seen.scenes):
        for thing in scene.objects:
            if thing.contrast < 1:
                continue
            heat = np.asarray(read.heatmap(b, thing.name))
            mask = heat > heat.mean()
            overlap.append(_iou(mask, thing.mask))
            both.append((overlap[-1] + _iou(~mask, ~thing.mask)) / 2)
            hits.append(thing.mask.ravel()[heat.argmax()])
            share.append(thing.mask.mean())
    trial.add("heat map", "mIoU", np.mean(overlap))
    trial.add("heat map", "mIoU with the background's", np.mean(both))
    trial.add("heat map", "pointing game", np.mean(hits))
    trial.add("chance", "mIoU", np.mean(share))
    trial.add("chance", "pointing game", np.mean(share))


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def _erasing(
    trial: Trial,
    seen: Seen,
    captions: Sequence[str],
    scale: Scale,
    part: PartOfRun,
    writing: Writing,
) -> None:
    """A small sweep on one half of the images; its choice, and the controls, on the other."""
    both = halves(captions, [scene.names for scene in seen.scenes], seen.vocabulary, scale.mentions, part.rng)
    layers = scale.layers
    grid = product(range(2, layers + 1), range(layers - 1), ALPHAS)
    write = writer(seen.handle, seen.pictures, PROMPT, writing)
    trial.sweep = sweep_halves(both, [Setting(*v) for v in grid], write, seen.vocabulary, BOUND, run=part)
    setting = Setting(*(trial.sweep["chosen"][name] for name in ("text_layer", "edit_layer", "alpha")))
    wrong = both[1].hallucinated
    after = write(wrong, setting)
    trial.changes = [
        (f"scene {t.image}", Rewritten.of(t.caption, now, [t.word], seen.vocabulary))
        for t, now in zip(wrong, after, strict=True)
    ]
    draw = part.rng.child("direction")
    random = [
        [random_like(word_vector(seen.handle, t.word, setting.text_layer), draw.child(i))]
        for i, t in enumerate(wrong)
    ]
    beside = rewrite(seen.handle, [seen.pictures[t.image] for t in wrong], PROMPT, random, setting, writing)
    control = outcome(wrong, beside, seen.vocabulary)
    measured = trial.sweep["measured"]
    trial.add("hallucinated", "removed", measured["removed_hallucinated"])
    trial.add("hallucinated", "kept", measured["kept"])
    trial.add("hallucinated", "new", measured["new"])
    trial.add("correct", "removed", measured["removed_correct"])
    trial.add("random direction", "removed", control.removed)
    trial.add("random direction", "kept", control.kept)
    # A difference and not a ratio: a random direction often removes nothing.
    less = measured["removed_hallucinated"] - 3 * control.removed
    trial.add("hallucinated", "removed less 3 x the random direction's", less)
