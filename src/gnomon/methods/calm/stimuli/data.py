"""Items from files: JSONL or Parquet with a question and answers, preference sets, and the layout that the paper released."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import room_file
from gnomon.errors import BadInput
from gnomon.methods.calm.stimuli.items import SETS, SIDES, Item, Rewrite, check_item

TONES = ("cheerful", "sad", "angry", "fear")
SOURCES = ("book", "quote", "url")

_ANSWER = re.compile(r"answer(\d+)")
_TONED = re.compile(rf"answer([12])_({'|'.join(TONES)})")
_CITED = re.compile(rf"answer([12])_with_reference_({'|'.join(SOURCES)})")
_KNOWN = (
    "id",
    "question",
    "prompt",
    "answers",
    "chosen",
    "rejected",
    "set",
    "data_resource",
    "source",
    "rewrites",
    "meta",
)


@dataclass(frozen=True)
class Dropped:
    """Rows that were left out, and why."""

    duplicates: int = 0
    """Rows with a question that an earlier row of the set asks."""
    explicit: int = 0
    """Rows of sexual content."""


def read_items(
    source: str | Path, *, set: str | None = None, keep_nsfw: bool = False, keep_duplicates: bool = False
) -> tuple[list[Item], Dropped]:
    """The items of a source, and how many rows were left out.

    A row has `question`, and `answer1` (the better) and `answer2`, further ones up to `answer9`, or a list `answers`; or
    it is a row of a preference set with `prompt`, `chosen` and `rejected`. Columns of the released layout become
    rewrites, and a row may lack any: `answer2_longer`, `answer1_fallacy_oversight`, `answer1_sad`,
    `answer2_with_reference_url`, `answer1_polished` ...

    Args:
        source: a file, a folder of files, a run of `perturb`, or `hf://name`.
        set: which set the rows belong to. None: the row says (`set`), or its columns do, or the file's name; else `alignment`.
        keep_nsfw: keep rows of sexual content.
        keep_duplicates: keep rows whose question was asked already.

    Raises:
        BadInput: a row cannot be used; the message names file, line and field.
    """
    items: list[Item] = []
    questions: dict[tuple[str, str], str] = {}
    names: Counter[tuple[str, str]] = Counter()
    duplicates = explicit = 0
    for number, (where, raw) in enumerate(records.read_raw(source), 1):
        item = check_item(_item(raw, where, number, set), where)
        names[item.set, item.id] += 1
        if names[item.set, item.id] > 1:
            raise BadInput(
                f'{where}: there are two items "{item.id}" in the set "{item.set}". Give every item an id of its own.'
            )
        question = (item.set, " ".join(item.question.casefold().split()))
        if not keep_duplicates and question in questions:
            duplicates += 1
        elif not keep_nsfw and is_explicit(item):
            explicit += 1
        else:
            questions[question] = item.id
            items.append(item)
    if not items:
        raise BadInput(
            f"{source} holds no items that can be used ({duplicates} duplicates, {explicit} explicit rows)."
        )
    return items, Dropped(duplicates, explicit)


def is_explicit(item: Item) -> bool:
    """Whether a question or its answers are of sexual content: two or more words of the list in `prompts/explicit.txt`.

    >>> is_explicit(Item("a", "What is a sexual dimorphism in birds?", ("x", "y")))
    False
    """
    words = {word for text in (item.question, *item.answers) for word in _explicit().findall(text.casefold())}
    return len(words) >= 2


@cache
def _explicit() -> re.Pattern[str]:
    lines = room_file(__name__, "prompts/explicit.txt").read_text("utf-8").split("\n")
    words = [re.escape(line.strip()) for line in lines if line.strip() and not line.startswith("#")]
    return re.compile(rf"\b(?:{'|'.join(words)})")


def _item(raw: Mapping[str, Any], where: str, number: int, set: str | None) -> Item:
    answers = _answers(raw, where)
    rewrites = (*_stored(raw, where), *_released(raw, where))
    return Item(
        id=str(raw.get("id", number)),
        question=_text(raw, "question" if "question" in raw else "prompt", where),
        answers=answers,
        set=set or _set_of(raw, where),
        source=str(raw.get("data_resource", raw.get("source", ""))),
        rewrites=rewrites,
        meta={name: value for name, value in raw.items() if not _is_read(name)},
    )


def _answers(raw: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if "answers" in raw:
        answers = raw["answers"]
        if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
            raise BadInput(f'{where}: field "answers" must be a list of strings.')
        return tuple(answers)
    if "chosen" in raw or "rejected" in raw:
        return tuple(_last_turn(raw, name, where) for name in ("chosen", "rejected"))
    names = sorted((name for name in raw if _ANSWER.fullmatch(name)), key=lambda name: int(name[6:]))
    if not names:
        raise BadInput(
            f'{where}: field "answer1" is missing. An item needs question, answer1 and answer2, or chosen and rejected.'
        )
    if names == ["answer1"] and "answer1_polished" not in raw:
        raise BadInput(f'{where}: field "answer2" is missing.')
    return tuple(_text(raw, name, where) for name in names)


def _last_turn(raw: Mapping[str, Any], name: str, where: str) -> str:
    """The answer of a preference set: a text, or the last turn of a conversation."""
    turn = raw.get(name)
    if isinstance(turn, list) and turn and isinstance(turn[-1], dict):
        return _text(turn[-1], "content", f"{where}, {name}")
    return _text(raw, name, where)


def _set_of(raw: Mapping[str, Any], where: str) -> str:
    if isinstance(raw.get("set"), str):
        return str(raw["set"])
    if "answer1_polished" in raw:
        return "refinement"
    if any(
        name == "answer2_longer" or name == "answer1_fallacy_oversight" or _TONED.fullmatch(name)
        for name in raw
    ):
        return "fact"
    stem = Path(where.rsplit(", ", 1)[0]).name.casefold()
    return next((name for name in SETS if name[:5] in stem), "alignment")


def _released(raw: Mapping[str, Any], where: str) -> Iterator[Rewrite]:
    """Columns of the released layout as rewrites."""
    for name in raw:
        if raw[name] is None:
            continue
        if name == "answer2_longer":
            yield Rewrite("verbosity", "longer", 1, _text(raw, name, where))
        elif name == "answer1_fallacy_oversight":
            yield Rewrite("fallacy-oversight", "fallacy", 0, _text(raw, name, where))
        elif name == "answer1_polished":
            yield Rewrite("refinement-aware", "polished", 0, _text(raw, name, where))
        elif match := _TONED.fullmatch(name):
            side = int(match[1]) - 1
            yield Rewrite("sentiment", f"{match[2]}, {SIDES[side]}", side, _text(raw, name, where))
        elif match := _CITED.fullmatch(name):
            side = int(match[1]) - 1
            yield Rewrite("authority", f"{match[2]}, {SIDES[side]}", side, _text(raw, name, where))


def _stored(raw: Mapping[str, Any], where: str) -> list[Rewrite]:
    """Rewrites as `perturb` writes them."""
    stored = raw.get("rewrites") or []
    if not isinstance(stored, list):
        raise BadInput(f'{where}: field "rewrites" must be a list.')
    return [records.parse(row, Rewrite, f"{where}, rewrite {i}") for i, row in enumerate(stored, 1)]


def _is_read(name: str) -> bool:
    released = {"answer2_longer", "answer1_fallacy_oversight", "answer1_polished"}
    return (
        name in _KNOWN
        or name in released
        or any(pattern.fullmatch(name) for pattern in (_ANSWER, _TONED, _CITED))
        or name in {field.name for field in fields(Item)}
    )


def _text(raw: Mapping[str, Any], name: str, where: str) -> str:
    if name not in raw:
        raise BadInput(f'{where}: field "{name}" is missing.')
    if not isinstance(raw[name], str):
        raise BadInput(f'{where}: field "{name}" must be a string; got {type(raw[name]).__name__}.')
    return str(raw[name])
