"""PPO over macro actions: the policy's own batches, and the training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gnomon.core.config import check
from gnomon.core.files import write_json
from gnomon.core.models.sampling.text import padding_id, token_texts
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.rollout.chats import answer_ids
from gnomon.core.rollout.rewards import Grader, Reward, by_rule
from gnomon.core.train import GlobalBatch, History, TrainConfig, decay_groups, fit
from gnomon.core.train.evaluation import Evaluation
from gnomon.errors import BadConfig, BadInput, UserError
from gnomon.methods.ma_rlhf.options import MACRO, PPO, Macro, Ppo
from gnomon.methods.ma_rlhf.training.loss import PpoLoss
from gnomon.methods.ma_rlhf.training.policy import ActorCritic, actor_critic, is_adapted, reference_of
from gnomon.methods.ma_rlhf.training.rollouts import (
    Processes,
    Write,
    Writer,
    Written,
    batch_of,
    check_prompts,
    grouped,
    statistics,
)

log = logging.getLogger(__name__)

TRAIN = TrainConfig(weight_decay=0.0)
"""The training where none is named."""

TRIES = 3
"""Rollouts that are drawn for a step where all answers are too short to learn from."""

SHOWN = 4
"""Answers that are kept of a rollout for the page."""

FOLDER = "answers"
"""Where they are kept, a file for each rollout."""


@dataclass
class Trained:
    """What comes out of a training."""

    policy: Any
    """The policy, trained in position; with adapters where they were trained."""
    critic: Any
    """Its critic, a scorer."""
    history: History
    """The numbers of every step."""
    answers: Path
    """Folder of the answers that were kept."""

    @property
    def rows(self) -> list[dict[str, float]]:
        """The numbers of every step by which a training is read: reward, log-ratio, clipped share and so on."""
        return [row for row in self.history.records if "reward" in row]


class Rollouts:
    """Batches that the policy writes itself, for `fit`.

    Tasks come in an order shuffled anew for each pass over them; every rollout is full, so that the last one of a pass takes tasks
    of the next.

    Args:
        writer: who writes.
        tasks: what is asked.
        train: answers of an optimiser step, and of a micro-batch.
        rng: names orders and streams.
        folder: where some answers of each rollout are kept; None: nowhere.
    """

    def __init__(
        self, writer: Writer, tasks: Sequence[Task], train: TrainConfig, rng: Rng, folder: Path | None
    ):
        self.writer, self.tasks, self.train, self.rng, self.folder = writer, tasks, train, rng, folder
        ppo = writer.ppo
        self.steps_per_rollout = ppo.updates
        self.answers = train.batch_size * ppo.minibatches
        self.prompts = self.answers // ppo.gen.n
        self._number, self.rows = -1, list[Written]()
        self.numbers: dict[str, float] = {}
        self.processes = Processes()

    def __len__(self) -> int:
        passes = -(-len(self.tasks) // self.prompts)
        return int(passes * self.steps_per_rollout)

    def digest(self) -> list[list[int]]:
        """Tells the tasks from others."""
        return [[len(self.tasks), sum(sum(task.text.encode()) for task in self.tasks)]]

    def chosen(self, number: int) -> list[Task]:
        """The tasks of a rollout."""
        places = range(number * self.prompts, (number + 1) * self.prompts)
        size, orders = len(self.tasks), dict[int, list[int]]()
        for epoch in sorted({position // size for position in places}):
            shuffle = self.rng.child("tasks", epoch).torch()
            orders[epoch] = torch.randperm(size, generator=shuffle).tolist()
        return [self.tasks[orders[position // size][position % size]] for position in places]

    def at(self, step: int, process: int = 0, processes: int = 1) -> GlobalBatch:
        """The share of `process` in the batch of `step`, from a rollout with the weights of now where a new one begins."""
        number, inner = divmod(step, self.steps_per_rollout)
        self.processes = Processes(process, processes)
        if number != self._number:
            self.rows = self._rolled(number)
            self._number = number
        epoch, part = divmod(inner, self.writer.ppo.minibatches)
        rows = self.rows
        if self.writer.ppo.minibatches > 1:
            order = torch.randperm(
                len(rows), generator=self.rng.child("rows", number, epoch).torch()
            ).tolist()
            size = self.train.batch_size
            rows = [rows[i] for i in order[part * size : (part + 1) * size]]
        kept = [row for row in rows if not row.is_dropped]
        tokens = sum(len(row.ids) for row in kept)
        actions = sum(int(row.segments.max()) + 1 for row in kept)
        share = -(-len(rows) // processes)
        mine = list(rows[process::processes])
        # Every process computes equally many rows; one that is short repeats a row without its actions.
        mine += [replace(rows[-1], is_dropped=True)] * (share - len(mine))
        pad_id = padding_id(self.writer.tokenizer)
        micro = [
            batch_of(group, pad_id, tokens / max(1, actions))
            for group in grouped(mine, self.train.micro_batch_size)
        ]
        return GlobalBatch(micro, tokens, tokens if epoch == 0 else 0)

    def _rolled(self, number: int) -> list[Written]:
        """A rollout; another one where it holds nothing to learn from, and never an old one."""
        for attempt in range(TRIES):
            rng = self.rng.child("rollout", number, attempt)
            rows = self.writer.roll_out(self.chosen(number), rng, self.processes)
            if not all(row.is_dropped for row in rows):
                break
            log.warning(
                "Rollout %d: all %d answers have fewer than %d tokens; it is drawn again.",
                number, len(rows), self.writer.ppo.drop_shorter_than,
            )  # fmt: skip
        else:
            raise UserError(
                f"Rollout {number}: all answers of {TRIES} rollouts have fewer than {self.writer.ppo.drop_shorter_than} tokens. "
                "The policy has collapsed; lower --train.lr or raise --ppo.beta, or lower --ppo.drop-shorter-than."
            )
        self.numbers = statistics(rows, compares=self.writer.ppo.logprob_temperature == 1)
        if self.folder is not None and self.processes.index == 0:
            keep_answers(self.folder / f"{number:06d}.json", rows[:SHOWN], self.writer.tokenizer)
        return rows


def keep_answers(path: Path, rows: Sequence[Written], tokenizer: Any) -> None:
    """Write some answers with their macro actions, for people to look at."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        path,
        [
            {
                "id": row.task.id,
                "prompt": row.task.text,
                "text": row.text,
                "reward": row.reward,
                "finish": row.finish,
                "pieces": token_texts(tokenizer, row.ids),
                "segments": row.segments.tolist(),
                "advantages": [round(value, 6) for value in row.advantages.tolist()],
                "values": [round(value, 6) for value in row.values.tolist()],
            }
            for row in rows
        ],
    )


def as_grader(reward: Any, tokenizer: Any) -> Grader:
    """Samples -> rewards, from an opened `Reward`, a scorer, or a function `f(prompts, completions, **columns)`."""
    if isinstance(reward, Reward):
        return reward
    if isinstance(reward, nn.Module):
        from gnomon.core.models.sampling.likelihood import score_rows

        return lambda samples: score_rows(
            reward, tokenizer, [answer_ids(s.task, s.completion, tokenizer) for s in samples]
        )
    if not callable(reward):
        raise BadInput(f"A reward is a Reward, a scorer or a function; got {type(reward).__name__}.")
    rule: Grader = by_rule(reward)
    return rule


def check_training(ppo: Ppo, train: TrainConfig) -> None:
    """Refuse settings of the training that PPO has no meaning for.

    Raises:
        BadConfig: the message names the setting.
    """
    answers = train.batch_size * ppo.minibatches
    check(
        answers % ppo.gen.n == 0, "ppo.gen.n", f"a divisor of the {answers} answers of a rollout", ppo.gen.n
    )
    check(train.reduction == "token_mean", "train.reduction", "token_mean", train.reduction)
    for name, none in (("packing", False), ("sharded", False), ("eval_share", 0.0), ("keep_best", False)):
        value = getattr(train, name)
        check(
            value == none,
            f"train.{name}",
            f"{none}: a policy that learns from what it writes has no use for it",
            value,
        )
    if ppo.updates > 1 and train.checkpoint_every % ppo.updates:
        raise BadConfig(
            f"train.checkpoint_every must be a multiple of {ppo.updates}, the updates of a rollout; got {train.checkpoint_every}."
        )


def macro_ppo(
    policy: Any,
    tokenizer: Any,
    tasks: Sequence[Task],
    reward: Any,
    *,
    macro: Macro = MACRO,
    ppo: Ppo = PPO,
    train: TrainConfig = TRAIN,
    run: Any,
) -> Trained:
    """Train a policy by PPO over macro actions.

    Args:
        policy: a causal transformers model, also with an adapter of PEFT, trained in position; or an `ActorCritic`, which brings
            its critic (with new adapters on its policy it is compared with the policy as it is, adapters included); or a
            `Setup`, which also says how answers are written.
        tokenizer: its tokenizer.
        tasks: what it is asked.
        reward: a `Reward`, a scorer, or a function `f(prompts, completions, **columns) -> list of numbers`.
        macro: how answers are cut, and how credit passes between the pieces.
        ppo: how answers are sampled, and what is learned from them.
        train: the training; batch_size counts answers of an optimiser step, max_length the tokens of prompt and answer.
        run: folder, random numbers, log.

    Raises:
        BadConfig: settings that contradict each other.
        BadInput: a prompt is empty or too long, or a reward is missing or not finite.
        UserError: the policy wrote nothing to learn from.

    Source: sections 2 and 3; the specification's points 3 to 12.
    """
    check_training(ppo, train)
    if not tasks:
        raise BadInput("There is no task to train on.")
    setup = policy if isinstance(policy, Setup) else Setup(policy)
    is_new, model = setup.prepared(run.rng, train.lora_rank)
    check_prompts(tasks, tokenizer, train.max_length - ppo.gen.max_new_tokens)
    grade = as_grader(reward, tokenizer)
    groups = _groups(model, ppo, train)
    with reference_of(model.policy, is_new=is_new) as reference:
        write = None if setup.write is None else setup.write(model.policy)
        writer = Writer(model, reference, tokenizer, grade, macro, ppo, train.micro_batch_size, write)
        if ppo.value_warmup:
            _warm_up(writer, tasks, train, run)
        batches = Rollouts(writer, tasks, train, run.rng.child("ppo"), run.folder / FOLDER)
        loss = PpoLoss(macro, ppo)
        each = Evaluation(lambda _: {**batches.numbers, **loss.numbers(batches.processes.count)})
        cfg = replace(train, eval_every=1, lora_rank=None)
        history = fit(model, batches, loss, cfg, run=run, groups=groups, eval=each)
    return Trained(model.policy, model.critic, history, run.folder / FOLDER)


@dataclass(frozen=True)
class Setup:
    """A policy with what belongs to it."""

    policy: Any
    """A causal model, with an adapter or without; or an `ActorCritic`."""
    critic: Any = None
    """A scorer to begin with, such as the reward model; trained in position. None: the policy's backbone under a head of zeros."""
    write: Callable[[Any], Write] | None = None
    """The policy, ready to train -> who writes its rollouts, such as a server; None: the policy writes them here."""

    def prepared(self, rng: Rng, lora_rank: int | None) -> tuple[bool, ActorCritic]:
        """Whether the policy's adapter is new, and policy and critic ready to train."""
        if isinstance(self.policy, ActorCritic):
            return False, self.policy
        is_new = not is_adapted(self.policy)
        return is_new, actor_critic(self.policy, self.critic, rng=rng.child("critic"), lora_rank=lora_rank)


def _groups(model: ActorCritic, ppo: Ppo, train: TrainConfig) -> list[dict[str, Any]]:
    """Parameter groups: the critic has its own rate, and is clipped by its own length (addendum 6)."""
    betas = {"betas": ppo.betas}
    policy = [{**group, **betas} for group in decay_groups(model.policy, train.weight_decay)]
    own = {"lr": ppo.critic_lr or train.lr, "grad_clip": ppo.critic_clip, "clip_name": "critic", **betas}
    return [*policy, *({**group, **own} for group in decay_groups(model.critic, train.weight_decay))]


def _warm_up(writer: Writer, tasks: Sequence[Task], train: TrainConfig, run: Any) -> None:
    """Train the critic alone, on rollouts of the frozen policy (arXiv 2503.01491)."""
    model, ppo = writer.model, writer.ppo
    groups = [group for group in _groups(model, ppo, train) if "clip_name" in group]
    trained = [p for p in model.policy.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    part = run.within("warmup")
    steps = ppo.value_warmup
    cfg = replace(train, max_steps=steps, epochs=steps, schedule="constant", lora_rank=None, track=())
    try:
        loss = PpoLoss(writer.macro, ppo, critic_only=True)
        fit(model, Rollouts(writer, tasks, train, part.rng, None), loss, cfg, run=part, groups=groups)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
