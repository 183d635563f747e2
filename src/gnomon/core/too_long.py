"""Rows that are longer than a model reads: left out with their names and counted, cut, or the end of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from gnomon.core import records
from gnomon.core.config import option
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadInput

TooLong = Literal["skip", "truncate", "error"]
"""skip: the row is left out, with its name in `too_long.jsonl`, and counted; truncate: it loses its beginning behind the tokens
that the tokenizer put in front; error: the run ends."""

FILE = "too_long.jsonl"
"""Name of the file that lists the rows that were left out or cut."""


@dataclass(frozen=True, kw_only=True)
class RowLength:
    """What becomes of rows that are too long; for the settings of verbs that give rows to a model of this machine."""

    too_long: TooLong = "skip"
    """Rows longer than the model reads. skip: left out, listed and counted; truncate: their beginning is cut; error: the run
    ends."""


@dataclass(frozen=True)
class Long:
    """A row that was too long."""

    id: str
    tokens: int
    """How many it has."""
    room: int
    """How many the model reads."""
    cut: bool
    """Whether it was cut and used, or left out."""


@dataclass
class Fitted:
    """Rows as a model can read them."""

    kept: list[int]
    """Numbers of the rows that are left."""
    rows: list[list[int]]
    """Their token ids."""
    long: list[Long] = field(default_factory=list)
    """Rows that were too long."""


def positions_of(model: Any) -> int | None:
    """Tokens that a transformers model reads at most; None where its config names no limit."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return positions if isinstance(positions, int) and positions > 0 else None


def longest_input(model: Any, tokenizer: Any, named: int | None = None) -> int | None:
    """Tokens that are read at most: the smallest of what positions, tokenizer and `named` allow; None: no limit."""
    limits = [positions_of(model), named, tokenizer.model_max_length]
    for name, module in model.named_modules():
        # Some families count positions from behind the padding id, and so have fewer than rows in their table.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)
    # A tokenizer without a limit says so by a number that is beyond any.
    return min((limit for limit in limits if limit is not None and limit < 1 << 40), default=None)


def fit_rows(
    rows: Sequence[Sequence[int]],
    names: Sequence[str],
    room: int | None,
    how: TooLong = "skip",
    *,
    model: str = "the model",
    front: int = 0,
    setting: str = "too_long",
) -> Fitted:
    """The rows that a model can read.

    Args:
        rows: token ids.
        names: of the rows, for the list.
        room: most tokens of a row; None: no limit.
        how: what becomes of the others.
        model: what the model is called.
        front: tokens at the beginning that a cut leaves alone, such as a begin-of-text token.
        setting: the name that `how` has among the settings, for the message.

    Raises:
        BadInput: a row is too long and `how` is `error`; the message names it.

    >>> fit_rows([[1, 2, 3, 4], [1, 2]], ["a", "b"], 3).kept
    [1]
    >>> fit_rows([[1, 2, 3, 4], [1, 2]], ["a", "b"], 3, "truncate", front=1).rows
    [[1, 3, 4], [1, 2]]
    """
    fitted = Fitted([], [])
    for i, row in enumerate(rows):
        ids = list(row)
        if room is not None and len(ids) > room:
            if how == "error":
                raise BadInput(
                    f'"{names[i]}" has {len(ids)} tokens and {model} reads {room}. Shorten it, '
                    f"or set {option(setting)} to skip or truncate."
                )
            fitted.long.append(Long(str(names[i]), len(ids), room, how == "truncate"))
            if how == "skip":
                continue
            ids = [*ids[:front], *ids[len(ids) - room + front :]] if front < room else ids[-room:]
        fitted.kept.append(i)
        fitted.rows.append(ids)
    return fitted


class Noting(Protocol):
    """What `note_long` needs of a run."""

    folder: Path

    @property
    def page(self) -> Any:
        """The report."""
        ...

    def missing(self, shortfall: Shortfall) -> None:
        """Record what the run did not get."""
        ...

    def artifact(self, name: str, path: Path) -> Path:
        """Name a file of the run in its report."""
        ...


def note_long(run: Noting, rows: Sequence[Long], of: int, what: str = "rows") -> None:
    """List rows that were too long in the run's folder, and count those left out; they are never what makes a run fail.

    Args:
        run: whose rows they are.
        rows: those that were too long.
        of: how many rows there were.
        what: what a row is, in the plural.
    """
    if not rows:
        return
    listed = sorted({(row.id, row.tokens, row.room, row.cut) for row in rows})
    records.write(run.folder / FILE, [vars(Long(*row)) for row in listed])
    run.artifact("too long", run.folder / FILE)
    left_out = [row for row in rows if not row.cut]
    if left_out:
        first = ", ".join(dict.fromkeys(row.id for row in left_out[:5]))
        reason = f"longer than the {left_out[0].room} tokens that the model reads, such as {first}."
        run.missing(Shortfall(what, len(left_out), of, reason, 1.0, is_final=True))
    if len(left_out) < len(rows):
        run.page.text(
            f"{len(rows) - len(left_out)} of {of} {what} were cut: they are longer than the model reads."
        )
