"""The verbs: settings in, objects built, files out. `import_` is the verb `import`, which Python keeps for itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import write_json
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.methods.calm import config, report
from gnomon.methods.calm.judging.arms import (
    PROMPT_TOKENS,
    Judges,
    Materials,
    audit_arms,
    complete_profiles,
    read_verdicts,
)
from gnomon.methods.calm.judging.audit import Design
from gnomon.methods.calm.judging.formats import import_log, write_inspect, write_lm_eval
from gnomon.methods.calm.judging.references import JudgeOptions
from gnomon.methods.calm.judging.trials import PLAIN, Verdict, commonest_reason, count_read
from gnomon.methods.calm.measures.analysis import Options
from gnomon.methods.calm.measures.analysis import analyze as measure
from gnomon.methods.calm.measures.comparison import compare as side_by_side
from gnomon.methods.calm.measures.profile import Profile, power_table
from gnomon.methods.calm.planted import study as planted
from gnomon.methods.calm.planted.validation import validate as audit_planted
from gnomon.methods.calm.stimuli.collection import Skipped
from gnomon.methods.calm.stimuli.data import read_items
from gnomon.methods.calm.stimuli.items import Item, load_cues
from gnomon.methods.calm.stimuli.probes import chosen_probes
from gnomon.methods.calm.stimuli.rewrites import TRIES, WriterOptions, orders_of, write


def perturb(cfg: config.Perturb, run: Run) -> None:
    """Rewritten answers for the biases that need them, each checked."""
    materials = _materials(cfg)
    rng = run.rng.child("perturb")
    orders = sum(
        len(orders_of(item, probe, materials.cues, rng.child(probe.name, item.id)))
        for item in materials.items
        for probe in materials.probes
    )
    tries = TRIES if cfg.writer else 1
    run.plan(
        items=len(materials.items),
        rewrites=orders,
        writer_calls_at_most=orders * tries if cfg.writer else 0,
        checker_calls_at_most=orders * tries if cfg.checker else 0,
        **_writing_cost(cfg, materials, orders, tries),
    )

    roles = {"writer": cfg.writer or None, "checker": cfg.checker or None}
    with (
        run.asking(roles, cfg.llm, folder=run.folder) as models,
        run.progress(orders, "rewrites") as bar,
    ):
        done = write(
            materials.items,
            materials.probes,
            materials.cues,
            rng,
            llm=models["writer"],
            checker=models["checker"],
            options=WriterOptions(cfg.llm.concurrency, cfg.temperature),
            on_progress=bar.advance,
        )
    records.write(run.artifact("records", run.folder / "items.jsonl"), done.items)
    records.write(run.artifact("dropped", run.folder / "dropped.jsonl"), done.dropped)
    _write_skipped(run, materials.dropped.skipped)
    examples = {rewrite.probe: (item, rewrite) for item in reversed(done.items) for rewrite in item.rewrites}
    report.written(
        run.page, done.written, len(done.items), done.rejected, done.dropped, list(examples.values())
    )
    if materials.notes:
        run.page.text("\n".join(f"- {note}" for note in materials.notes))
    if cfg.export:
        _export(run, done.items, materials)
    run.log(
        rewrites=done.written,
        dropped=len(done.dropped),
        **{f"rejected: {k}": n for k, n in done.rejected.items()},
    )


def audit(cfg: config.Audit, run: Run) -> None:
    """The biases of one judge or several, measured."""
    materials = _materials(cfg)
    judges = max(1, len(cfg.judge))
    design = Design(cfg.repeats, cfg.note == "after", cfg.stop_width)
    options = JudgeOptions(
        cfg.style, cfg.ties, cfg.template, cfg.temperature, cfg.max_tokens, cfg.llm.too_long
    )
    refs = Judges(cfg.judge, cfg.kind, options, cfg.mitigate, cfg.llm.concurrency)
    plan = materials.plan(design, run)
    run.plan(
        items=plan.items,
        skipped=plan.skipped,
        trials_per_judge=len(plan.trials),
        judges=judges,
        arms=judges * (1 + len([name for name in cfg.mitigate if name != "panel"]))
        + ("panel" in cfg.mitigate),
        **refs.cost(plan, materials, cfg.llm),
    )
    with run.asking(refs.sources(), cfg.llm, folder=run.folder) as models:
        arms = refs.arms(models)
        verdicts, skipped = audit_arms(arms, materials, design, run)
    profiles = measure(verdicts, _options(cfg), run.rng.child("intervals"))
    complete_profiles(profiles, arms, models, materials, skipped)
    records.write(run.artifact("records", run.folder / "verdicts.jsonl"), verdicts)
    _write_skipped(run, materials.dropped.skipped)
    _save(run, profiles)
    report.profiles(run.page, profiles)
    _count_verdicts(run, verdicts)


def import_(cfg: config.Import, run: Run) -> None:
    """A log of another tool as verdicts, or the released data as items."""
    if cfg.format == "calm":
        _import_items(cfg, run)
        return
    verdicts, skipped = import_log(cfg.source, cfg.format)
    run.plan(verdicts=len(verdicts))
    records.write(run.artifact("records", run.folder / "verdicts.jsonl"), verdicts)
    run.page.title = f"{len(verdicts):,} verdicts of {cfg.format}"
    judges = dict.fromkeys(row.judge for row in verdicts)
    missing = sum(row.choice is None for row in verdicts)
    figures = {"verdicts": len(verdicts), "judges": len(judges), "not read": missing}
    run.page.figures(figures | ({"rows skipped": len(skipped)} if skipped else {}))
    run.page.text(f"Judges: {', '.join(judges)}. Go on with `gnomon calm analyze {run.folder.name}`.")
    if all(row.probe == PLAIN for row in verdicts):
        run.page.text(
            "Every pair was judged in one order only, so that nothing can be held against anything: no bias is measured. "
            "Put the pairs before a judge with `gnomon calm audit`, which reads this file too where it holds the answers."
        )
    _write_skipped(run, skipped)


def _import_items(cfg: config.Import, run: Run) -> None:
    """Items of the released layout, or of any that `audit` reads."""
    items, dropped = read_items(cfg.source, keep_nsfw=cfg.keep_nsfw)
    run.plan(items=len(items))
    records.write(run.artifact("records", run.folder / "items.jsonl"), items)
    run.page.title = f"{len(items):,} items"
    counts = Counter(
        (item.set, rewrite.probe, rewrite.condition) for item in items for rewrite in item.rewrites
    )
    rows = [
        {"set": a, "bias": b, "condition": c, "rows that have it": n}
        for (a, b, c), n in sorted(counts.items())
    ]
    run.page.table(rows, caption="rewrites in the data; a condition is measured on the rows that have it")
    run.page.table([dropped.counts], caption="rows that became no item of their own")
    run.page.figures({"items": len(items), **dropped.counts})
    _write_skipped(run, dropped.skipped)


def analyze(cfg: config.Analyze, run: Run) -> None:
    """Profiles from verdicts that are there already."""
    verdicts = read_verdicts([cfg.source])
    run.plan(verdicts=len(verdicts))

    profiles = measure(verdicts, _options(cfg), run.rng.child("intervals"))
    _mark_simulated(profiles)
    _save(run, profiles)
    report.profiles(run.page, profiles)


def compare(cfg: config.Compare, run: Run) -> None:
    """Judges side by side, on the items that both judged."""
    verdicts = read_verdicts([cfg.left, cfg.right, *cfg.more])
    run.plan(verdicts=len(verdicts), judges=len({row.judge for row in verdicts}))

    compared = side_by_side(verdicts, _options(cfg), run.rng.child("intervals"))
    _mark_simulated(compared.profiles)
    write_json(
        run.artifact("comparison", run.folder / "comparison.json"),
        {"contrasts": [vars(contrast) for contrast in compared.contrasts], "swaps": compared.swaps},
    )
    _save(run, compared.profiles)
    report.comparison(run.page, compared)


def validate(cfg: config.Validate, run: Run) -> None:
    """Planted biases, found again or not."""
    run.plan(audits=cfg.audits, items=cfg.n, calls=cfg.through_text and 20 * cfg.through_text)

    audits = audit_planted(cfg.audits, cfg.n, run.rng.child("validate"))
    report.validation(run.page, audits, cfg.audits, cfg.n)
    numbers: dict[str, Any] = {"audits": vars(audits) | {"covered": audits.rows()}}
    if cfg.through_text:
        study = planted.through_text(cfg.through_text, run.rng.child("text"), run)
        planted.show(run.page, study)
        numbers["through text"] = study.summary()
    write_json(run.artifact("validation", run.folder / "validation.json"), numbers)


def power(cfg: config.Power, run: Run) -> None:
    """Intervals and power for a number of items."""
    run.plan(items=cfg.n)

    report.power(run.page, power_table(cfg.n, cfg.rr, cfg.cr, cfg.effects))


def _options(cfg: config.Counting) -> Options:

    return Options(cfg.half_ties, cfg.paper_version, cfg.smallest)


def _materials(cfg: config.Items) -> Materials:
    """Items, probes and cues of the settings."""
    probes, cues = chosen_probes(cfg.bias), load_cues(cfg.cues)
    items, dropped = read_items(
        cfg.source, set=cfg.set, keep_nsfw=cfg.keep_nsfw, keep_duplicates=cfg.keep_duplicates
    )
    if cfg.limit is not None:
        counts: Counter[str] = Counter()
        kept = []
        for item in items:
            counts[item.set] += 1
            if counts[item.set] <= cfg.limit:
                kept.append(item)
        items = kept
    notes = []
    if dropped.duplicates:
        notes.append(f"{dropped.duplicates} rows repeat a question and were left out (--keep-duplicates).")
    if dropped.explicit:
        notes.append(
            f"{dropped.explicit} rows whose source names explicit content were left out (--keep-nsfw)."
        )
    if dropped.skipped:
        notes.append(
            f"{len(dropped.skipped)} rows or files could not be used and were left out (skipped.jsonl): "
            f"{dropped.skipped[0].reason}"
        )
    named = {part.strip() for name in cfg.bias for part in name.split(",")} - {"all"}
    return Materials(items, probes, cues, frozenset(named), notes, dropped)


def _write_skipped(run: Run, skipped: Sequence[Skipped]) -> None:
    """The rows and files that could not be used, each with its name and the reason."""
    if skipped:
        records.write(run.artifact("skipped", run.folder / "skipped.jsonl"), skipped)


def _writing_cost(cfg: config.Perturb, materials: Materials, orders: int, tries: int) -> dict[str, Any]:
    """What writer and checker cost at most: each order is one answer of an item, tried so often."""
    roles = [role for role in (cfg.writer, cfg.checker) if role]
    texts = [text for item in materials.items for text in (item.question, *item.answers[:2])]
    mean = sum(map(estimated_tokens, texts)) / max(1, len(materials.items)) + PROMPT_TOKENS
    calls = orders * tries * len(roles)
    return cfg.llm.cost(calls, calls * mean, calls * mean) if roles else {}


MOST_UNREAD = 0.5
"""Largest share of the replies that may hold no verdict; with more an audit has measured nothing, and fails."""


def _count_verdicts(run: Run, verdicts: Sequence[Verdict]) -> None:
    """How many verdicts could be read, by judge, with the commonest reason of the others; in the title where some are missing."""
    by_judge: dict[str, list[Verdict]] = {}
    for row in verdicts:
        by_judge.setdefault(row.judge, []).append(row)
    for judge, rows in by_judge.items():
        counted = count_read(rows)
        name = "verdicts" if len(by_judge) == 1 else f"verdicts of {judge}"
        run.page.figures({name: counted})
        # Failed replies are recorded with the model, and so are prompts that were too long for one that is asked; not for one
        # that is read here, whose rows say how many tokens they have.
        came = [row for row in rows if row.status not in ("failed", "too_long")]
        unread = [row for row in came if row.status != "ok"]
        long = [row for row in rows if row.status == "too_long" and row.tokens_in]
        if long:
            reason = f"{long[0].text}, such as {long[0].item}."
            run.missing(Shortfall(name, len(long), len(rows), reason, 1.0, is_final=True))
        if unread:  # the same command asks for them again
            run.missing(Shortfall(name, len(unread), len(came), commonest_reason(unread), MOST_UNREAD))


def _save(run: Run, profiles: Sequence[Profile]) -> None:
    """One file a judge; the first is `profile.json`."""
    for i, profile in enumerate(profiles, 1):
        name = "profile" if i == 1 else f"profile-{i}"
        profile.save(run.artifact(name, run.folder / f"{name}.json"))
        run.rewind(judge=profile.judge)  # of the run before, where this one goes on
        for cell in profile.cells:
            run.log(
                judge=profile.judge, bias=cell.probe, condition=cell.condition, n=cell.n, rr=cell.rr, bis=cell.bis,
                shift=cell.shift, q=cell.q, word=cell.word,
            )  # fmt: skip


def _mark_simulated(profiles: Sequence[Profile]) -> None:
    """In a log the judge's name is all that shows a simulator."""
    for profile in profiles:
        profile.is_simulated |= "sim:" in profile.judge


def _export(run: Run, items: list[Item], materials: Materials) -> None:
    """Write the prompts of an audit for other harnesses."""
    plan = replace(materials, items=items).plan(Design(), run)
    write_inspect(run.artifact("inspect", run.folder / "inspect.jsonl"), plan.trials)
    folder: Path = run.folder / "lm_eval"
    write_lm_eval(folder, plan.trials)
    run.artifact("lm_eval", folder)
