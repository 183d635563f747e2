"""Items from files: the documented layout, preference sets, the layout that the paper released, and tables of pairs of any kind.

Rows with the same question and the same answers are one item, which carries the rewrites of all of them: the released data has a
file for each bias. What cannot be used is left out with its place, its name and the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.errors import BadInput
from gnomon.methods.calm.stimuli.collection import Collected, Dropped, Skipped, digest
from gnomon.methods.calm.stimuli.items import SETS, SIDES, Item, Rewrite, check_item
from gnomon.methods.calm.stimuli.layouts import Layout, data_files, layout_of, question_of, rows_of, text_of
from gnomon.methods.calm.stimuli.probes import probes

_ANSWER = re.compile(r"answer([1-9])")
_REWRITE = re.compile(r"answer([12])_(.+)")
_TURN = re.compile(r"(?:^|\n)\s*[A-Z]\w{1,20}:(?=\s)")
_EXPLICIT = re.compile(r"nsfw|not[ _-]?safe[ _-]?for[ _-]?work|porn|erotic", re.IGNORECASE)
_SOURCES = ("data_resource", "source", "dataset")
_READ = frozenset(
    {"question", "prompt", "answers", "chosen", "rejected", *_SOURCES, *(part.name for part in fields(Item))}
)


def read_items(
    source: str | Path, *, set: str | None = None, keep_nsfw: bool = False, keep_duplicates: bool = False
) -> tuple[list[Item], Dropped]:
    """The items of a source, and what was left out.

    The documented layout: a row has `question`, and `answer1` (the better) and `answer2`, further ones up to `answer9`, or a list
    `answers`; or it is a row of a preference set with `prompt`, `chosen` and `rejected`. Columns such as `answer2_longer`,
    `answer1_sad` or `answer2_with_reference_url` are rewrites of that answer, and a row may lack any. In other tables two columns
    that hold answers, and one that says which is better, are recognised by what they hold (see `layouts`).

    Args:
        source: a file (JSON, JSONL, CSV, Parquet), a folder of files and sub-folders, a run of `perturb`, or `hf://name`.
        set: which set the rows belong to. None: the row says (`set`), or the columns do, or the file's name; else `alignment`.
        keep_nsfw: keep rows whose source names explicit content.
        keep_duplicates: keep rows whose question was asked already.

    Raises:
        BadInput: nothing can be used; the message has the first reason.
    """
    collected = Collected(keep_duplicates)
    files = data_files(source)
    for file in files:
        try:
            rows = list(rows_of(file))
        except BadInput as error:
            if len(files) == 1:
                raise
            collected.skipped.append(Skipped(str(file), "", str(error)))
            continue
        _read_file(file, rows, set, keep_nsfw, collected)
    items = collected.items()
    dropped = Dropped(collected.duplicates, collected.explicit, collected.merged, tuple(collected.skipped))
    if not items:
        first = f" {dropped.skipped[0].reason}" if dropped.skipped else ""
        raise BadInput(
            f"{source} holds no items that can be used ({dropped.duplicates} duplicates, {dropped.explicit} explicit rows, "
            f"{len(dropped.skipped)} that cannot be read).{first}"
        )
    return items, dropped


def is_explicit(source: str) -> bool:
    """Whether the name of a source says that its content is explicit.

    >>> is_explicit("unalignment/toxic-dpo-NSFW"), is_explicit("biology/sexual-selection")
    (True, False)
    """
    return bool(_EXPLICIT.search(source))


def _read_file(
    file: str | Path,
    rows: Sequence[tuple[str, Mapping[str, Any] | BadInput]],
    set: str | None,
    keep_nsfw: bool,
    collected: Collected,
) -> None:
    """Add the rows of one file."""
    good = [raw for _, raw in rows if not isinstance(raw, BadInput)]
    documented = [raw for raw in good if _is_documented(raw)]
    layout = (
        layout_of([raw for raw in good if not _is_documented(raw)]) if len(documented) < len(good) else None
    )
    stem = Path(str(file)).name
    columns = {name for raw in documented for name in raw}
    of_file = set or _set_of_file(columns, stem)
    for where, raw in rows:
        name = "" if isinstance(raw, BadInput) else str(raw.get("id", ""))
        try:
            if isinstance(raw, BadInput):
                raise raw
            if not keep_nsfw and is_explicit(_source(raw)):
                collected.explicit += 1
                continue
            if layout is not None and not _is_documented(raw):
                item = _of_layout(raw, layout, where, of_file)
            else:
                item = _item(raw, where, set, of_file, stem, collected)
            collected.add(check_item(item, where))
        except BadInput as error:
            collected.skipped.append(Skipped(where, name, str(error)))


def _is_documented(raw: Mapping[str, Any]) -> bool:
    """Whether a row has columns of the documented layout for its answers."""
    return (
        "answers" in raw
        or "chosen" in raw
        or "rejected" in raw
        or any(_ANSWER.fullmatch(name) for name in raw)
    )


def _item(
    raw: Mapping[str, Any], where: str, set: str | None, of_file: str, stem: str, collected: Collected
) -> Item:
    """The item of a row of the documented layout."""
    if not _is_documented(raw):
        raise BadInput(
            f'{where}: field "answer1" is missing. An item needs question, answer1 and answer2, or chosen and rejected.'
        )
    if (split := _shared_beginning(raw)) is not None:
        question, answers = split
    else:
        question, answers = _question(raw, where), _answers(raw, where)
    set_name = set or (raw["set"] if isinstance(raw.get("set"), str) else None) or _set_of_row(raw) or of_file
    rewrites = [*_stored(raw, where)]
    for name, rewrite in _released(raw, stem):
        if isinstance(rewrite, str):
            collected.skipped.append(Skipped(f"{where}, {name}", str(raw.get("id", "")), rewrite))
        else:
            rewrites.append(rewrite)
    inherited = raw.get("meta")
    meta = dict(inherited) if isinstance(inherited, dict) else {}
    meta |= {name: value for name, value in raw.items() if not _is_read(name, stem)}
    return Item(
        _name(raw, question, answers), question, answers, set_name, _source(raw), tuple(rewrites), meta
    )


def _of_layout(raw: Mapping[str, Any], layout: Layout, where: str, set_name: str) -> Item:
    """The item of a row in another layout, the better answer first where a column says which it is."""
    texts = [text_of(raw.get(name)) for name in layout.answers]
    for name, text in zip(layout.answers, texts, strict=True):
        if text is None:
            raise BadInput(
                f'{where}: field "{name}" must hold an answer; got {type(raw.get(name)).__name__}.'
            )
    asked_in = layout.question or layout.answers[0]
    question = (
        question_of(raw.get(asked_in)) if layout.question or isinstance(raw.get(asked_in), list) else None
    )
    if question is None:
        raise BadInput(f"{where}: no field holds the question; name it question, prompt or instruction.")
    order = list(range(len(texts)))
    if layout.decision is not None:
        best = layout.decided(raw)
        if best is None or best < 0:
            raise BadInput(
                f'{where}: field "{layout.decision}" prefers neither answer; got {str(raw.get(layout.decision))[:40]!r}.'
            )
        order = [best, *(i for i in order if i != best)]
    answers = tuple(str(texts[i]) for i in order)
    models = {f"model{rank}": raw.get(layout.authors[i]) for rank, i in enumerate(order, 1) if layout.authors}
    used = {*layout.answers, *layout.authors, layout.question, layout.decision, "id"}
    rest = {
        name: value
        for name, value in raw.items()
        if name not in used and isinstance(value, str | int | float)
    }
    return Item(_name(raw, question, answers), question, answers, set_name, _source(raw), (), rest | models)


def _name(raw: Mapping[str, Any], question: str, answers: Sequence[str]) -> str:
    """The row's `id`, or a digest of its texts: rows may be added anywhere, and verdicts stay with the row they are about."""
    name = raw.get("id")
    has_id = (isinstance(name, str) and bool(name.strip())) or (
        isinstance(name, int) and not isinstance(name, bool)
    )
    return str(name) if has_id else digest(question, *answers)


def _source(raw: Mapping[str, Any]) -> str:
    return next((str(raw[name]) for name in _SOURCES if raw.get(name)), "")


def _question(raw: Mapping[str, Any], where: str) -> str:
    name = "question" if "question" in raw else "prompt"
    if name not in raw and isinstance(raw.get("chosen"), list):
        question = question_of(raw["chosen"])
        if question is not None:
            return question
    return _text(raw, name, where)


def _shared_beginning(raw: Mapping[str, Any]) -> tuple[str, tuple[str, ...]] | None:
    """Question and answers of a preference set whose texts are whole conversations; None where they are not.

    The two begin alike and part within the last turn; a turn begins with a line such as `Assistant:`.
    """
    chosen, rejected = raw.get("chosen"), raw.get("rejected")
    if "question" in raw or "prompt" in raw or not isinstance(chosen, str) or not isinstance(rejected, str):
        return None
    parted = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
    shared = chosen[: min(len(chosen), len(rejected)) if parted is None else parted]
    turns = list(_TURN.finditer(shared))
    if not turns or not shared[: turns[-1].start()].strip():
        return None
    end = turns[-1].end()
    return shared[: turns[-1].start()].strip(), (chosen[end:].strip(), rejected[end:].strip())


def _answers(raw: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if "answers" in raw:
        answers = raw["answers"]
        if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
            raise BadInput(f'{where}: field "answers" must be a list of strings.')
        return tuple(answers)
    if "chosen" in raw or "rejected" in raw:
        return tuple(_last_turn(raw, name, where) for name in ("chosen", "rejected"))
    names = sorted(name for name in raw if _ANSWER.fullmatch(name) and raw[name] not in (None, ""))
    # A table has every column in every row: what is empty behind the second answer is not there.
    names = sorted({*names, *({"answer1"} if "answer1_polished" in raw else {"answer1", "answer2"})})
    return tuple(_text(raw, name, where) for name in names)


def _last_turn(raw: Mapping[str, Any], name: str, where: str) -> str:
    """The answer of a preference set: a text, or the last turn of a conversation."""
    turn = raw.get(name)
    if isinstance(turn, list) and turn and isinstance(turn[-1], dict):
        return _text(turn[-1], "content", f"{where}, {name}")
    return _text(raw, name, where)


def _set_of_row(raw: Mapping[str, Any]) -> str | None:
    """The set that a row's own rewrites belong to."""
    sets = {
        probes()[kind[0]].set
        for name in raw
        if (match := _REWRITE.fullmatch(name)) and (kind := _kind_of(match[2], "")) is not None
    }
    return next((name for name in ("refinement", "fact", "alignment") if name in sets), None)


def _set_of_file(columns: set[str], stem: str) -> str:
    """The set of a file whose rows do not say it: by any of its columns, or by its name."""
    for name in probes():
        if probes()[name].rewrites and _is_about(name, stem) and any(map(_REWRITE.fullmatch, columns)):
            return probes()[name].set
    by_columns = _set_of_row(dict.fromkeys(columns))
    return by_columns or next((name for name in SETS if name[:5] in stem.casefold()), "alignment")


def _released(raw: Mapping[str, Any], stem: str) -> Iterator[tuple[str, Rewrite | str]]:
    """Columns that hold rewrites, and for those that cannot be used the reason."""
    for name, value in raw.items():
        match = _REWRITE.fullmatch(name)
        kind = _kind_of(match[2], stem) if match else None
        if match is None or kind is None or value is None:
            continue
        probe, condition = kind
        side = int(match[1]) - 1
        if not isinstance(value, str):
            yield name, f'field "{name}" must be a string; got {type(value).__name__}.'
        elif value.strip():
            # The released names of conditions that have one side only stay as they are.
            is_usual = (probe, side) in _ONE_SIDED
            yield name, Rewrite(probe, condition if is_usual else f"{condition}, {SIDES[side]}", side, value)


_ONE_SIDED = {("verbosity", 1), ("fallacy-oversight", 0), ("refinement-aware", 0)}
"""Biases whose rewrites are of one answer alone in the released data: their conditions do not name the side."""

_KINDS = {
    "longer": ("verbosity", "longer"),
    "fallacy_oversight": ("fallacy-oversight", "fallacy"),
    "polished": ("refinement-aware", "polished"),
    **{tone: ("sentiment", tone) for tone in ("cheerful", "sad", "angry", "fear")},
}
"""Ends of columns in the released layout -> bias and condition."""


def _kind_of(suffix: str, stem: str) -> tuple[str, str] | None:
    """Bias and condition of a column `answer1_SUFFIX`; None where neither it nor the file's name names a bias."""
    suffix = suffix.casefold()
    if suffix in _KINDS:
        return _KINDS[suffix]
    if match := re.fullmatch(r"with_reference_(.+)", suffix):
        return "authority", match[1]
    for where in (suffix, stem):
        for name, probe in probes().items():
            if probe.rewrites and _is_about(name, where):
                return name, suffix.replace("_", " ")
    return None


def _is_about(probe: str, name: str) -> bool:
    return probe.partition("-")[0] in name.casefold()


def _stored(raw: Mapping[str, Any], where: str) -> list[Rewrite]:
    """Rewrites as `perturb` writes them."""
    stored = raw.get("rewrites") or []
    if not isinstance(stored, list):
        raise BadInput(f'{where}: field "rewrites" must be a list.')
    return [records.parse(row, Rewrite, f"{where}, rewrite {i}") for i, row in enumerate(stored, 1)]


def _is_read(name: str, stem: str) -> bool:
    match = _REWRITE.fullmatch(name)
    return (
        name in _READ
        or bool(_ANSWER.fullmatch(name))
        or (match is not None and _kind_of(match[2], stem) is not None)
    )


def _text(raw: Mapping[str, Any], name: str, where: str) -> str:
    if name not in raw:
        raise BadInput(f'{where}: field "{name}" is missing.')
    if not isinstance(raw[name], str):
        raise BadInput(f'{where}: field "{name}" must be a string; got {type(raw[name]).__name__}.')
    return str(raw[name])
