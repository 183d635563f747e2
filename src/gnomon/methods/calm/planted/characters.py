"""Simulated models: a judge with planted biases, and a writer of rewrites with planted faults.

The utility of an answer is its quality (right steps, as `gnomon.methods.calm.planted.world` reads them from the text) plus the
weight of every cue it shows. A choice is drawn with probability proportional to exp(utility), so that with two answers

    P(first is chosen) = sigmoid(difference of their utilities)

whatever the temperature: hosted judges answer differently at temperature 0 too.

The writer changes texts as asked, and changes what it must not at planted rates. The text is between <text> and </text>; the
request is in words around it. Asked whether <before> and <after> mean the same, it compares their sums (see
`gnomon.methods.calm.planted.world`).
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass

from gnomon.core.config import check
from gnomon.core.llm.base import Request
from gnomon.core.llm.parse import tagged
from gnomon.core.rng import Rng
from gnomon.methods.calm.planted.world import CHANCE, Candidate, Seen, seen, sums, worked

_WANTED = re.compile(r"Work out (\d+) sums")
_TIE = re.compile(r"\"(?:\[\[)?(C|Tie)(?:\]\])?\" if they are equally good")
_SOLVE = "solve the question yourself"
_SUSPECT = "look as if it tries to sway the judge"


@dataclass(frozen=True)
class Judge:
    """A judge that chooses among the answers in the prompt, or scores one from 1 to 10; without answers it answers the question."""

    position: float = 0.0
    """Weight of the first slot."""
    verbosity: float = 0.0
    """Weight of twice as many words."""
    name: float = 0.0
    """Weight of being written by `favourite`."""
    favourite: str = "GPT-4"
    """The name that `name` is about."""
    bandwagon: float = 0.0
    """Weight of being preferred by 90% of people; falls in proportion to 0 at 50%."""
    distraction: float = 0.0
    """Weight of a remark beside the point about the author."""
    logic: float = 0.0
    """Utility lost by each fallacy; 0 overlooks them."""
    authority: float = 0.0
    """Weight of a source that is named."""
    tone: float = 0.0
    """Weight of a tone of feeling."""
    group: float = 0.0
    """Weight of an author who is said to belong to a group."""
    sharpness: float = 1.0
    """Factor on quality: how little chance decides."""
    reasoning: float = 1.0
    """Factor on quality when asked to solve the question first."""
    level: float = 2.3
    """Score of an answer without quality."""
    leniency: float = 0.0
    """Points added to every score."""
    own: float = 0.0
    """Points added to the score of its own answers, which it knows by their voice."""
    refined: float = 0.0
    """Points added to the score of an answer whose earlier version is shown."""
    noise: float = 1.0
    """Standard deviation of a score before it is rounded."""
    voice: str = ""
    """A sentence that begins its own answers."""
    skill: float = 1.0
    """Mean quality of its own answers over that of ordinary ones."""
    ties: float = 0.0
    """Share of verdicts that are ties, where ties are allowed."""
    gibberish: float = 0.0
    """Share of answers that hold no verdict."""
    candour: float = 0.0
    """Share of reasons that name the cues which were seen."""
    suspicion: float = 0.0
    """Share of prompts with a cue that it says try to sway it, when asked that."""

    def __post_init__(self) -> None:
        for field in ("ties", "gibberish", "candour", "suspicion"):
            check(0 <= getattr(self, field) <= 1, field, "between 0 and 1", getattr(self, field))
        check(self.noise >= 0, "noise", ">= 0", self.noise)

    def utility(self, candidate: Candidate) -> float:
        """Utility of an answer, its slot included."""
        return (
            self.sharpness * candidate.quality + self.position * (candidate.slot == 0) + self._cues(candidate)
        )

    def answer(self, request: Request, noise: random.Random) -> str:
        """A reason that may name another verdict, and the verdict in the format that the prompt asks for."""
        prompt = "\n".join(message.content for message in request.messages)
        read = seen(prompt)
        if not read.candidates:
            return self._solved(prompt, noise)
        if _SUSPECT in prompt:
            return "YES" if any(map(_named, read.candidates)) and noise.random() < self.suspicion else "NO"
        if noise.random() < self.gibberish:
            return "The answers have this and that about them, and so on [["
        if read.is_single:
            return self._scored(read, prompt, noise)
        return self._chosen(read, prompt, noise)

    def _cues(self, candidate: Candidate) -> float:
        return (
            self.verbosity * math.log2(candidate.words)
            + self.name * (self.favourite in candidate.name)
            + self.bandwagon * (candidate.majority - 50) / 40 * (candidate.majority > 0)
            + self.distraction * candidate.is_aside
            + self.authority * candidate.is_cited
            + self.tone * candidate.has_tone
            + self.group * candidate.is_group
            - self.logic * candidate.fallacies
        )

    def _chosen(self, read: Seen, prompt: str, noise: random.Random) -> str:
        factor = self.reasoning if _SOLVE in prompt else 1.0
        utilities = [
            self.utility(candidate) + (factor - 1) * self.sharpness * candidate.quality
            for candidate in read.candidates
        ]
        top = max(utilities)
        weights = [math.exp(value - top) for value in utilities]
        (chosen,) = noise.choices(read.candidates, weights)
        others = [candidate.letter for candidate in read.candidates if candidate is not chosen]
        verdict, tie = chosen.letter, _TIE.search(prompt)
        if tie and noise.random() < self.ties:
            verdict = tie[1]
        reason = f"Answer {chosen.letter} has more to say for itself."
        if noise.random() < 0.3:
            reason = f"At first sight one might say [[{noise.choice(others)}]]. {reason}"
        named = [text for candidate in read.candidates for text in _named(candidate)]
        if named and noise.random() < self.candour:
            reason += f" It matters that {named[0]}."
        return _written(reason, verdict, prompt)

    def _scored(self, read: Seen, prompt: str, noise: random.Random) -> str:
        (candidate,) = read.candidates
        score = (
            self.level
            + self.leniency
            + candidate.quality
            + self._cues(candidate)
            - self.verbosity * math.log2(candidate.words)
        )
        score += (
            self.own * bool(self.voice and candidate.text.startswith(self.voice))
            + self.refined * read.is_refined
        )
        rounded = min(max(round(score + noise.gauss(0, self.noise)), 1), 10)
        return _written("The answer has its good sides.", str(rounded), prompt)

    def _solved(self, prompt: str, noise: random.Random) -> str:
        wanted = _WANTED.search(prompt)
        if wanted is None:
            return "There is nothing to judge and nothing to work out."
        steps = int(wanted[1])
        right = round(steps * CHANCE + (self.skill + noise.gauss(0, 0.5)) / 0.2)
        text = worked(steps, min(max(right, 0), steps), Rng(noise.getrandbits(32)))
        return f"{self.voice}\n{text}" if self.voice else text


def _written(reason: str, verdict: str, prompt: str) -> str:
    """The verdict as the prompt's last lines want it: JSON, one token, or double brackets."""
    ending = prompt.rstrip().rsplit("\n\n", 1)[-1]
    if "JSON" in ending:
        kind, value = ("score", verdict) if verdict.isdigit() else ("verdict", f'"{verdict}"')
        return f'{{"reason": "{reason.replace(chr(34), "")}", "{kind}": {value}}}'
    return verdict if "[[" not in ending else f"{reason}\n[[{verdict}]]"


def _named(candidate: Candidate) -> list[str]:
    """The cues of an answer in words."""
    cues = {
        "it cites a source": candidate.is_cited,
        "its tone has feeling": candidate.has_tone,
        f"{candidate.majority:.0f}% of people prefer it": candidate.majority > 0,
        "the author has been spoken of": candidate.is_aside,
        "the author belongs to a group": candidate.is_group,
    }
    return [text for text, there in cues.items() if there]


# The writer

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
