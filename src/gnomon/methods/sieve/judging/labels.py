"""The label store: every verdict with the circumstances in which it was asked for, appended to one file and never lost.

A file of people's labels is a judge as well.
"""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gnomon.core import records
from gnomon.core.data.documents import text_id
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.stream import same_words
from gnomon.methods.sieve.judging.filters import CUT_OFF, NO_VERDICT, REFUSED
from gnomon.methods.sieve.judging.judges import JudgingStopped, Verdict

REASONS = ("seed", "uniform", "interval", "nearest")
"""Why a snippet was asked about: drawn uniformly (in round 0, or later), inside the interval, or nearest to the threshold."""

_WORDS = {"pass": 1, "fail": 0, "1": 1, "0": 0, "true": 1, "false": 0}


@dataclass(frozen=True)
class Label:
    """One verdict, with reason and time of its request. The text is kept: a run can train again without its corpus."""

    snippet_id: str
    doc_id: str
    text_sha: str
    """Hash of the text."""
    text: str
    """The snippet, as judge and student saw it."""
    label: int | None
    """1 pass, 0 fail, None where the judge gave no verdict."""
    verdict_text: str
    """The judge's answer, or why there is none."""
    score_at_query: float | None
    """The student's score when it was asked; None before there was a student."""
    rank_at_query: float | None
    """That score's place among recent ones, 0..1."""
    interval: list[float] | None
    """Ends of the interval at that time, as scores within 0..1; None in the seed round."""
    round: int
    """0 for the uniform seed round."""
    reason: str
    """One of `REASONS`."""
    usd: float | None
    tokens_in: int
    tokens_out: int
    model: str
    """Name of the judge."""
    time: float
    """Seconds since 1970."""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise BadConfig(f"reason must be one of {', '.join(REASONS)}; got {self.reason!r}.")
        if self.label not in (0, 1, None):
            raise BadInput(f"{self.snippet_id}: a label is 1, 0 or null; got {self.label!r}.")

    @property
    def is_uniform(self) -> bool:
        """Whether it was drawn uniformly: only such rows show the base rate."""
        return self.reason in ("seed", "uniform")

    @property
    def problem(self) -> str:
        """Why there is no label, without the reply that held none; empty where there is one."""
        if self.label is not None:
            return ""
        problems = (name for name in (REFUSED, CUT_OFF, NO_VERDICT) if self.verdict_text.startswith(name))
        return next(problems, self.verdict_text)


class Choice(Protocol):
    """A chosen snippet, with the student's score at that time."""

    @property
    def snippet(self) -> Snippet: ...  # noqa: D102
    @property
    def score(self) -> float: ...  # noqa: D102
    @property
    def rank(self) -> float: ...  # noqa: D102
    @property
    def interval(self) -> Iterable[float]: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


def as_label(choice: Choice, verdict: Verdict, round: int) -> Label:
    """The row of a chosen snippet and its verdict. In round 0 there is no student yet: its choices are seeds, without score."""
    snippet, is_seed = choice.snippet, round == 0
    return Label(
        snippet.snippet_id,
        snippet.doc_id,
        text_id(snippet.text),
        snippet.text,
        verdict.label,
        verdict.text if verdict.problem is None else f"{verdict.problem}: {verdict.text}".rstrip(": "),
        None if is_seed else float(choice.score),
        None if is_seed else float(choice.rank),
        None if is_seed else [min(max(float(end), 0.0), 1.0) for end in choice.interval],
        round,
        "seed" if is_seed else choice.reason,
        verdict.usd,
        verdict.tokens_in,
        verdict.tokens_out,
        verdict.model,
        time.time(),
    )


class LabelStore:
    """Labels in a file of JSON lines that only grows.

    What `append` has returned from is on disk. A line that a killed process left half written is cut off on opening. Of several
    rows for one snippet the last counts.

    Args:
        path: the file; made when it does not exist.

    Raises:
        BadInput: a whole line of the file is not a label.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        _cut_torn_line(path)
        self._rows: dict[str, Label] = {}
        for row in records.read(path, Label):
            self._rows[row.snippet_id] = row
        self._to_ask_again = {row.snippet_id for row in self._rows.values() if row.label is None}

    @property
    def rows(self) -> list[Label]:
        """One row for each snippet, in the order in which they were first asked about."""
        return list(self._rows.values())

    @property
    def n_labelled(self) -> int:
        """Snippets with a label."""
        return sum(row.label is not None for row in self._rows.values())

    def append(self, rows: Sequence[Label]) -> None:
        """Add rows in one write; on disk when this returns."""
        with self.path.open("ab") as stream:
            stream.write("".join(map(records.to_line, rows)).encode())
            stream.flush()
            os.fsync(stream.fileno())
        self._rows |= {row.snippet_id: row for row in rows}
        self._to_ask_again.difference_update(row.snippet_id for row in rows)

    def lacks(self, snippet_id: str) -> bool:
        """Whether the judge has still to be asked: there is no row, or one of an earlier run that has no label.

        What failed in this run is not asked again before the next one: the cause is probably still there.
        """
        return snippet_id not in self._rows or snippet_id in self._to_ask_again

    def forget(self, snippet_ids: Iterable[str]) -> None:
        """Leave rows out from here on, as if the judge had never been asked about these snippets; the file keeps its lines."""
        for name in snippet_ids:
            self._rows.pop(name, None)

    def __getitem__(self, snippet_id: str) -> Label:
        return self._rows[snippet_id]

    def __contains__(self, snippet_id: str) -> bool:
        return snippet_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def training_rows(self) -> list[Label]:
        """The rows that have a label."""
        return [row for row in self._rows.values() if row.label is not None]

    def uniform_rows(self) -> list[Label]:
        """The labelled rows that were drawn uniformly."""
        return [row for row in self.training_rows() if row.is_uniform]

    def counts(self) -> dict[str, int]:
        """How many rows there are of each reason, how many pass and fail, and how many have no label."""
        rows = self._rows.values()
        reasons = Counter(row.reason for row in rows)
        labels = Counter(row.label for row in rows)
        return {
            **{reason: reasons[reason] for reason in REASONS},
            "pass": labels[1],
            "fail": labels[0],
            "unlabelled": labels[None],
        }


C = TypeVar("C", bound=Choice)


def keep_verdicts(
    store: LabelStore, choices: Sequence[C], judging: Callable[[], Sequence[Verdict]], number: int
) -> tuple[list[tuple[C, int | None]], JudgingStopped | None]:
    """Put a round's verdicts into the store, those too that came before a judge stopped.

    Args:
        store: keeps them.
        choices: what the judge was asked about.
        judging: brings the verdicts, in the order of the choices.
        number: of the round.

    Returns:
        Each choice that was answered with its label, None where the judge gave no verdict; and why the judge stopped, if it did.
    """
    stopped = None
    try:
        verdicts: list[Verdict | None] = [*judging()]
    except JudgingStopped as error:
        verdicts, stopped = error.verdicts, error
    answered = [(choice, v) for choice, v in zip(choices, verdicts, strict=True) if v is not None]
    store.append([as_label(choice, verdict, number) for choice, verdict in answered])
    return [(choice, verdict.label) for choice, verdict in answered], stopped


def read_label(value: Any, where: str) -> int | None:
    """A label as people write it: pass or fail, 1 or 0, true or false; None for an empty cell.

    Raises:
        BadInput: it is none of these; `where` begins the message.

    >>> read_label(" Pass ", ""), read_label(False, ""), read_label("", "")
    (1, 0, None)
    """
    word = "" if value is None else str(value).strip().lower()
    if not word:
        return None
    if word not in _WORDS:
        raise BadInput(
            f"{where}: {value!r} is no label. Write pass or fail (or 1 or 0, true or false), or leave it empty."
        )
    return _WORDS[word]


def _cut_torn_line(path: Path) -> None:
    """Cut off what follows the last line end: the rest of an interrupted write."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - 65_536)
            file.seek(start)
            end_of_line = file.read(keep - start).rfind(b"\n")
            keep = start + end_of_line + 1 if end_of_line >= 0 else start
            if end_of_line >= 0:
                break
        if keep < end:
            file.truncate(keep)


# People's labels as a judge.


class HumanLabels:
    """A file of labels as a judge: what is not in it has no verdict.

    Args:
        path: CSV or records with a column `label` (pass or fail, 1 or 0, true or false; empty: not labelled) and a column
            `snippet_id`, or `text`, which may differ from the snippet's in white space.
        name: in reports.

    Raises:
        BadInput: the file cannot be read, a column is missing, a label is no label, or two rows contradict each other.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or f"labels:{path}"
        self.is_simulated = False
        self._known: dict[str | int, tuple[int, str]] = {}
        for where, raw in read_table(path):
            if "label" not in raw or ("snippet_id" not in raw and "text" not in raw):
                has = ", ".join(f'"{name}"' for name in raw)
                raise BadInput(
                    f'{where}: labels need a column "label" and a column "snippet_id" or "text"; the row has {has}.'
                )
            label = read_label(raw["label"], where)
            if label is not None:
                self._take(raw, label, where)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """The label of each snippet, in order."""
        return [self._judge(snippet) for snippet in snippets]

    def _take(self, raw: dict[str, Any], label: int, where: str) -> None:
        keys = [raw["snippet_id"]] if raw.get("snippet_id") else []
        keys += [same_words(raw["text"])] if isinstance(raw.get("text"), str) else []
        for key in keys:
            before, first_place = self._known.setdefault(key, (label, where))
            if before != label:
                raise BadInput(
                    f"{where}: the label contradicts that of the same text at {first_place}. Keep one of them."
                )

    def _judge(self, snippet: Snippet) -> Verdict:
        label = self._known.get(snippet.snippet_id) or self._known.get(same_words(snippet.text))
        if label is None:
            return Verdict(None, model=self.name, problem="the file has no label for this snippet")
        return Verdict(label[0], "PASS" if label[0] else "FAIL", model=self.name)


def read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file or of records, each with the place it came from.

    Raises:
        BadInput: the file cannot be read; the message names file and row.
    """
    if path.suffix != ".csv":
        yield from records.read_raw(path)
        return
    row = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row, raw in enumerate(csv.DictReader(file), 2):  # the first row holds the names
                yield f"{path}, row {row}", {k: v for k, v in raw.items() if k is not None}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}, after row {row}: not UTF-8. Save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise BadInput(f"{path}, after row {row}: not CSV ({error}).") from None
