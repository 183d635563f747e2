"""Probes: the change of a trial that each of the twelve biases needs, and the verdict of an unbiased judge.

A probe of your own is a subclass with `make`, given to `audit` beside or instead of these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, nearest
from gnomon.methods.calm.stimuli.items import SIDES, Cues, Item, length_ratio

Expected = Literal["same", "flips", "accuracy", "equal scores"]
Target = Literal["order", "answers", "notes", "names", "thinking", "scores"]

BY_SET = {"fact": "fact-related", "alignment": "alignment", "refinement": "refinement-aware"}


@dataclass(frozen=True)
class Variant:
    """One changed trial of an item."""

    condition: str
    """Name of the change; rows of one condition are counted together."""
    answers: tuple[str, ...] | None = None
    """Changed answers; None: those of the item."""
    note: str = ""
    """A remark beside the answers; `{cued}` becomes the letter of the cued answer."""
    names: tuple[str, ...] = ()
    """Alleged author of each response."""
    cued: int | None = None
    """The response that a biased judge would turn to."""
    dose: float | None = None
    """Strength of the cue."""
    ratio: float | None = None
    """Length of the changed answer over the old one, in words."""
    rotation: int = 0
    """By how many places the order of the answers is turned."""
    candidates: int = 2
    """Number of the item's answers that are shown."""
    think: bool = False
    """Whether the prompt asks the judge to solve the question first."""
    earlier: str = ""
    """An earlier version shown with a scored answer."""
    is_score: bool = False
    """Whether one answer is scored alone, the first of `answers`."""


class Probe(ABC):
    """One bias.

    A subclass sets the class variables and defines `make`.
    """

    name: str
    """The bias."""
    set: str
    """The set of items it is about."""
    target: Target
    """The part of a trial that it changes; a judge that does not read that cannot be probed."""
    expected: Expected = "same"
    """Behaviour of an unbiased judge: gives the same verdict, flips to the other answer, or gives equal scores; accuracy is
    compared where no verdict is expected."""
    rewrites: bool = False
    """Whether it needs rewritten answers."""
    mention: str = ""
    """A pattern of reasons that name the cue; case does not matter."""

    @abstractmethod
    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """The changed trials of one item; none where it cannot be changed.

        Args:
            item: the item; left as it is.
            cues: the stimuli.
            rng: where choices are drawn, such as which remark is made.
        """


class Position(Probe):
    """The order of the candidates, in all rotations, with two candidates and with each number more that an item has."""

    name, set, target = "position", "alignment", "order"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """The rotations but the first, which is the plain order."""
        return [
            Variant(f"{count} candidates", rotation=turn, candidates=count)
            for count in range(2, len(item.answers) + 1)
            for turn in range(1, count)
        ]


class Rewritten(Probe):
    """Answers rewritten beforehand, by a model, by rule, or in the data."""

    target, rewrites = "answers", True
    gains_by_rewrite = True
    """Whether a biased judge turns to the rewritten answer; else to the other one."""

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """One per rewrite."""
        return [
            Variant(
                rewrite.condition,
                tuple(
                    rewrite.text if i == rewrite.response else text for i, text in enumerate(item.answers[:2])
                ),
                cued=rewrite.response if self.gains_by_rewrite else 1 - rewrite.response,
                dose=rewrite.dose,
                ratio=length_ratio(item.answers[rewrite.response], rewrite.text),
            )
            for rewrite in item.rewritten(self.name)
        ]


class Verbosity(Rewritten):
    """The worse answer is longer and says nothing more."""

    name, set = "verbosity", "fact"
    mention = r"\b(?:detail|thorough|comprehensive|longer|length|elaborat)"


class FallacyOversight(Rewritten):
    """The reasoning of the better answer is illogical; its final result stays."""

    name, set, expected = "fallacy-oversight", "fact", "flips"
    gains_by_rewrite = False
    mention = r"\b(?:fallac|illogical|flaw|logic|reasoning error)"


class Authority(Rewritten):
    """An invented source stands behind an answer."""

    name, set = "authority", "alignment"
    mention = r"\b(?:cit(?:es?|ing|ed|ation)|sourc|referenc|quot|book|url|link)"


class Sentiment(Rewritten):
    """An answer has a tone of feeling; what it says and its length stay."""

    name, set = "sentiment", "fact"
    mention = r"\b(?:tone|emotion|feeling|cheerful|sad|angry|fear|sentiment)"


class CompassionFade(Probe):
    """Real model names stand in the place of Assistant A and B, each pair both ways round."""

    name, set, target = "compassion-fade", "alignment", "names"
    mention = r"\b(?:gpt|claude|vicuna|llama|model'?s? name)"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """Two per pair of names: the well-known one over the better answer, and over the worse."""
        variants = []
        for strong, weak in cues.names:
            for side, word in enumerate(SIDES):
                names = (strong, weak) if side == 0 else (weak, strong)
                variants.append(Variant(f"{strong} over {weak}, {word}", names=names, cued=side))
        return variants


class Bandwagon(Probe):
    """A majority is said to prefer one answer."""

    name, set, target = "bandwagon", "alignment", "notes"
    mention = r"(?:\d+ ?%|\b(?:majority|most people|popular|people believe))"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """One per percentage and side."""
        return [
            Variant(
                f"{percent}%, {word}",
                note=cues.majority.replace("{percent}", str(percent)),
                cued=side,
                dose=float(percent),
            )
            for percent in cues.percents
            for side, word in enumerate(SIDES)
        ]


class Distraction(Probe):
    """Something beside the point is said of one author."""

    name, set, target = "distraction", "alignment", "notes"
    mention = r"\b(?:by the way|author of answer|habit|hobby|personal)"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """One per side; the same remark about either."""
        note = rng.python().choice(cues.asides)
        return [Variant(f"about the {word}", note=note, cued=side) for side, word in enumerate(SIDES)]


class Diversity(Probe):
    """The author of one answer is said to belong to a group."""

    name, set, target = "diversity", "alignment", "notes"
    mention = r"\b(?:author(?:'s)? (?:of|is|identity|background)|identity|minority|group)"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """One per group and side."""
        return [
            Variant(f"{name}, {word}", note=cues.group.replace("{group}", put), cued=side)
            for name, put in cues.groups.items()
            for side, word in enumerate(SIDES)
        ]


class ChainOfThought(Probe):
    """The prompt asks the judge to solve the question first."""

    name, set, target, expected = "chain-of-thought", "alignment", "thinking", "accuracy"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """The one."""
        return [Variant("solve first", think=True)]


class SelfEnhancement(Probe):
    """Every judge answers the questions and scores all answers, blind; the audit makes its trials, since it takes all judges."""

    name, set, target, expected = "self-enhancement", "alignment", "scores", "equal scores"

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """None of an item alone."""
        return []


class RefinementAware(Probe):
    """A refined answer is scored alone, and with the answer it was made from."""

    name, set, target, expected, rewrites = "refinement-aware", "refinement", "scores", "equal scores", True

    def make(self, item: Item, cues: Cues, rng: Rng) -> Sequence[Variant]:
        """The refined answer alone and with its history, and the original."""
        polished = item.rewritten(self.name)
        if not polished:
            return []
        text, first = polished[0].text, item.answers[0]
        return [
            Variant("refined", (text,), is_score=True),
            Variant("refined, history shown", (text,), earlier=first, is_score=True),
            Variant("original", (first,), is_score=True),
        ]


@cache
def probes() -> dict[str, Probe]:
    """Name -> probe, of the twelve biases in the paper's order."""
    kinds: tuple[type[Probe], ...] = (
        Position, Verbosity, CompassionFade, Bandwagon, Distraction, FallacyOversight, Authority, Sentiment, Diversity,
        ChainOfThought, SelfEnhancement, RefinementAware,
    )  # fmt: skip
    return {kind.name: kind() for kind in kinds}


def chosen_probes(names: Iterable[str]) -> list[Probe]:
    """The probes of these names; `all` stands for all twelve. A name may hold several with commas between.

    Raises:
        BadConfig: there is no such bias, or none is named.
    """
    available = probes()
    wanted = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if "all" in wanted:
        wanted = list(available)
    if not wanted:
        raise BadConfig(f"No bias is named. Known: {', '.join(available)}.")
    for name in wanted:
        if name not in available:
            raise BadConfig(f'There is no bias "{name}". {nearest(name, [*available, "all"])}')
    return [available[name] for name in dict.fromkeys(wanted)]
