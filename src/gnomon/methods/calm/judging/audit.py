"""An audit: the plan put to a judge, verdicts stored as they come, conditions stopped early where intervals are narrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnomon.core.metrics.stats import wilson
from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.judges import Judge
from gnomon.methods.calm.judging.plan import CHANGED_DRAW, Plan, plan_audit
from gnomon.methods.calm.judging.trials import PLAIN, Journal, Opinion, Trial, Verdict, verdict_of
from gnomon.methods.calm.measures.cells import SELF
from gnomon.methods.calm.stimuli.items import Cues, Item, load_cues
from gnomon.methods.calm.stimuli.probes import Probe

BLOCK = 50
"""Items between two looks at the intervals, when an audit may stop early."""


def run_trials(
    judge: Judge,
    trials: Sequence[Trial],
    *,
    journal: Journal | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """The verdict on each trial, in order; those in the journal are not asked again, but for failed ones.

    Args:
        judge: the judge.
        trials: to be judged.
        journal: stores every verdict as it comes.
        on_verdict: called with every verdict, those of the journal first.

    Raises:
        BudgetSpent: the budget ended; verdicts until then are in the journal.
        LLMFailure: the judge answers nothing.
    """
    verdicts: dict[str, Verdict] = {}
    for trial in trials:
        if journal is not None and (row := journal.verdict_on(trial)) is not None:
            verdicts[trial.key] = row
            if on_verdict is not None:
                on_verdict(row)
    missing = [trial for trial in trials if trial.key not in verdicts]

    def keep(i: int, opinion: Opinion) -> None:
        trial = missing[i]
        row = journal.add(trial, opinion) if journal is not None else verdict_of(judge.name, trial, opinion)
        verdicts[trial.key] = row
        if on_verdict is not None:
            on_verdict(row)

    if missing:
        judge.judge(missing, keep)
    return [verdicts[trial.key] for trial in trials]


def run_plan(
    judge: Judge,
    plan: Plan,
    *,
    journal: Journal | None = None,
    stop_width: float | None = None,
    on_verdict: Callable[[Verdict], None] | None = None,
) -> list[Verdict]:
    """The verdicts of a plan.

    Args:
        judge: the judge.
        plan: its trials.
        journal: as in `run_trials`.
        stop_width: when given, a condition is not asked further once the 95% interval of its consistency reaches no further than
            this to either side. The rule looks at the width alone, never at the effect.
        on_verdict: as in `run_trials`.
    """
    if stop_width is None:
        return run_trials(judge, plan.trials, journal=journal, on_verdict=on_verdict)
    verdicts: list[Verdict] = []
    narrow: set[tuple[str, str, str]] = set()
    items = list(dict.fromkeys((trial.set, trial.item) for trial in plan.trials))
    for start in range(0, len(items), BLOCK):
        block = set(items[start : start + BLOCK])
        rows = [
            trial for trial in plan.trials if (trial.set, trial.item) in block and _cell(trial) not in narrow
        ]
        left = {(trial.set, trial.item) for trial in rows if trial.probe != PLAIN}
        rows = [
            trial for trial in rows if (trial.set, trial.item) in left
        ]  # plain runs serve the changed ones
        verdicts += run_trials(judge, rows, journal=journal, on_verdict=on_verdict)
        narrow |= _narrow(verdicts, stop_width)
    return verdicts


@dataclass(frozen=True)
class Design:
    """Repeats, layout and stopping rule of an audit."""

    repeats: int = 2
    """Independent plain draws of every item; the noise floor comes from them."""
    note_after: bool = True
    """Whether remarks stand after the answers, else in the instruction."""
    stop_width: float | None = None
    """Stop a condition once its consistency is known to within this on either side. None: ask all items."""


def audit(
    judge: Judge,
    items: Sequence[Item],
    probes: Sequence[Probe],
    *,
    cues: Cues | None = None,
    rng: Rng | None = None,
    design: Design | None = None,
    journal: Path | None = None,
) -> list[Verdict]:
    """All verdicts of one judge on the items under the probes, as `analyze` takes them.

    Args:
        judge: the judge that is audited.
        items: the items, of any sets.
        probes: the biases, from `chosen_probes` or your own.
        cues: the stimuli; None: the room's.
        rng: slots, cues and draws.
        design: repeats and stopping; None takes the defaults.
        journal: file of the verdicts so far, for an audit that may be stopped.
    """
    cues = cues or load_cues()
    rng = rng or Rng(0)
    design = design or Design()
    plan = plan_audit(
        items, probes, cues, rng, repeats=design.repeats, reads=judge.reads, note_after=design.note_after
    )
    kept = None if journal is None else Journal(journal, judge.name)
    try:
        return run_plan(judge, plan, journal=kept, stop_width=design.stop_width)
    finally:
        if kept is not None:
            kept.close()


def _cell(row: Trial | Verdict) -> tuple[str, str, str]:
    return row.set, row.probe, row.condition


def _narrow(verdicts: Sequence[Verdict], width: float) -> set[tuple[str, str, str]]:
    """Conditions whose consistency has an interval of at most `width` to either side."""
    plain = {
        (row.set, row.item): row.choice
        for row in verdicts
        if row.probe == PLAIN and row.draw == 0 and not row.condition
    }
    counts: dict[tuple[str, str, str], list[int]] = {}
    for row in verdicts:
        before = plain.get((row.set, row.item))
        if (
            row.probe == PLAIN
            or row.kind != "pair"
            or row.choice is None
            or before is None
            or len(row.slots) > 2
        ):
            continue
        counts.setdefault(_cell(row), []).append(row.choice == before)
    cells = set()
    for cell, same in counts.items():
        low, high = wilson(sum(same), len(same))
        if len(same) >= BLOCK and (high - low) / 2 < width:
            cells.add(cell)
    return cells


# Self-enhancement: every judge scores the answers of every judge, without their authors


def scoring_trials(
    items: Sequence[Item], answers: Mapping[str, Sequence[str | None]]
) -> tuple[list[Trial], dict[str, int]]:
    """The trials that every judge is given, and the items left out: two authors gave the same answer, or one gave none.

    The better answer of the item is shown as a reference; the author of the scored answer is not shown.

    Args:
        items: items with the questions.
        answers: author -> answer to each item, in the order of `items`.
    """
    trials, dropped = [], {"same answer": 0, "no answer": 0}
    for i, item in enumerate(items):
        by_author = {author: texts[i] for author, texts in answers.items()}
        if any(text is None for text in by_author.values()):
            dropped["no answer"] += 1
            continue
        if len({(text or "").strip() for text in by_author.values()}) < len(by_author):
            dropped["same answer"] += 1
            continue
        trials += [_trial(item, author, text or "") for author, text in by_author.items()]
    return trials, dropped


def _trial(item: Item, author: str, text: str) -> Trial:
    return Trial(
        item=item.id,
        set=item.set,
        probe=SELF,
        condition=author,
        draw=CHANGED_DRAW,
        slots=(0,),
        question=item.question,
        answers=(text,),
        kind="score",
        reference=item.answers[0],
    )
