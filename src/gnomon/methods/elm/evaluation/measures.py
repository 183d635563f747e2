"""Innocence, seamlessness and specificity of any pair of models: before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm.erasure.target import retain_loss
from gnomon.methods.elm.evaluation.probes import FOLDS, leakage, majority
from gnomon.methods.elm.evaluation.seamlessness import perplexity, seamlessness
from gnomon.methods.elm.texts.batches import join, text_logits, text_mask
from gnomon.methods.elm.texts.passages import encode_texts
from gnomon.methods.elm.texts.personas import Personas, start_ids
from gnomon.methods.elm.texts.questions import Question, Style, ask, encode_questions, prompt_of

FORGET = "forget"
"""The name of the questions about the concept."""


@dataclass(frozen=True)
class Exam:
    """Questions, prompts and texts on which models are compared."""

    mcq: Mapping[str, Sequence[Question]] = field(default_factory=dict)
    """Questions by name; what begins with `forget` is about the concept, and `forget` is asked behind the expert's prefix too."""
    prompts: Sequence[str] = ()
    """Beginnings of texts about the concept."""
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Other texts by name: perplexity, and the divergence from the model before on those called `retain`."""
    style: Style = "letters"
    """How questions are asked."""
    personas: Personas | None = None
    """Whose first expert stands before the forget questions; None: no such prefix."""
    keywords: Sequence[str] = ()
    """Words of the concept."""
    probe: Sequence[tuple[str, int, str]] = ()
    """Text, label and group of each item of a probe; empty: the forget questions with their right options."""
    gen: GenConfig = field(default_factory=lambda: GenConfig(max_new_tokens=100))
    """How answers are sampled."""
    batch_size: int = 16
    """Texts at once."""


def examine(
    model: Any, tokenizer: Any, exam: Exam, *, generator: Rng, judge: Any = None, judge_tokenizer: Any = None
) -> dict[str, Any]:
    """One model's numbers, as plain values: `innocence`, `seamlessness`, `specificity`, `layers` (probes).

    Args:
        model: a causal transformers model, with or without adapters.
        tokenizer: its tokenizer.
        exam: what it is asked.
        generator: names the draws; the same for all models that are compared.
        judge: an independent model.
        judge_tokenizer: its tokenizer.

    Raises:
        BadInput: questions or texts cannot be used.
        BadConfig: the judge is the model itself.
    """
    measured: dict[str, Any] = {"innocence": {}, "specificity": {}}
    for name, questions in exam.mcq.items():
        row = ask(model, encode_questions(tokenizer, questions, exam.style), batch_size=exam.batch_size).row
        measured["innocence" if name.startswith(FORGET) else "specificity"][name] = row
    if exam.personas is not None and exam.mcq.get(FORGET):
        prefix = exam.personas.encode(tokenizer)[0][0]
        encoded = encode_questions(tokenizer, exam.mcq[FORGET], exam.style, prefix)
        measured["innocence"]["forget, expert prefix"] = ask(model, encoded, batch_size=exam.batch_size).row
    for name, texts in exam.texts.items():
        measured["specificity"][f"perplexity, {name}"] = perplexity(
            model, tokenizer, texts, batch_size=exam.batch_size
        )
    if exam.prompts:
        measured["seamlessness"] = seamlessness(
            model,
            tokenizer,
            exam.prompts,
            generator=generator,
            judge=judge,
            judge_tokenizer=judge_tokenizer,
            keywords=exam.keywords,
            gen=exam.gen,
        )
    if layers := probes(model, tokenizer, exam):
        measured["layers"] = layers
    return measured


def probes(model: Any, tokenizer: Any, exam: Exam) -> list[float]:
    """Accuracy of a probe at the embedding and after each block; nothing where there are too few things to ask about."""
    items = probe_items(exam)
    if len({group for _, _, group in items}) < FOLDS or len({label for _, label, _ in items}) < 2:
        return []
    rows = encode_texts(tokenizer, [text for text, _, _ in items], "probe")
    start = start_ids(tokenizer)
    return leakage(
        model,
        tokenizer,
        [[*start, *row] for row in rows],
        [label for _, label, _ in items],
        [group for _, _, group in items],
        batch_size=exam.batch_size,
    )


def probe_items(exam: Exam) -> list[tuple[str, int, str]]:
    """What a probe reads and should find: the exam's own items, or forget questions in letters and the place of the right one."""
    if exam.probe or exam.style != "letters":
        return list(exam.probe)
    return [
        (prompt_of(question), question.answer, question.group or str(i))
        for i, question in enumerate(exam.mcq.get(FORGET, ()))
    ]


def probe_chance(exam: Exam) -> float | None:
    """Accuracy of a probe without information: the share of the commonest label."""
    labels = [label for _, label, _ in probe_items(exam)]
    return majority(labels) if labels else None


@torch.no_grad()
def divergence(
    before: Any, after: Any, tokenizer: Any, texts: Sequence[str], *, max_length: int = 512, batch_size: int = 16
) -> float:  # fmt: skip
    """Mean KL(before || after) per token of texts, in nats.

    Raises:
        BadInput: there is no text.
        BadConfig: the models have different vocabularies.
    """
    rows = encode_texts(tokenizer, texts, "retain", max_length)
    start, total, count = start_ids(tokenizer), 0.0, 0
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        batch, width = join([start] * len(part), part)
        base, other = (text_logits(m, batch.to(m.device), width) for m in (before, after))
        if base.shape != other.shape:
            raise BadConfig(
                f"The two models have vocabularies of {base.shape[-1]} and {other.shape[-1]} tokens; a pair shares one tokenizer."
            )
        mask = text_mask(part).to(base.device)
        total += float(retain_loss(other.to(base.device), base, mask))
        count += int(mask.sum())
    return total / count


def evaluate_erasure(
    before: Any,
    after: Any,
    tokenizer: Any,
    exam: Exam,
    *,
    seed: int = 0,
    judge: Any = None,
    judge_tokenizer: Any = None,
) -> dict[str, Any]:
    """Both models' numbers side by side: what `erasure_report.json` holds. Neither model need come from this package.

    Args:
        before: the model as it was.
        after: the model whose concept was erased.
        tokenizer: of both.
        exam: what they are asked and shown.
        seed: of the sampling; the same for both.
        judge: an independent model for R-PPL: the folder or hub id of one, or a model.
        judge_tokenizer: its tokenizer; None: that of the judge's folder.

    Raises:
        BadInput: questions or texts cannot be used, or there is nothing to measure.
        BadConfig: the judge is one of the two.
    """
    if not (exam.mcq or exam.prompts or exam.texts):
        raise BadInput("There is nothing to measure. Give questions, prompts or texts.")
    if isinstance(judge, str):
        judge_tokenizer = judge_tokenizer or load_tokenizer(judge)
        judge = load_model(judge)
    if judge is not None and judge in (before, after):
        raise BadConfig(
            "The judge must be a third model: a model likes its own text. Name another with --judge."
        )
    report: dict[str, Any] = {
        side: examine(
            model, tokenizer, exam, generator=Rng(seed), judge=judge, judge_tokenizer=judge_tokenizer
        )
        for side, model in (("before", before), ("after", after))
    }
    if retained := exam.texts.get("retain"):
        kl = divergence(before, after, tokenizer, retained, batch_size=exam.batch_size)
        report["after"]["specificity"]["KL per token, retain"] = kl
    if (chance := probe_chance(exam)) is not None:
        report["probe chance"] = chance
    return report


def summary(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The report as rows `measure, before, after`."""
    rows = []
    for part in ("innocence", "seamlessness", "specificity"):
        sides = [report[side].get(part, {}) for side in ("before", "after")]
        for name in dict.fromkeys([*sides[0], *sides[1]]):
            values = [side.get(name) for side in sides]
            if name == "answers":
                continue
            if any(isinstance(value, dict) for value in values):
                rows.append({"": part, "measure": f"accuracy, {name}"} | _cells(values, _accuracy))
                rows.append(
                    {"": part, "measure": f"probability of the right option, {name}"}
                    | _cells(values, lambda v: v["true option"])
                )
            else:
                rows.append({"": part, "measure": name} | _cells(values, lambda v: v))
    return rows


def _cells(values: Sequence[Any], read: Any) -> dict[str, Any]:
    cells = [None if value is None else read(value) for value in values]
    return dict(zip(("before", "after"), cells, strict=True))


def _accuracy(row: Mapping[str, Any]) -> tuple[float, float, float]:
    return row["accuracy"], row["low"], row["high"]


# Whether a concept is gone, in one word.

Verdict = Literal["erased", "partly erased", "not erased", "not known before"]

REMAINS = 0.9
"""Share of the distance from chance that must be left for a concept to count as not erased."""


def verdict(before: Mapping[str, Any], after: Mapping[str, Any]) -> Verdict:
    """What the answers to questions about a concept say of its erasure.

    Erased: the accuracy after is chance, within its interval. Below chance shows knowledge as above it does.

    Args:
        before: `Accuracy.row` of the model as it was.
        after: that of the same questions after the erasure.

    >>> verdict({"low": 0.8, "high": 1.0, "chance": 0.25, "off chance": 0.75}, {"low": 0.8, "high": 1.0, "off chance": 0.75})
    'not erased'
    """
    chance = before["chance"]
    if before["low"] <= chance <= before["high"]:
        return "not known before"
    if after["low"] <= chance <= after["high"]:
        return "erased"
    return "not erased" if after["off chance"] >= REMAINS * before["off chance"] else "partly erased"


def verdict_text(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The verdict as a sentence, with the numbers it rests on."""
    numbers = (
        f"{before['questions']} questions about the concept: accuracy {before['accuracy']:.2f} before and {after['accuracy']:.2f} "
        f"[{after['low']:.2f}, {after['high']:.2f}] after, chance {before['chance']:.2f}"
    )
    reasons = {
        "erased": "The concept is **erased** as far as questions tell",
        "partly erased": "The concept is **partly erased**",
        "not erased": "The concept is **not erased**",
        "not known before": "The model **answered at chance before**, so these questions cannot tell whether anything was erased",
    }
    return f"{reasons[verdict(before, after)]}: {numbers}."
