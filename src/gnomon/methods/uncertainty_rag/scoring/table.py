"""The table of scored pairs: Parquet parts, worked out in shards by any number of processes, with a fingerprint of its settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.core.data.execute import Rejected, map_shards, parts
from gnomon.core.files import write_json
from gnomon.core.models.handle import ModelHandle
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval.passages import Passage
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.uncertainty_rag.options import Layout, Span
from gnomon.methods.uncertainty_rag.scoring.reading import (
    Information,
    LocalReader,
    Reader,
    unreadable,
)
from gnomon.methods.uncertainty_rag.scoring.scores import scoped, score_information
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated
from gnomon.methods.uncertainty_rag.training.candidates import Candidate

ABOUT, PARTS, CHUNKS = "table.json", "pairs", "chunks.jsonl"
"""Within the folder of a run of `score`."""


@dataclass(frozen=True)
class Source:
    """A model of this process, by what names it: a worker opens its own."""

    ref: str
    """Folder or hub id."""
    load: LoadConfig
    """How it is loaded."""
    layout: Layout
    """How pairs are put to it."""
    batch_tokens: int
    """Tokens of a batch."""

    def open(self) -> LocalReader:
        """The reader."""
        handle = ModelHandle.load(self.ref, self.load, kind="causal")
        return LocalReader(handle, self.layout, batch_tokens=self.batch_tokens)


class _Reads:
    """What a step that reads needs: a reader, opened in each process on first use.

    Args:
        source: how it is opened; None where `reader` stays in this process.
        reader: an open one.
    """

    def __init__(self, source: Source | None, reader: Reader | None = None):
        self.source, self._reader = source, reader

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reader": None}

    @property
    def reader(self) -> Reader:
        """What reads pairs."""
        if self._reader is None:
            assert self.source is not None  # what cannot be opened again is not sent to another process
            self._reader = self.source.open()
        return self._reader


class AloneStep(_Reads):
    """Chunks `{"id", "text"}` in, the mean information of each by itself out: `{"id", "alone"}`. One that cannot be read has 0."""

    def __call__(self, chunks: Iterator[dict[str, Any]]) -> Iterator[Any]:
        """The rows of chunks."""
        rows = list(chunks)
        ids = [self.reader.encode(row["text"]) for row in rows]
        is_read = [bool(tokens) and not unreadable(self.reader, tokens[:1] * 2, tokens) for tokens in ids]
        values = iter(
            self.reader.alone([tokens for tokens, reads in zip(ids, is_read, strict=True) if reads])
        )
        for row, reads in zip(rows, is_read, strict=True):
            mean = next(values) if reads else np.zeros(1)
            yield {"id": row["id"], "alone": float(mean.mean()) if len(mean) else 0.0}


class ScoreStep(_Reads):
    """Groups of pairs with one first chunk in, a row per pair out.

    A group is `{"text": of the first chunk, "pairs": [{"anchor", "candidate", "text" (of the second chunk), "alone" (mean
    information of the second chunk by itself), ...}]}`; what else stands in a pair goes through.

    Args:
        source: opened in each process; None where `reader` is open and stays in this process.
        span: with its sigma set.
        reader: an open one.
    """

    suffix = ".parquet"

    def __init__(self, source: Source | None, span: Span, reader: Reader | None = None):
        super().__init__(source, reader)
        self.span = span

    def __call__(self, groups: Iterator[dict[str, Any]]) -> Iterator[Any]:
        """The rows of groups, and pairs that cannot be read with the reason."""
        reader = self.reader
        rows: list[dict[str, Any]] = []
        pairs: list[tuple[list[int], list[int]]] = []
        for group in groups:
            first = reader.encode(group["text"])
            for pair in group["pairs"]:
                second = reader.encode(pair["text"])
                if reason := unreadable(reader, first, second):
                    yield Rejected(reason, {"anchor": pair["anchor"], "candidate": pair["candidate"]})
                else:
                    rows.append(pair)
                    pairs.append((first, second))
        if not pairs:
            return
        informations = reader.read(pairs)
        scores = score_information(
            informations,
            [_flat(i, row["alone"], reader) for i, row in zip(informations, rows, strict=True)],
            self.span,
        ).columns()
        for number, (row, (a, b)) in enumerate(zip(rows, pairs, strict=True)):
            more = {name: value for name, value in row.items() if name not in ("text", "alone")}
            lengths = {"n_first": len(a), "n_second": len(b)}
            yield {**more, **lengths, **{name: values[number] for name, values in scores.items()}}


def _flat(information: Information, alone: float, reader: Reader) -> NDArray[np.float64]:
    """Of the second chunk alone only the mean is kept, and the mean is all that a gain needs."""
    # Without a start token the first token has no information of its own and is left out, see `score_information`.
    skipped = 0 if reader.start else 1  # type: ignore[attr-defined]
    return np.full(len(information.second) - skipped, alone)


@dataclass(frozen=True)
class Table:
    """Scored pairs."""

    columns: dict[str, Any]
    """Name -> values, all equally many."""
    about: dict[str, Any]
    """Fingerprint, settings, self-check."""

    def __len__(self) -> int:
        return len(self.columns["anchor"])


def calibrate(
    reader: Reader,
    candidates: Sequence[Candidate],
    chunks: Mapping[str, Passage],
    span: Span,
    n: int,
    run: Any,
) -> Span:
    """The span with its threshold frozen on a sample of a table's pairs; a run that goes on reads it back.

    Args:
        reader: reads pairs.
        candidates: the pairs of the table.
        chunks: id -> chunk.
        span: as the settings have it.
        n: pairs of the sample.
        run: keeps the threshold in `calibration.json`, and draws the sample.
    """
    path = run.folder / "calibration.json"
    if span.sigma is None and not path.exists():
        places = run.rng.child("calibration").numpy().permutation(len(candidates))[:n].tolist()
        pairs = []
        for row_at in places:
            pair = candidates[row_at]
            ids = [reader.encode(chunks[name].text) for name in (pair.candidate, pair.anchor)]
            pairs.append((ids[0], ids[1]) if reader.layout.order == "candidate" else (ids[1], ids[0]))
        readable = [pair for pair in pairs if not unreadable(reader, *pair)]
        if not readable:
            raise BadInput(
                f"None of the {len(pairs)} pairs of the calibration can be read. {unreadable(reader, *pairs[0])}"
            )
        informations = reader.read(readable)
        write_json(
            path,
            {
                "sigma": calibrated([scoped(i, span) for i in informations], span).sigma,
                "pairs": len(readable),
            },
        )
    if span.sigma is not None:
        return span
    return replace(span, sigma=json.loads(path.read_text("utf-8"))["sigma"])


def table_key(reader: Reader, span: Span, cut: Any) -> str:
    """The fingerprint of a table: model, number type, tokenizer, order, start, separator, window, sigma, how chunks were cut."""
    return fingerprint(reader.identity, asdict(span), cut, length=24)


def write_about(folder: Path, about: Mapping[str, Any]) -> None:
    """Write what a table was made with."""
    write_json(folder / ABOUT, about)


def read_table(folder: str | Path) -> Table:
    """The table in the folder of a run of `score`.

    Raises:
        BadInput: there is none.
    """
    folder = Path(folder)
    files = parts(folder / PARTS, ".parquet")
    if not (folder / ABOUT).is_file() or not files:
        raise BadInput(f"{folder} holds no table of pairs. Make one with `gnomon uncertainty-rag score`.")
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    tables = [table for path in files if (table := pq.read_table(path)).num_rows]
    if not tables:
        raise BadInput(
            f"The table in {folder} has no rows: every pair was refused, see its _rejected folder."
        )
    return Table(_columns(pa.concat_tables(tables, promote_options="permissive")), about)


def _columns(table: pa.Table) -> dict[str, Any]:
    return {name: np.asarray(table.column(name).to_pylist()) for name in table.column_names}


def join(tables: Sequence[Table]) -> Table:
    """Several tables as one; they must have been made with the same model, layout, window, sigma and cut.

    Raises:
        ModelMismatch: they were not; the message says what differs.
    """
    first = tables[0]
    for other in tables[1:]:
        if other.about["fingerprint"] != first.about["fingerprint"]:
            mine, theirs = first.about["settings"], other.about["settings"]
            differing = [
                f"{k} {mine.get(k)!r} and {theirs.get(k)!r}"
                for k in {**mine, **theirs}
                if mine.get(k) != theirs.get(k)
            ]
            raise ModelMismatch(
                f"Two tables have different scales and cannot be mixed: {'; '.join(sorted(differing)) or 'other weights'}. "
                "Score both with the same model and settings; --span.sigma fixes the threshold."
            )
    names = [name for name in first.columns if all(name in table.columns for table in tables)]
    joined = {name: np.concatenate([table.columns[name] for table in tables]) for name in names}
    keys = [f"{a}\0{c}" for a, c in zip(joined["anchor"], joined["candidate"], strict=True)]
    _, once = np.unique(keys, return_index=True)
    once.sort()
    return replace(first, columns={name: values[once] for name, values in joined.items()})


@dataclass(frozen=True)
class Scoring:
    """How the pairs of a table are scored, shard by shard."""

    source: Source | None
    """How a worker opens the model; None: it stays in this process."""
    reader: Reader | None
    """An open one, for work in this process; None: workers open their own."""
    span: Span
    """With its sigma set."""
    order: str
    """Which of a pair stands first: candidate or anchor."""
    key: str
    """Fingerprint of the table; parts of another one are refused."""

    def fill(
        self,
        folder: Path,
        candidates: Sequence[Candidate],
        chunks: Mapping[str, Passage],
        cosines: Sequence[float] | None,
        **options: Any,
    ) -> Path:
        """Score all pairs into Parquet parts in the folder; a job that was killed goes on. Returns the folder of the parts.

        Args:
            folder: of the run.
            candidates: the pairs.
            chunks: id -> chunk.
            cosines: of the pairs, by an encoder; None: without.
            **options: of `map_shards`.
        """
        seconds = dict.fromkeys(self._second(pair) for pair in candidates)
        rows = ({"id": name, "text": chunks[name].text} for name in seconds)
        map_shards(AloneStep(self.source, self.reader), rows, folder / "alone", settings=self.key, **options)
        alone = {raw["id"]: raw["alone"] for _, raw in records.read_raw(folder / "alone")}
        groups: dict[str, list[int]] = {}
        for i, pair in enumerate(candidates):
            groups.setdefault(self._first(pair), []).append(i)

        def shards() -> Iterator[dict[str, Any]]:
            for first, places in groups.items():
                pairs = []
                for i in places:
                    second = self._second(candidates[i])
                    pairs.append(
                        {**asdict(candidates[i]), "text": chunks[second].text, "alone": alone[second]}
                    )
                    if cosines is not None:
                        pairs[-1]["cosine"] = float(cosines[i])
                yield {"text": chunks[first].text, "pairs": pairs}

        sink = folder / PARTS
        step = ScoreStep(self.source, self.span, self.reader)
        map_shards(step, shards(), sink, settings=self.key, **options)
        return sink

    def _first(self, pair: Candidate) -> str:
        return pair.candidate if self.order == "candidate" else pair.anchor

    def _second(self, pair: Candidate) -> str:
        return pair.anchor if self.order == "candidate" else pair.candidate


def cosines_of(
    candidates: Sequence[Candidate], chunks: Sequence[Passage], vectors: NDArray[np.float32] | None
) -> list[float] | None:
    """The cosine of each pair; None without vectors."""
    if vectors is None:
        return None
    at = {passage.id: i for i, passage in enumerate(chunks)}
    left, right = ([at[getattr(p, name)] for p in candidates] for name in ("anchor", "candidate"))
    cosines: list[float] = np.einsum("nd,nd->n", vectors[left], vectors[right]).tolist()
    return cosines
