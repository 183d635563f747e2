"""What the policy writes in one rollout: answers, rewards, and the numbers that PPO learns from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gnomon.core.models import Completion, generate
from gnomon.core.models.batch import Batch, pad
from gnomon.core.models.sampling.text import padding_id, token_texts
from gnomon.core.rng import Rng
from gnomon.core.rollout import Sample, Task, score
from gnomon.core.rollout.chats import prompt_ids
from gnomon.errors import BadInput, UserError
from gnomon.methods.ma_rlhf.actions.credit import macro_gae, token_rewards
from gnomon.methods.ma_rlhf.actions.segments import Answer, cut, ids_of
from gnomon.methods.ma_rlhf.options import Macro, Ppo
from gnomon.methods.ma_rlhf.training.policy import ActorCritic, Logprobs

log = logging.getLogger(__name__)

Write = Callable[[Sequence[Task], Sequence[Sequence[int]], Sequence[Rng]], list[list[Completion]]]
"""(tasks, their prompts as token ids, a random stream for each) -> their completions: how a rollout is written."""


@dataclass
class Written:
    """One answer of a rollout, with all that is learned from it; tensors have one entry for each of its L tokens."""

    task: Task
    prompt: list[int]
    ids: list[int]
    text: str
    finish: str
    drawn: tuple[float, ...] = ()
    """Log-probabilities as generation had them."""
    reward: float = 0.0
    logprobs: Tensor = field(default_factory=lambda: torch.empty(0))
    ref_logprobs: Tensor = field(default_factory=lambda: torch.empty(0))
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    """The critic's value before each token."""
    beyond: float = 0.0
    """Its value behind the last token."""
    segments: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    returns: Tensor = field(default_factory=lambda: torch.empty(0))
    is_dropped: bool = False
    """Whether it is too short to learn from."""
    fell_back: bool = False
    """Whether the rule could not cut it."""

    @property
    def was_cut(self) -> bool:
        """Whether the length limit ended it."""
        return self.finish == "length"


@dataclass(frozen=True)
class Processes:
    """This process among others."""

    index: int = 0
    count: int = 1

    def gathered(self, rows: list[Any]) -> list[Any]:
        """The rows of all processes, dealt out one by one before, in their order again."""
        if self.count == 1:
            return rows
        shares: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(shares, rows)
        merged: list[Any] = [None] * sum(map(len, shares))
        for i, share in enumerate(shares):
            merged[i :: self.count] = share
        return merged

    def from_main(self, compute: Callable[[], Any]) -> Any:
        """What the main process computes; its error is raised everywhere."""
        if self.count == 1:
            return compute()
        box: list[Any] = [None, None]
        if self.index == 0:
            try:
                box[0] = compute()
            except UserError as error:
                box[1] = error
        torch.distributed.broadcast_object_list(box)
        if box[1] is not None:
            raise box[1]
        return box[0]


@dataclass
class Writer:
    """Rolls out: the policy writes, the answers are scored, cut and given credit.

    Args:
        model: policy and critic.
        reference: log-probabilities under the reference.
        tokenizer: of the policy.
        grade: samples -> rewards.
        macro: how answers are cut.
        ppo: how they are sampled, and what they are worth.
        micro_batch_size: answers read at once; None: all of a process.
        write: writes the answers; None: the policy itself, here.
    """

    model: ActorCritic
    reference: Logprobs
    tokenizer: Any
    grade: Callable[[Sequence[Sample]], Sequence[float]]
    macro: Macro
    ppo: Ppo
    micro_batch_size: int | None = None
    write: Write | None = None

    def roll_out(self, tasks: Sequence[Task], rng: Rng, processes: Processes = Processes()) -> list[Written]:
        """The answers to some tasks, in their order, `gen.n` for each; the same on every process.

        Raises:
            BadInput: a reward is missing or not finite; the message names the sample and its task.
        """
        mine = range(processes.index, len(tasks), processes.count)
        prompts = [prompt_ids(tasks[i], self.tokenizer) for i in mine]
        streams = [rng.child("answer", i) for i in mine]
        write = self.write or self._generated
        drawn = write([tasks[i] for i in mine], prompts, streams)
        groups = [
            [Written(tasks[i], prompt, list(c.token_ids), c.text, c.finish, c.logprobs) for c in group]
            for i, prompt, group in zip(mine, prompts, drawn, strict=True)
        ]
        rows = [row for group in processes.gathered(groups) for row in group]
        samples = [Sample(row.task, row.text, row.drawn, row.finish) for row in rows]
        rewards = processes.from_main(lambda: score(samples, self.grade))
        for row, reward in zip(rows, rewards, strict=True):
            row.reward = reward
            row.is_dropped = len(row.ids) < self.ppo.drop_shorter_than
        share = range(processes.index, len(rows), processes.count)
        self._read([rows[i] for i in share])
        for i in share:
            self._credit(rows[i], rng.child("cut", i), str(i))
        rows = processes.gathered([rows[i] for i in share])
        if self.ppo.whiten:
            _whiten(rows)
        return rows

    def _generated(
        self, tasks: Sequence[Task], prompts: Sequence[Sequence[int]], streams: Sequence[Rng]
    ) -> list[list[Completion]]:
        gen, policy = self.ppo.gen, self.model.policy
        drawn: list[list[Completion]] = generate(
            policy, self.tokenizer, prompts, gen, generator=list(streams)
        )
        return drawn

    @torch.no_grad()
    def _read(self, rows: Sequence[Written]) -> None:
        """Log-probabilities under policy and reference, and values, by the pass that the loss makes too."""
        heat = self.ppo.logprob_temperature
        for group in grouped(rows, self.micro_batch_size):
            batch, _ = laid_out(group, padding_id(self.tokenizer))
            batch = batch.to(next(self.model.parameters()).device)
            keep = kept_columns(group, batch.input_ids.shape[1])
            logprobs, values = self.model(batch.input_ids, batch.mask.long(), keep, heat)
            ref_logprobs = self.reference(batch, keep, heat)
            for i, row in enumerate(group):
                start, end = len(row.prompt) - 1, len(row.prompt) - 1 + len(row.ids)
                row.logprobs = logprobs[i, start:end].float().cpu()
                row.ref_logprobs = ref_logprobs[i, start:end].float().cpu()
                row.values, row.beyond = values[i, start:end].cpu(), float(values[i, end])

    def _credit(self, row: Written, rng: Rng, name: str) -> None:
        """Cut an answer and give each of its tokens advantage and return."""
        needs_text = self.macro.rule not in ("fixed", "randomized", "perplexity", "surprise")
        pieces = token_texts(self.tokenizer, row.ids) if needs_text else ()
        cuts = cut(
            Answer(len(row.ids), pieces, row.logprobs.tolist(), row.ref_logprobs.tolist(), rng, f'{name} (task "{row.task.id}")'),
            self.macro,
        )  # fmt: skip
        row.fell_back = cuts.fell_back
        mask = torch.ones(1, len(row.ids), dtype=torch.bool)
        segments = ids_of([cuts.starts], mask)
        limit = self.ppo.reward_clip
        worth = row.reward if limit is None else min(max(row.reward, -limit), limit)
        penalty, beyond = self.ppo.cut_penalty, None
        if row.was_cut:
            if penalty is None:
                beyond = torch.tensor([row.beyond])
            else:
                worth += penalty
        rewards = token_rewards(
            torch.tensor([worth]), (row.logprobs - row.ref_logprobs)[None], mask, self.ppo.beta
        )
        if cuts.rewards:  # each at the last token of its segment
            ends = [*(start - 1 for start in cuts.starts[1:]), len(row.ids) - 1]
            rewards[0, ends] += torch.tensor(cuts.rewards)
        advantages, returns = macro_gae(row.values[None], rewards, segments, self.macro, beyond=beyond)
        row.segments, row.advantages, row.returns = segments[0], advantages[0], returns[0]


def _whiten(rows: Sequence[Written]) -> None:
    """Advantages to mean 0 and deviation 1 over all tokens that are learned from.

    Never per segment index: where the policy decides how many segments there are, that baseline depends on the action (addendum 9).
    """
    kept = [row for row in rows if not row.is_dropped]
    values = torch.cat([row.advantages for row in kept]) if kept else torch.empty(0)
    if len(values) > 1:
        mean, deviation = values.mean(), values.std(correction=0)
        for row in kept:
            row.advantages = (row.advantages - mean) / (deviation + 1e-8)


def grouped(rows: Sequence[Written], size: int | None) -> list[list[Written]]:
    """Answers of similar length side by side, at most `size` of them."""
    ordered = sorted(rows, key=lambda row: len(row.prompt) + len(row.ids))
    size = size or max(1, len(ordered))
    return [ordered[i : i + size] for i in range(0, len(ordered), size)]


def laid_out(rows: Sequence[Written], pad_id: int) -> tuple[Batch, Tensor]:
    """Prompts and answers, padded on the right, and the mask of actions [B, T-1]: True where an answer's token is predicted."""
    batch = pad([[*row.prompt, *row.ids] for row in rows], pad_id, "right")
    columns = torch.arange(batch.input_ids.shape[1] - 1)
    first = torch.tensor([len(row.prompt) - 1 for row in rows])[:, None]
    length = torch.tensor([len(row.ids) for row in rows])[:, None]
    return batch, (columns >= first) & (columns < first + length)


def kept_columns(rows: Sequence[Written], width: int) -> int:
    """Columns from the right whose logits are needed: from the last token of the shortest prompt on."""
    return width - min(len(row.prompt) - 1 for row in rows)


def statistics(rows: Sequence[Written], *, compares: bool = True) -> dict[str, float]:
    """The numbers of a rollout that people read.

    `log_ratio` is the mean of d = log policy - log reference: under top-k or a low temperature it may be negative, since samples
    are not drawn from the policy itself. `kl` is the mean of exp(-d) - 1 + d, which never is.

    Args:
        rows: the answers.
        compares: whether generation's log-probabilities are of the same temperature as ours.

    Source: spec, interfaces; addendum 5.
    """
    kept = [row for row in rows if not row.is_dropped]
    numbers = {
        "reward": _mean([row.reward for row in rows]),
        "reward_std": float(torch.tensor([row.reward for row in rows]).std(correction=0)),
        "answer_tokens": _mean([float(len(row.ids)) for row in rows]),
        "cut_share": _mean([float(row.was_cut) for row in rows]),
        "distinct": len({tuple(row.ids) for row in rows}) / len(rows),
        "dropped": float(len(rows) - len(kept)),
        "fallbacks": float(sum(row.fell_back for row in kept)),
    }
    if not kept:
        return numbers
    ratio = torch.cat([row.logprobs - row.ref_logprobs for row in kept]).double()
    returns, values = (
        torch.cat([getattr(row, name) for row in kept]).double() for name in ("returns", "values")
    )
    actions = sum(int(row.segments.max()) + 1 for row in kept)
    spread = float(returns.var(correction=0))
    numbers |= {
        "log_ratio": float(ratio.mean()),
        "log_ratio_answer": float(ratio.sum()) / len(kept),
        "kl": float((torch.expm1(-ratio) + ratio).mean()),
        "explained_variance": 1 - float((returns - values).var(correction=0)) / spread if spread else 0.0,
        "macro_actions": actions / len(kept),
        "macro_size": len(ratio) / actions,
    }
    if compares and all(row.drawn for row in kept):
        numbers["rollout_gap"] = max(
            float((row.logprobs - torch.tensor(row.drawn)).abs().max()) for row in kept
        )
    return numbers


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def batch_of(rows: Sequence[Written], pad_id: int, action_weight: float = 1.0) -> dict[str, Tensor]:
    """What the loss reads of some answers: ids, mask, and per action what the rollout left there.

    Args:
        rows: the answers; a dropped one is there without actions.
        pad_id: fills the right of shorter rows.
        action_weight: of one macro action, where ratios are theirs.
    """
    batch, mask = laid_out(rows, pad_id)
    kept = torch.tensor([not row.is_dropped for row in rows])[:, None]
    tensors: dict[str, Tensor] = {
        "ids": batch.input_ids,
        "mask": batch.mask.long(),
        "keep": torch.tensor(kept_columns(rows, batch.input_ids.shape[1])),
        "actions": mask & kept,
        "action_weight": torch.tensor(action_weight),
    }
    for name in ("logprobs", "values", "advantages", "returns"):
        tensors[name] = torch.zeros(mask.shape).masked_scatter(
            mask, torch.cat([getattr(row, name) for row in rows])
        )
    ids = torch.full(mask.shape, -1).masked_scatter(mask, torch.cat([row.segments for row in rows]))
    tensors["segments"] = ids.where(tensors["actions"], -1)
    return tensors


def check_prompts(tasks: Sequence[Task], tokenizer: Any, room: int) -> None:
    """Refuse prompts that are empty, or leave no room for an answer.

    Args:
        tasks: what is asked.
        tokenizer: of the policy.
        room: tokens that a prompt may have.

    Raises:
        BadInput: the message names the task.
    """
    for i, task in enumerate(tasks):
        length = len(prompt_ids(task, tokenizer))
        if not length:
            raise BadInput(f'The prompt of task {i} ("{task.id}") is empty.')
        if length > room:
            raise BadInput(
                f'The prompt of task {i} ("{task.id}") has {length} tokens, and {room} leave room for an answer. Leave it out, '
                "raise --train.max-length or lower --ppo.gen.max-new-tokens."
            )


Numbers = Mapping[str, float]
