"""The miniature: references follow a policy that the summariser does not know; the extractor learns it, the hints carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.sigext.config import CLAIMS, Mini
from gnomon.methods.sigext.mini import report
from gnomon.methods.sigext.mini.measures import (
    ARMS,
    KS,
    SETTINGS,
    SIMULATOR,
    World,
    build_world,
    measure_writer,
    train_on_docstrings,
    trained_writer,
    write_summaries,
)
from gnomon.methods.sigext.mini.world import SCALES, Scale

WRITERS = ("trained", "simulated")


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    study(cfg).run(cfg, run)


def study(cfg: Mini) -> Study:
    """The study that the settings choose. Claims are about the trained writer, and about the simulated one where it is alone."""
    title = "sigext in miniature: phrases that the references care about"
    is_simulated = "simulated" in cfg.parts
    writer = "simulated" if is_simulated and "trained" not in cfg.parts else "trained"
    worlds: dict[int, World] = {}
    return Study(
        title=f"{title} (one of the writers is SIMULATED)" if is_simulated else title,
        simulated=is_simulated,
        claims=[replace(claim, part=writer) for claim in CLAIMS],
        scales=SCALES,
        parts={
            **{writer: Part(partial(_writer, writer, worlds)) for writer in WRITERS},
            "docstrings": Part(_docstrings),
        },
        plan=_plan,
        page=report.write,
        summary=_summary,
    )


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    writers = sum(writer in cfg.parts for writer in WRITERS)
    return {
        "extractor_steps": scale.extractor_steps if writers else 0,
        "writer_steps": scale.writer_steps if "trained" in cfg.parts else 0,
        "summaries": writers * cfg.seeds * scale.test * (len(ARMS) + len(KS)),
    }


def _writer(
    writer: str, worlds: dict[int, World], scale: Scale, seed: int, part: PartOfRun, out: Out
) -> None:
    """Summaries of one writer with the phrases of every arm; both writers of a seed share its extractor."""
    if seed not in worlds:
        worlds[seed] = _new_world(scale, seed, part, out)
    world = worlds[seed]
    inner = part.within(writer)
    inner.folder.mkdir(parents=True, exist_ok=True)
    source = trained_writer(scale, inner) if writer == "trained" else SIMULATOR
    with inner.asking({f"{writer} writer": source}, SETTINGS) as models:
        llm = models[f"{writer} writer"]
        summaries = write_summaries(world, llm, seed, inner.folder / "summaries.json")
    evaluation, scores = measure_writer(world, summaries)
    for arm, metrics in scores.items():
        for metric, value in metrics.items():
            if value == []:
                out.undefine(arm, metric, "no phrase was shown")
            else:
                out.score(arm, metric, value)
    rows = report.rows_of(evaluation)
    out.add(report.arms_of(writer), *rows)
    for row in rows:
        inner.log(seed=seed, **row)
    out.show(writer, (world, summaries, evaluation))


def _new_world(scale: Scale, seed: int, part: PartOfRun, out: Out) -> World:
    world = build_world(scale, seed, part.within("extractor"))
    for order, ranks in world.ranks.items():
        row = {"order": order, **ranks.figures()}
        out.add("ranks", row)
        out.log(**row)
    out.add("tuned", {"K": world.tuned.k, "percentile": world.tuned.percentile, "tau": world.tau})
    return world


def _docstrings(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Real text, without claims."""
    row = train_on_docstrings(scale, seed, part.within("docstrings"))
    out.add("docstrings", row)
    out.log(**row)


def _summary(results: Results) -> Mapping[str, object]:
    arms = {writer: results.rows.get(report.arms_of(writer)) for writer in WRITERS}
    return {
        "arms": {writer: rows for writer, rows in arms.items() if rows},
        **{table: results.rows.get(table, []) for table in ("ranks", "tuned", "docstrings")},
    }
