"""The simulated judge: passes texts that contain one of its words, errs at set rates, reasons before its verdict."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.core.llm.parse import tagged

PASS, FAIL = "PASS", "FAIL"


@dataclass(frozen=True)
class Verdict:
    """Reads the text between `<text>` and `</text>` in the last user message and ends with PASS or FAIL."""

    words: str
    """Words that make a text pass, with `|` between them; whole words, in any case."""
    false_negatives: float = 0.0
    """Share of the texts with such a word that it fails."""
    false_positives: float = 0.0
    """Share of the texts without one that it passes."""

    def __post_init__(self) -> None:
        check(any(self.words.split("|")), "words", "one word or more, with | between them", self.words)
        for name in ("false_negatives", "false_positives"):
            check(0 <= getattr(self, name) <= 1, name, "between 0 and 1", getattr(self, name))

    def answer(self, request: Request, noise: random.Random) -> str:
        """Reasoning, which names the other verdict now and then, and the verdict."""
        text = _judged(request)
        if text is None:
            return "There is no text to judge between <text> and </text>."
        words = [re.escape(word) for word in self.words.split("|") if word]
        match = re.search(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)", text, re.IGNORECASE)
        errs = noise.random() < (self.false_negatives if match else self.false_positives)
        passes = bool(match) != errs
        verdict, other = (PASS, FAIL) if passes else (FAIL, PASS)
        reason = "The text is about what is asked for." if passes else "The text is about something else."
        doubt = f" One could argue for {other.lower()}, but not for long." if noise.random() < 0.5 else ""
        return f"{reason}{doubt}\nVerdict: {verdict}"


def _judged(request: Request) -> str | None:
    return tagged(next((m.content for m in reversed(request.messages) if m.role == "user"), ""), "text")
