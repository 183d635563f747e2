"""The miniature: a small LLaVA aligned in two stages, read, edited and measured on scenes whose objects are known."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gnomon.core.models import ModelHandle
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.vl_lens.config import CLAIMS, Mini
from gnomon.methods.vl_lens.mini import report
from gnomon.methods.vl_lens.mini.measures import Seen, measure
from gnomon.methods.vl_lens.mini.models import SCALES, Scale, train


def mini(cfg: Mini, run: Run) -> None:
    """Train and measure a model for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    return {
        "steps_of_the_language_model": scale.stage1,
        "steps_of_the_image_side": scale.stage2,
        "images_per_step": scale.batch_size,
        "test_images": scale.tests,
    }


def _seed(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """One model and all its measurements."""
    folder = out.artifact("model", train(scale, part))
    handle = ModelHandle.load(folder, kind="vlm", device=scale.device)
    inner = part.within("trial", part.rng.child("trial"))
    seen = Seen.of(handle, scale, inner.rng.child("test"))
    trial = measure(seen, scale, inner)
    for arm, numbers in trial.numbers.items():
        out.log(arm=arm, **numbers)
        for metric, value in numbers.items():
            out.score(arm, metric, value)
            if math.isnan(value):
                out.undefine(arm, metric, "Too few mentions of a kind.")
    out.keep("trials", trial)
    out.show("seen", seen)


def _summary(results: Results) -> Mapping[str, object]:
    trials = dict(zip(results.seeds, results.kept["trials"], strict=True))
    return {
        "seeds": {
            seed: {
                "numbers": trial.numbers,
                "counts": trial.counts,
                "by_layer": trial.by_layer,
                "sweep": trial.sweep,
            }
            for seed, trial in trials.items()
        }
    }


STUDY = Study(
    title="vl-lens in miniature: read, localise and erase what image tokens say",
    claims=CLAIMS,
    scales=SCALES,
    parts={"": Part(_seed)},
    plan=_plan,
    page=report.write,
    summary=_summary,
)
