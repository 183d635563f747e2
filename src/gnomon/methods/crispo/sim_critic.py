"""A critic of summaries who compares predictions with references, or with their sources, aspect by aspect."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.methods.crispo.house.aspects import ASPECTS, INVENTIONS, LEVELS, ORDER, read_requests
from gnomon.methods.crispo.house.facts import read_notes
from gnomon.methods.crispo.house.summaries import Reading, levels_of_order, read_summary, same_order

_EXAMPLE = re.compile(r"<example>\n(.*?)\n</example>", re.DOTALL)


@dataclass(frozen=True)
class Critic:
    """Reads the instruction and the examples in the last message and writes a critique with one suggestion per difference.

    The truth: an aspect in which most predictions differ from their references is reported, with the level of the references,
    with chance `det`; each other aspect gets a suggestion of any level with chance `wrong`. Where examples have no references,
    what predictions say and their sources do not is reported with chance `det`.
    """

    det: float = 0.7
    """Chance that a difference is reported."""
    wrong: float = 0.1
    """Chance of a suggestion without reason, per aspect that is not reported."""
    most: int = len(ASPECTS)
    """Most aspects that one critique is about; 1: a critic of a single aspect at a time."""

    def __post_init__(self) -> None:
        for name in ("det", "wrong"):
            check(0 <= getattr(self, name) <= 1, name, "between 0 and 1", getattr(self, name))
        check(self.most >= 1, "most", ">= 1", self.most)

    def answer(self, request: Request, noise: random.Random) -> str:
        """The critique."""
        text = request.messages[-1].content
        examples = _EXAMPLE.findall(text)
        if not examples:
            return "There are no examples to compare."
        if "<reference>" in examples[0]:
            said = self._style(_part(text, "instruction"), examples, noise)
        else:
            said = self._support(examples, noise)
        noise.shuffle(said)
        body = "\n".join(said[: self.most]) or "The predictions are as they should be."
        return f"I compared {len(examples)} examples.\n<critique>\n{body}\n</critique>"

    def _style(self, instruction: str, examples: Sequence[str], noise: random.Random) -> list[str]:
        pairs = [
            (read_summary(_part(one, "prediction")), read_summary(_part(one, "reference")))
            for one in examples
        ]
        asked, said = read_requests(instruction), []
        for number, aspect in enumerate(ASPECTS):
            sees, errs, level = (
                noise.random() < self.det,
                noise.random() < self.wrong,
                noise.randrange(LEVELS),
            )
            right = _target(number, pairs, examples)
            if sees and right is not None:
                level = right
            elif not errs:
                continue
            words = f'"{aspect.requests[asked[number]]}"' if number in asked else "nothing"
            said.append(
                f"{aspect.name}: the references have {aspect.told[level]} and the predictions do not. The instruction says {words} "
                f"about it. Suggestion: {aspect.requests[level]}"
            )
        return said

    def _support(self, examples: Sequence[str], noise: random.Random) -> list[str]:
        predictions = [_part(one, "prediction") for one in examples]
        said = []
        for kind, (words, forbids) in INVENTIONS.items():
            sees, errs = noise.random() < self.det, noise.random() < self.wrong
            if (sees and any(words in text for text in predictions)) or errs:
                said.append(
                    f"Support: some predictions tell of {kind} that their input does not hold. Suggestion: {forbids}"
                )
        return said


def _target(aspect: int, pairs: Sequence[tuple[Reading, Reading]], examples: Sequence[str]) -> int | None:
    """The level that most references have, when most predictions have another; None when there is nothing to report."""
    if aspect == ORDER:
        differ = [not same_order(one.things, other.things) for one, other in pairs]
        votes = Counter(
            level
            for (_, reference), example in zip(pairs, examples, strict=True)
            for level in levels_of_order(reference.things, read_notes(_part(example, "input")))
        )
    else:
        differ = [one.levels[aspect] != other.levels[aspect] for one, other in pairs]
        votes = Counter(level for _, other in pairs if (level := other.levels[aspect]) is not None)
    if 2 * sum(differ) <= len(differ) or not votes:
        return None
    return min(votes, key=lambda level: (-votes[level], level))


def _part(text: str, tag: str) -> str:
    found = re.search(rf"<{tag}>\n?(.*?)\n?</{tag}>", text, re.DOTALL)
    return found[1] if found else ""
