"""Filters in words, one YAML file each, of which five come with the room; the judge's prompt, and its verdict read from a reply."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, Literal

import yaml

from gnomon.core.config import fingerprint, read_settings
from gnomon.core.files import room_file
from gnomon.core.llm.base import TOO_LONG, Message, Reply, Request
from gnomon.core.llm.parse import json_object, last_verdict
from gnomon.errors import BadInput, nearest

Style = Literal["cot", "direct", "json"]
"""Form of the judge's answer: reasoning step by step first, with the verdict alone, or as a JSON object."""

_REQUIRED = ("name", "description", "pass", "fail")
_KNOWN = (*_REQUIRED, "examples", "output")
_STYLES = ("cot", "direct", "json")


@dataclass(frozen=True)
class Example:
    """A text with its verdict."""

    text: str
    """The text."""
    verdict: Literal["pass", "fail"]
    """The right one."""


@dataclass(frozen=True)
class Filter:
    """What to keep, in words. In a file `pass_` is the key `pass`, and `style` is the key `output: {style: ...}`."""

    name: str
    """A short name."""
    description: str
    """What is looked for, in a sentence: "texts that ..."."""
    pass_: str
    """When a text passes."""
    fail: str
    """When it fails, near misses included."""
    examples: tuple[Example, ...] = ()
    """Texts with their verdicts."""
    style: Style = "cot"
    """How the judge answers."""

    @property
    def fingerprint(self) -> str:
        """A short hash of all its words: two filters that differ anywhere differ here."""
        return fingerprint(self.to_raw())

    def to_raw(self) -> dict[str, Any]:
        """The filter as the keys of its file; `filter_of` turns it back."""
        return {
            "name": self.name,
            "description": self.description,
            "pass": self.pass_,
            "fail": self.fail,
            "examples": [{"text": example.text, "verdict": example.verdict} for example in self.examples],
            "output": {"style": self.style},
        }

    def to_yaml(self) -> str:
        """The filter as the text of a file."""
        return yaml.safe_dump(self.to_raw(), sort_keys=False, allow_unicode=True, width=100)


def built_in() -> list[str]:
    """Names of the filters that come with the room."""
    return sorted(path.stem for path in room_file(__name__, "judging/filters").glob("*.yaml"))


def load_filter(ref: str | Path) -> Filter:
    """The filter of a file, or one that comes with the room.

    Args:
        ref: a YAML file, or a name from `built_in()`.

    Raises:
        BadInput: there is no such filter, or the file does not say what a filter needs; the message names file and key.
    """
    if str(ref) in built_in():
        path = room_file(__name__, f"judging/filters/{ref}.yaml")
        return filter_of(read_settings(path), str(path))
    path = Path(ref)
    if not path.exists():
        kind = "file" if path.suffix in (".yaml", ".yml") or len(path.parts) > 1 else "filter"
        raise BadInput(
            f'There is no {kind} "{ref}". {nearest(str(ref), built_in())} Or name a YAML file of your own.'
        )
    return filter_of(read_settings(path), str(path))


def filter_of(raw: Mapping[str, Any], where: str) -> Filter:
    """A filter from the keys of its file.

    Raises:
        BadInput: a key is missing, unknown or of the wrong kind; `where` begins the message.
    """
    _check_names(raw, _KNOWN, where)
    if missing := [name for name in _REQUIRED if name not in raw]:
        raise BadInput(f'{where}: key "{missing[0]}" is missing. A filter needs {", ".join(_REQUIRED)}.')
    words = {name: _words(raw[name], name, where) for name in _REQUIRED}
    examples, output = raw.get("examples") or [], raw.get("output") or {}
    if not isinstance(examples, (list, tuple)):
        raise BadInput(f'{where}: key "examples" must be a list of texts with their verdicts.')
    if not isinstance(output, Mapping):
        raise BadInput(f'{where}: key "output" must be a mapping, such as {{style: cot}}.')
    _check_names(output, ("style",), f'{where}, key "output"')
    style = output.get("style", "cot")
    if style not in _STYLES:
        raise BadInput(f'{where}: key "output.style" must be one of {", ".join(_STYLES)}; got {style!r}.')
    return Filter(
        words["name"],
        words["description"],
        words["pass"],
        words["fail"],
        tuple(_example(item, f'{where}, key "examples", item {n}') for n, item in enumerate(examples, 1)),
        style,
    )


def _example(item: Any, where: str) -> Example:
    if not isinstance(item, Mapping):
        raise BadInput(f"{where}: an example is a mapping with the keys text and verdict.")
    _check_names(item, ("text", "verdict"), where)
    if item.get("verdict") not in ("pass", "fail"):
        raise BadInput(f'{where}: key "verdict" must be pass or fail; got {item.get("verdict")!r}.')
    return Example(_words(item.get("text"), "text", where), item["verdict"])


def _check_names(raw: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in raw:
        if name not in names:
            raise BadInput(f'{where}: key "{name}" is unknown. {nearest(str(name), names)}')


def _words(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadInput(f'{where}: key "{name}" must be text that is not empty; got {value!r}.')
    return value.strip()


# Prompt and reply.

VERDICTS = ("PASS", "FAIL")
"""Words of a verdict."""

_TAG = re.compile(r"<(?=\s*/?\s*text\b)", re.IGNORECASE)


def request_of(text: str, chosen: Filter, *, base: Request | None = None, draw: int = 0) -> Request:
    """The request that asks whether `text` passes the filter.

    Args:
        text: a snippet. What looks like the tags around it is made harmless, so that no snippet can end its own quotation.
        chosen: the filter.
        base: a request whose sampling settings to use. None: the defaults.
        draw: number of the repeat, for an answer that held no verdict.
    """
    ending = _template(chosen.style).substitute(name=chosen.name).strip()
    user = _template("user").substitute(text=_harmless(text), ending=ending).strip()
    messages = (Message("system", system_text(chosen)), Message("user", user))
    return replace(base or Request(()), messages=messages, draw=draw)


def system_text(chosen: Filter) -> str:
    """The judge's instructions: the filter in words, and its examples."""
    shown = [
        _template("example").substitute(text=_harmless(example.text), verdict=example.verdict.upper()).strip()
        for example in chosen.examples
    ]
    examples = "\nExamples:\n\n" + "\n\n".join(shown) + "\n" if shown else ""
    words = {name: getattr(chosen, name) for name in ("name", "description", "pass_", "fail")}
    return _template("system").substitute(words, examples=examples).strip()


REFUSED, CUT_OFF = "the judge refused to answer", "the answer was cut off before its verdict"
LONG = "longer than the judge reads"
NO_VERDICT = "the answer holds no verdict"


def read_verdict(reply: Reply, style: Style) -> tuple[int | None, str | None]:
    """Label and problem of a reply: 1 for pass, 0 for fail; None with a reason where it holds no verdict.

    The verdict is that of the reply's deciding line (see `gnomon.core.llm.last_verdict`): "pass" in the middle of the reasoning is
    none, and neither is the last word of reasoning that was cut off.
    """
    if reply.fault == TOO_LONG:
        return None, LONG
    if reply.error is not None:
        return None, reply.error
    if reply.finish == "refusal":
        return None, REFUSED
    word = _json_word(reply.text) if style == "json" else _last_word(reply, style)
    if word is None:
        cut_off = reply.finish == "length"
        return None, CUT_OFF if cut_off else NO_VERDICT
    return int(word == "PASS"), None


def _last_word(reply: Reply, style: Style) -> str | None:
    if reply.finish == "length":  # the verdict of an answer that was cut off counts only as its first word
        first = reply.text.split()[:1] if style == "direct" else []
        return last_verdict("".join(first), VERDICTS)
    return last_verdict(reply.text, VERDICTS)


def _json_word(text: str) -> str | None:
    answer = json_object(text)
    verdict = answer.get("verdict") if isinstance(answer, dict) else None
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
