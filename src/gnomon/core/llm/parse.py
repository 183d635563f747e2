"""Answers read: verdicts, tags, choices, JSON, without thoughts. What cannot be read is data: these return None, never raise."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
_AROUND = " \t\r\n\"'`*_.,:;!()[]{}<>"
_MARK = re.compile(r"<\s*(/?)\s*([^\s<>/]+)(?:\s[^<>]*)?>")
_FENCE_LINE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)[^\n]*?(?<!`)\1(?!`)")
_QUOTES = {'"': '"', "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u201e": "\u201c", "\u00ab": "\u00bb"}
_THOUGHTS = frozenset({"think", "thinking", "thought", "thoughts", "reasoning"})


def without_thoughts(text: str) -> str:
    """The answer in a reply, without the thoughts that a reasoning model wrote before it.

    A thought is `<think>...</think>`, or thinking, thought or reasoning in place of think, in any case, with attributes, nested.
    Where it stands decides, since an answer may be about such tags:

    - at the start of the reply: a thought, and so is the next one behind it. One that is never closed leaves no answer;
    - up to a closing tag that nothing opened: a thought, whose opening tag was part of the prompt;
    - further on: a thought when the reply began with one, and when it is closed, begins a line, and stands inside no other tag;
    - anywhere else, in code or in quotation marks: a part of the answer, which is left alone.

    A reply without thoughts comes back as it is.

    >>> without_thoughts("<think>Verdict: PASS?</think>\\nFAIL"), without_thoughts("PASS? No.</think> FAIL")
    ('FAIL', 'FAIL')
    >>> without_thoughts("Reason between <think> and </think> first.")
    'Reason between <think> and </think> first.'
    """
    thinks = False
    while (rest := _behind_thought(text, thinks)) is not None:
        text, thinks = rest, True
    return text


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


@dataclass(frozen=True, slots=True)
class _Mark:
    """A tag in a text."""

    start: int
    end: int
    name: str
    """In lower case."""
    closes: bool
    code: str
    """Where it stands: `` for text, `fence`, or `quoted` for a line's code and quotation marks."""

    @property
    def is_thought(self) -> bool:
        return self.name.rpartition(":")[2] in _THOUGHTS


def _marks(text: str) -> list[_Mark]:
    """All tags of a text in their order."""
    fences = deque(_fences(text))
    spans = deque(match.span() for match in _CODE_SPAN.finditer(text))
    marks = []
    for match in _MARK.finditer(text):
        start, end = match.span()
        if _covers(fences, start, end):
            code = "fence"
        elif _covers(spans, start, end) or _is_quoted(text, start, end):
            code = "quoted"
        else:
            code = ""
        marks.append(_Mark(start, end, match[2].lower(), bool(match[1]), code))
    return marks


def _covers(spans: deque[tuple[int, int]], start: int, end: int) -> bool:
    """Whether one of the spans holds what lies from `start` to `end`. Asked in reading order: what is passed is dropped."""
    while spans and spans[0][1] < end:
        spans.popleft()
    return bool(spans) and spans[0][0] <= start


def _is_quoted(text: str, start: int, end: int) -> bool:
    """Whether quotation marks stand around, of which the first does not end another quotation."""
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    return bool(after) and _QUOTES.get(before) == after and not text[max(start - 2, 0) : start - 1].isalnum()


def _fences(text: str) -> Iterator[tuple[int, int]]:
    """Where fenced code stands, fences included. A fence that is not closed is none: a thought may break off in one."""
    opening: re.Match[str] | None = None
    for line in _FENCE_LINE.finditer(text):
        if opening is None:
            opening = None if line[1][0] == "`" and "`" in line[2] else line
        elif line[1].startswith(opening[1]) and not line[2].strip():
            yield opening.start(), line.end()
            opening = None


def _behind_thought(text: str, thinks: bool) -> str | None:
    """The text without its first thought; None when it has none."""
    marks = [mark for mark in _marks(text) if mark.is_thought and mark.code != "quoted"]
    bare = [mark for mark in marks if not mark.code]
    if not bare:
        return None
    first = bare[0]
    if first.closes:
        *_, last = takewhile(lambda mark: mark.closes, bare)
        return text[last.end :].lstrip()
    if not text[: first.start].strip():
        end = _end_of_thought(bare)
        if end is None:  # a fence that the thought left open may have been taken to close in the answer
            end = next((mark.end for mark in marks if mark.closes), None)
        return "" if end is None else text[end:].lstrip()
    return _without_later_thought(text, bare) if thinks else None


def _end_of_thought(marks: Sequence[_Mark]) -> int | None:
    """Where the thought ends that the first of the marks opens: at its own closing tag.

    When more is opened than closed, a thought only named a tag; then the first closing tag counts after which fewest are open.
    """
    depth, least, end = 0, len(marks), None
    for mark in marks:
        depth += -1 if mark.closes else 1
        if mark.closes and depth < least:
            least, end = depth, mark.end
        if depth == 0:
            break
    return end


def _without_later_thought(text: str, marks: Sequence[_Mark]) -> str | None:
    inside = [
        pair for pair in _pairs(mark for mark in _marks(text) if not mark.code) if not pair[0].is_thought
    ]
    for i, mark in enumerate(marks):
        begins_line = not text[text.rfind("\n", 0, mark.start) + 1 : mark.start].strip()
        if mark.closes or not begins_line or any(a.start < mark.start < b.start for a, b in inside):
            continue
        end = _end_of_thought(marks[i:])
        if end is not None:
            return text[: mark.start] + text[end:].lstrip()
    return None


def _pairs(marks: Iterable[_Mark]) -> list[tuple[_Mark, _Mark]]:
    """Opening tags with the closing ones that belong to them, by where they end; a tag that lacks the other is left out."""
    opened: dict[str, list[_Mark]] = {}
    pairs = []
    for mark in marks:
        if not mark.closes:
            opened.setdefault(mark.name, []).append(mark)
        elif opened.get(mark.name):
            pairs.append((opened[mark.name].pop(), mark))
    return pairs


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
