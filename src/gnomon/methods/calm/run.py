"""The verbs: settings in, objects built, files out. `import_` is the verb `import`, which Python keeps for itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import write_json
from gnomon.core.run import Run
from gnomon.methods.calm import config


def perturb(cfg: config.Perturb, run: Run) -> None:
    """Rewritten answers for the biases that need them, each checked."""
    from gnomon.methods.calm.judging.arms import asked
    from gnomon.methods.calm.stimuli.rewrites import TRIES, orders_of, write

    given = asked(cfg)
    rng = run.rng.child("perturb")
    orders = sum(
        len(orders_of(item, probe, given.cues, rng.child(probe.name, item.id)))
        for item in given.items
        for probe in given.probes
    )
    tries = TRIES if cfg.writer else 1
    run.plan(
        items=len(given.items),
        rewrites=orders,
        writer_calls_at_most=orders * tries if cfg.writer else 0,
        checker_calls_at_most=orders * tries if cfg.checker else 0,
    )
    from gnomon.methods.calm import report

    roles = {"writer": cfg.writer or None, "checker": cfg.checker or None}
    with (
        run.asking(roles, cfg.llm, folder=run.folder) as models,
        run.progress(orders, "rewrites") as bar,
    ):
        found = write(
            given.items,
            given.probes,
            given.cues,
            rng,
            llm=models["writer"],
            checker=models["checker"],
            concurrency=cfg.llm.concurrency,
            temperature=cfg.temperature,
            on_progress=bar.advance,
        )
    records.write(run.artifact("records", run.folder / "items.jsonl"), found.items)
    records.write(run.artifact("dropped", run.folder / "dropped.jsonl"), found.dropped)
    examples = {one.probe: (item, one) for item in reversed(found.items) for one in item.rewrites}
    report.written(
        run.page, found.made, len(found.items), found.rejected, found.dropped, list(examples.values())
    )
    if given.notes:
        run.page.text("\n".join(f"- {note}" for note in given.notes))
    if cfg.export:
        _export(run, found.items, given)
    run.log(
        rewrites=found.made,
        dropped=len(found.dropped),
        **{f"rejected: {k}": n for k, n in found.rejected.items()},
    )


def audit(cfg: config.Audit, run: Run) -> None:
    """The biases of one judge or several, measured."""
    from gnomon.methods.calm.judging.arms import (
        arms_of,
        asked,
        audited,
        complete_profiles,
        judges_of,
        plan_of,
    )

    given = asked(cfg)
    judges = max(1, len(cfg.judge))
    plan = plan_of(cfg, given, run)
    run.plan(
        items=plan.items,
        skipped=plan.skipped,
        trials_per_judge=len(plan.trials),
        judges=judges,
        arms=judges * (1 + len([name for name in cfg.mitigate if name != "panel"]))
        + ("panel" in cfg.mitigate),
        characters_per_judge=lambda: sum(
            sum(map(len, trial.answers)) + len(trial.question) for trial in plan.trials
        ),
    )
    with run.asking(judges_of(cfg), cfg.llm, folder=run.folder) as models:
        arms = arms_of(cfg, models)
        verdicts, skipped = audited(cfg, given, arms, run)
    from gnomon.methods.calm import report
    from gnomon.methods.calm.measures.analysis import analyze

    found = analyze(verdicts, _options(cfg), run.rng.child("intervals"))
    complete_profiles(found, arms, models, given, skipped)
    records.write(run.artifact("records", run.folder / "verdicts.jsonl"), verdicts)
    _save(run, found)
    report.profiles(run.page, found)


def import_(cfg: config.Import, run: Run) -> None:
    """A log of another tool as verdicts, or the released data as items."""
    from gnomon.methods.calm.judging.formats import import_log
    from gnomon.methods.calm.stimuli.data import read_items

    if cfg.format == "calm":
        items, dropped = read_items(cfg.source, keep_nsfw=cfg.keep_nsfw)
        run.plan(items=len(items))
        records.write(run.artifact("records", run.folder / "items.jsonl"), items)
        run.page.title = f"{len(items):,} items of the released layout"
        counts: dict[tuple[str, str, str], int] = {}
        for item in items:
            for one in item.rewrites:
                key = (item.set, one.probe, one.condition)
                counts[key] = counts.get(key, 0) + 1
        rows = [
            {"set": a, "bias": b, "condition": c, "rows that have it": n}
            for (a, b, c), n in sorted(counts.items())
        ]
        run.page.table(rows, caption="rewrites in the data; a condition is measured on the rows that have it")
        run.page.table([vars(dropped)], caption="rows left out")
        run.page.figures(
            {"items": len(items), "duplicates": dropped.duplicates, "explicit": dropped.explicit}
        )
        return
    verdicts = import_log(cfg.source, cfg.format)
    run.plan(verdicts=len(verdicts))
    records.write(run.artifact("records", run.folder / "verdicts.jsonl"), verdicts)
    run.page.title = f"{len(verdicts):,} verdicts of {cfg.format}"
    judges = dict.fromkeys(row.judge for row in verdicts)
    missing = sum(row.choice is None for row in verdicts)
    run.page.figures({"verdicts": len(verdicts), "judges": len(judges), "not read": missing})
    run.page.text(f"Judges: {', '.join(judges)}. Go on with `gnomon calm analyze {run.folder.name}`.")


def analyze(cfg: config.Analyze, run: Run) -> None:
    """Profiles from verdicts that are there already."""
    from gnomon.methods.calm.judging.arms import read_verdicts

    verdicts = read_verdicts([cfg.source])
    run.plan(verdicts=len(verdicts))
    from gnomon.methods.calm import report
    from gnomon.methods.calm.measures.analysis import analyze as measure

    found = measure(verdicts, _options(cfg), run.rng.child("intervals"))
    _mark_simulated(found)
    _save(run, found)
    report.profiles(run.page, found)


def compare(cfg: config.Compare, run: Run) -> None:
    """Judges side by side, on the items that both judged."""
    from gnomon.methods.calm.judging.arms import read_verdicts

    verdicts = read_verdicts([cfg.left, cfg.right, *cfg.more])
    run.plan(verdicts=len(verdicts), judges=len({row.judge for row in verdicts}))
    from gnomon.methods.calm import report
    from gnomon.methods.calm.measures.comparison import compare as side_by_side

    found = side_by_side(verdicts, _options(cfg), run.rng.child("intervals"))
    _mark_simulated(found.profiles)
    write_json(
        run.artifact("comparison", run.folder / "comparison.json"),
        {"contrasts": [vars(one) for one in found.contrasts], "swaps": found.swaps},
    )
    _save(run, found.profiles)
    report.comparison(run.page, found)


def validate(cfg: config.Validate, run: Run) -> None:
    """Planted biases, found again or not."""
    run.plan(audits=cfg.audits, items=cfg.n, calls=cfg.through_text and 20 * cfg.through_text)
    from gnomon.methods.calm import report
    from gnomon.methods.calm.planted import study as planted
    from gnomon.methods.calm.planted.validation import validate as many

    found = many(cfg.audits, cfg.n, run.rng.child("validate"))
    report.validation(run.page, found, cfg.audits, cfg.n)
    told: dict[str, Any] = {"audits": vars(found) | {"covered": found.rows()}}
    if cfg.through_text:
        study = planted.through_text(cfg.through_text, run.rng.child("text"), run)
        planted.show(run.page, study)
        told["through text"] = study.summary()
    write_json(run.artifact("validation", run.folder / "validation.json"), told)


def power(cfg: config.Power, run: Run) -> None:
    """What a number of items can show."""
    run.plan(items=cfg.n)
    from gnomon.methods.calm import report
    from gnomon.methods.calm.measures.profile import power_table

    report.power(run.page, power_table(cfg.n, cfg.rr, cfg.cr, cfg.effects))


def _options(cfg: config.Counting) -> Any:
    from gnomon.methods.calm.measures.analysis import Options

    return Options(cfg.half_ties, cfg.paper_version, cfg.smallest)


def _save(run: Run, found: Sequence[Any]) -> None:
    """One file a judge; the first is `profile.json`."""
    for i, one in enumerate(found, 1):
        name = "profile" if i == 1 else f"profile-{i}"
        one.save(run.artifact(name, run.folder / f"{name}.json"))
        for cell in one.cells:
            run.log(
                judge=one.judge, bias=cell.probe, condition=cell.condition, n=cell.n, rr=cell.rr, bis=cell.bis, shift=cell.shift,
                q=cell.q, word=cell.word,
            )  # fmt: skip


def _mark_simulated(found: Sequence[Any]) -> None:
    """A log tells by the judge's name that it is a simulator's."""
    for one in found:
        one.is_simulated |= "sim:" in one.judge


def _export(run: Run, items: Sequence[Any], given: Any) -> None:
    from gnomon.methods.calm.judging.formats import write_inspect, write_lm_eval
    from gnomon.methods.calm.judging.plan import plan_audit

    plan = plan_audit(items, given.probes, given.cues, run.rng.child("audit"))
    write_inspect(run.artifact("inspect", run.folder / "inspect.jsonl"), plan.trials)
    folder: Path = run.folder / "lm_eval"
    write_lm_eval(folder, plan.trials)
    run.artifact("lm_eval", folder)
