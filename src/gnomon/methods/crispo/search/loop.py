"""The loop of a search: propose, measure on train, criticise, measure on dev, choose.

`optimize` searches for a whole prompt, `tune_suffix` for a postscript behind a finished one.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gnomon.core.llm.stack.loop import run_async
from gnomon.core.rng import Rng
from gnomon.errors import LLMFailure
from gnomon.methods.crispo.config import SearchConfig
from gnomon.methods.crispo.examples.data import KEYPHRASES, Example, repair, slots_in
from gnomon.methods.crispo.scoring.calls import Asker, LLMs, failure_of
from gnomon.methods.crispo.scoring.candidates import Candidate, History, Step, best_of
from gnomon.methods.crispo.scoring.evaluation import Evaluator, needed_slots, shortage, side_by_side
from gnomon.methods.crispo.scoring.metrics import Metric
from gnomon.methods.crispo.search.critique import Critic
from gnomon.methods.crispo.search.proposals import Optimizer, optional_slots
from gnomon.methods.crispo.search.task import POSTSCRIPT, OnStep, Result, Task, check_task

log = logging.getLogger(__name__)


class Search:
    """A search: propose, measure, criticise, choose. Arguments are those of `optimize`."""

    def __init__(
        self,
        task: Task,
        train: Sequence[Example],
        dev: Sequence[Example],
        asker: Asker,
        metrics: Sequence[Metric],
        cfg: SearchConfig,
        rng: Rng,
        on_step: OnStep | None,
    ) -> None:
        slots = check_task(task, train, dev, metrics, cfg)
        self.task, self.cfg, self.asker, self.on_step = task, cfg, asker, on_step
        self.history = History(metrics, policy=cfg.select, eps=cfg.eps, weights=cfg.weights)
        splits = {"train": train, "dev": dev}
        self.evaluator = Evaluator(asker, splits, metrics, task.setup(cfg.repeat), slots=slots, rng=rng)
        sources = self.evaluator.sources["train"]
        self.critic = Critic(
            asker,
            train,
            sources,
            metrics,
            rng,
            examples=cfg.critique_examples,
            pick=cfg.pick,
            main=task.main,
            template=task.critic,
            context_tokens=cfg.context_tokens,
        )
        is_whole = task.main is None
        self.optimizer = Optimizer(
            asker,
            train,
            sources,
            rng,
            needed=slots if is_whole else (),
            optional=optional_slots("\n".join(task.prompts)) if is_whole else (),
            answer_tag=task.answer_tag if is_whole else None,
            arm=cfg.arm,
            critiques=cfg.critiques,
            top_k=cfg.top_k,
            few_shot=cfg.few_shot,
            examples_by=cfg.examples_by,
            main=task.main,
            first_k=cfg.k,
            forbid_copies=cfg.forbid_copies,
            template=task.optimizer,
            context_tokens=cfg.context_tokens,
        )
        self.attempts = 0
        exact = metrics[0].is_exact
        self.dev_every = cfg.dev_every if cfg.dev_every is not None else 1 if exact else 5

    async def run(self) -> Result:
        """The whole search."""
        first = [self.history.add(candidate) for candidate in self._given()]
        await self._try(first)
        self._require("train", first)
        await self._on_dev(first, must=True)
        self._require("dev", first)
        self._end(Step(0, [candidate.number for candidate in first]))
        steps = 0 if self.cfg.arm == "plain" else self.cfg.steps
        for number in range(1, steps + 1):
            step = Step(number)
            new = [self.history.add(candidate) for candidate in await self._propose(step)]
            step.new = [candidate.number for candidate in new]
            await self._try(new)
            if number % self.dev_every == 0 or number == steps:
                await self._on_dev([*new, self.history.best("train")])
            self._end(step)
        best = await self._choose()
        self.asker.close_step()
        saved = self.evaluator.saved
        return Result(best, self.history, self.history.front("dev"), self.asker.calls, saved)

    def _require(self, split: str, first: Sequence[Candidate]) -> None:
        """Stop where none of the given prompts can be scored: there is nothing to compare others with."""
        if not self.history.on(split):
            measured = next(candidate.measured[split] for candidate in first if split in candidate.measured)
            raise LLMFailure(
                f"The given prompt cannot be scored: {shortage(measured, split)}. "
                "What was answered is kept; repeat the command to ask again."
            )

    def _given(self) -> list[Candidate]:
        """The first prompts, with what they lack added."""
        candidates: list[Candidate] = []
        for text in self.task.prompts:
            repairs: tuple[str, ...] = ()
            if self.task.main is None:
                text, repairs = repair(text, needed_slots(self.task.filled), self.task.answer_tag)
            has_k = KEYPHRASES in slots_in(self.task.main if self.task.main is not None else text)
            if all(candidate.text != text for candidate in candidates):
                candidates.append(Candidate(-1, text, k=self.cfg.k if has_k else None, repairs=repairs))
        return candidates

    async def _propose(self, step: Step) -> list[Candidate]:
        """New prompts of a step, few or none where the optimiser writes nothing of use.

        Proposals are requested side by side and read in their order. When all of a step were refused, one more round follows, with
        other examples.
        """
        taken: list[Candidate] = []
        refused: Counter[str] = Counter()
        wanted = self.cfg.per_step
        while len(taken) < wanted and refused.total() < self.cfg.max_retry:
            await self._round(wanted - len(taken), step, taken, refused)
        if not taken:
            await self._round(wanted, step, taken, refused)
        if not taken:
            log.warning("step %d: no proposal could be used (%s).", step.step, _listed(refused))
        step.rejected = dict(sorted(refused.items()))
        return taken

    async def _round(self, count: int, step: Step, taken: list[Candidate], refused: Counter[str]) -> None:
        numbers = range(self.attempts, self.attempts + count)
        self.attempts += count
        step.proposals += count
        questions = [self.optimizer.question(self.history, number) for number in numbers]
        what = f"step {step.step}, proposal"
        replies = await side_by_side(
            self.asker.ask("optimizer", text, f"{what} {number}", draw=number)
            for number, (text, _) in zip(numbers, questions, strict=True)
        )
        for number, (_, shown), reply in zip(numbers, questions, replies, strict=True):
            if failure := failure_of(reply):
                refused["refused by the model" if failure == "refusal" else f"no answer: {failure}"] += 1
                continue
            proposal = self.optimizer.read(reply.text, self.history, taken, shown, number)
            if isinstance(proposal, str):
                refused[proposal] += 1
            else:
                proposal.step = step.step
                taken.append(proposal)

    async def _try(self, new: Sequence[Candidate]) -> None:
        """Measure prompts on train, all at once; each is criticised as soon as its last row is in."""
        bar = self.history.bar("train", self.cfg.top_k) if self.cfg.racing else None

        async def try_candidate(candidate: Candidate) -> None:
            if bar is not None:
                await self.evaluator.race(candidate, "train", bar)
            else:
                await self.evaluator.measure(candidate, "train")
            if self.cfg.arm == "crispo" and self.cfg.steps and not candidate.is_dropped:
                candidate.critique = await self.critic.critique(candidate)

        await side_by_side([try_candidate(candidate) for candidate in new])

    async def _on_dev(self, candidates: Sequence[Candidate], *, must: bool = False) -> None:
        metric, floor = self.history.metrics[0], self.cfg.dev_floor
        waiting = {
            candidate.number: candidate
            for candidate in candidates
            if "dev" not in candidate.measured
            and not candidate.is_dropped
            and (must or floor is None or candidate.values["train"][metric.name] >= floor)
        }
        await side_by_side([self.evaluator.measure(candidate, "dev") for candidate in waiting.values()])

    async def _choose(self) -> Candidate:
        """The best prompt on dev, after the best few were measured there once more."""
        few = self.history.ranked("dev")[::-1][: self.cfg.recheck]
        if len(few) < 2:
            return self.history.best("dev")
        await side_by_side(
            [self.evaluator.measure(candidate, "dev", first_draw=self.cfg.repeat) for candidate in few]
        )
        measured, numbers = self.history.on("dev"), {candidate.number for candidate in few}
        keys = self.history.keys("dev")
        left = [
            (key, candidate)
            for key, candidate in zip(keys, measured, strict=True)
            if candidate.number in numbers
        ]
        return left[best_of([key for key, _ in left])][1]

    def _end(self, step: Step) -> None:
        for split in ("train", "dev"):
            best = self.history.best(split)
            step.best[split] = best.number
            step.values[split] = dict(best.values[split])
        step.task_calls = self.asker.counts["task"]
        self.history.steps.append(step)
        self.asker.close_step()
        if self.on_step is not None:
            self.on_step(step, self.history, self.asker.calls)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none came"


# The two searches


def optimize(
    task: Task,
    train: Sequence[Example],
    dev: Sequence[Example],
    llms: LLMs,
    metrics: Sequence[Metric],
    cfg: SearchConfig | None = None,
    *,
    rng: Rng | None = None,
    on_step: OnStep | None = None,
) -> Result:
    """Search for a better prompt, or with `task.main` for a postscript.

    Every choice is a function of `rng` and every answer of its request and draw: with models whose replies are kept (see
    `gnomon.core.llm.asking`), a search that was stopped repeats itself without paying and goes on where it was.

    Args:
        task: prompts to begin with, and what they are for.
        train: rows that prompts are scored and criticised on.
        dev: rows that the result is chosen by; none of them is ever shown to critic or optimiser.
        llms: the three models, and how long their answers may be.
        metrics: what is measured; several are weighed by `cfg.select`.
        cfg: how to search; None takes the paper's numbers.
        rng: every random choice.
        on_step: called after every step.

    Raises:
        BadInput: rows or prompts cannot be used; the message names the row.
        LLMFailure: an endpoint answers nothing any more, or too few rows of the given prompts.
        BudgetSpent: the budget ended; what was answered is in the cache.
    """
    rng = rng or Rng(0)
    asker = Asker(llms, seed=rng.seed)
    return run_async(Search(task, train, dev, asker, metrics, cfg or SearchConfig(), rng, on_step).run())


def tune_suffix(
    main: str,
    train: Sequence[Example],
    dev: Sequence[Example],
    llms: LLMs,
    metrics: Sequence[Metric],
    cfg: SearchConfig | None = None,
    *,
    task: Task | None = None,
    **more: Any,
) -> Result:
    """Search for a postscript behind a finished prompt.

    The empty postscript is always the first candidate, so that "none" can win.

    Args:
        main: the finished prompt; not a byte of it changes.
        train: as in `optimize`.
        dev: as in `optimize`.
        llms: as in `optimize`.
        metrics: the metric to keep, then those to raise.
        cfg: how to search.
        task: postscripts to begin with, the answer's tag and templates; None: a plain request to stay faithful.
        **more: `rng` and `on_step`, as in `optimize`.

    Source: the paper's automatic suffix tuning (AST).
    """
    task = task or Task([POSTSCRIPT])
    task = replace(task, prompts=["", *filter(None, task.prompts)], main=main)
    return optimize(task, train, dev, llms, metrics, cfg, **more)
