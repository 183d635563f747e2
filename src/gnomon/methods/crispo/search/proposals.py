"""Proposals of new prompts: the optimiser's request, and the prompt in its answer or the reason to refuse it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gnomon.core.llm.parse import ends_inside, opens_tag, tagged
from gnomon.core.rng import Rng
from gnomon.methods.crispo.examples.data import (
    FEWEST,
    KEYPHRASES,
    MADE,
    MOST,
    Example,
    copied,
    next_k,
    repair,
    slot,
    slots_in,
    stated_k,
)
from gnomon.methods.crispo.scoring.calls import Asker, token_counter
from gnomon.methods.crispo.scoring.candidates import Candidate, History
from gnomon.methods.crispo.scoring.metrics import mean
from gnomon.methods.crispo.search.critique import write

log = logging.getLogger(__name__)

Arm = Literal["crispo", "opro", "plain"]
ExamplesBy = Literal["random", "current_lowest", "accumulated_lowest"]
TRIMMED = (1500, 500, 150)
"""Characters to which critiques are cut, one after the other, when a request is too long for the model."""


@dataclass(frozen=True)
class Shown:
    """A prompt in the optimiser's request."""

    number: int
    text: str
    score: str
    critique: str | None


@dataclass(frozen=True)
class Optimizer:
    """Requests for new prompts, and the reading of answers.

    Source: the paper's receptive optimizer; the arm `opro` is its baseline.
    """

    asker: Asker
    train: Sequence[Example]
    """Rows of train: examples come from here, and copies of their references are detected."""
    sources: Sequence[str]
    """Inputs of train as the task model reads them."""
    rng: Rng
    """Every random choice."""
    needed: Sequence[str]
    """Slots that a prompt must have."""
    optional: Sequence[str] = ()
    """Slots that it may have besides."""
    answer_tag: str | None = "summary"
    """The answer stands inside this tag; None: it is the whole reply."""
    arm: Arm = "crispo"
    """`crispo` shows critiques and asks for thought; `opro` shows scores alone."""
    critiques: Literal["own", "shuffled"] = "own"
    """`shuffled`: each prompt is shown with the critique of another one, as a control."""
    top_k: int = 20
    """Most prompts in a request."""
    few_shot: int = 2
    """Pairs of input and output in a request."""
    examples_by: ExamplesBy = "random"
    """Choice of the pairs, see `SearchConfig`."""
    main: str | None = None
    """The fixed prompt, where postscripts are tuned."""
    first_k: int = 15
    """Key phrases where the prompt it is nearest to had none."""
    forbid_copies: bool = False
    """Refuse prompts that hold a reference of train word for word."""
    template: str | Path | None = None
    """A template of the user's own."""
    context_tokens: int | None = None
    """Longest request. None: what the model can hold, where that is known."""

    def shown(self, history: History, attempt: int) -> list[Shown]:
        """The best prompts so far, worst first, each with its score and critique."""
        best = history.ranked("train")[-self.top_k :]
        critiques = [candidate.critique for candidate in best]
        if self.arm == "opro":
            critiques = [None] * len(best)
        elif self.critiques == "shuffled":
            critiques = _deranged(critiques, self.rng.child("shuffled", attempt))
        return [
            Shown(candidate.number, candidate.text, self._score(candidate, history), critique)
            for candidate, critique in zip(best, critiques, strict=True)
        ]

    def _score(self, candidate: Candidate, history: History) -> str:
        measured = candidate.measured["train"]
        if self.arm == "opro" and len(history.metrics) == 1 and history.metrics[0].describe is None:
            (metric,) = history.metrics
            return str(round(metric.percent(metric.aggregate(measured.of(metric.name)))))
        shown = [(metric.name, metric.shown(measured.of(metric.name))) for metric in history.metrics]
        return shown[0][1] if len(shown) == 1 else ", ".join(f"{name} {text}" for name, text in shown)

    def few_shots(self, history: History, attempt: int) -> list[int]:
        """Indices of the pairs in one attempt: any, or some of those on which prompts do worst.

        `current_lowest` goes by the newest prompts, `accumulated_lowest` by all of them; so that attempts differ, the pairs are
        drawn from three times as many.
        """
        draw = self.rng.child("few-shot", attempt).python()
        count = min(self.few_shot, len(self.train))
        if self.examples_by == "random":
            return draw.sample(range(len(self.train)), count)
        measured = history.on("train")
        if self.examples_by == "current_lowest":
            measured = [candidate for candidate in measured if candidate.step == measured[-1].step]
        metric = history.metrics[0]
        hardness = []
        for i in range(len(self.train)):
            scores = [candidate.measured["train"].scores[metric.name][i] for candidate in measured]
            answered = [metric.better(score) for score in scores if not math.isnan(score)]
            hardness.append(mean(answered) if answered else math.inf)
        hardest = sorted(range(len(self.train)), key=lambda i: (hardness[i], i))[: 3 * count]
        return draw.sample(hardest, count)

    def question(self, history: History, attempt: int) -> tuple[str, tuple[int, ...]]:
        """The request of one attempt, and the numbers of the prompts in it.

        Where it is too long for the model the worst prompts are left out first, then critiques are cut.
        """
        shown = self.shown(history, attempt)
        pairs = [
            {"input": self.sources[i], "output": self.train[i].references[0]}
            for i in self.few_shots(history, attempt)
        ]
        count, room = token_counter(self.asker.llms.optimizer)
        limit = self.context_tokens or (None if room is None else room - self.asker.llms.decoding.meta_tokens)
        text = self._written(shown, pairs)
        if limit is None or count(text) <= limit:
            return text, tuple(prompt.number for prompt in shown)
        before = len(shown)
        while len(shown) > 1 and count(text) > limit:
            shown = shown[1:]
            text = self._written(shown, pairs)
        note = ""
        for length in TRIMMED:
            if count(text) <= limit:
                break
            shown = [
                replace(prompt, critique=prompt.critique and prompt.critique[:length]) for prompt in shown
            ]
            text, note = self._written(shown, pairs), f", critiques cut to {length} characters"
        kept = f"{len(shown)} of {before} prompts are shown{note}"
        log.info("attempt %d: too long for %d tokens; %s.", attempt, limit, kept)
        return text, tuple(prompt.number for prompt in shown)

    def _written(self, shown: Sequence[Shown], pairs: Sequence[dict[str, str]]) -> str:
        values: dict[str, Any] = {
            "shown": shown,
            "few_shots": pairs,
            "main": self.main,
            "slots": [slot(name) for name in self.needed],
            "optional_slots": [slot(name) for name in self.optional],
            "answer_tag": self.answer_tag,
            "asks_k": KEYPHRASES in self.optional,
            "fewest_k": FEWEST,
            "most_k": MOST,
            "notes": [],
        }
        named = {"crispo": "optimizer" if self.main is None else "suffix_optimizer"}.get(self.arm, "opro")
        return write(self.template or named, values)

    def read(
        self, text: str, history: History, batch: Sequence[Candidate], shown: Sequence[int], attempt: int
    ) -> Candidate | str:
        """Read the new prompt from an answer, or the reason to refuse it.

        Args:
            text: the answer.
            history: prompts that were tried.
            batch: prompts of this step that were accepted already.
            shown: numbers of the prompts in the request.
            attempt: number of the attempt.
        """
        prompt = tagged(text, "instruction")
        # An answer that ends within a prompt was cut off, and one that stands complete before it was a draft.
        if prompt is None or ends_inside(text, "instruction"):
            return "unclosed tag" if opens_tag(text, "instruction") else "no tag"
        if not prompt:
            return "empty"
        names = slots_in(prompt)
        repairs: tuple[str, ...] = ()
        if self.main is not None:
            if names:
                return "slot in a postscript"
        else:
            if any(name not in (*self.needed, *self.optional) for name in names):
                return "unknown slot"
            prompt, repairs = repair(prompt, self.needed, self.answer_tag)
        parent = nearest_text(prompt, [history.candidates[number] for number in shown])
        k = self._next_k(text, prompt, parent, attempt)
        if history.knows(prompt, k):
            return "tried before"
        if any(candidate.text == prompt and candidate.k == k for candidate in batch):
            return "twice in one step"
        copies = tuple(copied(prompt, self.train))
        if copies and self.forbid_copies:
            return "copies a reference"
        number = parent.number if parent else None
        return Candidate(-1, prompt, k=k, parent=number, shown=tuple(shown), repairs=repairs, copies=copies)

    def _next_k(self, text: str, prompt: str, parent: Candidate | None, attempt: int) -> int | None:
        if KEYPHRASES not in slots_in(self.main if self.main is not None else prompt):
            return None
        if self.main is not None:
            return parent.k if parent else None
        stated = stated_k(tagged(text, "k"))
        before = parent.k if parent and parent.k else self.first_k
        return stated or next_k(before, self.rng.child("k", attempt).python())


def nearest_text(text: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate whose text differs least from `text`, by edits over characters; of equal ones the last, which is the best."""
    from rapidfuzz.distance import Levenshtein

    return min(
        reversed(candidates),
        key=lambda candidate: Levenshtein.normalized_distance(text, candidate.text),
        default=None,
    )


def optional_slots(text: str) -> list[str]:
    """Slots for examples and key phrases, which a prompt may do without."""
    return [name for name in slots_in(text) if name in MADE]


def _deranged(critiques: list[str | None], rng: Rng) -> list[str | None]:
    """Critiques moved so that none keeps its own index; a single one is dropped."""
    if len(critiques) < 2:
        return [None] * len(critiques)
    draw = rng.python()
    order = draw.sample(range(len(critiques)), len(critiques))
    moved: list[str | None] = [None] * len(critiques)
    for i, index in enumerate(order):  # along one cycle, so that none keeps its own
        moved[index] = critiques[order[i - 1]]
    return moved
