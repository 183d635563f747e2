"""The miniature: a small LLaVA aligned in two stages, read, edited and measured on scenes whose objects are known."""

from __future__ import annotations

from typing import Any

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.vl_lens.config import CLAIMS, Mini
from gnomon.methods.vl_lens.mini import report
from gnomon.methods.vl_lens.mini.measures import Seen, Trial, measure
from gnomon.methods.vl_lens.mini.models import SCALES, train


def mini(cfg: Mini, run: Run) -> None:
    """Train and measure a model for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    run.plan(
        seeds=list(seeds),
        steps_of_the_language_model=scale.stage1,
        steps_of_the_image_side=scale.stage2,
        images_per_step=scale.batch_size,
        test_images=scale.tests,
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "vl-lens in miniature: read, localise and erase what image tokens say"
    trials: dict[int, Trial] = {}
    for seed in seeds:
        handle = ModelHandle.load(train(scale, run, seed), kind="vlm", device=scale.device)
        part = run.within(f"seed-{seed}/trial")
        part.rng = Rng(seed).child("trial")
        seen = Seen.of(handle, scale, part.rng.child("test"))
        trials[seed] = measure(seen, scale, part)
        for arm, numbers in trials[seed].numbers.items():
            run.log(seed=seed, arm=arm, **numbers)
        if seed == run.seed:
            report.look_inside(run.page, seen)
            run.artifact("model", run.folder / f"seed-{seed}" / "model")
    scores = _scores(trials.values())
    verdicts = [decide(scores, claim) for claim in CLAIMS] if cfg.scale != "smoke" else []
    run.page.verdicts(verdicts)
    report.results(run.page, trials, scores)
    by_seed = {
        seed: {"numbers": t.numbers, "counts": t.counts, "by_layer": t.by_layer, "sweep": t.sweep}
        for seed, t in trials.items()
    }
    write_summary(run, cfg, scale, verdicts, {"seeds": by_seed})


def _scores(trials: Any) -> dict[str, dict[str, list[float]]]:
    """Arm -> metric -> a number per seed."""
    scores: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        for arm, numbers in trial.numbers.items():
            for metric, value in numbers.items():
                scores.setdefault(arm, {}).setdefault(metric, []).append(value)
    return scores
