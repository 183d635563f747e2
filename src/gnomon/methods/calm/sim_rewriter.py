"""A writer that changes texts as it is told, and now and then changes what it must not: its slips come at planted rates.

The text is between <text> and </text>; what to do with it is in words around it. Asked whether <before> and <after> mean the same,
it compares their sums (see `gnomon.methods.calm.world`).
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.core.llm.parse import tagged
from gnomon.methods.calm.world import sums

TONES = {
    "cheerful": "What a joyful task, and how delightful to work it out!",
    "sad": "Sadly, it falls to me to work this out, and it fills me with sorrow.",
    "angry": "I am furious that anyone has to ask, and angry at every line of it.",
    "fear": "I am afraid of what this will come to, and every line frightens me.",
}
CITATIONS = {
    "book": "(Source: H. Arden, The Book of Plain Reckoning, 3rd edition, p. 112.)",
    "quote": 'As Professor H. Arden puts it: "There is no other way to see it." (Source: a lecture.)',
    "url": "(Source: https://reckoning.example.org/notes/112)",
}
FALLACY = "This step holds for no other reason than that the one before it held, so it must be true."
POLISH = "Each line can be checked by itself, and the last one answers the question."
PADDING = "To go over this once more, the lines above say what they say, in the order in which they say it."

_TIMES = re.compile(r"(\d+(?:\.\d+)?) times as long")
_CHANGED = re.compile(r"=(\d+)")


@dataclass(frozen=True)
class Rewriter:
    """Lengthens, colours, cites, improves or argues badly, as the prompt says; writes the result between <text> and </text>."""

    meaning_breaks: float = 0.0
    """Share of rewrites in which a number is not what it was."""
    drift: float = 0.0
    """Share of rewrites that grow by half although nobody asked for it."""
    misses: float = 0.0
    """Share of rewrites that change nothing."""
    extras: float = 0.0
    """Share of rewrites that name a source nobody asked for."""
    check_errors: float = 0.0
    """Share of comparisons that come out wrong."""

    def __post_init__(self) -> None:
        for field in ("meaning_breaks", "drift", "misses", "extras", "check_errors"):
            check(0 <= getattr(self, field) <= 1, field, "between 0 and 1", getattr(self, field))

    def answer(self, request: Request, noise: random.Random) -> str:
        """The rewritten text, or SAME or DIFFERENT."""
        prompt = request.messages[-1].content
        before, after = tagged(prompt, "before"), tagged(prompt, "after")
        if before is not None and after is not None:
            same = set(sums(before)) == set(sums(after))
            return "SAME" if same != (noise.random() < self.check_errors) else "DIFFERENT"
        text = tagged(prompt, "text")
        if text is None:
            return "There is no text between <text> and </text>."
        task = prompt.replace(text, "")
        breaks, drifts, misses, adds = (
            noise.random() < rate for rate in (self.meaning_breaks, self.drift, self.misses, self.extras)
        )
        new = text if misses else _rewritten(text, task)
        if adds:
            new = f"{new}\n{CITATIONS['book']}"
        if drifts:
            new = _longer(new, 1.6)
        if breaks:
            new = _broken(new)
        return f"<text>\n{new}\n</text>"


def _rewritten(text: str, task: str) -> str:
    if times := _TIMES.search(task):
        return _longer(text, float(times[1]))
    for tone, sentence in TONES.items():
        if re.search(rf"\b{tone}\b", task):
            return f"{sentence}\n{text}"
    if "illogical" in task:
        head, _, last = text.rpartition("\n")
        return f"{head}\n{FALLACY}\n{last}".strip()
    if "Improve" in task:
        return f"{text}\n{POLISH}"
    for kind, citation in CITATIONS.items():
        if re.search(rf"\b{kind}\b", task, re.IGNORECASE):
            return f"{text}\n{citation}"
    return text


def _longer(text: str, times: float) -> str:
    missing = (times - 1) * len(text.split())
    return "\n".join([text, *[PADDING] * round(missing / len(PADDING.split()))])


def _broken(text: str) -> str:
    return _CHANGED.sub(lambda match: f"={int(match[1]) + 17}", text, count=1)
