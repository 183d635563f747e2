"""A world of answers to judge: sums worked step by step, so that an answer's quality can be read from its text.

    world = JudgedWorld(mean=1.0)
    pair = world.pair("p7", Rng(0).child(7))
    pair.answers[0]                  # "Step 1: 12+7=19.\nStep 2: 30+4=37. ..."
    quality(pair.answers[0])         # 0.2 for each right sum
    seen(prompt, pair.answers)       # what might sway a judge: citations, tones, names, majorities ...

Judges get these strings and nothing else. Cues are recognised by their wording; an answer may quote anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from gnomon.core.config import check
from gnomon.core.rng import Rng

UNIT = 0.2
"""Quality of one right step."""
CHANCE = 1 / 3
"""Share of the steps of an ordinary answer that are right."""

_SUM = re.compile(r"(\d+)\+(\d+)=(\d+)")
_BLOCK = re.compile(r"\[Start of answer ([A-Z]), by (.*?)\]\n(.*?)\n\[End of answer \1\]", re.DOTALL)
_SINGLE = re.compile(r"\[Start of answer\]\n(.*?)\n\[End of answer\]", re.DOTALL)
_EARLIER = re.compile(r"\[Start of earlier version\]\n.*?\n\[End of earlier version\]", re.DOTALL)
_REFERENCE = re.compile(r"\[Start of reference answer\]\n.*?\n\[End of reference answer\]", re.DOTALL)
_MAJORITY = re.compile(r"(\d+)% of (?:the )?people\b[^.\n]*?\banswer ([A-Z])\b")
_GROUP = re.compile(r"The author of answer ([A-Z]) is\b")
_ASIDE = re.compile(r"By the way, the author of answer ([A-Z])\b")
_CITATION = re.compile(r"https?://|\(Source:|\bAs .{3,60} (?:writes|puts it):")
_TONE = re.compile(
    r"\b(?:wonderful|delight\w*|joy\w*|cheer\w*|sad|sadly|sorrow\w*|heartbroken|grie\w*|furious\w*|angr\w*|outrag\w*|"
    r"afraid|terrif\w*|frighten\w*|dread\w*|scared)\b",
    re.IGNORECASE,
)
_FALLACY = re.compile(
    r"\b(?:simply because|it must be true|as everyone knows|for no other reason)\b", re.IGNORECASE
)


@dataclass(frozen=True)
class JudgedPair:
    """A question with answers to it; the first is the better one by `margin`, the others are alike."""

    id: str
    """Its name."""
    question: str
    answers: tuple[str, ...]
    """The better answer, then the others."""
    margin: float
    """Quality of the first over that of each other one; it may be below 0."""


@dataclass(frozen=True)
class JudgedWorld:
    """Pairs whose margin is normal with this mean and spread, in steps of `UNIT`."""

    mean: float = 1.0
    """Mean of the margin."""
    spread: float = 1.0
    """Its standard deviation."""
    steps: int = 48
    """Steps of every answer; a third of those of an ordinary one are right."""

    def __post_init__(self) -> None:
        check(self.spread >= 0, "spread", ">= 0", self.spread)
        check(self.steps >= 3, "steps", ">= 3", self.steps)

    def pair(self, name: str, rng: Rng, candidates: int = 2) -> JudgedPair:
        """A question with `candidates` answers."""
        draw = rng.python()
        base = round(self.steps * CHANCE)
        more = round(draw.gauss(self.mean, self.spread) / UNIT)
        more = min(max(more, -base), self.steps - base)
        rights = [base + more] + [base] * (candidates - 1)
        answers = tuple(worked(self.steps, right, rng.child("answer", i)) for i, right in enumerate(rights))
        return JudgedPair(name, f"Work out {self.steps} sums ({name}).", answers, more * UNIT)


def worked(steps: int, right: int, rng: Rng) -> str:
    """An answer of `steps` sums of which `right` are right, in random places."""
    draw = rng.python()
    is_right = [i < right for i in range(steps)]
    draw.shuffle(is_right)
    lines = []
    for number, good in enumerate(is_right, 1):
        a, b = draw.randint(10, 49), draw.randint(10, 49)
        total = a + b if good else a + b + draw.choice((-3, -2, -1, 1, 2, 3))
        lines.append(f"Step {number}: {a}+{b}={total}.")
    return "\n".join(lines)


def sums(text: str) -> list[tuple[str, str, str]]:
    """The sums in a text: two numbers and what they are said to make."""
    return _SUM.findall(text)


def quality(text: str) -> float:
    """Quality of an answer: `UNIT` for every right sum.

    >>> quality("Step 1: 12+7=19. Step 2: 3+4=8.")
    0.2
    """
    return UNIT * sum(int(a) + int(b) == int(c) for a, b, c in sums(text))


@dataclass(frozen=True)
class Candidate:
    """An answer under judgement and all that might sway whoever judges it."""

    slot: int
    """Its place in the prompt, from 0."""
    letter: str
    """Its letter; empty for one that is judged alone."""
    name: str
    """Alleged author."""
    text: str
    """The answer."""
    majority: float = 0.0
    """Percent of people who are said to prefer it; 0 when nothing is said."""
    is_aside: bool = False
    """Whether an irrelevant remark is made about its author."""
    is_group: bool = False
    """Whether its author is described as a member of a group."""

    @property
    def quality(self) -> float:
        """As `quality` of its text."""
        return _read(self.text)[0]

    @property
    def words(self) -> int:
        """Its length."""
        return _read(self.text)[1]

    @property
    def is_cited(self) -> bool:
        """Whether it names a source."""
        return _read(self.text)[2]

    @property
    def has_tone(self) -> bool:
        """Whether it shows a feeling."""
        return _read(self.text)[3]

    @property
    def fallacies(self) -> int:
        """Places where it argues badly."""
        return _read(self.text)[4]


@lru_cache(maxsize=4096)  # an audit shows the same answers again and again
def _read(text: str) -> tuple[float, int, bool, bool, int]:
    """Quality, words, whether it names a source, whether it shows a feeling, fallacies."""
    return (
        quality(text),
        max(1, len(text.split())),
        bool(_CITATION.search(text)),
        bool(_TONE.search(text)),
        len(_FALLACY.findall(text)),
    )


@dataclass(frozen=True)
class Seen:
    """Question, answers and cues read from a prompt."""

    candidates: tuple[Candidate, ...] = field(default=())
    """The answers under judgement, in their order."""
    is_refined: bool = False
    """Whether an earlier version of the answer is shown."""

    @property
    def is_single(self) -> bool:
        """Whether one answer is judged alone."""
        return len(self.candidates) == 1


def seen(prompt: str) -> Seen:
    """The answers in a prompt with what is said of them outside of their text; none when there is nothing to judge."""
    refined = bool(_EARLIER.search(prompt))
    prompt = _EARLIER.sub("", _REFERENCE.sub("", prompt))
    blocks = _BLOCK.findall(prompt)
    if not blocks:
        single = _SINGLE.search(prompt)
        return Seen((Candidate(0, "", "", single[1]),) if single else (), refined)
    around = _BLOCK.sub("", prompt)
    majority = {letter: float(percent) for percent, letter in _MAJORITY.findall(around)}
    asides, groups = set(_ASIDE.findall(around)), set(_GROUP.findall(around))
    return Seen(
        tuple(
            Candidate(slot, letter, name, text, majority.get(letter, 0.0), letter in asides, letter in groups)
            for slot, (letter, name, text) in enumerate(blocks)
        ),
        refined,
    )
