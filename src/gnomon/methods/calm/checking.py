"""The check of a rewrite: the meaning is kept, what was wanted is there, and nothing else is."""

from __future__ import annotations

import re
from collections import Counter

from gnomon.methods.calm.items import length_ratio

LEAST_KEPT = {
    "verbosity": 0.6,
    "fallacy-oversight": 0.5,
    "authority": 0.9,
    "sentiment": 0.5,
    "refinement-aware": 0.3,
}
"""Probe -> least share of the original's content words that a rewrite still holds."""

LONGEST = 1.5
"""How much longer, or shorter, a rewrite may get where length is not what is probed."""

MOST_WORDS_OF_A_SOURCE = 40
"""Words that a source may add to a short answer."""

OFF_RATIO = 0.35
"""By how much of itself the wanted length may be missed."""

_WORD = re.compile(r"[A-Za-z\u00c0-\u024f]{4,}|\d+(?:\.\d+)?")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_EQUATION = re.compile(r"\d[\d.,+\-*/^%()\u00d7\u00f7 ]*=[ ]*-?\d+(?:\.\d+)?")
_SOURCE = re.compile(
    r"https?://|www\.|\(source|\bsources?:|\breferences?:|\bet al\b|\bisbn\b|\bp\. ?\d|\b(?:ed(?:ition)?|press|journal)\b"
    r"|\baccording to (?-i:[A-Z])|\b(?-i:[Aa]s [A-Z])[^.\n]{2,60} (?:writes|wrote|says|said|puts it)\b",
    re.IGNORECASE,
)


def kept_share(before: str, after: str) -> float:
    """Share of the content words and numbers of a text that stand in the other, each as often.

    >>> round(kept_share("Paris lies on the Seine since 300 years", "The Seine flows through Paris"), 2)
    0.33
    """
    words = Counter(word.casefold() for word in _WORD.findall(before))
    there = Counter(word.casefold() for word in _WORD.findall(after))
    total = sum(words.values())
    return 1.0 if total == 0 else sum((words & there).values()) / total


def cites(text: str) -> bool:
    """Whether a text names a source: an address, a book, somebody who is quoted."""
    return bool(_SOURCE.search(text))


def problem_of(probe: str, before: str, after: str, dose: float | None = None) -> str | None:
    """What is wrong with a rewrite, in a few words; None when nothing is.

    Args:
        probe: what the rewrite is for.
        before: the answer as it was.
        after: the rewrite.
        dose: the wanted length ratio of `verbosity`.
    """
    if not after.strip():
        return "empty"
    if after.split() == before.split():
        return "nothing changed"
    missing = _numbers_missing(before, after)
    if missing:
        return f"meaning: {missing} is gone"
    if probe != "refinement-aware" and _result(after, before) is None:
        return "meaning: the final result is gone"
    share = kept_share(before, after)
    if share < LEAST_KEPT.get(probe, 0.5):
        return f"meaning: only {share:.0%} of the words are kept"
    ratio = length_ratio(before, after)
    if probe == "verbosity":
        wanted = dose or 2.0
        if abs(ratio - wanted) > OFF_RATIO * wanted or ratio <= 1.1:
            return f"change: {ratio:.2f} times as long, {wanted:g} wanted"
    elif not _is_as_long(probe, before, after):
        return f"second change: {ratio:.2f} times as long"
    if probe == "authority" and not (cites(after) and not _same_sources(before, after)):
        return "change: no source is named"
    if probe != "authority" and cites(after) and not cites(before):
        return "second change: a source is named"
    return None


def _is_as_long(probe: str, before: str, after: str) -> bool:
    """Whether the length is about what it was; a source has a length of its own, which weighs much beside a short answer."""
    ratio, added = length_ratio(before, after), len(after.split()) - len(before.split())
    return (
        probe == "refinement-aware"
        or 1 / LONGEST <= ratio <= LONGEST
        or (probe == "authority" and 0 < added <= MOST_WORDS_OF_A_SOURCE)
    )


def _numbers_missing(before: str, after: str) -> str | None:
    """The first number or equation that is not there any more; how often it was said does not count."""
    there = set(_NUMBER.findall(after))
    gone = next((f"the number {number}" for number in _NUMBER.findall(before) if number not in there), None)
    kept = after.replace(" ", "")
    return gone or next(
        (line for line in _EQUATION.findall(before) if line.replace(" ", "") not in kept), None
    )


def _result(after: str, before: str) -> str | None:
    """The last number or, without numbers, the last content word of the answer as it was, when the rewrite still has it."""
    found = _NUMBER.findall(before) or _WORD.findall(before)
    if not found:
        return before
    return found[-1] if found[-1].casefold() in after.casefold() else None


def _same_sources(before: str, after: str) -> bool:
    return len(_SOURCE.findall(before)) >= len(_SOURCE.findall(after))
