"""Answering as a data step: shards of prompts, each answered by a policy in whichever process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from gnomon.core.data.execute import Rejected
from gnomon.core.models import GenConfig
from gnomon.core.models.load import LoadConfig
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling.building.samples import ids_of
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Schedule
from gnomon.methods.adaptive_sampling.evaluator.store import open_evaluator
from gnomon.methods.adaptive_sampling.policies.policies import AdaptiveSampler, BestOfN, PruningSampler
from gnomon.methods.adaptive_sampling.policies.watch import Pruning

PolicyName = Literal["best-of-n", "adaptive", "prune"]


@lru_cache(maxsize=1)
def _open(ref: str, load: LoadConfig) -> SelfEvaluator:
    return open_evaluator(ref, load)[0]


@dataclass(frozen=True)
class ApplyStep:
    """From tasks to answers; a prompt that leaves no room is rejected. It holds names and numbers alone."""

    model: str
    load: LoadConfig
    policy: PolicyName
    gen: GenConfig
    schedule: Schedule
    gamma: float
    n_max: int
    groups: tuple[int, ...]
    pruning: Pruning | None
    any_restart: bool
    seed: int
    cuts: tuple[int, ...] = ()
    """best-of-n: beginnings that are looked at too, for replays."""

    def __call__(self, tasks: Iterator[Task]) -> Iterator[dict[str, Any] | Rejected]:
        """Answers in order, rejected prompts before them."""
        evaluator = _open(self.model, self.load)
        policy = self.opened(evaluator)
        fitting, prompts = [], []
        for task in tasks:
            ids = ids_of(task, evaluator.tokenizer)
            try:
                evaluator.check_room([len(ids) + self.gen.max_new_tokens + evaluator.carrier.longest])
            except BadInput as error:
                yield Rejected(f'Task "{task.id}": {error}', {"id": task.id})
                continue
            fitting.append(task)
            prompts.append(ids)
        # Each task draws from a stream of its own name, whatever stands beside it.
        streams = [Rng(self.seed).child("task", task.id) for task in fitting]
        for task, result in zip(fitting, policy.sample(prompts, streams) if prompts else [], strict=True):
            yield {"id": task.id, "prompt": task.text, **result.as_row()}

    def opened(self, evaluator: SelfEvaluator) -> BestOfN | AdaptiveSampler | PruningSampler:
        """The policy, with a model behind it."""
        shared = evaluator, self.gen, self.schedule, self.any_restart
        if self.policy == "prune":
            return PruningSampler(*shared, self.n_max, self.pruning or Pruning())
        if self.policy == "adaptive":
            return AdaptiveSampler(*shared, self.gamma, self.n_max, self.groups)
        return BestOfN(*shared, self.n_max, self.cuts)
