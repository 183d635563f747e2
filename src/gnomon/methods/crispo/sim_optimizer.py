"""A writer of prompts who starts from one that is shown, applies what its critique suggests, and else tries something."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.methods.crispo.house.aspects import (
    ASPECTS,
    INVENTIONS,
    LEVELS,
    read_forbidden,
    read_requests,
    with_request,
    with_sentence,
)

_SHOWN = re.compile(
    r"<prompt>\n(.*?)\n?</prompt>\nScore: [^\n]*(?:\n<critique>\n(.*?)\n</critique>)?", re.DOTALL
)
_SUGGESTION = re.compile(r"Suggestion: ([^\n]*)")
_SLOT = re.compile(r"INSERT_[A-Z]+_HERE")


@dataclass(frozen=True)
class Optimizer:
    """Reads prompts with their scores and critiques, worst to best, and writes a new one inside <instruction> tags.

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
        asked = request.messages[-1].content
        shown = _SHOWN.findall(asked)
        if not shown:
            return "There are no prompts to improve on."
        at = len(shown) - 1
        while at > 0 and noise.random() >= self.best:
            at -= 1
        prompt, critique = shown[at]
        draws = [noise.random() for _ in range(3)]
        text, applied = self._improved(prompt, critique, noise, "<main>" in asked)
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
