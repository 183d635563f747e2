"""Simulated models of the three roles: a critic, an optimiser and a task model, with known error rates.

The critic compares predictions with references, or with their sources, aspect by aspect. The optimiser starts from a prompt that it
is shown and applies the suggestions of its critique. The styler writes summaries, follows most style requests of the prompt, and
has a default style. They read and write strings only, as language models do.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.core.llm.parse import all_tagged, opens_tag
from gnomon.methods.crispo.house.aspects import (
    ASPECTS,
    INVENTIONS,
    LEVELS,
    ORDER,
    parse_style,
    read_forbidden,
    read_requests,
    with_request,
    with_sentence,
)
from gnomon.methods.crispo.house.facts import Fact, last_notes, phrases, read_notes
from gnomon.methods.crispo.house.summaries import Reading, levels_of_order, read_summary, same_order, summary


@dataclass(frozen=True)
class Critic:
    """A critic that reads instruction and examples in the last message and writes a suggestion per difference.

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
        examples = all_tagged(text, "example")
        if not examples:
            return "There are no examples to compare."
        if opens_tag(examples[0], "reference"):
            suggestions = self._style(_part(text, "instruction"), examples, noise)
        else:
            suggestions = self._support(examples, noise)
        noise.shuffle(suggestions)
        body = "\n".join(suggestions[: self.most]) or "The predictions are as they should be."
        return f"I compared {len(examples)} examples.\n<critique>\n{body}\n</critique>"

    def _style(self, instruction: str, examples: Sequence[str], noise: random.Random) -> list[str]:
        pairs = [
            (read_summary(_part(example, "prediction")), read_summary(_part(example, "reference")))
            for example in examples
        ]
        requested, suggestions = read_requests(instruction), []
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
            words = f'"{aspect.requests[requested[number]]}"' if number in requested else "nothing"
            suggestions.append(
                f"{aspect.name}: the references have {aspect.described[level]} and the predictions do not. "
                f"The instruction says {words} about it. Suggestion: {aspect.requests[level]}"
            )
        return suggestions

    def _support(self, examples: Sequence[str], noise: random.Random) -> list[str]:
        predictions = [_part(example, "prediction") for example in examples]
        suggestions = []
        for kind, (words, forbids) in INVENTIONS.items():
            sees, errs = noise.random() < self.det, noise.random() < self.wrong
            if (sees and any(words in text for text in predictions)) or errs:
                suggestions.append(
                    f"Support: some predictions tell of {kind} that their input does not hold. Suggestion: {forbids}"
                )
        return suggestions


def _target(aspect: int, pairs: Sequence[tuple[Reading, Reading]], examples: Sequence[str]) -> int | None:
    """The level that most references have, when most predictions have another; None when there is nothing to report."""
    if aspect == ORDER:
        differ = [not same_order(prediction.things, other.things) for prediction, other in pairs]
        votes = Counter(
            level
            for (_, reference), example in zip(pairs, examples, strict=True)
            for level in levels_of_order(reference.things, read_notes(_part(example, "input")))
        )
    else:
        differ = [prediction.levels[aspect] != other.levels[aspect] for prediction, other in pairs]
        votes = Counter(level for _, other in pairs if (level := other.levels[aspect]) is not None)
    if 2 * sum(differ) <= len(differ) or not votes:
        return None
    return min(votes, key=lambda level: (-votes[level], level))


def _part(text: str, tag: str) -> str:
    return next(iter(all_tagged(text, tag)), "")


# The optimiser

_SCORE = re.compile(r"^Score: ", re.MULTILINE)
_SUGGESTION = re.compile(r"Suggestion: ([^\n]*)")
_SLOT = re.compile(r"INSERT_[A-Z]+_HERE")


@dataclass(frozen=True)
class Optimizer:
    """An optimiser that reads prompts with scores and critiques, worst to best, and writes one inside <instruction> tags.

    The truth: it starts from the best prompt with chance `best`, from the next best with that chance of what is left, and so on.
    It applies each suggestion of that prompt's critique with chance `apply`; when it has applied none, it has an idea of its own:
    it changes one aspect to any level. Behind a main prompt that is fixed it does so with chance `unruly`, and else forbids one
    kind of invention, or takes that back. Then the faults of format.
    """

    apply: float = 0.8
    """Chance that a suggestion is applied."""
    best: float = 0.5
    """Chance to start from the best prompt shown rather than from a worse one."""
    unruly: float = 0.2
    """Chance that an idea for a postscript works against the main prompt."""
    unformatted: float = 0.0
    """Share of answers without the closing tag."""
    copied: float = 0.0
    """Share of answers that repeat the prompt they start from."""
    slotless: float = 0.0
    """Share of answers that lose the slots."""

    def __post_init__(self) -> None:
        for name in ("apply", "best", "unruly", "unformatted", "copied", "slotless"):
            check(0 <= getattr(self, name) <= 1, name, "between 0 and 1", getattr(self, name))

    def answer(self, request: Request, noise: random.Random) -> str:
        """Some reasoning and the new prompt."""
        question = request.messages[-1].content
        shown = _shown(question)
        if not shown:
            return "There are no prompts to improve on."
        at = len(shown) - 1
        while at > 0 and noise.random() >= self.best:
            at -= 1
        prompt, critique = shown[at]
        draws = [noise.random() for _ in range(3)]
        text, applied = self._improved(prompt, critique, noise, opens_tag(question, "main"))
        if draws[0] < self.copied:
            text = prompt
        if draws[1] < self.slotless:
            text = _SLOT.sub("", text)
        end = "" if draws[2] < self.unformatted else "\n</instruction>"
        suggestions = "\n".join(f"<suggestion>{sentence}</suggestion>" for sentence in applied)
        return f"The better prompts are more definite.\n{suggestions}\n<instruction>\n{text}{end}"

    def _improved(
        self, prompt: str, critique: str, noise: random.Random, is_postscript: bool
    ) -> tuple[str, list[str]]:
        text, applied = prompt, []
        for suggestion in _SUGGESTION.findall(critique):
            if noise.random() >= self.apply:
                continue
            before = text
            for aspect, level in read_requests(suggestion).items():
                text = with_request(text, aspect, level)
            for kind in sorted(read_forbidden(suggestion) - read_forbidden(text)):
                text = with_sentence(text, INVENTIONS[kind][1])
            if text != before:
                applied.append(suggestion)
        if not applied:
            text = self._own_idea(text, noise, is_postscript)
        return text, applied

    def _own_idea(self, text: str, noise: random.Random, is_postscript: bool) -> str:
        if is_postscript and noise.random() >= self.unruly:
            kind = noise.choice(list(INVENTIONS))
            sentence = INVENTIONS[kind][1]
            if kind in read_forbidden(text):
                return " ".join(text.replace(sentence, "").split())
            return with_sentence(text, sentence)
        return with_request(text, noise.randrange(len(ASPECTS)), noise.randrange(LEVELS))


def _shown(question: str) -> list[tuple[str, str]]:
    """The prompts in a request, each with its critique, which follows its score; empty where it has none."""
    critiques = [next(iter(all_tagged(part, "critique")), "") for part in _SCORE.split(question)[1:]]
    return list(zip(all_tagged(question, "prompt"), critiques, strict=True))


# The task model

TAG = "summary"
_HINTS = re.compile(r"^key ?phrases:(.*)$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Styler:
    """A task model that summarises the last notes of the conversation, inside <summary> tags where those are named.

    The truth: an aspect has the requested level with chance `follow` and the default one otherwise, each by itself. A fact that the
    line "Key phrases:" names is preferred to others with chance `uptake`. Each kind of invention is added with chance
    `invention`; a sentence that forbids it is followed with chance `follow`.
    """

    follow: float = 0.9
    """Chance that a request is followed."""
    default: str = "00000000"
    """Its own style: a level 0..3 for each of the eight aspects."""
    uptake: float = 0.9
    """Chance that a hinted fact is preferred."""
    invention: float = 0.0
    """Chance of each kind of invention."""

    def __post_init__(self) -> None:
        for name in ("follow", "uptake", "invention"):
            check(0 <= getattr(self, name) <= 1, name, "between 0 and 1", getattr(self, name))
        parse_style(self.default, "default")

    def answer(self, request: Request, noise: random.Random) -> str:
        """The summary."""
        text = "\n\n".join(message.content for message in request.messages)
        facts, _ = last_notes(text)
        if not facts:
            return "There are no notes to summarise."
        style = list(parse_style(self.default))
        requests = read_requests(text)
        for aspect in range(len(ASPECTS)):  # one draw each, so that no request shifts the others
            follows = noise.random() < self.follow
            if follows and aspect in requests:
                style[aspect] = requests[aspect]
        hinted = [noise.random() < self.uptake and hint for hint in _hinted(text, facts)]
        written = summary(facts, tuple(style), hinted=hinted, invented=self._invented(text, noise))
        return f"<{TAG}>\n{written}\n</{TAG}>" if opens_tag(text, TAG) else written

    def _invented(self, text: str, noise: random.Random) -> list[str]:
        forbidden, invented = read_forbidden(text), []
        for kind in INVENTIONS:
            invents, heeds = noise.random() < self.invention, noise.random() < self.follow
            if invents and not (heeds and kind in forbidden):
                invented.append(kind)
        return invented


def _hinted(text: str, facts: list[Fact]) -> list[bool]:
    """Per fact, whether one of its phrases stands in a line of key phrases."""
    hints = {hint.strip() for line in _HINTS.findall(text) for hint in line.split(";")}
    return [not hints.isdisjoint(phrases(fact)) for fact in facts]
