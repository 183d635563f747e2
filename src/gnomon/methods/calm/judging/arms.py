"""What the verbs share: items, judges one after another with their journals, and self-enhancement over all of them.

Judges by reference, as the command line names them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.run import Run
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.calm import config
from gnomon.methods.calm.judging.audit import run_plan, run_trials, scoring_trials
from gnomon.methods.calm.judging.judges import FunctionJudge, Judge, PairwiseJudge, PointwiseJudge
from gnomon.methods.calm.judging.mitigations import MITIGATIONS, Panel, mitigated
from gnomon.methods.calm.judging.plan import Plan, plan_audit
from gnomon.methods.calm.judging.prompts import Prompting, read_template
from gnomon.methods.calm.judging.trials import Journal, Verdict
from gnomon.methods.calm.measures.profile import Profile
from gnomon.methods.calm.stimuli.data import read_items
from gnomon.methods.calm.stimuli.items import Cues, Item, load_cues
from gnomon.methods.calm.stimuli.probes import Probe, chosen_probes

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.core.llm.roles import Models
    from gnomon.methods.calm.config import Kind

SELF = "self-enhancement"


@dataclass
class Asked:
    """An audit's ingredients."""

    items: list[Item]
    """The items."""
    probes: list[Probe]
    """The biases."""
    cues: Cues
    """The stimuli."""
    notes: list[str] = field(default_factory=list)
    """What was left out."""


def asked(cfg: config.Items) -> Asked:
    """Items, probes and cues of the settings."""
    probes, cues = chosen_probes(cfg.bias), load_cues(cfg.cues)
    items, dropped = read_items(
        cfg.source, set=cfg.set, keep_nsfw=cfg.keep_nsfw, keep_duplicates=cfg.keep_duplicates
    )
    if cfg.limit is not None:
        seen: Counter[str] = Counter()
        kept = []
        for item in items:
            seen[item.set] += 1
            if seen[item.set] <= cfg.limit:
                kept.append(item)
        items = kept
    notes = []
    if dropped.duplicates:
        notes.append(f"{dropped.duplicates} rows repeat a question and were left out (--keep-duplicates).")
    if dropped.explicit:
        notes.append(f"{dropped.explicit} rows of sexual content were left out (--keep-nsfw).")
    return Asked(items, probes, cues, notes)


@dataclass
class Arm:
    """One judge of an audit, plain or with a mitigation."""

    judge: Judge
    """Who judges."""
    role: str | None = None
    """The judge's role among the models of the run; None for a judge around another one."""
    is_plain: bool = True
    """Whether nothing is around it."""


def judges_of(cfg: config.Audit) -> dict[str, Any]:
    """The judges of the settings by their roles, as `run.asking` takes them.

    Raises:
        BadConfig: no judge is named, one twice, or a mitigation is misspelt.
    """
    if not cfg.judge:
        raise BadConfig("No judge is named. Give one with --judge, such as openai:MODEL or hf:FOLDER.")
    if len(set(cfg.judge)) < len(cfg.judge):
        raise BadConfig("A judge is named twice.")
    for name in cfg.mitigate:
        if name not in (*MITIGATIONS, "panel"):
            mitigated_error(name)
    options: dict[str, Any] = {
        "ties": cfg.ties,
        "template": cfg.template,
        "temperature": cfg.temperature,
    }
    roles = ["judge"] if len(cfg.judge) == 1 else [f"judge {i}" for i in range(1, len(cfg.judge) + 1)]
    return {role: source_of(ref, cfg.kind, **options) for role, ref in zip(roles, cfg.judge, strict=True)}


def arms_of(cfg: config.Audit, models: Mapping[str, Any]) -> list[Arm]:
    """The judges of the settings, and each mitigation of each.

    Args:
        cfg: the settings.
        models: what was opened for `judges_of`.

    Raises:
        BadConfig: two judges have the same name.
    """
    arms: list[Arm] = []
    for role, model in models.items():
        judge = judge_of(
            model,
            cfg.kind,
            style=cfg.style,
            ties=cfg.ties,
            template=cfg.template,
            temperature=cfg.temperature,
            max_tokens=cfg.max_tokens,
            concurrency=cfg.llm.concurrency,
        )
        if any(arm.judge.name == judge.name for arm in arms):
            raise BadConfig(f'Two judges are called "{judge.name}". Give their files different names.')
        arms.append(Arm(judge, role))
    plain = list(arms)
    names = [name for name in cfg.mitigate if name != "panel"]
    arms += [Arm(mitigated(arm.judge, name), is_plain=False) for arm in plain for name in names]
    if "panel" in cfg.mitigate:
        arms.append(Arm(Panel([arm.judge for arm in plain]), is_plain=False))
    return arms


def mitigated_error(name: str) -> None:
    """Say that there is no such mitigation.

    Raises:
        BadConfig: always.
    """
    from gnomon.errors import nearest

    raise BadConfig(f'There is no mitigation "{name}". {nearest(name, [*MITIGATIONS, "panel"])}')


def plan_of(cfg: config.Audit, given: Asked, run: Run, reads: frozenset[str] | None = None) -> Plan:
    """The plan of the settings, the same for every judge that reads the same."""
    return plan_audit(
        given.items,
        given.probes,
        given.cues,
        run.rng.child("audit"),
        repeats=cfg.repeats,
        reads=reads,
        note_after=cfg.note == "after",
    )


def audited(
    cfg: config.Audit, given: Asked, arms: Sequence[Arm], run: Run
) -> tuple[list[Verdict], dict[str, dict[str, str]]]:
    """The verdicts of every arm, and what each left out.

    Raises:
        BadConfig: biases were named and one of them cannot be measured.
    """
    plans = [plan_of(cfg, given, run, arm.judge.reads) for arm in arms]
    named = {part.strip() for name in cfg.bias for part in name.split(",")} - {"all"}
    for name in sorted(named & set(plans[0].skipped)):
        raise BadConfig(f'The bias "{name}" cannot be measured: {plans[0].skipped[name]}.')
    wants_self = any(probe.name == SELF for probe in given.probes)
    verdicts: list[Verdict] = []
    skipped: dict[str, dict[str, str]] = {}
    journals = [Journal(run.folder / "journal" / f"{i}.jsonl", arm.judge.name) for i, arm in enumerate(arms)]
    try:
        with run.progress(sum(len(plan.trials) for plan in plans), "verdicts") as bar:
            for arm, plan, journal in zip(arms, plans, journals, strict=True):
                verdicts += run_plan(
                    arm.judge, plan, journal=journal, stop_width=cfg.stop_width, on_verdict=bar.advance
                )
                skipped[arm.judge.name] = dict(plan.skipped)
        if wants_self:
            verdicts += _scored_across(cfg, given, arms, journals, skipped, named, run)
    finally:
        for journal in journals:
            journal.close()
    return verdicts, skipped


def _scored_across(
    cfg: config.Audit,
    given: Asked,
    arms: Sequence[Arm],
    journals: Sequence[Journal],
    skipped: dict[str, dict[str, str]],
    named: set[str],
    run: Run,
) -> list[Verdict]:
    """Every judge answers, every judge scores; or the reason why not, for each arm."""
    plain = [(arm, journal) for arm, journal in zip(arms, journals, strict=True) if arm.is_plain]
    items = [item for item in given.items if item.set == "alignment"]
    reason = None
    if len(plain) < 2:
        reason = "self-enhancement needs two judges or more"
    elif not all(hasattr(arm.judge, "answer") for arm, _ in plain):
        reason = "these judges give no answers of their own"
    elif not items:
        reason = "no items of the alignment set"
    if reason is not None:
        if SELF in named:
            raise BadConfig(f'The bias "{SELF}" cannot be measured: {reason}.')
        for arm in arms:
            skipped[arm.judge.name][SELF] = reason
        return []
    answers = {arm.judge.name: arm.judge.answer([item.question for item in items]) for arm, _ in plain}  # type: ignore[attr-defined]
    trials, dropped = scoring_trials(items, answers)
    for name, n in dropped.items():
        if n:
            given.notes.append(f"Self-enhancement: {n} items left out ({name}).")
    verdicts: list[Verdict] = []
    for arm, journal in plain:
        verdicts += run_trials(arm.judge, trials, journal=journal)
    for arm in arms:
        if not arm.is_plain:
            skipped[arm.judge.name][SELF] = "measured for the judges themselves"
    return verdicts


def complete_profiles(
    found: Sequence[Profile],
    arms: Sequence[Arm],
    models: Models,
    given: Asked,
    skipped: dict[str, dict[str, str]],
) -> None:
    """Put what the audit knows beside what the verdicts say: faults, cost, reasons, and who wrote the rewrites."""
    from gnomon.methods.calm.judging.mitigations import AskFirst

    by_name = {arm.judge.name: arm for arm in arms}
    writers = {one.writer for item in given.items for one in item.rewrites}
    authors = {name.lower() for item in given.items for name in item.authors}
    for profile in found:
        arm = by_name[profile.judge]
        profile.is_simulated = arm.judge.is_simulated
        profile.skipped = skipped.get(profile.judge, {}) | profile.skipped
        profile.notes += given.notes
        if arm.role is not None:
            profile.asked = models.figures(arm.role)
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
    from gnomon.core.files import artifact

    path = Path(source)
    return artifact(path, "records") if path.exists() else source


# Judges by reference, as the command line names them.


def open_judge(
    ref: str,
    kind: Kind = "pairwise",
    *,
    style: str = "brackets",
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    llm: LLMConfig | None = None,
    folder: Path | None = None,
) -> Judge:
    """The judge that a reference names, for use outside of a run; a verb takes `source_of` and `judge_of`.

    Args:
        ref: a language model as in `gnomon.core.llm.open_llm`; for `logit` and `reward` a folder or hub id, with or without
            `hf:`; for `function` `module:function` or
            `path/to/file.py:function`.
        kind: how it judges.
        style: how its verdicts are written.
        ties: whether it may prefer none.
        template: file of its prompt.
        temperature: of its answers, or of the choice among letters.
        max_tokens: longest answer.
        llm: how a language model is asked.
        folder: where its replies and spending are remembered.

    Raises:
        BadConfig: the reference is misspelt.
        ModelMismatch: `logit` or `reward` with an endpoint, which tells no log-probabilities of letters and no rewards.
        UserError: what it names cannot be opened.
    """
    from gnomon.core.llm.roles import asking

    source = source_of(ref, kind, ties=ties, template=template, temperature=temperature)
    models = asking({"judge": source}, llm, folder=folder).open()
    concurrency = llm.concurrency if llm is not None else 8
    options: dict[str, Any] = {"style": style, "ties": ties, "template": template, "temperature": temperature}
    try:
        return judge_of(models["judge"], kind, **options, max_tokens=max_tokens, concurrency=concurrency)
    except BaseException:  # a style or template that is wrong leaves nothing open
        models.close()
        raise


def source_of(
    ref: str,
    kind: Kind = "pairwise",
    *,
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
) -> str | Callable[[], Judge]:
    """What `run.asking` opens for a judge: the reference of a language model, or a function that opens another kind of judge.

    Args:
        ref: as in `open_judge`, and so are the others.
        kind: how it judges.
        ties: of `logit`.
        template: of `logit`.
        temperature: of `logit`.

    Raises:
        ModelMismatch: as in `open_judge`.
    """
    if kind == "function":
        return partial(_function, ref)
    if kind in ("logit", "reward"):
        text = None if template is None else read_template(template)
        return partial(_local, ref, kind, Prompting("token", ties, text), temperature)
    return ref


def judge_of(
    model: Any,
    kind: Kind = "pairwise",
    *,
    style: str = "brackets",
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    concurrency: int = 8,
) -> Judge:
    """The judge behind what `run.asking` opened: a language model that is asked in words, or a judge as it is.

    Args:
        model: what was opened for `source_of`.
        kind: as in `open_judge`, and so are the others.
        style: how its verdicts are written.
        ties: whether it may prefer none.
        template: file of its prompt.
        temperature: of its answers.
        max_tokens: longest answer.
        concurrency: requests under way at once.

    Raises:
        BadConfig: there is no such style.
    """
    if not hasattr(model, "acomplete"):
        judge: Judge = model
        return judge
    text = None if template is None else read_template(template)
    prompting = Prompting(style, ties, text)  # type: ignore[arg-type]
    pairwise = PairwiseJudge(
        model, prompting, temperature=temperature, max_tokens=max_tokens, concurrency=concurrency
    )
    return PointwiseJudge(pairwise) if kind == "pointwise" else pairwise


def _function(ref: str) -> Judge:
    from gnomon.lazy import function

    return FunctionJudge(function(ref.removeprefix("script:")), Path(ref).name)


def _local(ref: str, kind: str, prompting: Prompting, temperature: float) -> Judge:
    from gnomon.core.llm.references import FORMS

    scheme = ref.partition(":")[0]
    if scheme in (*FORMS, "https") and scheme != "hf":
        what = "log-probabilities of the letters" if kind == "logit" else "rewards"
        raise ModelMismatch(
            f'Judge "{ref}": an endpoint gives no {what}. The kind {kind} needs a model in this process: a folder or a hub id.'
        )
    from gnomon.methods.calm.judging.local import LogitJudge, RewardModelJudge

    ref = ref.removeprefix("hf:")
    if kind == "reward":
        return RewardModelJudge(ref)
    return LogitJudge(ref, prompting=prompting, temperature=temperature)
