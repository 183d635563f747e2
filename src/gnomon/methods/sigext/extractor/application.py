"""Scoring of rows: shard by shard for files, line by line for pipes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any

from gnomon.core import records
from gnomon.core.data.execute import Rejected
from gnomon.errors import BadInput
from gnomon.methods.sigext.extractor.model import SigExtModel
from gnomon.methods.sigext.phrases.data import Columns, Row, to_row
from gnomon.methods.sigext.phrases.selection import scored_row, select


@dataclass(frozen=True)
class ScoreStep:
    """A data step from rows to rows with scored phrases; a row that cannot be used is rejected with the reason.

    Args hold names and numbers alone, so that it travels to other processes; each opens the extractor once.
    """

    extractor: str
    """Folder or run."""
    columns: Columns
    """Names of the columns."""
    k: int | None = None
    """Phrases kept, at most. None: the extractor's own number."""
    stride: int | None = None
    """Tokens from window to window."""
    batch_tokens: int = 16_384
    """Tokens scored at once."""
    device: str = "auto"
    """Where to score."""

    def __call__(self, items: Iterator[tuple[str, dict[str, Any]]]) -> Iterator[dict[str, Any] | Rejected]:
        """The rows in order, rejected ones among them."""
        model = _open(self.extractor, self.device, self.stride, self.batch_tokens)
        raws, rows = [], []
        for where, raw in items:
            try:
                rows.append(to_row(raw, model.settings.reading, self.columns, where, need_summary=False))
                raws.append(raw)
            except BadInput as error:
                yield Rejected(str(error), raw)
        yield from score_raw(model, raws, rows, self.columns, self.k)


@lru_cache(maxsize=1)
def _open(extractor: str, device: str, stride: int | None, batch_tokens: int) -> SigExtModel:
    return SigExtModel.from_pretrained(extractor, device=device, stride=stride, batch_tokens=batch_tokens)


def score_raw(
    model: SigExtModel, raws: list[dict[str, Any]], rows: list[Row], columns: Columns, k: int | None
) -> Iterator[dict[str, Any]]:
    """Each row as it came, with `phrases`; its document as the phrases' places count in it."""
    wanted = model.settings.k if k is None else k
    for raw, row, scores in zip(raws, rows, model.score_rows(rows), strict=True):
        kept = select(row.phrases, scores, wanted, tau=model.settings.tau)
        phrases = scored_row(row.phrases, scores, kept)
        yield {**raw, columns.id: row.id, columns.document: row.document, "phrases": phrases}


def stream(
    model: SigExtModel,
    lines: Iterable[str],
    columns: Columns,
    k: int | None,
    *sinks: IO[str],
    where: str = "stdin",
) -> int:
    """Score line by line and write each row at once; returns how many.

    Raises:
        BadInput: a line is not a JSON object with a document; the message has its number.
    """
    count = 0
    for position, raw in records.read_stream(lines, where):
        row = to_row(raw, model.settings.reading, columns, position, need_summary=False)
        for scored in score_raw(model, [raw], [row], columns, k):
            records.send(scored, *sinks)
        count += 1
    return count
