"""Verdicts and scores read out of replies. A reply without one is data: it is counted, and never guessed at."""

from __future__ import annotations

import re

from gnomon.core.llm.base import Reply
from gnomon.core.llm.parse import choice, json_object
from gnomon.methods.calm.prompting import SCORES, Prompting, Style
from gnomon.methods.calm.trials import TIE, Opinion, Status, Trial

_BRACKETS = re.compile(r"\[\[\s*([^\[\]]*?)\s*\]\]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def read_opinion(trial: Trial, reply: Reply, prompting: Prompting) -> Opinion:
    """What a reply says of a trial.

    The last well-formed verdict counts, for models name others while they reason. A reply that was cut off has none, whatever it
    holds; only a style of one token may end at the limit.
    """
    told = {"text": reply.text, "tokens_in": reply.usage.tokens_in, "tokens_out": reply.usage.tokens_out}

    def without(status: Status) -> Opinion:
        return Opinion(None, None, status, **told)  # type: ignore[arg-type]

    if reply.error is not None:
        return Opinion(None, None, "failed", reply.error)
    if reply.finish == "refusal":
        return without("refused")
    if reply.finish == "length" and prompting.style != "token":
        return without("truncated")
    if trial.kind == "score":
        score = read_score(reply.text, prompting.style)
        return without("unparsed") if score is None else Opinion(None, score, "ok", **told)  # type: ignore[arg-type]
    letters, tie = prompting.letters(trial), prompting.tie(trial)
    word = read_letter(reply.text, letters if tie is None else (*letters, tie), prompting.style)
    if word is None:
        return without("unparsed")
    return Opinion(TIE if word == tie else letters.index(word), None, "ok", **told)  # type: ignore[arg-type]


def read_letter(text: str, words: tuple[str, ...], style: Style) -> str | None:
    """The verdict in a reply; None where there is none.

    >>> read_letter("At first [[A]], but in the end [[B]].", ("A", "B"), "brackets")
    'B'
    >>> read_letter("[[A]] or [[B]] or [[winner]]", ("A", "B"), "brackets")
    'B'
    """
    if style == "brackets":
        found = [word for word in _BRACKETS.findall(text) if word in words]
        return found[-1] if found else None
    if style == "json":
        said = (json_object(text) or {}).get("verdict")
        return choice(said, words) if isinstance(said, str) else None
    return choice(text, words)


def read_score(text: str, style: Style) -> float | None:
    """The score in a reply; None where there is none, and where it is not within the scale: it is not clipped.

    >>> read_score("Rating: [[7]]", "brackets"), read_score("[[11]]", "brackets"), read_score("[[Rating]]", "brackets")
    (7.0, None, None)
    """
    if style == "brackets":
        found = _BRACKETS.findall(text)
        said = found[-1] if found else ""
    elif style == "json":
        value = (json_object(text) or {}).get("score")
        said = "" if isinstance(value, bool) else str(value)
    else:
        said = text.strip().rstrip(".")
    if not _NUMBER.fullmatch(said):
        return None
    return float(said) if SCORES[0] <= float(said) <= SCORES[-1] else None
