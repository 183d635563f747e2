"""Task and result of a search, and the checks before any model is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.crispo.config import SearchConfig
from gnomon.methods.crispo.examples.data import Example, check_apart, check_slots, copied
from gnomon.methods.crispo.examples.neighbours import Neighbours
from gnomon.methods.crispo.scoring.calls import Call
from gnomon.methods.crispo.scoring.candidates import MOST_UNANSWERED, Candidate, History, Step
from gnomon.methods.crispo.scoring.evaluation import Setup, needed_slots
from gnomon.methods.crispo.scoring.metrics import Metric

OnStep = Callable[[Step, History, Sequence[Call]], None]
"""Called with each step, the history and every call so far; step 0 are the given prompts."""


POSTSCRIPT = "Stay faithful to the input: do not write anything that it does not say."
"""The default first postscript."""


@dataclass(frozen=True)
class Task:
    """The first prompts of a search, and how they are completed and criticised."""

    prompts: Sequence[str]
    """Prompts to begin with; where a postscript is tuned, postscripts."""
    answer_tag: str | None = "summary"
    """The answer stands inside this tag; None: it is the whole reply."""
    main: str | None = None
    """The fixed prompt before the postscript; None: whole prompts are tuned."""
    critic: str | Path | None = None
    """A template in place of the critic's."""
    optimizer: str | Path | None = None
    """A template in place of the optimiser's."""
    neighbours: Neighbours | None = None
    """Fills the example slot; None where no prompt has it."""

    most_unanswered: float = MOST_UNANSWERED
    """Largest share of rows without an answer with which a prompt is scored."""

    def setup(self, repeat: int = 1) -> Setup:
        """How its prompts are filled and their answers read, each row asked `repeat` times."""
        most = self.most_unanswered
        return Setup(self.answer_tag, self.main, self.neighbours, repeat=repeat, most_unanswered=most)

    @property
    def filled(self) -> str:
        """The first text that has the slots."""
        return self.main if self.main is not None else self.prompts[0]


@dataclass(frozen=True)
class Result:
    """The outcome of a search."""

    best: Candidate
    """The best prompt on dev."""
    history: History
    """Every prompt and step."""
    front: Sequence[Candidate]
    """Prompts that no other beats in every metric on dev."""
    calls: list[Call]
    """Every answered request."""
    saved_calls: int = 0
    """Task calls that racing saved."""


def check_task(
    task: Task,
    train: Sequence[Example],
    dev: Sequence[Example],
    metrics: Sequence[Metric],
    cfg: SearchConfig,
) -> list[str]:
    """Refuse what cannot work, before any call is paid for. Returns the slots that hold fields of a row."""
    for name, rows in (("train", train), ("dev", dev)):
        if not rows:
            raise BadInput(f"{name} has no rows. Give 50 to 100 pairs of input and output.")
    if not task.prompts:
        raise BadInput("There is no prompt to begin with. Give one.")
    if cfg.racing and len(metrics) > 1:
        raise BadConfig("racing looks at a single metric; got several. Leave it off.")
    if cfg.weights is not None and len(cfg.weights) != len(metrics):
        raise BadConfig(f"weights must be one per metric ({len(metrics)}); got {len(cfg.weights)}.")
    texts = task.prompts if task.main is None else [task.main]
    slots = needed_slots(texts[0])
    for text in texts:
        check_slots(text, [*train, *dev], has_encoder=task.neighbours is not None)
        if odd := [name for name in needed_slots(text) if name not in slots]:
            raise BadInput(
                f"A prompt has a slot that the first one has not ({odd[0]}). Give all the same slots."
            )
    check_apart({"train": train, "dev": dev}, slots)
    for text in (*task.prompts, *([task.main] if task.main else [])):
        if copies := copied(text, dev, inputs=True):
            raise BadInput(
                f'A prompt to begin with holds the text of row "{copies[0]}" of dev. Take it out of one of them.'
            )
    return slots
