"""New prompts: what the optimiser is shown, and what becomes of its answer: a prompt, a mended prompt, or a reason to refuse it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from gnomon.core.rng import Rng
from gnomon.methods.crispo.examples.data import (
    FEWEST,
    KEYPHRASES,
    MADE,
    MOST,
    Example,
    copied,
    last_tagged,
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
    """A prompt as the optimiser sees it."""

    number: int
    text: str
    score: str
    critique: str | None


@dataclass(frozen=True)
class Optimizer:
    """Asks for new prompts and reads them."""

    asker: Asker
    """Asks."""
    train: Sequence[Example]
    """Rows of train, for examples and to tell copies."""
    sources: Sequence[str]
    """Their inputs as the model is given them."""
    rng: Rng
    """Every choice."""
    needed: Sequence[str]
    """Slots that a prompt must have."""
    optional: Sequence[str] = ()
    """Slots that it may have besides."""
    answer_tag: str | None = "summary"
    """Where the answer is to stand."""
    arm: Arm = "crispo"
    """`crispo` shows critiques and asks for thought; `opro` shows scores alone."""
    critiques: Literal["own", "shuffled"] = "own"
    """`shuffled`: each prompt is shown with the critique of another one, as a control."""
    top_k: int = 20
    """Most prompts shown."""
    few_shot: int = 2
    """Pairs shown."""
    examples_by: ExamplesBy = "random"
    """Which pairs."""
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
        critiques = [one.critique for one in best]
        if self.arm == "opro":
            critiques = [None] * len(best)
        elif self.critiques == "shuffled":
            critiques = _deranged(critiques, self.rng.child("shuffled", attempt))
        return [
            Shown(one.number, one.text, self._score(one, history), critique)
            for one, critique in zip(best, critiques, strict=True)
        ]

    def _score(self, one: Candidate, history: History) -> str:
        scores = one.measured["train"].scores
        if self.arm == "opro" and len(history.metrics) == 1 and history.metrics[0].describe is None:
            (metric,) = history.metrics
            return str(round(metric.percent(metric.aggregate(scores[metric.name]))))
        told = [(metric.name, metric.shown(scores[metric.name])) for metric in history.metrics]
        return told[0][1] if len(told) == 1 else ", ".join(f"{name} {text}" for name, text in told)

    def few_shots(self, history: History, attempt: int) -> list[int]:
        """Places of the pairs that one attempt is shown: any, or some of those on which prompts do worst.

        `current_lowest` goes by the newest prompts, `accumulated_lowest` by all of them; so that attempts differ, the pairs are
        drawn from three times as many.
        """
        draw = self.rng.child("few-shot", attempt).python()
        count = min(self.few_shot, len(self.train))
        if self.examples_by == "random":
            return draw.sample(range(len(self.train)), count)
        there = history.on("train")
        if self.examples_by == "current_lowest":
            there = [one for one in there if one.step == there[-1].step]
        metric = history.metrics[0]
        hardness = [
            mean([metric.better(one.measured["train"].scores[metric.name][i]) for one in there])
            for i in range(len(self.train))
        ]
        hardest = sorted(range(len(self.train)), key=lambda i: (hardness[i], i))[: 3 * count]
        return draw.sample(hardest, count)

    def question(self, history: History, attempt: int) -> tuple[str, tuple[int, ...]]:
        """What one attempt asks, and the numbers of the prompts in it.

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
            return text, tuple(one.number for one in shown)
        before = len(shown)
        while len(shown) > 1 and count(text) > limit:
            shown = shown[1:]
            text = self._written(shown, pairs)
        note = ""
        for length in TRIMMED:
            if count(text) <= limit:
                break
            shown = [replace(one, critique=one.critique and one.critique[:length]) for one in shown]
            text, note = self._written(shown, pairs), f", critiques cut to {length} characters"
        kept = f"{len(shown)} of {before} prompts are shown{note}"
        log.info("attempt %d: too long for %d tokens; %s.", attempt, limit, kept)
        return text, tuple(one.number for one in shown)

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
        """The prompt in an answer, or the reason why there is none that can be used.

        Args:
            text: the answer.
            history: prompts that were tried.
            batch: prompts of this step that were taken already.
            shown: numbers of the prompts that the author saw.
            attempt: number of the attempt.
        """
        found = last_tagged(text, "instruction")
        if found is None:
            return "unclosed tag" if "<instruction>" in text else "no tag"
        if not found:
            return "empty"
        names = slots_in(found)
        repairs: tuple[str, ...] = ()
        if self.main is not None:
            if names:
                return "slot in a postscript"
        else:
            if any(name not in (*self.needed, *self.optional) for name in names):
                return "unknown slot"
            found, repairs = repair(found, self.needed, self.answer_tag)
        parent = nearest_text(found, [history.candidates[number] for number in shown])
        k = self._next_k(text, found, parent, attempt)
        if history.knows(found, k):
            return "tried before"
        if any(one.text == found and one.k == k for one in batch):
            return "twice in one step"
        copies = tuple(copied(found, self.train))
        if copies and self.forbid_copies:
            return "copies a reference"
        number = parent.number if parent else None
        return Candidate(-1, found, k=k, parent=number, shown=tuple(shown), repairs=repairs, copies=copies)

    def _next_k(self, text: str, found: str, parent: Candidate | None, attempt: int) -> int | None:
        if KEYPHRASES not in slots_in(self.main if self.main is not None else found):
            return None
        if self.main is not None:
            return parent.k if parent else None
        stated = stated_k(last_tagged(text, "k"))
        before = parent.k if parent and parent.k else self.first_k
        return stated or next_k(before, self.rng.child("k", attempt).python())


def nearest_text(text: str, candidates: Sequence[Candidate]) -> Candidate | None:
    """The candidate whose text differs least from `text`, by edits over characters; of equal ones the last, which is the best."""
    from rapidfuzz.distance import Levenshtein

    return min(
        reversed(candidates), key=lambda one: Levenshtein.normalized_distance(text, one.text), default=None
    )


def optional_slots(text: str) -> list[str]:
    """The slots that hold something made, which a prompt may do without."""
    return [name for name in slots_in(text) if name in MADE]


def _deranged(critiques: list[str | None], rng: Rng) -> list[str | None]:
    """Every critique at another place than its own, where there are two or more."""
    if len(critiques) < 2:
        return [None] * len(critiques)
    draw = rng.python()
    order = draw.sample(range(len(critiques)), len(critiques))
    moved: list[str | None] = [None] * len(critiques)
    for i, place in enumerate(order):  # along one cycle, so that none keeps its own
        moved[place] = critiques[order[i - 1]]
    return moved
