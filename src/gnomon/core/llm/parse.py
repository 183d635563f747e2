"""Answers read: verdicts, tags, choices, JSON. An answer that cannot be read is data: these return None and never raise."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
_AROUND = " \t\r\n\"'`*_.,:;!()[]{}<>"


def last_verdict(text: str, words: Sequence[str]) -> str | None:
    """The last of `words` in `text` as a whole word, in whatever case, written as in `words`; None when there is none.

    Models reason before they decide, and name both verdicts while they do: the last one counts.

    >>> last_verdict("It could fail, but the text is passable. Verdict: **Pass**", ["PASS", "FAIL"])
    'PASS'
    >>> last_verdict("A passable text.", ["PASS", "FAIL"]) is None
    True
    """
    matches = _whole_words(text, words)
    return matches[-1] if matches else None


def choice(text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that `text` is, or else the only one that occurs in it as whole words; None otherwise.

    >>> choice(" (b). ", ["A", "B"])
    'B'
    >>> choice("A or B", ["A", "B"]) is None
    True
    """
    bare = text.strip(_AROUND).casefold()
    same = [option for option in choices if option.strip(_AROUND).casefold() == bare]
    if len(same) == 1:
        return same[0]
    named = set(_whole_words(text, choices))
    return named.pop() if len(named) == 1 else None


def tagged(text: str, tag: str) -> str | None:
    """What stands between the last `<tag>` and the `</tag>` after it, without space around; None when there is no such pair.

    >>> tagged("First <answer>4</answer>, no: <answer> 5 </answer>", "answer")
    '5'
    """
    begin, end = f"<{tag}>", f"</{tag}>"
    stop = text.rfind(end)
    start = text.rfind(begin, 0, stop) if stop >= 0 else -1
    return text[start + len(begin) : stop].strip() if start >= 0 else None


def json_object(text: str) -> dict[str, Any] | None:
    """The last JSON object in `text`, inside code fences where there are any; None when there is none.

    Text around it does not matter. What is inside another object is not looked at alone.

    >>> json_object('Here it is: {"verdict": "PASS", "why": {"n": 1}} Anything else?')
    {'verdict': 'PASS', 'why': {'n': 1}}
    """
    for fenced in reversed(_FENCE.findall(text)):
        if (parsed := _last_object(fenced)) is not None:
            return parsed
    return _last_object(text)


def _whole_words(text: str, words: Sequence[str]) -> list[str]:
    longest_first = sorted((word for word in words if word), key=len, reverse=True)
    if not longest_first:
        return []
    pattern = "|".join(f"({re.escape(word)})" for word in longest_first)
    return [
        longest_first[(m.lastindex or 1) - 1]
        for m in re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.IGNORECASE)
    ]


def _last_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    last: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            last = value
        at = text.find("{", end)
    return last


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
