"""What the judge is asked about a snippet, and how its verdict is read out of the answer."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from string import Template

from gnomon.core.files import room_file
from gnomon.core.llm.base import Message, Reply, Request
from gnomon.core.llm.parse import json_object, last_verdict
from gnomon.methods.sieve.filter_files import Filter, Style

VERDICTS = ("PASS", "FAIL")
"""What the judge says."""

_TAG = re.compile(r"<(?=\s*/?\s*text\b)", re.IGNORECASE)
_SAID = re.compile(r"\bverdict\b\W*(\w+)", re.IGNORECASE)


def request_of(text: str, chosen: Filter, *, asked: Request | None = None, draw: int = 0) -> Request:
    """The request that asks whether `text` passes the filter.

    Args:
        text: a snippet. What looks like the tags around it is made harmless, so that no snippet can end its own quotation.
        chosen: the filter.
        asked: a request whose sampling settings to use. None: the defaults, at temperature 0.
        draw: number of the repeat, for an answer that held no verdict.
    """
    ending = _template(chosen.style).substitute(name=chosen.name).strip()
    user = _template("user").substitute(text=_harmless(text), ending=ending).strip()
    messages = (Message("system", system_text(chosen)), Message("user", user))
    return replace(asked or Request(()), messages=messages, draw=draw)


def system_text(chosen: Filter) -> str:
    """The judge's instructions: the filter in words, and its examples."""
    shown = [
        _template("example").substitute(text=_harmless(example.text), verdict=example.verdict.upper()).strip()
        for example in chosen.examples
    ]
    examples = "\nExamples:\n\n" + "\n\n".join(shown) + "\n" if shown else ""
    words = {name: getattr(chosen, name) for name in ("name", "description", "pass_", "fail")}
    return _template("system").substitute(words, examples=examples).strip()


def read_verdict(reply: Reply, style: Style) -> tuple[int | None, str | None]:
    """Label and problem of a reply: 1 for pass, 0 for fail; None with a reason where it holds no verdict.

    The verdict is what follows the last "verdict" in the answer, else the last verdict word of its last line: "pass" in the middle
    of the reasoning is none, and neither is the last word of reasoning that was cut off (pitfalls 7 and 8).
    """
    if reply.error is not None:
        return None, reply.error
    if reply.finish == "refusal":
        return None, "the judge refused to answer"
    word = _json_word(reply.text) if style == "json" else _last_word(reply, style)
    if word is None:
        cut_off = reply.finish == "length"
        return None, "the answer was cut off before its verdict" if cut_off else "the answer holds no verdict"
    return int(word == "PASS"), None


def _last_word(reply: Reply, style: Style) -> str | None:
    lines = reply.text.strip().splitlines() or [""]
    if reply.finish == "length":  # what was cut off had its say only if it began with it
        return last_verdict(lines[0].split()[0], VERDICTS) if style == "direct" and lines[0] else None
    said = [word.upper() for word in _SAID.findall(reply.text) if word.upper() in VERDICTS]
    return said[-1] if said else last_verdict(lines[-1], VERDICTS)


def _json_word(text: str) -> str | None:
    found = json_object(text)
    verdict = found.get("verdict") if isinstance(found, dict) else None
    if isinstance(verdict, bool):
        return "PASS" if verdict else "FAIL"
    word = verdict.strip().upper() if isinstance(verdict, str) else None
    return word if word in VERDICTS else None


def _harmless(text: str) -> str:
    return _TAG.sub("&lt;", text)


@cache
def _template(name: str) -> Template:
    file = room_file(__name__, f"prompts/{name}.txt")
    return Template(file.read_text("utf-8"))
