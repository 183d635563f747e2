"""Ratings by people of snippets on which judge and student differ: a sheet to fill in blind, and its key in another file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gnomon.core.files import write_json, write_text
from gnomon.core.metrics.stats import wilson
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.judging.filters import Filter
from gnomon.methods.sieve.judging.labels import read_label, read_table

SHEET, KEY = "rating.csv", "rating_key.json"
"""File for the raters, and the file that they must not see."""

COLUMNS = ("item", "text", "filter", "human")


@dataclass(frozen=True)
class Disagreement:
    """A snippet on which judge and student differ."""

    snippet_id: str
    judge: int
    """The judge's label."""
    student: int
    """The student's."""


@dataclass(frozen=True)
class Preference:
    """Share of the ratings that agree with the student, and with the judge."""

    n: int
    """Items rated."""
    unrated: int
    """Items left empty."""
    student: int
    """Items on which the rater agrees with the student."""
    judge: int
    """Items on which the rater agrees with the judge."""
    share: float
    """Share of the student's; NaN when nothing is rated."""
    low: float
    """Lower end of its 95% Wilson interval."""
    high: float
    """Upper end."""


def export_disagreements(
    folder: Path,
    snippets: Sequence[Snippet],
    judge: Sequence[int | None],
    student: Sequence[int],
    chosen: Filter,
    *,
    rng: Rng,
    most: int | None = None,
) -> int:
    """Write the sheet and its key; returns the number of items.

    The sheet says neither who said what nor where a text is from, and its order is random. A text that a spreadsheet would take
    for a formula is written behind an apostrophe.

    Args:
        folder: for the two files; a sheet that is there already is not overwritten.
        snippets: judged and scored.
        judge: the judge's labels; None where there was no verdict.
        student: the student's decisions.
        chosen: the filter, whose words the raters go by.
        rng: where order and choice come from.
        most: draw at most as many items. None: all.

    Raises:
        BadInput: lengths differ, the two agree everywhere, or a sheet is there already.
    """
    if not len(snippets) == len(judge) == len(student):
        raise BadInput(
            f"{len(snippets)} snippets, {len(judge)} labels and {len(student)} decisions do not fit together."
        )
    differ = [n for n, (a, b) in enumerate(zip(judge, student, strict=True)) if a is not None and a != b]
    if not differ:
        raise BadInput("Judge and student agree on every snippet: there is nothing to rate.")
    if (folder / SHEET).exists():
        raise BadInput(f"{folder / SHEET} is there already, and may hold ratings. Use another folder.")
    rng.child("rating").python().shuffle(differ)
    items = {f"item-{number:04d}": n for number, n in enumerate(differ[:most], 1)}
    words = f"{chosen.description}. PASS: {chosen.pass_} FAIL: {chosen.fail}"
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet)
    writer.writerow(COLUMNS)
    writer.writerows((item, _as_text(snippets[n].text), _as_text(words), "") for item, n in items.items())
    key = {
        item: asdict(Disagreement(snippets[n].snippet_id, int(judge[n] or 0), int(student[n])))
        for item, n in items.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / KEY, key)
    write_text(folder / SHEET, sheet.getvalue())
    return len(items)


def read_ratings(sheet: Path, key: Path | None = None) -> Preference:
    """Agreement of a filled-in sheet with student and judge.

    Args:
        sheet: with pass or fail (1 or 0, true or false) in the column `human`; empty cells are not rated.
        key: the key's file. None: beside the sheet.

    Raises:
        BadInput: a file cannot be read, an item is unknown or comes twice, or a rating is no verdict; the message names the row.
    """
    items = _read_key(key or sheet.with_name(KEY))
    ratings: dict[str, int | None] = {}
    for where, raw in read_table(sheet):
        if missing := [name for name in ("item", "human") if name not in raw]:
            raise BadInput(
                f'{where}: column "{missing[0]}" is missing. Keep the columns of the sheet as they were.'
            )
        item = str(raw["item"]).strip()
        if item not in items:
            raise BadInput(f'{where}: item "{item}" is not in the key. Is it the key of another sheet?')
        if item in ratings:
            raise BadInput(f'{where}: item "{item}" is rated twice. Keep one row of each item.')
        ratings[item] = read_label(raw["human"], f'{where}, item "{item}"')
    rated = {item: rating for item, rating in ratings.items() if rating is not None}
    student = sum(rating == items[item].student for item, rating in rated.items())
    share = student / len(rated) if rated else math.nan
    low, high = wilson(student, len(rated))
    return Preference(len(rated), len(items) - len(rated), student, len(rated) - student, share, low, high)


def _read_key(path: Path) -> dict[str, Disagreement]:
    try:
        return {item: Disagreement(**row) for item, row in json.loads(path.read_text("utf-8")).items()}
    except OSError as error:
        raise BadInput(
            f"{path}: the key cannot be read ({error.strerror}). It was written beside the sheet."
        ) from None
    except (ValueError, TypeError, AttributeError):
        raise BadInput(f"{path}: not the key of a rating sheet. Use {KEY} as it was written.") from None


def _as_text(cell: str) -> str:
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
