"""The miniature: references follow a policy that the summariser does not know; the extractor learns it, the hints carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.sigext.config import CLAIMS, Mini
from gnomon.methods.sigext.mini import report
from gnomon.methods.sigext.mini.measures import (
    ARMS,
    KS,
    SETTINGS,
    SIMULATOR,
    World,
    build_world,
    study,
    trained_writer,
    write_summaries,
)
from gnomon.methods.sigext.mini.models import SCALES, Scale
from gnomon.methods.sigext.summaries.evaluation import Evaluation

WRITERS = ("trained", "simulated")


@dataclass
class Findings:
    """What all seeds brought."""

    scores: dict[str, dict[str, dict[str, list[Any]]]] = field(default_factory=dict)
    """Writer -> arm -> metric -> per seed a number, or a number per document."""
    ranks: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed and order: how well phrases are found."""
    tuned: list[dict[str, Any]] = field(default_factory=list)
    """Per seed, what `tune-k` would choose."""
    arms: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Writer -> one row per seed and arm."""
    docstrings: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed."""
    shown: dict[str, tuple[World, Any, Evaluation]] = field(default_factory=dict)
    """Of the first seed, by writer: what the page draws."""

    def add(self, writer: str, scores: dict[str, dict[str, Any]]) -> None:
        """One seed's scores."""
        for arm, metrics in scores.items():
            for metric, value in metrics.items():
                self.scores.setdefault(writer, {}).setdefault(arm, {}).setdefault(metric, []).append(value)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    writers = [writer for writer in WRITERS if writer in cfg.parts]
    run.plan(
        seeds=list(seeds),
        extractor_steps=scale.extractor_steps if writers else 0,
        writer_steps=scale.writer_steps if "trained" in cfg.parts else 0,
        summaries=len(writers) * cfg.seeds * scale.test * (len(ARMS) + len(KS)),
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "sigext in miniature: phrases that the references care about"
    if "simulated" in cfg.parts:
        run.page.simulated = True
        run.page.title += " (one of the writers is SIMULATED)"
    found = Findings()
    for seed in seeds:
        if writers:
            _seed(writers, scale, seed, run, found)
        if "docstrings" in cfg.parts:
            from gnomon.methods.sigext.mini.docs import smoke

            row = {"seed": seed, **smoke(scale, seed, run.within(f"seed-{seed}/docstrings"))}
            found.docstrings.append(row)
            run.log(**row)
    verdicts = [] if cfg.scale == "smoke" or not writers else _verdicts(writers, found)
    run.page.verdicts(verdicts)
    report.write(run.page, found)
    numbers = {
        "arms": found.arms,
        "ranks": found.ranks,
        "tuned": found.tuned,
        "docstrings": found.docstrings,
    }
    write_summary(run, cfg, scale, verdicts, numbers, "--parts", *cfg.parts)


def _seed(writers: list[str], scale: Scale, seed: int, run: Run, found: Findings) -> None:
    world = build_world(scale, seed, run.within(f"seed-{seed}/extractor"))
    for name, ranks in world.ranks.items():
        row = {"seed": seed, "order": name, **ranks.figures()}
        found.ranks.append(row)
        run.log(**row)
    found.tuned.append(
        {"seed": seed, "K": world.tuned.k, "percentile": world.tuned.percentile, "tau": world.tau}
    )
    for writer in writers:
        part = run.within(f"seed-{seed}/{writer}")
        part.folder.mkdir(parents=True, exist_ok=True)
        source = trained_writer(scale, part) if writer == "trained" else SIMULATOR
        with part.asking({f"{writer} writer": source}, SETTINGS) as models:
            llm = models[f"{writer} writer"]
            made = write_summaries(world, llm, seed, part.folder / "summaries.json")
        evaluation, scores = study(world, made)
        found.add(writer, scores)
        rows = report.rows_of(evaluation, seed)
        found.arms.setdefault(writer, []).extend(rows)
        for row in rows:
            part.log(**row)
        if seed == run.seed:
            found.shown[writer] = (world, made, evaluation)


def _verdicts(writers: list[str], found: Findings) -> list[Any]:
    """Claims are about the trained writer, and about the simulated one where it is alone."""
    arms = found.scores[writers[0]]
    return [decide(arms, claim) for claim in CLAIMS]
