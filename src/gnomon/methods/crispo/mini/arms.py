"""The arms of the miniature: one search each, with what it has found after some of its steps, measured on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gnomon.core.llm import LLM, LLMConfig, Reply, Request
from gnomon.core.llm.roles import Recording, asking
from gnomon.core.llm.stack.stored import request_key
from gnomon.core.rng import Rng
from gnomon.methods.crispo.config import SearchConfig
from gnomon.methods.crispo.mini.world import PROMPT, TAG, World, style_metric
from gnomon.methods.crispo.scoring.calls import Call, LLMs
from gnomon.methods.crispo.scoring.candidates import Candidate, History, Step
from gnomon.methods.crispo.scoring.evaluation import evaluate
from gnomon.methods.crispo.scoring.metrics import Metric
from gnomon.methods.crispo.search.loop import optimize
from gnomon.methods.crispo.search.task import Result, Task

SHOWN_AFTER = (5, 20)
"""Steps after which the prompt that dev would choose is measured on test."""

SETTINGS = LLMConfig(concurrency=64, cache=False)
"""How the models of the miniature are asked."""


@dataclass(frozen=True)
class Arm:
    """One side of the comparison."""

    name: str
    """As claims name it."""
    arm: str = "crispo"
    """`crispo` or `opro`."""
    critic: str = "sim:critic"
    """Who criticises; empty: critiques that were written for other tasks."""
    critiques: str = "own"
    """`own` or `shuffled`."""


SEARCHES = (
    Arm("opro", arm="opro"),
    Arm("crispo"),
    Arm("crispo, blind critic", critic="sim:critic?det=0"),
    Arm("crispo, critiques of other tasks", critic=""),
    Arm("crispo, shuffled critiques", critiques="shuffled"),
    Arm("single-aspect critic", critic="sim:critic?most=1"),
)
DOSES = (
    Arm("detection 0.3", critic="sim:critic?det=0.3"),
    Arm("detection 0.5", critic="sim:critic?det=0.5"),
    Arm("detection 1", critic="sim:critic?det=1"),
)


@dataclass(frozen=True)
class Ran:
    """What one arm did under one seed."""

    result: Result
    """The search."""
    chosen: dict[int, Candidate]
    """Step -> the prompt that dev chose by then."""
    test: dict[int, float]
    """Step -> that prompt's score on test, by the first metric; step 0 is the manual prompt."""

    @property
    def critiques(self) -> list[str]:
        """All critiques that were written."""
        return [one.critique for one in self.result.history.candidates if one.critique]


class Foreign:
    """A critic that answers with critiques of other tasks: as many words, as sure of itself, and about something else.

    Args:
        critiques: what it has to say; the request chooses.
    """

    is_simulated = True

    def __init__(self, critiques: Sequence[str]) -> None:
        self.critiques, self.name = list(critiques), "critiques of other tasks"

    async def acomplete(self, request: Request) -> Reply:
        """A critique."""
        draw = Rng(0).child("foreign", request_key(request)).python()
        return Reply(f"<critique>\n{draw.choice(self.critiques)}\n</critique>")


def run_arm(
    arm: Arm,
    world: World,
    rng: Rng,
    *,
    steps: int,
    per_step: int = 3,
    task: LLM | None = None,
    everyone: LLM | None = None,
    prompt: str = PROMPT,
    metric: Metric | None = None,
    foreign: Sequence[str] = (),
    max_tokens: int = 512,
    run: Recording | None = None,
) -> Ran:
    """One search, every arm with the same number of task calls.

    Args:
        arm: how.
        world: the task.
        rng: every choice; arms of one seed share it.
        steps: how long.
        per_step: prompts a step.
        task: the task model; None takes the simulated writer of the world.
        everyone: one model in all three roles, in place of simulators.
        prompt: to begin with.
        metric: None takes the style's.
        foreign: critiques of other tasks, for the arm that is shown those.
        max_tokens: longest summary.
        run: counts what the models are asked; None: nobody does.
    """
    roles = {
        "task": everyone or task or f"sim:styler?{world.writer}",
        "critic": everyone or arm.critic or Foreign(foreign),
        "optimizer": everyone or "sim:optimizer",
    }
    metrics = [metric or style_metric()]
    chosen: dict[int, Candidate] = {}

    def on_step(step: Step, history: History, calls: Sequence[Call]) -> None:
        if step.step == 0 or step.step in SHOWN_AFTER or step.step == steps:
            chosen[step.step] = history.candidates[step.best["dev"]]

    cfg = SearchConfig(arm=arm.arm, critiques=arm.critiques, steps=steps, per_step=per_step, recheck=0)  # type: ignore[arg-type]
    with asking(roles, SETTINGS, run=run) as models:
        llms = LLMs(**models)
        result = optimize(
            Task([prompt], TAG), world.train, world.dev, llms, metrics, cfg, rng=rng, max_tokens=max_tokens, on_step=on_step
        )  # fmt: skip
        different = list({one.number: one for one in chosen.values()}.values())
        # Measured as copies: what a candidate did on test is no part of the search.
        copies = [replace(one, measured={}) for one in different]
        found = evaluate(copies, world.test, llms.task, metrics, answer_tag=TAG, max_tokens=max_tokens)
    score = {
        one.number: metrics[0].aggregate(measured.scores[metrics[0].name])
        for one, measured in zip(different, found, strict=True)
    }
    return Ran(result, chosen, {step: score[one.number] for step, one in chosen.items()})
