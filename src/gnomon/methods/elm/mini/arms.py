"""The arms of the miniature, each measured at its points: ELM, RMU and ascent over sweeps, all other baselines, ablations."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch

from gnomon.core.files import write_json
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.core.train.loop import Step
from gnomon.methods.elm.erasure.design import Constants, Erasure, Rival
from gnomon.methods.elm.erasure.eraser import attach, encode_all, train_eraser
from gnomon.methods.elm.erasure.fluency import draft, write_fluent
from gnomon.methods.elm.erasure.target import frozen_logits
from gnomon.methods.elm.evaluation.attacks import Relearning, relearn
from gnomon.methods.elm.evaluation.measures import FORGET, divergence, examine
from gnomon.methods.elm.mini.models import Scale, Stage
from gnomon.methods.elm.mini.world import personas
from gnomon.methods.elm.rivals.arms import train_baseline
from gnomon.methods.elm.texts.batches import Texts
from gnomon.methods.elm.texts.passages import Fluent
from gnomon.methods.elm.texts.questions import ask, encode_questions

OURS = "elm"


@dataclass(frozen=True)
class Arm:
    """A training whose model is measured after some of its steps."""

    name: str
    method: Rival | None
    """None: ELM."""
    steps: tuple[int, ...]
    """After which steps it is measured."""
    lr: float
    design: Erasure | None = None
    """ELM's."""
    constants: Constants = field(default_factory=Constants)
    """A baseline's."""
    fluency: bool = True


def arms(scale: Scale, *, full: bool) -> list[Arm]:
    """All arms; ELM's ablations on request."""
    ours, steps = scale.design, (scale.elm_steps,)
    planned = [Arm(OURS, None, steps, scale.elm_lr, ours)]
    planned += [
        Arm(f"rmu, c {c:g}, lr {lr:g}", "rmu", scale.rmu_steps, lr, constants=Constants(rmu_c=c))
        for c in scale.rmu_c
        for lr in scale.rmu_lr
    ]
    for name, (lr, after) in scale.rivals.items():
        shown = "whp-simplified" if name == "whp" else name
        planned.append(Arm(shown, cast("Rival", name), after, lr, constants=Constants(whp_lr=scale.elm_lr)))
    if full:
        planned += [
            Arm(f"elm, eta {eta:g}", None, steps, scale.elm_lr, replace(ours, eta=eta)) for eta in scale.etas
        ]
        planned += [
            Arm("elm, ramp to 1000", None, steps, scale.elm_lr, replace(ours, eta=1000.0, eta_schedule="ramp")),
            Arm("elm, no retain term", None, steps, scale.elm_lr, replace(ours, retain_weight=0.0)),
            Arm("elm, no fluency term", None, steps, scale.elm_lr, ours, fluency=False),
            Arm("elm, no erase term", None, steps, scale.elm_lr, replace(ours, erase_weight=0.0)),
            Arm("elm, random target", None, steps, scale.elm_lr, replace(ours, action="random")),
        ]  # fmt: skip
    return planned


def learned_personas(stage: Stage) -> float:
    """Mean KL(novice || expert) per token of forget texts, in nats: 0 if the model cannot tell the personas apart."""
    texts = encode_all(stage.tokenizer, [stage.forget[:32]], stage.retain[:1], (), personas())
    rows = texts.forget[0]
    n = len(rows)
    expert, novice = frozen_logits(stage.base, rows, [[texts.experts[0]] * n, [texts.novices[0]] * n])
    log_n, log_e = novice.float().log_softmax(-1), expert.float().log_softmax(-1)
    return float((log_n.exp() * (log_n - log_e)).sum(-1).mean())


def fluent_texts(scale: Scale, stage: Stage, part: PartOfRun) -> list[Fluent]:
    """Fluent texts of one seed, 24 tokens each."""
    gamma, together = min(scale.design.eta, 3.0), 64
    drafts = [
        draft(text, personas(), (), part.rng.child("fluent", i), chars=(15, 80), tokens=(24, 24))
        for i, text in enumerate(stage.forget[: scale.fluent_texts])
    ]
    fluent = []
    for first in range(0, len(drafts), together):
        fluent += write_fluent(stage.base, stage.tokenizer, drafts[first : first + together], gamma)
    return fluent


def run_arm(
    arm: Arm, scale: Scale, stage: Stage, fluent: Sequence[Fluent], part: PartOfRun
) -> list[dict[str, Any]]:
    """One row per measured step; what an earlier process finished is read back."""
    kept = part.folder / "measured.json"
    if kept.exists():
        points: list[dict[str, Any]] = json.loads(kept.read_text("utf-8"))
        return points
    texts = encode_all(
        stage.tokenizer, [stage.forget], stage.retain, fluent if arm.fluency else (), personas()
    )
    cfg = TrainConfig(
        lr=arm.lr, batch_size=scale.batch, epochs=10_000, max_steps=max(arm.steps), schedule="constant",
        checkpoint_every=0, weight_decay=0.0, precision=scale.precision,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    model = copy.deepcopy(stage.base)
    watch = _measuring(arm, stage, rows)
    if arm.method is None:
        assert arm.design is not None
        trained: Any = attach(model, arm.design, part.rng.child("adapters"))
        train_eraser(trained, texts, arm.design, cfg, run=_afresh(part), on_step=[watch])
    else:
        trained = model
        train_baseline(model, texts, arm.method, arm.constants, cfg, run=_afresh(part), on_step=[watch])
    if arm.name == OURS or arm.method is not None:
        rows[-1]["relearning"] = relearning(trained.eval(), scale, stage, texts, part)
    part.folder.mkdir(parents=True, exist_ok=True)
    write_json(kept, rows)
    return rows


def _afresh(part: PartOfRun) -> PartOfRun:
    """The part without what a killed process left: measured steps would otherwise be missing."""
    import shutil

    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    return part


def _measuring(arm: Arm, stage: Stage, rows: list[dict[str, Any]]) -> Callable[[Step], None]:
    def look(step: Step) -> None:
        if step.step in arm.steps:
            step.model.eval()
            rows.append({"arm": arm.name, "step": step.step, **measure(step.model, stage)})

    return look


@torch.no_grad()
def measure(model: Any, stage: Stage) -> dict[str, Any]:
    """All numbers of one model, flat."""
    measured = examine(
        model,
        stage.tokenizer,
        stage.exam,
        generator=Rng(0).child("answers"),
        judge=stage.judge,
        judge_tokenizer=stage.tokenizer,
    )
    innocence, specificity = measured["innocence"], measured["specificity"]
    row = {
        "forget": innocence[FORGET]["accuracy"],
        "forget, expert prefix": innocence["forget, expert prefix"]["accuracy"],
        "retain": specificity["retain"]["accuracy"],
        "R-PPL": measured["seamlessness"]["R-PPL"],
        "true option": innocence[FORGET]["true option"],
        "true option, expert prefix": innocence["forget, expert prefix"]["true option"],
        "distinct-2": measured["seamlessness"]["distinct-2"],
        "repeated 4-grams": measured["seamlessness"]["repeated 4-grams"],
        **{f"perplexity, {name}": specificity[f"perplexity, {name}"] for name in stage.exam.texts},
        "KL, retain": 0.0
        if model is stage.base
        else divergence(stage.base, model, stage.tokenizer, stage.exam.texts["retain"]),
        "layers": measured.get("layers", []),
        "answers": measured["seamlessness"]["answers"][:3],
    }
    if "forget, held-out wording" in innocence:
        row["forget, held-out wording"] = innocence["forget, held-out wording"]["accuracy"]
    return row


def relearning(model: Any, scale: Scale, stage: Stage, texts: Texts, part: PartOfRun) -> list[dict[str, Any]]:
    """Accuracy on half of the entities after fine-tuning on texts that name none of them."""
    held_out = [q for q in stage.exam.mcq[FORGET] if int(q.group[1:]) % 2]
    names = {q.group for q in held_out}
    others = []
    for text in stage.forget:
        left = [s for s in text.split(" . ") if not names & set(s.split())]
        others.append(" . ".join(left))
    encoded = encode_all(stage.tokenizer, [[t for t in others if t]], stage.retain[:1], (), None)
    questions = encode_questions(stage.tokenizer, held_out, "options")

    def look(adapted: Any) -> dict[str, Any]:
        accuracy = ask(adapted, questions)
        return {"accuracy": accuracy.accuracy, "true option": accuracy.row["true option"]}

    return relearn(
        model,
        encoded.forget[0],
        look,
        generator=part.rng,
        training=Relearning(scale.relearn, scale.elm_lr, 8, scale.batch),
    )


def off_window(value: float, low: float, high: float) -> float:
    """How far a value is from a window; 0 within.

    >>> off_window(0.5, 0.1, 0.4), off_window(0.2, 0.1, 0.4)
    (0.1, 0.0)
    """
    return 0.0 if low <= value <= high else round(min(abs(value - low), abs(value - high)), 12)


def best(rows: Sequence[dict[str, Any]], chance: float = 0.25) -> dict[str, Any]:
    """The point whose forget accuracy is nearest to chance, the more fluent of equals."""
    return min(rows, key=lambda row: (abs(row["forget"] - chance), _finite(row["R-PPL"])))


def _finite(value: float | None) -> float:
    return math.inf if value is None or math.isnan(value) else value
