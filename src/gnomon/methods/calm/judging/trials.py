"""Trials (a question to a judge), opinions (its answer), verdicts (the row of both), and the journal that stores verdicts."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records

TIE = -1
"""The slot of a verdict that prefers none."""

PLAIN = "plain"
"""The probe of a trial without any change."""

Status = Literal["ok", "unparsed", "truncated", "refused", "failed", "too_long"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Trial:
    """One question to a judge: which of these answers is best, or which score this answer deserves."""

    item: str
    """The item's name."""
    set: str
    """The set of the item."""
    probe: str
    """`plain`, or the probe that changed something."""
    condition: str
    """The probe's condition."""
    draw: int
    """Number of the independent repeat."""
    slots: tuple[int, ...]
    """Slot -> response that stands there; response 0 is the better answer."""
    question: str
    """The item's question."""
    answers: tuple[str, ...]
    """By slot."""
    kind: Literal["pair", "score"] = "pair"
    """Whether answers are compared or one is scored."""
    names: tuple[str, ...] = ()
    """Alleged authors of the answers, by slot; empty: Assistant A, Assistant B ..."""
    note: str = ""
    """A remark beside the answers."""
    is_after: bool = True
    """Whether the note stands after the answers, else in the instruction."""
    think: bool = False
    """Whether the prompt asks the judge to solve the question first."""
    earlier: str = ""
    """An earlier version of a scored answer, shown with it."""
    reference: str = ""
    """A reference answer, shown with a scored one."""
    cued: int | None = None
    """The response that a biased judge would turn to."""
    dose: float | None = None
    """Strength of the cue."""
    ratio: float | None = None
    """Length of the changed answer over the old one, in words."""

    @property
    def shown(self) -> str:
        """Digest of what the judge is shown: a verdict is about that, whatever the item's name."""
        texts = (self.question, *self.answers, *self.names, self.note, self.earlier, self.reference)
        form = f"{self.kind} {self.is_after} {self.think}"
        joined = "\0".join((form, *texts)).encode("utf-8", "replace")
        return hashlib.blake2b(joined, digest_size=6).hexdigest()

    @property
    def key(self) -> str:
        """Unique name within an audit."""
        order = "-".join(map(str, self.slots))
        return "|".join((self.set, self.item, self.probe, self.condition, str(self.draw), order))


@dataclass(frozen=True, slots=True)
class Opinion:
    """A judge's answer to a trial."""

    slot: int | None = None
    """The slot it prefers, `TIE`, or None where no verdict could be read."""
    score: float | None = None
    """The score, where one was asked for."""
    status: Status = "ok"
    """Why there is no verdict, or `ok`."""
    text: str = ""
    """The reply."""
    tokens_in: int = 0
    """Tokens of the prompt."""
    tokens_out: int = 0
    """Tokens of the answer."""


@dataclass(frozen=True)
class Verdict:
    """A row of `verdicts.jsonl`."""

    judge: str
    set: str
    """The set of the item."""
    item: str
    """The item's name."""
    probe: str
    """As in `Trial`."""
    condition: str
    """As in `Trial`."""
    draw: int
    """As in `Trial`."""
    slots: list[int]
    """As in `Trial`."""
    kind: str = "pair"
    """As in `Trial`."""
    choice: str | None = None
    """`R1` (the better answer), `R2` ..., `tie`; None where there is none."""
    score: float | None = None
    """As in `Opinion`."""
    status: str = "ok"
    """As in `Opinion`."""
    cued: int | None = None
    """As in `Trial`."""
    dose: float | None = None
    """As in `Trial`."""
    ratio: float | None = None
    """As in `Trial`."""
    text: str = ""
    """The judge's reply."""
    tokens_in: int = 0
    """Tokens of the prompt."""
    tokens_out: int = 0
    """Tokens of the answer."""
    words: list[int] = field(default_factory=list)
    """Words of the compared answers, by slot; empty where a log does not say."""
    characters: list[int] = field(default_factory=list)
    """Their characters."""
    shown: str = ""
    """As in `Trial`; empty in logs of others."""

    @property
    def key(self) -> str:
        """As `Trial.key`."""
        order = "-".join(map(str, self.slots))
        return "|".join((self.set, self.item, self.probe, self.condition, str(self.draw), order))


def verdict_of(judge: str, trial: Trial, opinion: Opinion) -> Verdict:
    """The row of one trial."""
    copied: dict[str, Any] = {
        name: getattr(trial, name)
        for name in ("set", "item", "probe", "condition", "draw", "kind", "cued", "dose", "ratio")
    }
    of_opinion = {
        name: getattr(opinion, name) for name in ("score", "status", "text", "tokens_in", "tokens_out")
    }
    lengths = trial.answers if trial.kind == "pair" else ()
    return Verdict(
        judge=judge,
        slots=list(trial.slots),
        choice=_choice(trial, opinion),
        words=[len(text.split()) for text in lengths],
        characters=[len(text) for text in lengths],
        shown=trial.shown,
        **copied,
        **of_opinion,
    )


def _choice(trial: Trial, opinion: Opinion) -> str | None:
    if opinion.slot is None or trial.kind == "score":
        return None
    return "tie" if opinion.slot == TIE else f"R{trial.slots[opinion.slot] + 1}"


_REASONS = {
    "unparsed": "the reply holds no verdict in the form that was asked for (--kind logit reads a local model at its letter)",
    "truncated": "the reply was cut at the token limit (--max-tokens)",
    "refused": "the model declined",
}


def commonest_reason(rows: Sequence[Verdict]) -> str:
    """Why most of the verdicts that are missing are; empty where none is."""
    reasons = Counter(
        (row.text or "the request failed")
        if row.status in ("failed", "too_long")
        else _REASONS.get(row.status, row.status)
        for row in rows
        if row.status != "ok"
    )
    return reasons.most_common(1)[0][0] if reasons else ""


def count_read(rows: Sequence[Verdict]) -> str:
    """How many verdicts could be read, and why not the others.

    >>> row = Verdict("j", "fact", "a", "plain", "", 0, [0, 1], choice="R1")
    >>> count_read([row, Verdict("j", "fact", "b", "plain", "", 0, [0, 1], status="failed", text="HTTP 500")])
    '1/2, 1 failed: HTTP 500'
    """
    read = sum(row.status == "ok" for row in rows)
    if read == len(rows):
        return f"{read}/{len(rows)}"
    return f"{read}/{len(rows)}, {len(rows) - read} failed: {commonest_reason(rows)}"


# The journal


class Journal:
    """An append-only file of verdicts, so that a resumed audit asks no trial twice.

    Args:
        path: the file; made on the first verdict. A last line that a kill cut off is forgotten.
        judge: name of the judge.

    Attributes:
        known: key of a trial -> its verdict, the latest where there are several.
    """

    def __init__(self, path: Path, judge: str) -> None:
        self.path, self.judge = path, judge
        self.known: dict[str, Verdict] = {}
        if path.exists():
            whole = path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if len(kept) < len(whole):
                path.write_bytes(kept)
            for number, line in enumerate(kept.decode("utf-8").splitlines(), 1):
                raw: dict[str, Any] = json.loads(line)
                row = records.parse(raw, Verdict, f"{path}, line {number}")
                self.known[row.key] = row
        # Replies of an earlier run that held no verdict are asked for again, once in each run.
        self._unread = {key for key, row in self.known.items() if row.status != "ok"}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a", encoding="utf-8", buffering=1)

    def add(self, trial: Trial, opinion: Opinion) -> Verdict:
        """Store one opinion. A failed one is not stored, so that it is asked again."""
        row = verdict_of(self.judge, trial, opinion)
        self.known[row.key] = row
        self._unread.discard(row.key)
        if row.status != "failed":
            self._stream.write(records.to_line(row))
        return row

    def verdict_on(self, trial: Trial) -> Verdict | None:
        """The verdict on a trial, or the reply of this run that held none; None where it must be asked.

        What was shown must be the same: an item that kept its name may have another text now.
        """
        row = self.known.get(trial.key)
        if (
            row is None
            or row.status == "failed"
            or trial.key in self._unread
            or row.shown not in ("", trial.shown)
        ):
            return None
        return row

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def open_journals(folder: Path, judges: Sequence[str]) -> list[Journal]:
    """The journals of judges, each in the file that holds its verdicts already, or in a new one."""
    files = {path: _judge_of(path) for path in sorted(folder.glob("*.jsonl"))} if folder.is_dir() else {}
    paths = {judge: path for path, judge in files.items() if judge}
    free = (path for i in count() if (path := folder / f"{i}.jsonl") not in paths.values())
    return [Journal(paths[judge] if judge in paths else next(free), judge) for judge in judges]


def _judge_of(path: Path) -> str:
    """The judge whose verdicts a journal holds; empty where it holds none."""
    with path.open(encoding="utf-8") as stream:
        line = stream.readline()
    try:
        return str(json.loads(line)["judge"])
    except (ValueError, KeyError, TypeError):
        return ""


def seats_of(journals: Iterable[Journal]) -> dict[tuple[str, str], tuple[int, ...]]:
    """(set, item) -> the order of its first two answers in verdicts that are there already."""
    seats: dict[tuple[str, str], tuple[int, ...]] = {}
    for journal in journals:
        for row in journal.known.values():
            if row.probe == PLAIN and row.kind == "pair":
                seats.setdefault((row.set, row.item), tuple(row.slots[:2]))
    return seats
