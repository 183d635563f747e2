"""The miniature: everything that c is used for, over fresh worlds, beside the baselines that cost the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gnomon.core.models import GenConfig
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss
from gnomon.methods.adaptive_sampling.building.labels import Labels
from gnomon.methods.adaptive_sampling.building.samples import (
    Drawing,
    Labelling,
    draw_samples,
    labelled,
    rewards_of,
)
from gnomon.methods.adaptive_sampling.building.training import Answer, Learning, train_selfeval
from gnomon.methods.adaptive_sampling.config import CLAIMS, Mini
from gnomon.methods.adaptive_sampling.evaluator.carriers import Kind, new_carrier
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule
from gnomon.methods.adaptive_sampling.measures.quality import quality, true_c, within_auc
from gnomon.methods.adaptive_sampling.measures.tradeoff import sweep
from gnomon.methods.adaptive_sampling.mini import report
from gnomon.methods.adaptive_sampling.mini.world import SCALES, Scale, World, train_policy
from gnomon.methods.adaptive_sampling.policies.policies import BestOfN
from gnomon.methods.adaptive_sampling.policies.replay import Pool, best_of, prune, vote
from gnomon.methods.adaptive_sampling.policies.watch import Pruning

CONSTANT, ANNEALED = Schedule("constant", 1.0), Schedule("halving", 1.0)
CUTS = (1, 2, 4)
GAMMAS = tuple(round(x, 4) for x in (*np.arange(0.4, 0.9, 0.05), *np.arange(0.9, 0.999, 0.01)))


@dataclass(frozen=True)
class Policy:
    """A model that has read demonstrations, its world, and samples of it with their rewards."""

    world: World
    model: Any
    tokenizer: Any
    held_out: list[Example]
    tasks: list[Task]
    rows: list[dict[str, Any]]
    rewards: list[list[float]]
    drawing: Drawing


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def policy(scale: Scale, world: World, part: PartOfRun) -> Policy:
    """A policy and its labelled samples."""
    model, tokenizer, held_out = train_policy(world, scale, part)
    gen = GenConfig(max_new_tokens=world.length, batch_size=1024)
    drawing = Drawing(gen, scale.k, CONSTANT, Restart.of(CONSTANT, gen))
    tasks = world.tasks(scale.prompts, part.rng.child("labelled", world.name))
    rows = [
        row
        for row in draw_samples(model, tokenizer, tasks, drawing, part.rng.child("samples"))
        if isinstance(row, dict)
    ]
    rewards = [rewards_of(task, row["samples"], world.reward) for task, row in zip(tasks, rows, strict=True)]
    return Policy(world, model, tokenizer, held_out, tasks, rows, rewards, drawing)


def evaluator_of(policy: Policy, kind: Kind, labels: Labels, scale: Scale, part: PartOfRun) -> SelfEvaluator:
    """A copy of the policy that was taught self-evaluation."""
    model, tokenizer = copy.deepcopy(policy.model), copy.deepcopy(policy.tokenizer)
    carrier = new_carrier(kind, model, tokenizer, instructions=("again", "sofar"))
    evaluator = SelfEvaluator(model, tokenizer, carrier, policy.drawing.restart, batch_size=1024)
    how = Labelling(labels, prefixes=policy.world.length)
    rows = [
        row
        for drawn, rewards in zip(policy.rows, policy.rewards, strict=True)
        for row in labelled(drawn, rewards, policy.drawing, how, part.rng)
    ]
    size = 128
    epochs = -(-scale.steps * size // len(rows))
    cfg = TrainConfig(
        lr=3e-3,
        batch_size=size,
        epochs=epochs,
        max_steps=scale.steps,
        warmup_ratio=0.05,
        checkpoint_every=0,
        keep_checkpoints=0,
    )
    train_selfeval(
        evaluator,
        [Answer.of(row) for row in rows],
        cfg,
        Learning("lm"),
        run=part,
        pad_id=tokenizer.pad_token_id,
    )
    return evaluator


def pool_of(
    evaluator: SelfEvaluator, policy: Policy, schedule: Schedule, tasks: Sequence[Task], n: int, rng: Rng
) -> Pool:
    """N samples of each test task with c of beginnings and wholes."""
    sampler = BestOfN(evaluator, policy.drawing.gen, schedule, True, n, CUTS)
    prompts = [list(evaluator.tokenizer(task.prompt)["input_ids"]) for task in tasks]
    results = sampler.sample(prompts, rng)
    rewards = [
        rewards_of(
            task, [{"text": s.text, "finish": s.finish} for s in result.all_samples], policy.world.reward
        )
        for task, result in zip(tasks, results, strict=True)
    ]
    return Pool.of(results, rewards, policy.world.reward.form)


def _method(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The main arm: carrier token, soft labels."""
    world = World.draw("method", part.rng)
    trained = policy(scale, world, part)
    evaluator = evaluator_of(
        trained, "token", "soft", scale, part.within("token-soft", part.rng.child("token", "soft"))
    )
    tasks = world.tasks(scale.tests, part.rng.child("tests"))
    pool = pool_of(evaluator, trained, CONSTANT, tasks, scale.n, part.rng.child("test samples"))
    annealed = pool_of(evaluator, trained, ANNEALED, tasks, scale.n, part.rng.child("annealed samples"))
    rng = part.rng.child("orders")
    n = scale.n
    single, best = float(pool.reward.mean()), float(best_of(pool, n).reward.mean())
    arms = {
        "greedy": float(annealed.reward[:, 0].mean()), "one sample": single, f"best of {n} by c": best,
        f"vote of {n}": float(vote(pool, sure=1).reward.mean()), "vote, ends early": float(vote(pool).reward.mean()),
        f"log-probability, best of {n}": float(best_of(pool, n, "logprob").reward.mean()),
        f"oracle of {n}": float(best_of(pool, n, "reward").reward.mean()),
    }  # fmt: skip
    for name, value in arms.items():
        out.add("arms", {"arm": name, "accuracy": value})
    out.score("c", "best of N minus one sample", best - single)
    rows = sweep(pool, rng, GAMMAS)
    for row in rows:
        out.add("adaptive", row)
    near = [row["reward"] - row["fixed"] for row in rows if 1.2 <= row["mean_samples"] <= 3]
    wide = [row["reward"] - row["fixed"] for row in rows if 1.2 <= row["mean_samples"] <= 8]
    out.score("c", "smallest margin over fixed N, 1.2-3 samples", min(near, default=0.0))
    out.score("c", "smallest margin over fixed N, 1.2-8 samples", min(wide, default=0.0))
    for name, some in (
        ("samples for 80% of the gain, T = 1", pool),
        ("samples for 80% of the gain, annealed", annealed),
    ):
        curve = rows if some is pool else sweep(some, None, GAMMAS)
        reached = [row["mean_samples"] for row in curve if (row["share_of_gain"] or 0) >= 0.8]
        out.score("c", name, min(reached, default=float(n)))
        if some is annealed:
            for row in curve:
                out.add("annealed", row)
    keep = max(1, n // 4)
    for cut in CUTS[:2]:
        pruning = Pruning((cut,), (keep,))
        kept, random = prune(pool, pruning), prune(pool, pruning, part.rng.child("random pruning"))
        gap = float(kept.reward.mean() - random.reward.mean())
        out.add("pruning", {"cut": cut, "accuracy": float(kept.reward.mean()), "random": float(random.reward.mean()),
                            "tokens": float(kept.tokens.mean() / pool.tokens.sum(1).mean())})  # fmt: skip
        if cut == 2:
            out.score("c", "pruning minus random pruning", gap)
            out.score("c", "lost by pruning", best - float(kept.reward.mean()))
    spent = next(row for row in rows if row["gamma"] >= 0.9)["gamma"]
    used = _samples_by_size(pool, world, tasks, spent)
    out.score("c", "samples on hopeless types minus types with 1-2 pairs", used[0] - used[1])
    out.score("c", "worse on demonstrations", _loss(evaluator.model, trained) - _loss(trained.model, trained))
    _quality(out, "token, soft", pool)
    if out.is_first:
        out.show("sizes", [world.size(task) for task in tasks])
    others: tuple[tuple[Kind, Labels], ...] = (("reserved", "soft"), ("text", "soft"), ("token", "pair"))
    for kind, labels in others:
        name = f"{kind}, {labels}"
        other = evaluator_of(
            trained, kind, labels, scale, part.within(f"{kind}-{labels}", part.rng.child(kind, labels))
        )
        _quality(out, name, pool_of(other, trained, CONSTANT, tasks, n, part.rng.child("test samples")))


def _quality(out: Out, name: str, pool: Pool) -> None:
    of = quality(pool.reward, pool.c, true_c(pool.reward))
    row: dict[str, Any] = {"evaluator": name, "best of N": float(best_of(pool, pool.n).reward.mean())}
    row |= {f"AUC within, {cut} tokens": within_auc(pool.reward, values) for cut, values in pool.c_at.items()}
    row |= {"AUC within": of.within, "AUC pooled": of.pooled, "calibration error": of.ece}
    out.add("evaluators", row)
    out.score(name, "AUC within", of.within or 0.5)
    out.score(name, "calibration error", of.ece)
    out.score(name, "best of N", row["best of N"])


def _samples_by_size(pool: Pool, world: World, tasks: Sequence[Task], gamma: float) -> tuple[float, float]:
    """Mean samples on hopeless types and on those with one or two pairs."""
    from gnomon.methods.adaptive_sampling.policies.replay import adaptive

    samples = adaptive(pool, gamma).samples
    sizes = np.array([world.size(task) for task in tasks])
    hopeless, hard = samples[sizes == 0], samples[(sizes == 1) | (sizes == 2)]
    return float(hopeless.mean()) if len(hopeless) else 0.0, float(hard.mean()) if len(hard) else 0.0


@torch.no_grad()
def _loss(model: Any, policy: Policy) -> float:
    """Nats a token on demonstrations that were not read."""
    batches = Batches(
        policy.held_out, len(policy.held_out), pad_id=policy.tokenizer.pad_token_id, generator=Rng(0)
    )
    batch = batches.at(0)
    model.eval()
    loss = causal_loss(model, {k: v.to(model.device) for k, v in batch.micro[0].items()})
    return float(loss) / float(batch.targets)


def _chain(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """A task in which the model cannot see its own slips: reported, with a warning where choosing harms."""
    world = World.draw("chain", part.rng)
    trained = policy(replace(scale, prompts=scale.prompts // 2), world, part)
    evaluator = evaluator_of(
        trained, "token", "soft", scale, part.within("token-chain", part.rng.child("chain"))
    )
    tasks = world.tasks(scale.tests // 2, part.rng.child("chain tests"))
    pool = pool_of(evaluator, trained, CONSTANT, tasks, scale.n, part.rng.child("chain samples"))
    of = quality(pool.reward, pool.c, true_c(pool.reward))
    row = {"one sample": float(pool.reward.mean()), "best of N": float(best_of(pool, pool.n).reward.mean()),
           "AUC within": of.within, "AUC pooled": of.pooled}  # fmt: skip
    out.add("chain", row)
    out.score("chain", "AUC within", of.within or 0.5)


def _summary(results: Results) -> Mapping[str, Any]:
    return {**results.rows, "scores": results.scores()}


STUDY = Study(
    title="adaptive-sampling in miniature: choose a method, carry it out, and say whether to start over",
    claims=CLAIMS,
    scales=SCALES,
    parts={"method": Part(_method), "chain": Part(_chain)},
    plan=lambda cfg, scale: {
        "policies": cfg.seeds * len(cfg.parts),
        "samples": cfg.seeds * scale.prompts * scale.k,
    },
    page=report.write,
    summary=_summary,
)
