"""The arms of the miniature: one search each, whose best prompts after some steps are measured on test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gnomon.core.llm import LLM, LLMConfig, Reply, Request
from gnomon.core.llm.roles import Recording, asking
from gnomon.core.llm.stack.stored import request_key
from gnomon.core.rng import Rng
from gnomon.methods.crispo.config import SearchConfig
from gnomon.methods.crispo.mini.world import PROMPT, TAG, World
from gnomon.methods.crispo.scoring.calls import Call, Decoding, LLMs
from gnomon.methods.crispo.scoring.candidates import Candidate, History, Step
from gnomon.methods.crispo.scoring.evaluation import Setup, evaluate
from gnomon.methods.crispo.search.loop import optimize
from gnomon.methods.crispo.search.task import Result, Task

SHOWN_AFTER = (5, 20)
"""Steps after which the prompt that dev would choose is measured on test."""

SETTINGS = LLMConfig(concurrency=64, cache="none")
"""How the models of the miniature are asked."""


@dataclass(frozen=True)
class Arm:
    """One side of the comparison."""

    name: str
    """As claims name it."""
    arm: str = "crispo"
    """`crispo` or `opro`."""
    critic: str = "sim:critic"
    """Reference of the critic; empty: critiques that were written for other tasks."""
    critiques: str = "own"
    """`own` or `shuffled`."""
    prompt: str = PROMPT
    """The prompt to begin with."""


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
    """A search of one arm under one seed, and its scores on test."""

    result: Result
    """The search."""
    chosen: dict[int, Candidate]
    """Step -> the prompt that dev chose by then."""
    test: dict[int, float]
    """Step -> that prompt's score on test, by the first metric; step 0 is the manual prompt."""

    @property
    def critiques(self) -> list[str]:
        """All critiques that were written."""
        return [candidate.critique for candidate in self.result.history.candidates if candidate.critique]


class Foreign:
    """A control: a critic that answers with critiques of other tasks.

    Args:
        critiques: what it answers with; the request chooses one.
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
    models: Mapping[str, LLM] | None = None,
    foreign: Sequence[str] = (),
    run: Recording | None = None,
) -> Ran:
    """One search, every arm with the same number of task calls.

    Args:
        arm: which search.
        world: the task.
        rng: every choice; arms of one seed share it.
        steps: rounds of proposals.
        models: role -> a model in place of the simulated one: `task`, `critic`, `optimizer`.
        foreign: critiques of other tasks, for the arm that is shown those.
        run: where calls of the models are counted; None: nowhere.
    """
    roles = {
        "task": f"sim:styler?{world.writer}",
        "critic": arm.critic or Foreign(foreign),
        "optimizer": "sim:optimizer",
    } | dict(models or {})
    metrics = [world.metric]
    chosen: dict[int, Candidate] = {}

    def on_step(step: Step, history: History, calls: Sequence[Call]) -> None:
        if step.step == 0 or step.step in SHOWN_AFTER or step.step == steps:
            chosen[step.step] = history.candidates[step.best["dev"]]

    cfg = SearchConfig(arm=arm.arm, critiques=arm.critiques, steps=steps, recheck=0)  # type: ignore[arg-type]
    with asking(roles, SETTINGS, run=run) as opened:
        llms = LLMs(**opened, decoding=Decoding(world.max_tokens))
        task = Task([arm.prompt], TAG)
        result = optimize(task, world.train, world.dev, llms, metrics, cfg, rng=rng, on_step=on_step)
        different = list({candidate.number: candidate for candidate in chosen.values()}.values())
        # Measured as copies: what a candidate did on test is no part of the search.
        copies = [replace(candidate, measured={}) for candidate in different]
        tested = evaluate(copies, world.test, llms, metrics, Setup(TAG))
    score = {
        candidate.number: world.metric.aggregate(measured.scores[world.metric.name])
        for candidate, measured in zip(different, tested, strict=True)
    }
    return Ran(result, chosen, {step: score[candidate.number] for step, candidate in chosen.items()})
