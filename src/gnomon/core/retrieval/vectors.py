"""Vectors in a folder: exact search by inner product, ids of the caller's, filters before the search."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.retrieval.generations import Generations
from gnomon.core.retrieval.hits import Hit, Where, conditions, ranked
from gnomon.errors import BadInput, ModelMismatch

Floats = NDArray[np.float32]

BLOCK = 1 << 25
"""Scores that exist at once."""
SLACK = 1e-5
"""By how much two ways to sum an inner product of unit vectors may differ in float32."""


class Vectors:
    """An index of vectors. `build` makes one, `open` opens it; searching never changes it.

    Rows lie in the order of their ids, so that an index does not depend on the order in which they came: removing and adding them
    again gives the same files.
    """

    def __init__(self, generations: Generations, at: Path):
        self._generations = generations
        about = json.loads((at / "index.json").read_text("utf-8"))
        self.fingerprint: str = about["fingerprint"]
        """Of the encoder that made the vectors."""
        self._vectors: Floats = np.load(at / "vectors.npy", mmap_mode="r")
        self._rows: pa.Table = pq.read_table(at / "rows.parquet")
        self.ids: list[str] = self._rows.column("id").to_pylist()
        """In ascending order."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return [name.removeprefix("meta.") for name in self._rows.column_names if name.startswith("meta.")]

    @classmethod
    def build(
        cls,
        folder: str | Path,
        ids: Sequence[str],
        vectors: Floats,
        *,
        fingerprint: str,
        meta: Sequence[Mapping[str, Any]] | None = None,
        anew: bool = False,
    ) -> Vectors:
        """A new index.

        Args:
            folder: where it is written.
            ids: names, all different.
            vectors: [N, D], as the encoder gave them.
            fingerprint: of the encoder, see `gnomon.core.retrieval.encoders`.
            meta: per row what it can be filtered by; None: nothing.
            anew: replace the index that is there.

        Raises:
            BadInput: ids are not all different, or there are not as many rows of each.
            BadConfig: the folder holds something else, an index already, or another process writes it.
        """
        generations = Generations(Path(folder))
        rows = _table(ids, meta)
        with generations.writing(anew=anew) as at:
            _write(at, rows, _checked(vectors, len(ids)), fingerprint)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path, *, fingerprint: str | None = None) -> Vectors:
        """The index in a folder.

        Args:
            folder: where it lies.
            fingerprint: of the encoder that will ask; None: not checked.

        Raises:
            BadInput: there is none.
            ModelMismatch: another encoder made it.
        """
        generations = Generations(Path(folder))
        index = generations.read(lambda at: cls(generations, at))
        check_fingerprint(folder, index.fingerprint, fingerprint)
        return index

    def add(
        self,
        ids: Sequence[str],
        vectors: Floats,
        *,
        fingerprint: str,
        meta: Sequence[Mapping[str, Any]] | None = None,
    ) -> Vectors:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        check_fingerprint(self._generations.folder, self.fingerprint, fingerprint)
        new, rows = _checked(vectors, len(ids)), _table(ids, meta)
        if len(self) and new.shape[1] != self.dim:
            raise BadInput(f"The index has vectors of length {self.dim}; these have {new.shape[1]}.")
        kept = self._kept(set(ids))
        with self._generations.writing(anew=True) as at:
            both = pa.concat_tables([self._rows.take(kept), rows], promote_options="permissive")
            _write(at, both, np.concatenate([self._vectors[kept], new]), self.fingerprint)
        return Vectors.open(self._generations.folder)

    def remove(self, ids: Sequence[str]) -> Vectors:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        unknown = set(ids) - set(self.ids)
        if unknown:
            raise BadInput(f'The index has no "{min(unknown)}".')
        kept = self._kept(set(ids))
        with self._generations.writing(anew=True) as at:
            _write(at, self._rows.take(kept), self._vectors[kept], self.fingerprint)
        return Vectors.open(self._generations.folder)

    def _kept(self, without: set[str]) -> NDArray[np.int64]:
        return np.array([i for i, name in enumerate(self.ids) if name not in without], dtype=np.int64)

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        A score is summed in float64 and rounded to float32: it depends neither on other queries nor on where a row lies, so equal
        vectors have equal scores and stand in the order of their ids.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length, or a column is not there.
        """
        queries = np.atleast_2d(np.asarray(queries, np.float32))
        if not len(self):
            return [[] for _ in queries]
        if queries.shape[1] != self.dim:
            raise BadInput(f"The index has vectors of length {self.dim}; queries have {queries.shape[1]}.")
        rows = self.matching(where)
        vectors = self._vectors if rows is None else self._vectors[rows]
        hits: list[list[Hit]] = []
        step = max(1, BLOCK // max(1, len(vectors)))
        for first in range(0, len(queries), step):
            part = queries[first : first + step]
            for query, scores in zip(part, part @ vectors.T, strict=True):
                near = _candidates(scores, k, SLACK * float(np.linalg.norm(query)))
                exact = (vectors[near].astype(np.float64) @ query.astype(np.float64)).astype(np.float32)
                names = near if rows is None else rows[near]
                pairs = zip((self.ids[i] for i in names), exact.tolist(), strict=True)
                hits.append(ranked(pairs, k, source="dense"))
        return hits

    def matching(self, where: Where | None) -> NDArray[np.int64] | None:
        """Places of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        wanted = conditions(where, self.columns)
        return None if not wanted else np.flatnonzero(_mask(self._rows, wanted))


def check_fingerprint(where: str | Path, built_with: str, asking: str | None) -> None:
    """Refuse to mix vectors of two encoders.

    Raises:
        ModelMismatch: `asking` is not the one that an index was built with.
    """
    if asking is not None and asking != built_with:
        raise ModelMismatch(
            f'The index "{where}" was built with the encoder {built_with}, and {asking} is asking. Vectors of two encoders cannot '
            "be compared: name the same encoder, or build the index anew."
        )


def _candidates(scores: Floats, k: int, slack: float) -> NDArray[np.int64]:
    """Places of all rows that may be among the k best once their scores are summed exactly."""
    if k >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least - slack)


def _mask(rows: pa.Table, wanted: Sequence[Any]) -> NDArray[np.bool_]:
    compare = {"gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less, "lte": pc.less_equal}
    mask = np.ones(len(rows), dtype=bool)
    for condition in wanted:
        column = rows.column(f"meta.{condition.column}")
        try:
            parts = [compare[name](column, pa.scalar(value)) for name, value in condition.bounds.items()]
            if condition.among is not None:
                parts.append(pc.is_in(column, pa.array(condition.among).cast(column.type)))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise BadInput(
                f'Column "{condition.column}" holds {column.type} and cannot be compared so: {error}'
            ) from error
        for part in parts:
            mask &= np.asarray(pc.fill_null(part, False))
    return mask


def _table(ids: Sequence[str], meta: Sequence[Mapping[str, Any]] | None) -> pa.Table:
    if len(set(ids)) < len(ids):
        raise BadInput("Two rows have the same id.")
    meta = [{}] * len(ids) if meta is None else meta
    if len(meta) != len(ids):
        raise BadInput(f"There are {len(ids)} ids and {len(meta)} rows of meta.")
    columns = sorted({name for row in meta for name in row})
    table = {"id": pa.array(list(ids), pa.string())}
    for name in columns:
        try:
            table[f"meta.{name}"] = pa.array([row.get(name) for row in meta])
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise BadInput(f'Column "{name}" holds values of different kinds: {error}') from error
    return pa.table(table)


def _checked(vectors: Floats, count: int) -> Floats:
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != count:
        raise BadInput(f"There are {count} ids and vectors of shape {vectors.shape}; wanted [{count}, D].")
    if not np.isfinite(vectors).all():
        raise BadInput("A vector holds a number that is not finite.")
    return vectors


def _write(at: Path, rows: pa.Table, vectors: Floats, fingerprint: str) -> None:
    order = pc.sort_indices(rows, sort_keys=[("id", "ascending")])
    pq.write_table(rows.take(order), at / "rows.parquet")
    np.save(at / "vectors.npy", vectors[order.to_numpy()])
    write_json(
        at / "index.json", {"fingerprint": fingerprint, "rows": len(rows), "dim": int(vectors.shape[1])}
    )
