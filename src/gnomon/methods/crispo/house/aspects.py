"""Aspects of a house style, the sentences that request their levels, and kinds of invented details."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gnomon.core.config import check

Style = tuple[int, ...]
"""A level 0..3 per aspect, in the order of `ASPECTS`."""


@dataclass(frozen=True)
class Aspect:
    """An aspect of style, with four levels."""

    name: str
    """As critiques name it."""
    described: tuple[str, str, str, str]
    """Level -> how a critic describes texts of that level."""
    requests: tuple[str, str, str, str]
    """Level -> the sentence that asks for it."""


ASPECTS = (
    Aspect(
        "Length",
        ("three sentences", "four sentences", "five sentences", "six sentences"),
        (
            "Tell exactly three facts.",
            "Tell exactly four facts.",
            "Tell exactly five facts.",
            "Tell exactly six facts.",
        ),
    ),
    Aspect(
        "Layout",
        ("one paragraph", "bullet points", "numbered points", "one sentence with semicolons"),
        (
            "Write a single paragraph.",
            "Use bullet points.",
            "Number the points.",
            "Join everything with semicolons.",
        ),
    ),
    Aspect(
        "People",
        ("full names", "surnames", "initials", "offices"),
        (
            "Give full names.",
            "Give surnames alone.",
            "Give initials only.",
            "Give offices in place of names.",
        ),
    ),
    Aspect(
        "Amounts",
        ("exact amounts", "rounded amounts", "amounts in thousands", "no amounts"),
        ("Keep amounts exact.", "Round the amounts.", "Write amounts in thousands.", "Leave amounts out."),
    ),
    Aspect(
        "Tense",
        ("the past tense", "the present tense", "the perfect tense", "the future tense"),
        ("Use the past tense.", "Use the present tense.", "Use the perfect tense.", "Use the future tense."),
    ),
    Aspect(
        "Order",
        ("the order of the notes", "the latest first", "the largest amount first", "surnames from A to Z"),
        (
            "Keep the order of the notes.",
            "Begin with the latest.",
            "Begin with the largest amount.",
            "Sort by surname.",
        ),
    ),
    Aspect(
        "Opening",
        (
            "no opening",
            'the opening "In short:"',
            'the opening "For the minutes:"',
            'the opening "Dear all,"',
        ),
        (
            "Begin without an opening.",
            "Open with the words In short.",
            "Open with the words For the minutes.",
            "Open with the words Dear all.",
        ),
    ),
    Aspect(
        "Closing",
        (
            "no closing",
            'the closing "More will follow."',
            'the closing "No action is needed."',
            'the closing "Questions are welcome."',
        ),
        (
            "End without a closing.",
            "Close by saying that more will follow.",
            "Close by saying that no action is needed.",
            "Close by inviting questions.",
        ),
    ),
)
"""The eight aspects."""

LEVELS = 4
LENGTH, LAYOUT, PEOPLE, AMOUNTS, TENSE, ORDER, OPENING, CLOSING = range(len(ASPECTS))
SHORTEST = 3
"""Facts stated at level 0 of the length; each level adds one."""

INVENTIONS: Mapping[str, tuple[str, str]] = {
    "reasons": ("because of heavy storms", "Give no reasons that the notes do not give."),
    "praise": ("to thunderous applause", "Add no praise that the notes do not hold."),
    "guests": ("before ninety cheering guests", "Name no guests that the notes do not name."),
    "places": ("near sunny Lisbon", "Name no places that the notes do not name."),
}
"""Kind of invented detail -> its words, and the sentence that forbids it."""

_REQUESTS = {text: (i, j) for i, aspect in enumerate(ASPECTS) for j, text in enumerate(aspect.requests)}
_FORBIDS = {text: name for name, (_, text) in INVENTIONS.items()}


def _pattern(sentences: Mapping[str, object]) -> re.Pattern[str]:
    words = "|".join(re.escape(text.rstrip(".")).replace(r"\ ", r"\s+") for text in sentences)
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)\.?", re.IGNORECASE)


_REQUEST, _FORBID = _pattern(_REQUESTS), _pattern(_FORBIDS)
_BY_WORDS: dict[str, tuple[int, int]] = {
    text.rstrip(".").lower(): request for text, request in _REQUESTS.items()
}
_FORBID_BY_WORDS = {text.rstrip(".").lower(): name for text, name in _FORBIDS.items()}


def parse_style(digits: str, name: str = "style") -> Style:
    """The style written as eight digits 0..3.

    Raises:
        BadConfig: it is written in another way.

    >>> parse_style("01230123")
    (0, 1, 2, 3, 0, 1, 2, 3)
    """
    is_style = len(digits) == len(ASPECTS) and set(digits) <= set("0123")
    check(is_style, name, f"{len(ASPECTS)} digits from 0 to {LEVELS - 1}", digits)
    return tuple(map(int, digits))


def read_requests(text: str) -> dict[int, int]:
    """Aspect -> level that `text` asks for; of contradicting requests the last one counts.

    >>> read_requests("Use bullet points. Be brief. use the PAST tense")
    {1: 1, 4: 0}
    """
    plain = " ".join(text.lower().split())
    requests = [
        (at, request) for words, request in _BY_WORDS.items() if (at := _last_position(words, plain)) >= 0
    ]
    return dict(request for _, request in sorted(requests))


def _last_position(words: str, text: str) -> int:
    """Position of the last `words` in `text` as whole words; -1 without. Much faster than one pattern of all sentences."""
    at = text.rfind(words)
    while at >= 0:
        before, behind = text[at - 1 : at], text[at + len(words) : at + len(words) + 1]
        if not (before.isalnum() or behind.isalnum()):
            return at
        at = text.rfind(words, 0, at + len(words) - 1)
    return -1


def read_forbidden(text: str) -> set[str]:
    """Kinds of inventions that `text` forbids."""
    plain = " ".join(text.lower().split())
    return {kind for words, kind in _FORBID_BY_WORDS.items() if _last_position(words, plain) >= 0}


def with_request(text: str, aspect: int, level: int) -> str:
    """An instruction with the request for `level` in the place of whatever it asks for of `aspect`.

    It goes behind the last request, or else to the end of the first line.

    >>> with_request("Summarise.\\nUse bullet points. Thanks.", 1, 0)
    'Summarise. Write a single paragraph.\\nThanks.'
    """
    kept = _REQUEST.sub(lambda m: "" if _BY_WORDS[_key(m[0])][0] == aspect else m[0], text)
    return with_sentence(_tidy(kept), ASPECTS[aspect].requests[level])


def with_sentence(text: str, sentence: str) -> str:
    """An instruction with one more sentence, behind its last request or else at the end of its first line."""
    ends = [match.end() for match in (*_REQUEST.finditer(text), *_FORBID.finditer(text))]
    at = max(ends) if ends else text.find("\n") % (len(text) + 1)
    return f"{text[:at]} {sentence}{text[at:]}".strip()


def _key(sentence: str) -> str:
    return " ".join(sentence.lower().rstrip(".").split())


def _tidy(text: str) -> str:
    return "\n".join(re.sub(r"[ \t]{2,}", " ", line).strip() for line in text.split("\n"))
