"""Rows for training: phrases and labels found shard by shard, and training and validation rows drawn from one source or several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gnomon.core.data.execute import Rejected, Tally
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.sigext.rows import Columns, Reading, Row, read_rows, to_row

if TYPE_CHECKING:
    from gnomon.methods.sigext.config import Train


@dataclass(frozen=True)
class PrepareStep:
    """A data step from rows to rows with labelled phrases; a row that cannot be used is rejected with the reason."""

    reading: Reading
    """How phrases are found and labelled."""
    columns: Columns
    """Names of the columns."""

    def __call__(
        self, items: Iterator[tuple[str, dict[str, Any]]]
    ) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """The rows in order."""
        phrases = positive = 0
        for where, raw in items:
            try:
                row = to_row(raw, self.reading, self.columns, where)
            except BadInput as error:
                yield Rejected(str(error), raw)
                continue
            phrases += len(row.phrases)
            positive += row.n_positive
            labelled = [
                {"text": p.text, "start": p.start, "end": p.end, "label": int(said)}
                for p, said in zip(row.phrases, row.labels, strict=True)
            ]
            yield {**raw, self.columns.id: row.id, self.columns.document: row.document, "phrases": labelled}
        yield Tally({"phrases": float(phrases), "positive": float(positive)})


def checked(
    items: Iterable[tuple[str, dict[str, Any]]], id_field: str, limit: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first `limit` rows of a source.

    Raises:
        BadInput: two rows have one id.
    """
    seen: dict[str, str] = {}
    for number, (where, raw) in enumerate(items):
        if limit is not None and number >= limit:
            return
        name = raw.get(id_field)
        if name is not None and (before := seen.setdefault(str(name), where)) != where:
            raise BadInput(
                f'{where}: id "{name}" is that of {before} too. Ids must differ; name another column with --id-field.'
            )
        yield where, raw


def draw(cfg: Train, reading: Reading, columns: Columns, rng: Rng) -> tuple[list[Row], list[Row]]:
    """Training and validation rows: drawn at random, an equal share from each source, none in both.

    Args:
        cfg: where rows come from and how many.
        reading: how phrases are found.
        columns: names of the columns.
        rng: where they are drawn.

    Raises:
        BadInput: a row cannot be used, or the validation source shares a document with the training rows.
    """
    sources = (cfg.source, *cfg.more)
    train: list[Row] = []
    held_out: list[Row] = []
    for i, source in enumerate(sources):
        rows = read_rows(source, reading, columns, limit=cfg.limit)
        if len(sources) > 1:  # ids of different sets may be the same
            rows = [replace(row, id=f"{source}: {row.id}") for row in rows]
        rng.child("rows", i).python().shuffle(rows)
        n_held_out = 0 if cfg.validation else min(_share(cfg.n_validation, i, len(sources)), len(rows) // 3)
        n_train = _share(cfg.n_train, i, len(sources))
        train += rows[n_held_out : n_held_out + n_train]
        held_out += rows[:n_held_out]
    if cfg.validation and cfg.n_validation:
        held_out = read_rows(cfg.validation, reading, columns, limit=cfg.n_validation)
    shared = {row.document for row in train} & {row.document for row in held_out}
    if cfg.validation and shared:
        raise BadInput(
            f"{len(shared)} validation documents are trained on as well: the threshold and the epoch would be chosen on known text."
        )
    return train, [row for row in held_out if row.document not in shared]


def _share(n: int, i: int, parts: int) -> int:
    """The i-th part of `n` things that are shared out as evenly as possible.

    >>> [_share(5, i, 3) for i in range(3)]
    [2, 2, 1]
    """
    return n // parts + (i < n % parts)
