"""Fields of rows by what they hold: two answers side by side, the question, and which answer is the better one.

Columns of a pair are one name with two markers, such as `response_A` and `response_B`, `output_1` and `output_2`, `model_a` and
`model_b`, `chosen` and `rejected`. Those that hold the longest texts are the answers; those with short ones name their authors.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from gnomon.core import records
from gnomon.core.files import artifact, is_run_folder
from gnomon.errors import BadInput

Row = Mapping[str, Any]

# Files


def data_files(source: str | Path) -> list[str | Path]:
    """The files of a source: itself, those of a folder with all its sub-folders, or the records of a run.

    Names that begin with `_` or `.` are skipped, and so is what is no data file.

    Raises:
        BadInput: there are none.
    """
    path = Path(source)
    if str(source).startswith("hf://") or not path.is_dir():
        return [source]
    if is_run_folder(path):
        return [artifact(path, "records")]
    endings = (*records.SUFFIXES, ".csv", ".tsv")
    files = sorted(
        file
        for file in path.rglob("*")
        if file.name.endswith(endings) and not any(part[0] in "._" for part in file.relative_to(path).parts)
    )
    if not files:
        raise BadInput(f"{path} holds no data files ({', '.join(endings)}), nor do its sub-folders.")
    return list(files)


def rows_of(file: str | Path) -> Iterator[tuple[str, Row | BadInput]]:
    """The rows of a file, each with the place it stands in; a row that is none comes as the error it is.

    Raises:
        BadInput: the file as a whole cannot be read.
    """
    name = str(file)
    if name.endswith((".csv", ".tsv")):
        yield from _csv_rows(Path(file))
    elif name.endswith(".json") and (rows := _wrapped_rows(Path(file))) is not None:
        yield from rows
    else:
        yield from records.read_each(file)


def _csv_rows(path: Path) -> Iterator[tuple[str, Row | BadInput]]:
    try:
        # utf-8-sig: spreadsheets write a mark before the first name.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as a table of text ({error}).") from None
    csv.field_size_limit(2**31 - 1)  # answers are longer than the 128 KiB that the reader allows
    head = text.partition("\n")[0]
    delimiter = max("\t,;", key=head.count)
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter, restkey="")
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        if "" in row or None in row.values():
            yield where, BadInput(f"{where}: has not as many fields as the header.")
        else:
            yield where, row


def _wrapped_rows(path: Path) -> list[tuple[str, Row | BadInput]] | None:
    """The rows of a JSON file that is one object around them; None where it is a list or lines of JSON."""
    try:
        loaded = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None  # the reader of records says what is wrong
    if not isinstance(loaded, dict) or len(loaded) == 0:
        return None
    if "chosen" in loaded or any(isinstance(loaded[name], str) and _ASKS.search(name) for name in loaded):
        return [(f"{path}, item 1", loaded)]  # a row by itself
    lists = [value for value in loaded.values() if isinstance(value, list) and value]
    inner = max(lists, key=len) if lists else list(loaded.values())
    if not all(isinstance(row, dict) for row in inner):
        return None
    return [(f"{path}, item {number}", row) for number, row in enumerate(inner, 1)]


# Columns

_TOKEN = re.compile(r"[A-Za-z]+?(?=[A-Z][a-z]|[A-Z]$|[^A-Za-z]|$)|\d+|[A-Z]$")
_OPPOSITES = (
    ("chosen", "rejected"),
    ("better", "worse"),
    ("preferred", "rejected"),
    ("win", "lose"),
    ("first", "second"),
)
_BETTER_FIRST = frozenset(_OPPOSITES[:4])
_ASKS = re.compile(r"question|prompt|instruction|query|input|task", re.IGNORECASE)
_DECIDES = re.compile(
    r"label|winner|preference|preferred|better|best|choice|decision|verdict|vote|judg|annotation",
    re.IGNORECASE,
)
_JUDGES = re.compile(r"judge|annotator|evaluator|rater", re.IGNORECASE)
_TIES = re.compile(r"tie|equal|same|both|neither|draw|a\s*=\s*b|b\s*=\s*a", re.IGNORECASE)
_ORDER = re.compile(r"\s*([A-Za-z0-9_]+)\s*(>{1,2}|<{1,2}|=)\s*([A-Za-z0-9_]+)\s*")


@dataclass(frozen=True)
class Layout:
    """Columns of a table of pairs."""

    answers: tuple[str, ...]
    """Columns of the answers, in the order of their markers."""
    markers: tuple[str, ...]
    """What tells them apart, such as `1` and `2`, or `a` and `b`."""
    question: str | None = None
    """Column of the question; None: the first turn of a conversation."""
    authors: tuple[str, ...] = ()
    """Columns that name the authors of the answers."""
    decision: str | None = None
    """Column that says which answer is the better one; None: none does."""
    judge: str | None = None
    """Column that names who decided."""
    is_ordered: bool = False
    """Whether the names of the columns say which answer is the better one."""

    def decided(self, row: Row) -> int | None:
        """The better answer of a row, by number; -1 for a tie, None where nothing can be read."""
        if self.is_ordered and self.decision is None:
            return 0
        if self.decision is None:
            return None
        names = [str(row.get(author, "")) for author in self.authors]
        return read_decision(row.get(self.decision), self.markers, names)


def layout_of(rows: Sequence[Row], *, needs_texts: bool = True) -> Layout | None:
    """The layout of a file's rows; None where no two columns hold answers.

    Args:
        rows: the rows.
        needs_texts: whether answers must be there; else the names of their authors are enough.
    """
    sample = rows[:200]
    lengths = {
        name: _mean_length(sample, name) for name in dict.fromkeys(name for row in sample for name in row)
    }
    families = {
        stem: columns
        for stem, columns in _families([name for name, length in lengths.items() if length > 0]).items()
        if "=" in stem.split() or not any(map(_DECIDES.search, columns.values()))
    }
    has_texts = any(_are_sentences(sample, columns.values()) for columns in families.values())
    if not families or (needs_texts and not has_texts):
        return None
    by_length = sorted(
        families.items(), key=lambda family: -fmean(lengths[name] for name in family[1].values())
    )
    markers, answers = tuple(by_length[0][1]), tuple(by_length[0][1].values())
    in_families = {name for _, columns in by_length for name in columns.values()}
    authors = next(
        (
            tuple(columns.values())
            for _, columns in by_length[1:]
            if len(columns) == len(answers) and max(lengths[name] for name in columns.values()) < 100
        ),
        (),
    )
    free = [name for name in lengths if name not in in_families]
    layout = Layout(
        answers,
        markers,
        _question(sample, free, answers, lengths),
        authors,
        is_ordered=markers in _BETTER_FIRST,
        judge=next((name for name in free if _JUDGES.search(name) and 0 < lengths[name] < 200), None),
    )
    decision = None if layout.is_ordered else _decision(sample, free, layout)
    return replace(layout, decision=decision)


def text_of(value: Any) -> str | None:
    """A text: itself, or what the last turn of a conversation says; None where it is neither."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return value[-1].get("content") if isinstance(value[-1].get("content"), str) else None
    if isinstance(value, list) and value and all(isinstance(turn, str) for turn in value):
        return str(value[-1])
    return None


def question_of(value: Any) -> str | None:
    """What was asked first in a conversation; a text is asked itself."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and isinstance(value[0], dict):
        content = value[0].get("content")
        return content if isinstance(content, str) else None
    return str(value[0]) if isinstance(value, list) and value and isinstance(value[0], str) else None


def read_decision(value: Any, markers: Sequence[str], names: Sequence[str] = ()) -> int | None:
    """Which of the answers a value prefers, by number; -1 for a tie, None where it says neither.

    Args:
        value: such as `A>B`, `model_b`, `B`, `[[A]]`, 2, 1.7, `tie`, or the name of an author.
        markers: of the answers, in order.
        names: of their authors, in order.

    >>> [read_decision(value, ("a", "b")) for value in ("A>B", "model_b", "[[A]]", "tie (bothbad)", "?")]
    [0, 1, 0, -1, None]
    >>> [read_decision(value, ("1", "2")) for value in (1, 2.0, 1.8, 1.5, "output_2", 3)]
    [0, 1, 1, -1, 1, None]
    """
    if isinstance(value, bool) or value is None:
        return None
    lower = [marker.casefold() for marker in markers]
    text = str(value).strip().strip("[]\"'").casefold()
    if text and [name.casefold() for name in names].count(text) == 1:
        return [name.casefold() for name in names].index(text)
    if match := _ORDER.fullmatch(text):
        sides = [_marked(match[group], lower) for group in (1, 3)]
        if None in sides or sides[0] == sides[1]:
            return None
        return -1 if match[2] == "=" else sides[0] if match[2][0] == ">" else sides[1]
    if lower == ["1", "2"] and re.fullmatch(r"\d+(\.\d+)?", text):
        number = float(text)
        return None if not 1 <= number <= 2 else -1 if number == 1.5 else int(number > 1.5)
    if (at := _marked(text, lower)) is not None:
        return at
    return -1 if _TIES.match(text) else None


def _marked(text: str, markers: Sequence[str]) -> int | None:
    """The answer whose marker stands in a text like `b`, `model_b` or `output 2`."""
    last = re.split(r"[\s_\-]+", text)[-1]
    return markers.index(last) if last in markers else None


def _mean_length(rows: Sequence[Row], name: str) -> float:
    """Mean length of the texts of a column; 0 where half of its values or more are no texts."""
    texts = [text for row in rows if name in row if (text := text_of(row[name])) is not None]
    there = sum(row.get(name) is not None for row in rows)
    return fmean(map(len, texts)) if texts and 2 * len(texts) > there else 0.0


def _are_sentences(rows: Sequence[Row], names: Iterable[str]) -> bool:
    """Whether the texts of these columns are more than names and labels."""
    texts = [text for row in rows for name in names if (text := text_of(row.get(name)))]
    return bool(texts) and fmean(" " in text for text in texts) > 0.5


def _families(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Name without its marker -> marker -> column, of columns that come in twos or more."""
    families: dict[str, dict[str, str]] = {}
    words = {word for pair in _OPPOSITES for word in pair}
    for name in names:
        tokens = [token.casefold() for token in _TOKEN.findall(name)]
        for i, token in enumerate(tokens):
            is_marker = token in words or (len(token) == 1 and token in "abcdefghi123456789")
            if is_marker and (token in words or len(tokens) > 1):
                kind = "#" if token.isdigit() else "*" if len(token) == 1 else "="
                families.setdefault(" ".join([*tokens[:i], kind, *tokens[i + 1 :]]), {})[token] = name
    ordered: dict[str, dict[str, str]] = {}
    for stem, columns in families.items():
        if "=" in stem.split():
            pair = next((pair for pair in _OPPOSITES if set(pair) <= set(columns)), None)
            if pair is not None:
                ordered[stem] = {word: columns[word] for word in pair}
        elif len(columns) > 1 and sorted(columns)[0] in ("a", "1"):
            ordered[stem] = dict(sorted(columns.items()))
    return ordered


def _question(
    rows: Sequence[Row], free: Sequence[str], answers: Sequence[str], lengths: Mapping[str, float]
) -> str | None:
    """The column of the question: called so, or the longest text before the answers that is not the same in all rows."""
    order = list(dict.fromkeys(name for row in rows for name in row))
    texts = [name for name in free if lengths[name] > 0 and not _JUDGES.search(name)]
    called = [name for name in texts if _ASKS.search(name) and not name.casefold().endswith("id")]
    if called:
        return max(called, key=lambda name: (lengths[name] > 8, -order.index(name)))
    before = [
        name
        for name in texts
        if order.index(name) < order.index(answers[0])
        and len({str(row.get(name)) for row in rows}) > len(rows) / 2
    ]
    spaced = [name for name in before if fmean(" " in str(row.get(name)) for row in rows) > 0.5]
    return max(spaced, key=lambda name: lengths[name]) if spaced else None


def _decision(rows: Sequence[Row], free: Sequence[str], layout: Layout) -> str | None:
    """The column whose values prefer one of the answers: nearly all of them, or most where the column is called so.

    Numbers and bare letters may be anything, such as the turn of a conversation: they count in a column that is called so alone.
    """
    for name in sorted(free, key=lambda name: not _DECIDES.search(name)):
        values = [row[name] for row in rows if row.get(name) is not None]
        by_name = replace(layout, decision=name)
        read = [by_name.decided(row) for row in rows if row.get(name) is not None]
        is_bare = all(len(str(value)) == 1 or isinstance(value, int | float) for value in values)
        least = 0.5 if _DECIDES.search(name) else 0.9
        is_decision = values and fmean(at is not None for at in read) >= least and set(read) - {-1, None}
        if is_decision and (least < 0.9 or not is_bare):
            return name
    return None
