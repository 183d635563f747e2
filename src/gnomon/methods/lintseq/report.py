"""What each verb shows on its report page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from gnomon.core.data.execute import Totals
from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.methods.lintseq.edits.diffs import line_sets_of, states_of
from gnomon.methods.lintseq.edits.production import EditRecord, LintSeqStep, RandSeqStep

if TYPE_CHECKING:
    from gnomon.core.train import History
    from gnomon.methods.lintseq.models.evaluation import Evaluation
    from gnomon.methods.lintseq.models.training import Examples

SHOWN = 3
"""Edit paths and offences shown in full."""


def production(
    page: Page,
    totals: Totals,
    refusals: Sequence[Mapping[str, Any]],
    rows: Iterable[EditRecord],
    step: LintSeqStep | RandSeqStep,
) -> None:
    """What `generate` and `randseq` made: counts, a few paths to walk through, and why programs were refused."""
    sums = totals.sums
    kind = "Lint-clean edit" if isinstance(step, LintSeqStep) else "Random edit"
    page.title = f"{kind} sequences of {totals.read - totals.rejected:,} programs"
    page.figures(
        {
            "programs": totals.read - totals.rejected,
            "edit sequences": totals.written,
            "edits per sequence": sums.get("edits", 0) / totals.written if totals.written else None,
            "programs refused": totals.rejected,
        }
    )
    if isinstance(step, LintSeqStep) and sums.get("states"):
        page.figures({"lint-clean states": sums["clean"] / sums["states"]})
        page.text(
            f"Linter: `{step.linter}`. {int(sums['lint_calls'])} texts were linted for {totals.written} sequences; "
            "all other states were known or certain."
        )
    page.section("Edit sequences")
    shown = list(islice((row for row in rows if 3 <= len(row.edit_path) <= 12), SHOWN))
    for row in shown:
        page.edit_path(
            states_of(*line_sets_of(row.edit_path)), caption=str(row.meta.get("source_file", row.index))
        )
    if refusals:
        page.section("Refused programs")
        kinds = Counter(str((row["record"] or {}).get("kind", "bad record")) for row in refusals)
        page.table([{"why": kind, "programs": count} for kind, count in kinds.most_common()])
        page.table([{"reason": row["reason"]} for row in refusals[:10]], caption="the first ten")


def audit(page: Page, totals: Totals, rows: Iterable[tuple[str, Mapping[str, Any]]], linter: str) -> None:
    """Page of `check`: clean states, resolve rate and cost."""
    sums = totals.sums
    paths = totals.written
    page.title = f"Audit of {paths:,} edit sequences"
    page.figures(
        {
            "sequences": paths,
            "resolve exactly": sums["exact"] / paths,
            "lint-clean states": sums["clean"] / sums["states"] if sums["states"] else None,
            "edits per sequence": sums["edits"] / paths,
            "target length / program length": sums["target_characters"] / max(sums["program_characters"], 1),
            "sequences with an offence": int(sums["paths_with_offence"]),
            "not auditable": totals.rejected,
        }
    )
    page.text(
        f"Audited with `{linter}`; a state offends when it has an error that its whole program does not have."
    )
    offences = [(raw["index"], raw["offence"]) for _, raw in rows if raw["offence"]]
    if offences:
        page.section("First offences")
        page.table(
            [
                {"program": index, "edit": o["edit"], "line": o["line"], "code": o["code"], "message": o["message"]}
                for index, o in offences[:25]
            ]
        )  # fmt: skip
        for index, o in offences[:SHOWN]:
            page.diff("", o["state"], caption=f"program {index} after edit {o['edit']}: {o['message']}")


def training(page: Page, history: History, examples: Examples, mode: str, epochs: int) -> None:
    """The curve of `train` and what was learned from."""
    losses = history.curve("loss")
    page.title = f"A model trained on {'edit sequences' if mode == 'editseq' else 'whole programs'}"
    page.figures(
        {
            "steps": len(losses),
            "last loss": losses[-1] if losses else None,
            "examples": len(examples.rows),
            "programs": examples.n_groups,
            "target tokens": examples.n_target_tokens,
            "too long": examples.n_truncated,
        }
    )
    page.section("Loss")
    points = [(float(step), loss) for step, loss in enumerate(losses, 1)]
    page.lines({mode: points}, x_label="optimiser step", y_label="loss per target token (nats)")
    page.text(f"At most {epochs} epochs; too long examples lose their end marker and are counted above.")


def samples(page: Page, rows: Sequence[Mapping[str, Any]], mode: str, parameters: int | None) -> None:
    """Page of `sample`: completions and the programs they resolve to."""
    page.title = f"{len(rows):,} completions, {'edit by edit' if mode == 'editseq' else 'as whole programs'}"
    finishes = Counter(row["finish"] for row in rows)
    page.figures(
        {
            "completions": len(rows),
            "tokens per completion": sum(row["generated_tokens"] for row in rows) / max(len(rows), 1),
            "ended by themselves": (len(rows) - finishes["length"]) / max(len(rows), 1),
        }
    )
    if mode == "editseq":
        page.figures(
            {"with a malformed hunk": sum(row["n_malformed"] > 0 for row in rows) / max(len(rows), 1)}
        )
    if parameters is not None:
        page.figures({"parameters": parameters})
    page.section("Completions")
    for row in rows[:SHOWN]:
        page.diff(
            "",
            row["program"] or row["completion"],
            caption=f"{row['task_id']}: {row['prompt'].strip()[:200]}",
        )


def evaluation(page: Page, evaluated: Evaluation, ks: Sequence[int], parameters: int | None) -> None:
    """Page of `eval`: pass@k, diversity, lint errors and FLOPs."""
    page.title = f"{len(evaluated.tasks):,} tasks, {evaluated.n} programs each"
    page.figures(evaluated.summary(ks))
    page.section("pass@k")
    points = []
    for k in ks:
        interval = mean_interval(list(evaluated.pass_at(k)))
        points.append((float(k), interval.estimate, interval.low, interval.high))
    page.lines(
        {"pass@k": points},
        x_label="k",
        y_label="pass@k",
        log_x=True,
        caption="95% bootstrap interval over tasks",
    )
    cost = [
        (evaluated.cost(parameters or 0, int(k)), estimate, low, high) for k, estimate, low, high in points
    ]
    if cost[0][0] > 0:  # the size is known, and the samples say how many tokens they took
        page.lines(
            {"pass@k": cost}, x_label="FLOPs per task", y_label="pass@k", log_x=True, caption="test-time cost"
        )
    page.section("How programs ended")
    endings: Counter[str] = Counter()
    for task in evaluated.tasks:
        endings.update(task.outcomes)
    page.table([{"outcome": name, "programs": count} for name, count in endings.most_common()])
    page.section("Tasks")
    page.table(
        [
            {
                "task": t.task_id,
                "passed": t.passed,
                "samples": t.n,
                "distinct": t.distinct,
                "malformed": t.malformed,
            }
            for t in evaluated.tasks
        ]
    )
