"""What a policy's answers are worth on prompts it was not trained on, and how often they win."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gnomon.core.metrics.code import pass_at_k_mean
from gnomon.core.models import GenConfig, generate
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rng import Rng
from gnomon.core.rollout import Sample, Task, score
from gnomon.core.rollout.chats import prompt_ids
from gnomon.methods.ma_rlhf.training.policy import action_logprobs
from gnomon.methods.ma_rlhf.training.rollouts import Written, grouped, kept_columns, laid_out


@dataclass
class Answered:
    """A model's answers to some tasks, and what they are worth."""

    rows: list[Written]
    """In the order of the tasks, `n` for each."""
    n: int

    @property
    def rewards(self) -> list[list[float]]:
        """Of each task, its answers' rewards."""
        return [[row.reward for row in self.rows[i : i + self.n]] for i in range(0, len(self.rows), self.n)]

    def summary(self) -> dict[str, float]:
        """Mean and deviation of the reward, the mean of each task's best, and pass@k where rewards are 0 or 1.

        Source: spec, metrics; pass@k by the unbiased estimator of core.
        """
        rewards = torch.tensor(self.rewards, dtype=torch.float64)
        numbers = {
            "reward": float(rewards.mean()),
            "reward_std": float(rewards.std(correction=0)),
            f"best of {self.n}": float(rewards.amax(1).mean()),
            "answer_tokens": sum(len(row.ids) for row in self.rows) / len(self.rows),
            "cut_share": sum(row.was_cut for row in self.rows) / len(self.rows),
            "distinct": len({tuple(row.ids) for row in self.rows}) / len(self.rows),
        }
        if bool(((rewards == 0) | (rewards == 1)).all()):
            counts = [int(value) for value in rewards.sum(1)]
            for k in sorted({1, self.n}):
                numbers[f"pass@{k}"] = pass_at_k_mean(counts, self.n, k)
        return numbers


def answer(
    model: Any, tokenizer: Any, tasks: Sequence[Task], grade: Callable[[Sequence[Sample]], Sequence[float]], gen: GenConfig,
    rng: Rng,
) -> Answered:  # fmt: skip
    """Answers of a model to tasks, scored.

    Args:
        model: a causal model.
        tokenizer: its tokenizer.
        tasks: what is asked.
        grade: samples -> rewards.
        gen: how answers are sampled.
        rng: names the streams; a task has one of its own, the same for every model.

    Raises:
        BadInput: a reward is missing or not finite.
    """
    prompts = [prompt_ids(task, tokenizer) for task in tasks]
    drawn = generate(
        model, tokenizer, prompts, gen, generator=[rng.child("answer", task.id) for task in tasks]
    )
    rows = [
        Written(task, prompt, list(c.token_ids), c.text, c.finish, c.logprobs)
        for task, prompt, group in zip(tasks, prompts, drawn, strict=True)
        for c in group
    ]
    for row, value in zip(
        rows, score([Sample(r.task, r.text, r.drawn, r.finish) for r in rows], grade), strict=True
    ):
        row.reward = value
    return Answered(rows, gen.n)


@torch.no_grad()
def distance(answered: Answered, model: Any, other: Any, tokenizer: Any, size: int = 16) -> dict[str, float]:
    """How far a model is from another one on its own answers: mean log-ratio of an answer, and kl of a token.

    Args:
        answered: the model's answers.
        model: who wrote them.
        other: who they are compared with; it reads the same tokens.
        tokenizer: of both.
        size: answers at once.
    """
    ratios, per_answer = [], []
    for rows in grouped(answered.rows, size):
        batch, mask = laid_out(rows, padding_id(tokenizer))
        batch = batch.to(next(model.parameters()).device)
        keep = kept_columns(rows, batch.input_ids.shape[1])
        d = (
            (action_logprobs(model, batch, keep, 1.0) - action_logprobs(other, batch, keep, 1.0))
            .double()
            .cpu()
        )
        ratios.append(d[mask])
        per_answer += d.where(mask, 0.0).sum(1).tolist()
    d = torch.cat(ratios)
    return {"log_ratio_answer": sum(per_answer) / len(per_answer), "kl": float((torch.expm1(-d) + d).mean())}


def wins(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Shares of prompts on which ours is better, equal and worse.

    >>> wins([1, 0, 2, 2], [0, 0, 1, 3])
    {'win': 0.5, 'tie': 0.25, 'loss': 0.25}
    """
    pairs = list(zip(ours, theirs, strict=True))
    count = len(pairs)
    return {
        "win": sum(a > b for a, b in pairs) / count,
        "tie": sum(a == b for a, b in pairs) / count,
        "loss": sum(a < b for a, b in pairs) / count,
    }


def mean_of_last(rows: Sequence[Mapping[str, float]], name: str, last: int) -> float:
    """Mean of a number over the last updates."""
    values = [row[name] for row in rows[-last:]]
    return sum(values) / len(values)
