"""Samples of a model for many prompts: a data step over shards, and the rows of training data answers of what it drew."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from gnomon.core.data.execute import Rejected
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models import GenConfig, generate, load_model, load_tokenizer
from gnomon.core.models.load import LoadConfig
from gnomon.core.rng import Rng
from gnomon.core.rollout import Reward, Sample, Task, open_reward, prompt_ids, score
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.building.labels import Labels, label
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule
from gnomon.methods.adaptive_sampling.evaluator.store import policy_key


@dataclass(frozen=True)
class Drawing:
    """What is drawn of each prompt to be labelled."""

    gen: GenConfig
    k: int
    """Samples that count as fresh ones."""
    schedule: Schedule
    restart: Restart

    @property
    def has_first(self) -> bool:
        """Whether the schedule's first sample is drawn too, which is labelled and is no restart."""
        return self.restart.anneal != "constant"

    @property
    def n(self) -> int:
        """Samples a prompt."""
        return self.k + self.has_first

    @property
    def settings(self) -> GenConfig:
        """How they are drawn."""
        return self.restart.schedule.draws(self.gen, self.n)


def ids_of(task: Task, tokenizer: Any) -> list[int]:
    """Token ids that an answer is written behind; a plain prompt becomes a user's turn where the tokenizer has a chat template."""
    if not task.messages and getattr(tokenizer, "chat_template", None):
        task = Task(task.id, messages=({"role": "user", "content": task.prompt},))
    return list(prompt_ids(task, tokenizer))


@lru_cache(maxsize=1)
def open_policy(ref: str, load: LoadConfig) -> tuple[Any, Any]:
    """A model and its tokenizer, opened once a process."""
    return load_model(ref, load, asked_by="adaptive-sampling build"), load_tokenizer(ref, load)


@dataclass(frozen=True)
class DrawStep:
    """A data step from tasks to rows of samples; a prompt that leaves no room for an answer is rejected.

    It holds names and numbers alone, so that it travels to other processes; each opens the model once.
    """

    model: str
    load: LoadConfig
    drawing: Drawing
    seed: int

    def __call__(self, tasks: Iterator[Task]) -> Iterator[dict[str, Any] | Rejected]:
        """The rows in order, rejected ones among them."""
        model, tokenizer = open_policy(self.model, self.load)
        yield from draw_samples(model, tokenizer, list(tasks), self.drawing, Rng(self.seed))


def draw_samples(
    model: Any, tokenizer: Any, tasks: Sequence[Task], drawing: Drawing, rng: Rng
) -> Iterator[dict[str, Any] | Rejected]:
    """Samples of each task, from a random stream named by its id: they depend on no other task."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    fitting: list[Task] = []
    prompts: list[list[int]] = []
    for task in tasks:
        ids = ids_of(task, tokenizer)
        if positions is not None and len(ids) + drawing.gen.max_new_tokens > positions:
            yield Rejected(
                f'Task "{task.id}": its prompt has {len(ids)} tokens, which leaves no room for {drawing.gen.max_new_tokens} more.',
                {"id": task.id},
            )
            continue
        fitting.append(task)
        prompts.append(ids)
    streams = [rng.child("task", task.id) for task in fitting]
    drawn = generate(model, tokenizer, prompts, drawing.settings, generator=streams) if fitting else []
    for task, ids, row in zip(fitting, prompts, drawn, strict=True):
        yield {
            "id": task.id,
            "prompt": task.text,
            "prompt_ids": ids,
            "samples": [
                {"text": s.text, "tokens": list(s.token_ids), "logprob": sum(s.logprobs), "finish": s.finish}
                for s in row
            ],
        }


@contextmanager
def reward_of(ref: str, run: Any, llm: LLMConfig | None = None) -> Iterator[Reward]:
    """A reward, open while a `with` lasts: judges through the run, programs in a sandbox.

    Args:
        ref: as of `open_reward`.
        run: asks judges and says what the sandbox lacks.
        llm: how judges are asked.
    """
    from gnomon.core.sandbox import SandboxPool

    manner = llm or LLMConfig()
    kind, _, rest = ref.partition(":")
    with ExitStack() as stack:
        judge = stack.enter_context(run.asking({"judge": rest}, manner))["judge"] if kind == "judge" else None
        pool = stack.enter_context(SandboxPool(1)) if kind == "tests" else None
        if pool is not None and (lacking := pool.walls().missing()):
            run.say(f"The sandbox has no {', '.join(lacking)} here.")
        yield open_reward(ref, llm=judge, pool=pool, concurrency=manner.concurrency)


def rewards_of(task: Task, samples: Sequence[Mapping[str, Any]], reward: Reward) -> list[float]:
    """The reward of each sample of a task; NaN where it gave none that is finite.

    Raises:
        BadInput: the reward cannot be worked out for this task.
    """
    if task.reference is None and reward.name.partition(":")[0] in ("number", "exact", "contains"):
        raise BadInput(f'Task "{task.id}" has no reference to compare with.')
    answers = [Sample(task, s["text"], finish=s["finish"]) for s in samples]
    raw = list(reward(answers))
    if len(raw) != len(answers):
        raise BadInput(
            f"The reward gave {len(raw)} numbers for {len(answers)} samples; it must give one for each."
        )
    values = [float(value) if value is not None else math.nan for value in raw]
    finite = [i for i, value in enumerate(values) if math.isfinite(value)]
    checked = score([answers[i] for i in finite], lambda _: [values[i] for i in finite])
    return [dict(zip(finite, checked, strict=True)).get(i, math.nan) for i in range(len(answers))]


@dataclass(frozen=True)
class Labelling:
    """How samples become training data."""

    mode: Labels = "soft"
    epsilon: float = 0.0
    prefixes: int = 1
    """Beginnings of each answer that carry its label too, beside the whole."""


def labelled(
    row: Mapping[str, Any], rewards: Sequence[float], drawing: Drawing, how: Labelling, rng: Rng
) -> list[dict[str, Any]]:
    """Training rows of one prompt: each distinct answer once, with the number of its copies as weight.

    Args:
        row: of `draw_samples`.
        rewards: of its samples; those without one are left out, of pairs the partner too.
        drawing: how they were drawn.
        how: labels and beginnings.
        rng: where beginnings are drawn.

    Raises:
        BadInput: fewer than two samples have a reward.
    """
    rated = [i for i, value in enumerate(rewards) if math.isfinite(value)]
    if how.mode == "pair":
        partner = {i: i ^ 1 for i in range(len(rewards))}
        rated = [i for i in rated if partner[i] in rated]
    if len(rated) < 2:
        raise BadInput(f'Task "{row["id"]}": {len(rated)} of its samples can be compared; a label needs 2.')
    fresh = [not (drawing.has_first and i == 0) for i in rated]
    labels = label([rewards[i] for i in rated], how.mode, epsilon=how.epsilon, fresh=fresh)
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, i in enumerate(rated):
        if np.isfinite(labels[at]):
            groups.setdefault(tuple(row["samples"][i]["tokens"]), []).append(at)
    rows = []
    for tokens, members in groups.items():
        first = row["samples"][rated[members[0]]]
        rows.append(
            {
                "id": row["id"],
                "prompt": row["prompt"],
                "prompt_ids": row["prompt_ids"],
                "response": first["text"],
                "response_ids": list(tokens),
                "is_finished": first["finish"] != "length",
                "prefix_tokens": cuts_of(len(tokens), how.prefixes, rng.child("cuts", row["id"], *tokens)),
                "label": float(np.mean(labels[members])),
                "weight": len(members),
                "reward": float(np.mean([rewards[rated[at]] for at in members])),
                "k": drawing.k,
                "sampler": drawing.restart.words,
            }
        )
    return rows


def cuts_of(length: int, prefixes: int, rng: Rng) -> list[int]:
    """Lengths that carry the label: the whole answer last, before it so many distinct beginnings, uniform in [1, length - 1].

    Source: step 4.
    """
    some = rng.numpy().permutation(max(0, length - 1))[:prefixes] + 1
    return [*sorted(some.tolist()), length]


def check_labels(rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse data from which nothing can be learnt.

    Raises:
        BadInput: there are no rows, or no answer is ever beaten.
    """
    if not rows:
        raise BadInput("There are no labelled answers.")
    if min(row["label"] for row in rows) >= 1.0 - 1e-12:
        raise BadInput(
            f"In all {len(rows)} answers no sample beats another: every label is 1, and nothing can be learnt. Take prompts on "
            "which the model is sometimes right, a finer reward, or a smaller --epsilon."
        )


def policy_of(step: DrawStep) -> str:
    """The key of the weights that a step draws from."""
    return policy_key(open_policy(step.model, step.load)[0])
