"""Answers read: verdicts, tags, choices, JSON, without thoughts. What cannot be read is data: these return None, never raise."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from gnomon.core.text.tags import Pair, Tag, find_tags, outside, pair_tags

_FENCE = re.compile(r"```[\w-]*\n(.*?)```", re.DOTALL)
_AROUND = " \t\r\n\"'`*_.,:;!()[]{}<>"
_OPENING = tuple("([{\"'`*_")
_LATEX = re.compile(r"\\(?:boxed|text\w*|math\w+)\s*\{")
_LABEL = (
    r"\b(?:verdict|answer|decision|conclusion|judge?ment|result|rating|label|classification|assessment|evaluation|outcome|"
    r"choice|overall|final)s?\b"
)
_HEADING = re.compile(rf"[^\w\n]*(?:\w+ )?{_LABEL}(?: \w+)?[^\w\n]*", re.IGNORECASE)
_ANNOUNCING = re.compile(
    rf"{_LABEL}(?:[^:=\n]{{0,40}}[:=]|[^\w\n]*[>|\u2192\u2013\u2014-]|[^\w\n]+(?:is|was)\b)[^\w\n]*$",
    re.IGNORECASE,
)
_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|cannot|neither|nor|without|rather than|instead of)|n['\u2019]t)"
    r"(?:[\s*_\"'`\u201c]+(?:an?|the|to|be|clear|clearly|really|quite|yet|merit|deserve))*[\s*_\"'`\u201c]+$",
    re.IGNORECASE,
)
_OR = re.compile(r"[^\w.!?]*(?:\b(?:or|and|vs|versus)\b[^.!?]{0,20})?")
_BEFORE = re.compile(r"[.!?\u2026:;=>|\u2192\u2013\u2014]|\s-|\[\[|\*\*|__")
_BEHIND = re.compile(r"[.!,;:()<|\u2013\u2014]|\s-|\]\]|\*\*|__")
_NO_WORD_BEFORE, _NO_WORD_BEHIND = re.compile(r"[^\w]*$"), re.compile(r"[^\w]*")
_REASON = re.compile(r"[^\w]*(?:because|since|as|due|given)\b", re.IGNORECASE)
_NAMED, _SET_OFF, _ALONE, _ANNOUNCED = range(4)
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
    """The verdict of a reply: the one of `words` that its deciding line names, written as in `words`; None when there is none.

    Models name both verdicts while they reason, and some explain the other one after they have decided. The deciding line is the
    last one that holds a verdict and nothing else, or that announces one ("**Verdict:** FAIL", `"answer": "B"`, "The result is
    PASS."). Without such a line it is the last one that names a verdict; above the last line of all a word in capitals counts only
    as it stands in `words`, since "pass" and "fail" are words of prose too.

    Where the deciding line names several verdicts, the one that it announces counts, else the one that is set off (a sentence of
    its own, behind a colon, in bold). What is negated ("not a PASS") or in a question ("PASS?") is no verdict, and neither are
    alternatives ("PASS or FAIL"). When two different ones are left there is no verdict.

    >>> last_verdict("It could fail, but the text is passable. Verdict: **Pass**", ["PASS", "FAIL"])
    'PASS'
    >>> last_verdict("A verdict PASS would need X, which is absent.\\nFAIL", ["PASS", "FAIL"])
    'FAIL'
    >>> last_verdict("Verdict: PASS or FAIL", ["PASS", "FAIL"]) is None
    True
    """
    lines = [_LATEX.sub("{", line) for line in text.splitlines() if line.strip()]
    announced = False
    last: list[_Naming] = []
    for number, line in enumerate(lines):
        namings = _namings(line, words, announced)
        counts = number == len(lines) - 1 or any(naming.is_exact for naming in namings)
        if _is_strong(namings) or (namings and counts and not _is_strong(last)):
            last = namings
        announced = _HEADING.fullmatch(line) is not None
    for rank in (_ANNOUNCED, _ALONE, _SET_OFF, _NAMED):
        named = {naming.word for naming in last if naming.rank == rank}
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def choice(text: str, choices: Sequence[str]) -> str | None:
    """The one of `choices` that `text` is, or else the only one that it names as whole words and does not negate; None otherwise.

    >>> choice(" (b). ", ["A", "B"])
    'B'
    >>> choice("A or B", ["A", "B"]) is None
    True
    """
    bare = text.strip(_AROUND).casefold()
    same = [option for option in choices if option.strip(_AROUND).casefold() == bare]
    if len(same) == 1:
        return same[0]
    named = {
        word for word, match in _whole_words(text, choices) if not _NEGATION.search(text[: match.start()])
    }
    return named.pop() if len(named) == 1 else None


def tagged(text: str, tag: str) -> str | None:
    """What stands between `<tag>` and `</tag>`, without space around: of several pairs the last; None when there is none.

    See `all_tagged` for what a pair is. Pairs inside other tags, and pairs in code or in quotation marks, count only where there is
    no other one: an answer may show a tag before or after it uses it.

    >>> tagged("First <answer>4</answer>, no: <Answer n='2'> 5 </answer>. I wrote `<answer>` as you wished.", "answer")
    '5'
    >>> tagged("<answer>4</answer> or rather <answer>5", "answer")
    '4'
    """
    tags = find_tags(text)
    for candidates in ([mark for mark in tags if not mark.code], tags):
        pairs = pair_tags(candidates)
        own = [pair for pair in pairs if pair[0].name == tag.lower()]
        own = outside(own, [pair for pair in pairs if _is_thought(pair[0])])
        free = outside(own, [pair for pair in pairs if pair[0].name != tag.lower()])
        if own:
            opening, closing = (free or own)[-1]
            return text[opening.end : closing.start].strip()
    return None


def all_tagged(text: str, tag: str) -> list[str]:
    """What stands between each `<tag>` and its `</tag>`, in order; a pair that lies within another one is a part of that one.

    A closing tag belongs to the last opening one before it that has none yet, so that an opening tag without a closing one takes
    nothing with it. Tags count in any case and with attributes, but not in code or in quotation marks.

    >>> all_tagged("<b>1</b> and <b>2 <b>3</b> 4</b> and <b>5", "b")
    ['1', '2 <b>3</b> 4']
    """
    pairs = [pair for pair in _bare_pairs(text) if pair[0].name == tag.lower()]
    return [text[opening.end : closing.start].strip() for opening, closing in outside(pairs, pairs)]


def opens_tag(text: str, tag: str) -> bool:
    """Whether `<tag>` stands in a text, closed or not, in code or not.

    >>> opens_tag("Answer inside `<Summary>`.", "summary"), opens_tag("</summary>", "summary")
    (True, False)
    """
    return any(mark.name == tag.lower() and not mark.closes for mark in find_tags(text))


def ends_inside(text: str, tag: str) -> bool:
    """Whether `<tag>` is opened behind its last `</tag>`: the answer was cut off within it.

    >>> ends_inside("<b>1</b> or <b>2", "b"), ends_inside("not <b> but <b>1</b>", "b")
    (True, False)
    """
    own = [mark for mark in find_tags(text) if mark.name == tag.lower() and not mark.code]
    return bool(own) and not own[-1].closes


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


def _is_thought(tag: Tag) -> bool:
    return tag.name.rpartition(":")[2] in _THOUGHTS


def _bare_pairs(text: str) -> list[Pair]:
    """Pairs of tags that stand neither in code nor in quotation marks."""
    return pair_tags(tag for tag in find_tags(text) if not tag.code)


def _behind_thought(text: str, thinks: bool) -> str | None:
    """The text without its first thought; None when it has none."""
    marks = [mark for mark in find_tags(text) if _is_thought(mark) and mark.code != "quoted"]
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


def _end_of_thought(marks: Sequence[Tag]) -> int | None:
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


def _without_later_thought(text: str, marks: Sequence[Tag]) -> str | None:
    tags = [pair for pair in _bare_pairs(text) if not _is_thought(pair[0])]
    for i, mark in enumerate(marks):
        begins_line = not text[text.rfind("\n", 0, mark.start) + 1 : mark.start].strip()
        if mark.closes or not begins_line or not outside([(mark, mark)], tags):
            continue
        end = _end_of_thought(marks[i:])
        if end is not None:
            return text[: mark.start] + text[end:].lstrip()
    return None


@dataclass(frozen=True, slots=True)
class _Naming:
    """A verdict word in a line."""

    word: str
    rank: int | None
    """How plainly it is given as the verdict; None when it is negated, asked for or one of several alternatives."""
    is_exact: bool
    """False for a word that has capitals in `words` and is written otherwise."""


def _is_strong(namings: Sequence[_Naming]) -> bool:
    return any(naming.rank in (_ALONE, _ANNOUNCED) for naming in namings)


def _namings(line: str, words: Sequence[str], announced: bool) -> list[_Naming]:
    """The verdict words of a line.

    Args:
        line: the line.
        words: the verdict words.
        announced: whether the line above is a heading that announces a verdict.
    """
    matches = _whole_words(line, words)
    edges = [0, *(edge for _, match in matches for edge in match.span()), len(line)]
    between = [line[edges[i] : edges[i + 1]] for i in range(0, len(edges), 2)]
    namings = []
    for i, (word, match) in enumerate(matches):
        others = [
            between[j]
            for j, k in ((i, i - 1), (i + 1, i + 1))
            if 0 <= k < len(matches) and matches[k][0] != word
        ]
        rank = (
            None
            if any(map(_OR.fullmatch, others))
            else _rank(between[i], between[i + 1], announced and i == 0)
        )
        is_whole = len(matches) == 1 and not re.search(r"\w", between[0] + between[1])
        is_exact = word.islower() or word == match.group()
        namings.append(_Naming(word, _ALONE if is_whole and rank is not None else rank, is_exact))
    return namings


def _rank(before: str, behind: str, announced: bool) -> int | None:
    """How plainly a word is given as the verdict, from the text between it and its neighbours in the line."""
    lead, trail = _NO_WORD_BEFORE.search(before), _NO_WORD_BEHIND.match(behind)
    assert lead is not None and trail is not None  # both match the empty text too
    if _NEGATION.search(before) or "?" in trail.group():
        return None
    begins, ends = not lead.start(), trail.end() == len(behind)
    if not (ends or _BEHIND.search(trail.group()) or _REASON.match(behind)):
        return _NAMED
    if _ANNOUNCING.search(before) or (begins and announced):
        return _ANNOUNCED
    return _SET_OFF if begins or _BEFORE.search(lead.group()) else _NAMED


def _whole_words(text: str, words: Sequence[str]) -> list[tuple[str, re.Match[str]]]:
    """Where `text` names one of `words`. A single letter counts in its own case only, or in brackets, quotes or bold."""
    longest_first = sorted((word for word in words if word), key=len, reverse=True)
    if not longest_first:
        return []
    pattern = "|".join(f"({re.escape(word)})" for word in longest_first)
    matches = re.finditer(rf"(?<!\w)(?:{pattern})(?!\w)", text, re.IGNORECASE)
    named = ((longest_first[(match.lastindex or 1) - 1], match) for match in matches)
    return [
        (word, match)
        for word, match in named
        if len(word) > 1
        or word == match.group()
        or text[max(match.start() - 1, 0) : match.start()] in _OPENING
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
