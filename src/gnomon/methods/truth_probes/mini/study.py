"""The miniature: a small world in which a model knows better than it says, the same without what makes it so, and arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gnomon.core import records
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.extraction import Extraction
from gnomon.methods.truth_probes.config import CLAIMS, Mini
from gnomon.methods.truth_probes.errors.choice import STRATEGIES
from gnomon.methods.truth_probes.mini import report
from gnomon.methods.truth_probes.mini.measures import LOG_PROBABILITY, OTHERS, Findings, measure
from gnomon.methods.truth_probes.mini.world import CUED, SCALES, Scale, World, train_sums, train_world
from gnomon.methods.truth_probes.states.positions import NAMES

ON_GREEDY, LEAD = "AUC on greedy answers", "lead over log-probability"


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    return {
        "models": len(cfg.parts) * cfg.seeds,
        "steps": cfg.seeds
        * sum(scale.sum_steps if part == "arithmetic" else scale.steps for part in cfg.parts),
        "questions": 4 * scale.subjects,
        "samples_per_question": scale.samples,
    }


def _world(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The world with cues: every claim's main arm."""
    handle, questions = _trained("world", CUED, scale, seed, part)
    if out.is_first:
        _save(handle, questions, part, out)
    findings = _measured(handle, questions, scale, seed)
    _add("world", findings, out)
    out.score("exact answer", ON_GREEDY, findings.greedy["exact_last"])
    out.score("best other token", ON_GREEDY, max(findings.greedy[name] for name in OTHERS))
    out.score("best logit baseline", ON_GREEDY, max(findings.greedy[name] for name in NAMES))
    for arm, value in zip(("same skill", "other skill"), findings.skills(), strict=True):
        why = "In no division of the questions does every task have right and wrong answers."
        _score(out, arm, "AUC on another task", value, why)
    hidden = findings.hidden_knowledge()
    for strategy in ("probe", "majority"):
        out.score(strategy, "right answers", findings.choice.accuracy(strategy))
        share = findings.choice.accuracy(strategy, hidden) if hidden else None
        _score(out, strategy, "right answers on C2, D and E2", share, "No question is of kind C2, D or E2.")
    for kind in ("B", "C"):
        auc = findings.types[kind].value if kind in findings.types else None
        _score(out, f"type {kind}", "AUC of error types", auc, f"Too few questions of type {kind}.")
    out.score("half of that with cues", LEAD, findings.lead / 2)


def _control(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The same world without cues; subjects and answers are the same."""
    findings = _measured(*_trained("control", 0.0, scale, seed, part), scale, seed)
    _add("control", findings, out)
    out.score("without cues", LEAD, findings.lead)


def _arithmetic(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Sums of two numbers, for a model that has not seen these and has not learned to add fully."""
    handle, questions = train_sums(scale, part.within("arithmetic", Rng(seed).child("arithmetic")))
    how = Extraction("regex", r"\d+")
    findings = measure(handle, questions, samples=scale.samples, max_new_tokens=6, how=how, seed=seed)
    _add("arithmetic", findings, out)


def _trained(
    name: str, cued: float, scale: Scale, seed: int, part: PartOfRun
) -> tuple[ModelHandle, list[Question]]:
    # One name of the random numbers for both worlds: their models begin alike.
    world = World.draw(scale.subjects, Rng(seed), cued)
    handle = train_world(world, scale, part.within(name, Rng(seed).child("model of the world")))
    return handle, world.questions()


def _measured(handle: ModelHandle, questions: Sequence[Question], scale: Scale, seed: int) -> Findings:
    tasks = [question.id.partition("-")[0] for question in questions]
    how = Extraction("known")
    return measure(
        handle, questions, samples=scale.samples, max_new_tokens=8, how=how, seed=seed, tasks=tasks
    )


def _save(handle: ModelHandle, questions: Sequence[Question], part: PartOfRun, out: Out) -> None:
    """The first seed's model and questions, for use with the other verbs."""
    run_folder = part.folder.parent
    folder = out.artifact("model", run_folder / "model")
    handle.model.save_pretrained(folder)
    handle.processor.save_pretrained(folder)
    records.write(out.artifact("questions", run_folder / "questions.jsonl"), questions)


def _score(out: Out, arm: str, metric: str, value: float | None, why: str) -> None:
    """Score a number that may be undefined; the summary then holds a null."""
    out.score(arm, metric, value)
    if value is None:
        out.undefine(arm, metric, why)


def _add(name: str, findings: Findings, out: Out) -> None:
    """Rows for the page and the summary."""
    for detector, auc in findings.greedy.items():
        row = {"part": name, "detector": detector, "greedy": auc, "sampled": findings.sampled[detector]}
        out.add("detectors", row)
        out.log(**row)
    groups = {"all": list(range(len(findings.typed))), "C2, D, E2": findings.hidden_knowledge()}
    for group, rows in groups.items():
        if rows:
            shares = {strategy: findings.choice.accuracy(strategy, rows) for strategy in STRATEGIES}
            out.add("choices", {"part": name, "questions": group, "n": len(rows), **shares})
    same, other = findings.skills()
    types = {f"type {kind}": auc.value for kind, auc in findings.types.items()}
    rest = {"part": name, **findings.figures, "same skill": same, "other skill": other, **types}
    out.add("others", rest)
    out.log(**rest)
    out.show(name, findings)


def _summary(results: Results) -> Mapping[str, object]:
    return {
        "log-probability": LOG_PROBABILITY,
        "scores": results.scores(),
        **{name: results.rows.get(name, []) for name in ("detectors", "choices", "others")},
    }


STUDY = Study(
    title="truth-probes in miniature: models that know better than they say",
    claims=CLAIMS,
    scales=SCALES,
    parts={"world": Part(_world), "control": Part(_control), "arithmetic": Part(_arithmetic)},
    plan=_plan,
    page=report.write,
    summary=_summary,
)
