"""The real run: a pretrained model says of its own products and capitals whether it would do better if it started over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.models import GenConfig, add_lora, generate, load_model, load_tokenizer
from gnomon.core.models.load import LoadConfig
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.run import PartOfRun
from gnomon.core.study import Out, Part, Results, Study
from gnomon.core.train import TrainConfig
from gnomon.methods.adaptive_sampling import report
from gnomon.methods.adaptive_sampling.building.samples import (
    Drawing,
    Labelling,
    draw_samples,
    ids_of,
    labelled,
    rewards_of,
)
from gnomon.methods.adaptive_sampling.building.training import Answer, Learning, train_selfeval
from gnomon.methods.adaptive_sampling.config import REAL_CLAIMS, Real
from gnomon.methods.adaptive_sampling.evaluator.carriers import new_carrier
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule
from gnomon.methods.adaptive_sampling.measures.quality import quality, true_c
from gnomon.methods.adaptive_sampling.measures.questions import REWARD, questions
from gnomon.methods.adaptive_sampling.measures.tradeoff import sweep
from gnomon.methods.adaptive_sampling.policies.policies import BestOfN
from gnomon.methods.adaptive_sampling.policies.replay import Pool, best_of, vote

Array = NDArray[np.float64]
TEMPERATURE = 0.5
"""At 1 no choice among eight samples reaches the greedy answer on capitals."""
CONSTANT = Schedule("constant", TEMPERATURE)


@dataclass(frozen=True)
class Scale:
    """Sizes of the real run."""

    products: int = 90
    countries: int = 90
    k: int = 8
    """Samples of a question, for labels and to choose from."""
    fresh: int = 32
    """Further samples of a tested question, for the true chance of win or tie."""
    epochs: int = 2
    batch: int = 32
    device: str = "cpu"


SCALES: Mapping[str, Scale] = {
    "smoke": Scale(6, 6, 4, 4, 1, 8),
    "mini": Scale(),
    "gpu": Scale(90, 123, 16, 64, 3, 32, "cuda"),
}


def study(cfg: Real) -> Study:
    """The study on the model that the settings name."""
    return Study(
        title="adaptive-sampling on a pretrained model: products and capitals",
        claims=REAL_CLAIMS,
        scales=SCALES,
        parts={"": Part(partial(_seed, cfg))},
        plan=lambda cfg, scale: {
            "samples": cfg.seeds * (2 * scale.k + scale.fresh + 2 * scale.k) * (scale.products + scale.countries) // 3
        },
        page=report.write_real,
        summary=_summary,
    )  # fmt: skip


def _summary(results: Results) -> Mapping[str, Any]:
    return {**results.rows, "scores": results.scores()}


def _seed(cfg: Real, scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """One split of the questions: labels, training, samples of the trained model, and everything that c is compared with."""
    learning, testing = questions(scale.products, scale.countries, part.rng.child("questions"))
    gen = GenConfig(max_new_tokens=14, batch_size=64)
    restart = Restart.of(CONSTANT, gen)
    drawing = Drawing(gen, scale.k, CONSTANT, restart)
    model = load_model(cfg.model, device=scale.device, asked_by="adaptive-sampling real")
    tokenizer = load_tokenizer(cfg.model)
    drawn = [
        row
        for row in draw_samples(model, tokenizer, learning, drawing, part.rng.child("samples"))
        if isinstance(row, dict)
    ]
    rewards = [rewards_of(task, row["samples"], REWARD) for task, row in zip(learning, drawn, strict=True)]
    rows = [
        row
        for raw, values in zip(drawn, rewards, strict=True)
        for row in labelled(raw, values, drawing, Labelling(), part.rng.child("cuts"))
    ]
    answers = [Answer.of(row) for row in rows]
    shuffled = part.rng.child("shuffled").numpy().permutation([a.label for a in answers]).tolist()
    sets = {
        "c": answers,
        "shuffled labels": [replace(a, label=x) for a, x in zip(answers, shuffled, strict=True)],
        "question only": _question_only(answers, tokenizer),
    }
    evaluators = {name: _trained(cfg, scale, name, part, some, restart) for name, some in sets.items()}
    evaluator = evaluators["c"]

    prompts = [ids_of(task, tokenizer) for task in testing]
    streams = part.rng.child("tests")
    sampler = BestOfN(evaluator, gen, CONSTANT, n=scale.k, cuts=(1, 2))
    results = sampler.sample(prompts, [streams.child("task", task.id) for task in testing])
    graded = [
        _graded(task, [s.text for s in r.all_samples]) for task, r in zip(testing, results, strict=True)
    ]
    pool = Pool.of(results, graded, REWARD.form)
    fresh = _rewards(evaluator, testing, CONSTANT.draws(gen, scale.fresh), part.rng.child("fresh"))
    truth = true_c(pool.reward, fresh)

    values = {"c": pool.c} | {
        name: _scored(other, prompts, [[_shown(s.tokens, name, tokenizer) for s in r.all_samples] for r in results])
        for name, other in (*evaluators.items(), ("untrained Yes/No", _untrained(model, tokenizer, restart, answers)))
        if name != "c"
    }  # fmt: skip
    values["log-probability"] = _rescaled(pool.logprob, drawn, rewards)
    kinds = np.array([task.meta["kind"] for task in testing])
    for kind in ("all", "products", "capitals"):
        chosen = np.flatnonzero((kinds == kind) | (kind == "all"))
        for name, of in values.items():
            _row(out, kind, name, pool.some(chosen.tolist()), of[chosen], truth[chosen])
    _arms(out, pool, fresh, kinds, _greedy(evaluator, testing, gen, part.rng), part)


def _greedy(evaluator: SelfEvaluator, tasks: Sequence[Task], gen: GenConfig, rng: Rng) -> dict[str, Array]:
    """Greedy answers and one sample at temperature 1, [M] each."""
    settings = {"greedy": Schedule("constant", 0.0), "one sample, T = 1": Schedule("constant", 1.0)}
    return {
        name: _rewards(evaluator, tasks, schedule.draws(gen, 1), rng.child(name))[:, 0]
        for name, schedule in settings.items()
    }


def _arms(
    out: Out, pool: Pool, fresh: Array, kinds: Any, others: Mapping[str, Array], part: PartOfRun
) -> None:
    """What the answers are worth, by arm and kind; and samples on demand."""
    n = pool.n
    arms: dict[str, Array] = {
        **others,
        f"one sample, T = {TEMPERATURE:g}": np.concatenate([pool.reward, fresh], 1).mean(1),
        f"best of {n} by c": best_of(pool, n).reward,
        f"log-probability, best of {n}": best_of(pool, n, "logprob").reward,
        f"vote of {n}": vote(pool, sure=1).reward,
        f"oracle of {n}": best_of(pool, n, "reward").reward,
    }
    for name, rewards in arms.items():
        row = {"arm": name, "all": float(rewards.mean())}
        row |= {kind: float(rewards[kinds == kind].mean()) for kind in ("products", "capitals")}
        out.add("arms", row)
    out.score("c", "best minus one sample", float((best_of(pool, n).reward - pool.reward.mean(1)).mean()))
    curve = sweep(pool, part.rng.child("orders"))
    for row in curve:
        out.add("adaptive", row)
    reached = [row["mean_samples"] for row in curve if (row["share_of_gain"] or 0) >= 0.8]
    out.score("c", "samples for 80% of the gain", min(reached, default=float(n)))


def _row(out: Out, kind: str, name: str, pool: Pool, values: Array, truth: Array) -> None:
    of = quality(pool.reward, values, truth)
    chosen = np.take_along_axis(pool.reward, values.argmax(1)[:, None], 1).mean()
    out.add("signals", {"questions": kind, "signal": name, "AUC within": of.within, "AUC pooled": of.pooled,
                        "calibration error": of.ece, f"best of {pool.n}": float(chosen)})  # fmt: skip
    if kind == "all":
        out.score(name, "AUC within", of.within or 0.5)
        out.score(name, "calibration error", of.ece)
        out.score(name, "best", float(chosen))


def _trained(
    cfg: Real, scale: Scale, name: str, part: PartOfRun, answers: Sequence[Answer], restart: Restart
) -> SelfEvaluator:
    """A fresh copy of the model with an adapter that was taught by these answers."""
    load = LoadConfig(dtype="bfloat16" if cfg.bf16 else "float32", device=scale.device)
    model = load_model(cfg.model, load, asked_by="adaptive-sampling real")
    tokenizer = load_tokenizer(cfg.model)
    carrier = new_carrier("token", model, tokenizer)
    model = add_lora(model, 8, new_tokens=carrier.banned)
    evaluator = SelfEvaluator(model, tokenizer, carrier, restart)
    train = TrainConfig(
        lr=cfg.lr, batch_size=scale.batch, micro_batch_size=8, epochs=scale.epochs, warmup_ratio=0.05, checkpoint_every=0,
        keep_checkpoints=0,
    )  # fmt: skip
    inner = part.within(name.replace(" ", "-"), part.rng.child("training"))
    train_selfeval(evaluator, answers, train, Learning(), run=inner, pad_id=padding_id(tokenizer))
    # Two logits near 12 are a sixteenth apart in bfloat16, so c is read in float32 whatever it was trained in.
    evaluator.model.float()
    return evaluator


def _question_only(answers: Sequence[Answer], tokenizer: Any) -> list[Answer]:
    """One row a question: its mean label behind an answer that says nothing."""
    by_prompt: dict[tuple[int, ...], list[Answer]] = {}
    for answer in answers:
        by_prompt.setdefault(answer.prompt, []).append(answer)
    blank = tuple(_blank(tokenizer))
    return [
        Answer(prompt, blank, (len(blank),), float(np.average([a.label for a in some], weights=[a.weight for a in some])),
               sum(a.weight for a in some))
        for prompt, some in by_prompt.items()
    ]  # fmt: skip


def _blank(tokenizer: Any) -> list[int]:
    return list(tokenizer("...", add_special_tokens=False)["input_ids"])


def _shown(tokens: tuple[int, ...], name: str, tokenizer: Any) -> tuple[int, ...]:
    return tuple(_blank(tokenizer)) if name == "question only" else tokens


def _untrained(model: Any, tokenizer: Any, restart: Restart, answers: Sequence[Answer]) -> SelfEvaluator:
    """The model as it is, asked in words for Yes or No; by an added token where the words are not safe."""
    probes = [[*a.prompt, *a.ids] for a in answers[:8]]
    return SelfEvaluator(model, tokenizer, new_carrier("text", model, tokenizer, probes=probes), restart)


def _scored(
    evaluator: SelfEvaluator, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[tuple[int, ...]]]
) -> Array:
    """C of all samples of all questions, [M, K]."""
    flat = evaluator.score(
        [prompt for prompt, row in zip(prompts, answers, strict=True) for _ in row],
        [ids for row in answers for ids in row],
    )
    return flat.reshape(len(prompts), -1)


def _graded(task: Task, texts: Sequence[str]) -> list[float]:
    return rewards_of(task, [{"text": text, "finish": ""} for text in texts], REWARD)


def _rewards(evaluator: SelfEvaluator, tasks: Sequence[Task], gen: GenConfig, rng: Rng) -> Array:
    """Rewards of further samples of the trained model, [M, n]."""
    prompts = [ids_of(task, evaluator.tokenizer) for task in tasks]
    gen = replace(gen, banned=evaluator.carrier.banned)
    streams = [rng.child("task", task.id) for task in tasks]
    drawn = generate(evaluator.model, evaluator.tokenizer, prompts, gen, generator=streams)
    return np.array([_graded(task, [s.text for s in row]) for task, row in zip(tasks, drawn, strict=True)])


def _rescaled(
    logprob: Array, drawn: Sequence[Mapping[str, Any]], rewards: Sequence[Sequence[float]]
) -> Array:
    """Mean log-probabilities as c: a slope and an offset fitted to the labels of the learning questions."""
    from sklearn.linear_model import LogisticRegression

    means = np.array([[s["logprob"] / max(1, len(s["tokens"])) for s in row["samples"]] for row in drawn])
    labels = true_c(np.array(rewards))
    x, y = np.tile(means.reshape(-1, 1), (2, 1)), np.repeat([1, 0], means.size)
    weights = np.concatenate([labels.ravel(), 1 - labels.ravel()])
    if len(set(y[weights > 0].tolist())) < 2:  # no answer was ever beaten
        return np.ones_like(logprob)
    fitted = LogisticRegression(C=1e6).fit(x, y, sample_weight=weights)
    values: Array = fitted.predict_proba(logprob.reshape(-1, 1))[:, 1].reshape(logprob.shape)
    return values
