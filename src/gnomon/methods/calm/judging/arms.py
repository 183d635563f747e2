"""The arms of an audit: judges and their mitigations, put to the plan, with what is added to their profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.files import artifact
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.run import Run
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.calm.judging.audit import Design, run_plan, run_trials, scoring_trials
from gnomon.methods.calm.judging.judges import Judge
from gnomon.methods.calm.judging.mitigations import MITIGATIONS, AskFirst, Panel, mitigated
from gnomon.methods.calm.judging.plan import Plan, plan_audit
from gnomon.methods.calm.judging.references import JudgeOptions, judge_of, source_of
from gnomon.methods.calm.judging.trials import Journal, Verdict, open_journals, seats_of
from gnomon.methods.calm.measures.cells import SELF
from gnomon.methods.calm.measures.profile import Profile
from gnomon.methods.calm.stimuli.collection import Dropped
from gnomon.methods.calm.stimuli.items import Cues, Item
from gnomon.methods.calm.stimuli.probes import Probe

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.core.llm.roles import Models
    from gnomon.core.log import Advances
    from gnomon.methods.calm.config import Kind


@dataclass
class Materials:
    """Items, biases and stimuli of an audit."""

    items: list[Item]
    probes: list[Probe]
    cues: Cues
    named: frozenset[str] = frozenset()
    """Biases that the user named: one that cannot be measured is an error."""
    notes: list[str] = field(default_factory=list)
    """Notes for the report, such as rows that were left out."""
    dropped: Dropped = field(default_factory=Dropped)
    """Rows that became no items."""

    def plan(
        self,
        design: Design,
        run: Run,
        reads: frozenset[str] | None = None,
        seats: Mapping[tuple[str, str], tuple[int, ...]] | None = None,
    ) -> Plan:
        """The plan of the audit, the same for every judge with the same `reads`; `seats` as in `plan_audit`."""
        return plan_audit(
            self.items,
            self.probes,
            self.cues,
            run.rng.child("audit"),
            repeats=design.repeats,
            reads=reads,
            note_after=design.note_after,
            seats=seats,
        )


PROMPT_TOKENS = 250
"""Tokens of a prompt around the texts of an item, rather high than low."""

CALLS = {"swap": 2, "rotate": 2, "detect": 2}
"""Mitigation -> calls for each trial, where it is more than one."""


@dataclass(frozen=True)
class Judges:
    """The judges of an audit, by reference, and how they are asked."""

    refs: tuple[str, ...]
    kind: Kind = "pairwise"
    options: JudgeOptions = field(default_factory=JudgeOptions)
    mitigations: tuple[str, ...] = ()
    """Of `MITIGATIONS`, and `panel`."""
    concurrency: int = 8
    """Requests under way at once."""

    def sources(self) -> dict[str, Any]:
        """Role -> what `run.asking` opens.

        Raises:
            BadConfig: no judge is named, one twice, or a mitigation is misspelt.
        """
        if not self.refs:
            raise BadConfig(
                "No judge is named. Give one with --judge, such as openai:MODEL, hf:FOLDER or embedded:smollm2."
            )
        if len(set(self.refs)) < len(self.refs):
            raise BadConfig("A judge is named twice.")
        for name in self.mitigations:
            if name not in (*MITIGATIONS, "panel"):
                raise BadConfig(f'There is no mitigation "{name}". {nearest(name, [*MITIGATIONS, "panel"])}')
        roles = ["judge"] if len(self.refs) == 1 else [f"judge {i}" for i in range(1, len(self.refs) + 1)]
        return {
            role: source_of(ref, self.kind, self.options) for role, ref in zip(roles, self.refs, strict=True)
        }

    def cost(self, plan: Plan, materials: Materials, llm: LLMConfig) -> dict[str, Any]:
        """What a dry run says: calls, tokens and money at most, of judges that are asked in words."""
        if self.kind not in ("pairwise", "pointwise"):
            return {}
        judges = max(1, len(self.refs))
        per_trial = sum(CALLS.get(name, 1) for name in self.mitigations if name != "panel") + 1
        calls = tokens = 0
        for trial in plan.trials:
            each = len(trial.answers) if self.kind == "pointwise" else 1
            texts = (trial.question, *trial.answers, trial.note, trial.earlier)
            calls += each
            tokens += sum(map(estimated_tokens, texts)) + each * PROMPT_TOKENS
        calls, tokens = calls * per_trial * judges, tokens * per_trial * judges
        if judges > 1 and any(probe.name == SELF for probe in materials.probes):
            items = [item for item in materials.items if item.set == "alignment"]
            questions = sum(estimated_tokens(item.question) + PROMPT_TOKENS for item in items)
            # Every judge answers, and every judge scores all answers beside a reference.
            calls += len(items) * judges * (1 + judges)
            tokens += questions * judges * (1 + judges) + 2 * self.options.max_tokens * len(items) * judges**2
        return llm.cost(calls, tokens, calls * self.options.max_tokens)

    def arms(self, models: Mapping[str, Any]) -> list[Arm]:
        """The judges themselves, then each mitigation of each, then the panel.

        Args:
            models: what was opened for `sources`.

        Raises:
            BadConfig: two judges have the same name.
        """
        plain: list[Arm] = []
        for role, model in models.items():
            judge = judge_of(model, self.kind, self.options, concurrency=self.concurrency)
            if any(arm.judge.name == judge.name for arm in plain):
                raise BadConfig(f'Two judges are called "{judge.name}". Give their files different names.')
            plain.append(Arm(judge, role))
        names = [name for name in self.mitigations if name != "panel"]
        around = [Arm(mitigated(arm.judge, name), is_plain=False) for arm in plain for name in names]
        if "panel" in self.mitigations:
            around.append(Arm(Panel([arm.judge for arm in plain]), is_plain=False))
        return plain + around


@dataclass
class Arm:
    """One judge of an audit, plain or with a mitigation."""

    judge: Judge
    role: str | None = None
    """The judge's role among the models of the run; None for a judge around another one."""
    is_plain: bool = True
    """Whether it has no mitigation."""


def audit_arms(
    arms: Sequence[Arm], materials: Materials, design: Design, run: Run
) -> tuple[list[Verdict], dict[str, dict[str, str]]]:
    """Put the plan to every arm; the verdicts, and for each judge bias -> why it was not measured.

    Raises:
        BadConfig: biases were named and one of them cannot be measured.
    """
    reads = arms[0].judge.reads
    for name in sorted(materials.named & set(skipped_first := materials.plan(design, run, reads).skipped)):
        raise BadConfig(f'The bias "{name}" cannot be measured: {skipped_first[name]}.')
    wants_self = any(probe.name == SELF for probe in materials.probes)
    verdicts: list[Verdict] = []
    skipped: dict[str, dict[str, str]] = {}
    journals = open_journals(run.folder / "journal", [arm.judge.name for arm in arms])
    try:
        seats = seats_of(journals)
        plans = [materials.plan(design, run, arm.judge.reads, seats) for arm in arms]
        with run.progress(sum(len(plan.trials) for plan in plans), "verdicts") as bar:
            tally = _Tally(bar)
            for arm, plan, journal in zip(arms, plans, journals, strict=True):
                verdicts += run_plan(
                    arm.judge, plan, journal=journal, stop_width=design.stop_width, on_verdict=tally.count
                )
                skipped[arm.judge.name] = dict(plan.skipped)
        if wants_self:
            verdicts += _score_answers(arms, materials, journals, skipped)
    finally:
        for journal in journals:
            journal.close()
    if not verdicts:
        reasons = skipped[arms[0].judge.name]
        raise BadInput(
            f"Nothing was measured: {'; '.join(f'{name}: {why}' for name, why in reasons.items())}."
        )
    return verdicts, skipped


class _Tally:
    """Progress that counts verdicts that could be read, and shows how many could not."""

    def __init__(self, bar: Advances) -> None:
        self._bar, self._missing = bar, 0

    def count(self, row: Verdict) -> None:
        """Count one verdict."""
        self._missing += row.status != "ok"
        self._bar.advance(int(row.status == "ok"), **({"without": self._missing} if self._missing else {}))


def _score_answers(
    arms: Sequence[Arm],
    materials: Materials,
    journals: Sequence[Journal],
    skipped: dict[str, dict[str, str]],
) -> list[Verdict]:
    """Let every judge answer and every judge score all answers; where that cannot be, enter the reason in `skipped`."""
    plain = [(arm, journal) for arm, journal in zip(arms, journals, strict=True) if arm.is_plain]
    items = [item for item in materials.items if item.set == "alignment"]
    reason = None
    if len(plain) < 2:
        reason = "self-enhancement needs two judges or more"
    elif not all(hasattr(arm.judge, "answer") for arm, _ in plain):
        reason = "these judges give no answers of their own"
    elif not items:
        reason = "no items of the alignment set"
    if reason is not None:
        if SELF in materials.named:
            raise BadConfig(f'The bias "{SELF}" cannot be measured: {reason}.')
        for arm in arms:
            skipped[arm.judge.name][SELF] = reason
        return []
    answers = {arm.judge.name: arm.judge.answer([item.question for item in items]) for arm, _ in plain}  # type: ignore[attr-defined]
    trials, dropped = scoring_trials(items, answers)
    for name, n in dropped.items():
        if n:
            materials.notes.append(f"Self-enhancement: {n} items left out ({name}).")
    if not trials:
        reason = (
            f"nothing to measure: of {len(items)} items two judges gave the same answer to {dropped['same answer']}, and one gave "
            f"none to {dropped['no answer']}; nobody could tell whose an answer is. Take judges of different models, or a higher "
            "--temperature"
        )
        for arm in arms:
            skipped[arm.judge.name][SELF] = reason
        return []
    verdicts: list[Verdict] = []
    for arm, journal in plain:
        verdicts += run_trials(arm.judge, trials, journal=journal)
    for arm in arms:
        if not arm.is_plain:
            skipped[arm.judge.name][SELF] = "measured for the judges themselves"
    return verdicts


def complete_profiles(
    profiles: Sequence[Profile],
    arms: Sequence[Arm],
    models: Models,
    materials: Materials,
    skipped: dict[str, dict[str, str]],
) -> None:
    """Add to profiles what verdicts do not hold: calls and cost, skipped biases, and the writers of the rewrites."""
    by_name = {arm.judge.name: arm for arm in arms}
    writers = {rewrite.writer for item in materials.items for rewrite in item.rewrites}
    authors = {name.lower() for item in materials.items for name in item.authors}
    for profile in profiles:
        arm = by_name[profile.judge]
        profile.is_simulated = arm.judge.is_simulated
        profile.skipped = skipped.get(profile.judge, {}) | profile.skipped
        profile.notes += materials.notes
        if arm.role is not None:
            profile.calls = models.figures(arm.role)
        if profile.judge in writers:
            profile.notes.append(
                f"{profile.judge} wrote rewrites that it judges here: it may favour its own hand. Use another writer."
            )
        if {profile.judge.lower(), model_name(profile.judge).lower()} & authors:
            profile.notes.append(
                f"{profile.judge} wrote answers that it judges here: it may favour its own hand. Use answers of other models."
            )
        if isinstance(arm.judge, AskFirst):
            shares = ", ".join(
                f"{name} {yes / of:.0%}" for name, (yes, of) in arm.judge.suspected.items() if of
            )
            profile.notes.append(f"Asked first whether something tries to sway it, it said yes: {shares}.")


def model_name(ref: str) -> str:
    """The model's own name in a reference.

    >>> [model_name(ref) for ref in ("openai:gpt-4o@http://host/v1", "http://host/v1#m", "hf:Qwen/Qwen2", "named")]
    ['gpt-4o', 'm', 'Qwen/Qwen2', 'named']
    """
    scheme, _, rest = ref.partition(":")
    return ref.rpartition("#")[2] if scheme in ("http", "https") else (rest or scheme).partition("@")[0]


def read_verdicts(sources: Sequence[str | Path]) -> list[Verdict]:
    """The verdicts of several runs or files."""
    return [row for source in sources for row in records.read(_verdict_file(source), Verdict)]


def _verdict_file(source: str | Path) -> str | Path:
    path = Path(source)
    return artifact(path, "records") if path.exists() else source
