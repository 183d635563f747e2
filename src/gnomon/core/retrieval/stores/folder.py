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
from gnomon.core.retrieval.hits import Condition, Hit, Where, conditions
from gnomon.core.retrieval.stores.contract import (
    Floats,
    Rows,
    check_fingerprint,
    check_has,
    check_length,
    checked,
    checked_queries,
    exact,
    joined_kinds,
    longest_of,
    slack,
)
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.errors import BadInput

BLOCK = 1 << 25
"""Scores that exist at once."""
TYPES = {"bool": pa.bool_(), "int": pa.int64(), "float": pa.float64(), "str": pa.string(), "null": pa.null()}
"""Kind of a column's values -> their type in Arrow."""


class Vectors:
    """An index of vectors. `build` makes one, `open` opens it; searching never changes it.

    Rows lie in the order of their ids, so that an index does not depend on the order in which they came: removing and adding them
    again gives the same files.
    """

    def __init__(self, generations: Generations, at: Path):
        self._generations = generations
        about = described(at, "vectors")
        self.fingerprint: str = about["fingerprint"]
        """Of the encoder that made the vectors."""
        self._vectors: Floats = np.load(at / "vectors.npy", mmap_mode="r")
        self._rows: pa.Table = pq.read_table(at / "rows.parquet")
        self.kinds: dict[str, str] = about["kinds"]
        """Column -> kind of its values."""
        self._longest: float = about["longest"]
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
        return list(self.kinds)

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
        rows = checked(ids, vectors, meta)
        with generations.writing(anew=anew) as at:
            _write(at, table_of(rows), rows.vectors, rows.kinds, fingerprint)
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
        rows = checked(ids, vectors, meta)
        with self._generations.writing(anew=True) as at:
            # Another writer may have come between: what is added to is what is there now.
            newest = self._generations.read(lambda now: Vectors(self._generations, now))
            check_fingerprint(self._generations.folder, newest.fingerprint, fingerprint)
            if len(newest):
                check_length(newest.dim, rows.vectors, "these have")
            kept, kinds = newest._kept(set(ids)), joined_kinds(newest.kinds, rows.kinds)
            both = pa.concat_tables([newest._rows.take(kept), table_of(rows)], promote_options="permissive")
            old = newest._vectors[kept] if len(kept) else rows.vectors[:0]
            _write(at, both, np.concatenate([old, rows.vectors]), kinds, newest.fingerprint)
        return Vectors.open(self._generations.folder)

    def remove(self, ids: Sequence[str]) -> Vectors:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        with self._generations.writing(anew=True) as at:
            newest = self._generations.read(lambda now: Vectors(self._generations, now))
            check_has(ids, newest.ids)
            kept = newest._kept(set(ids))
            _write(at, newest._rows.take(kept), newest._vectors[kept], newest.kinds, newest.fingerprint)
        return Vectors.open(self._generations.folder)

    def _kept(self, without: set[str]) -> NDArray[np.int64]:
        return np.array([i for i, name in enumerate(self.ids) if name not in without], dtype=np.int64)

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        Scores are exact, see `gnomon.core.retrieval.stores.contract.exact`.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length or not finite, or a column is not there.
            BadConfig: k is below 1, or the filter is none.
        """
        queries = checked_queries(queries, k, self.dim)
        rows = self._places(where)
        if rows is None:
            return search_rows(self.ids, self._vectors, queries, k, self._longest)
        return search_rows([self.ids[i] for i in rows], self._vectors[rows], queries, k, self._longest)

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        places = self._places(where)
        return None if places is None else [self.ids[i] for i in places]

    def _places(self, where: Where | None) -> NDArray[np.int64] | None:
        wanted = conditions(where, self.kinds)
        return None if not wanted else np.flatnonzero(mask_of(self._rows, wanted))


def described(at: Path, store: str) -> dict[str, Any]:
    """What a generation says of itself.

    Raises:
        BadInput: it is an index of another kind.
    """
    about: dict[str, Any] = json.loads((at / "index.json").read_text("utf-8"))
    if about.get("store") != store:
        held = about.get("store", "something else")
        raise BadInput(
            f'"{at.parent}" holds {held}, and no index of the kind "{store}". Name it by its own reference.'
        )
    return about


def search_rows(
    ids: Sequence[str], vectors: Floats, queries: Floats, k: int, longest: float
) -> list[list[Hit]]:
    """The k rows with the largest inner product for each query, by one matrix product.

    Args:
        ids: of the rows.
        vectors: [N, D].
        queries: [Q, D].
        k: hits a query.
        longest: length of the longest vector, or more.
    """
    hits: list[list[Hit]] = []
    step = max(1, BLOCK // max(1, len(vectors)))
    for first in range(0, len(queries), step):
        part = queries[first : first + step]
        for query, scores in zip(part, part @ vectors.T, strict=True):
            near = _candidates(scores, k, slack(query, longest))
            hits.append(exact([ids[i] for i in near], vectors[near], query, k))
    return hits


def _candidates(scores: Floats, k: int, slack: float) -> NDArray[np.int64]:
    """Places of all rows that may be among the k best once their scores are summed exactly."""
    if k >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return np.flatnonzero(scores >= least - slack)


def mask_of(rows: pa.Table, wanted: Sequence[Condition]) -> NDArray[np.bool_]:
    """Which rows meet all conditions."""
    compare = {"gt": pc.greater, "gte": pc.greater_equal, "lt": pc.less, "lte": pc.less_equal}
    mask = np.ones(len(rows), dtype=bool)
    for condition in wanted:
        column = rows.column(f"meta.{condition.column}")
        is_null = np.asarray(pc.is_null(column))
        if condition.kind == "null":
            mask &= condition.or_null
            continue
        if condition.among is not None:
            part = np.asarray(pc.is_in(column, pa.array(condition.among, column.type)))
            mask &= part | is_null if condition.or_null else part
        for name, value in condition.bounds.items():
            part = compare[name](column, pa.scalar(value, column.type))
            mask &= np.asarray(pc.fill_null(part, False))
    return mask


def table_of(rows: Rows) -> pa.Table:
    """Ids and columns, these as `meta.NAME`."""
    table = {"id": pa.array(rows.ids, pa.string())}
    for name, kind in rows.kinds.items():
        table[f"meta.{name}"] = pa.array([row.get(name) for row in rows.meta], TYPES[kind])
    return pa.table(table)


def _write(at: Path, rows: pa.Table, vectors: Floats, kinds: dict[str, str], fingerprint: str) -> None:
    order = pc.sort_indices(rows, sort_keys=[("id", "ascending")])
    columns = ["id", *(f"meta.{name}" for name in kinds)]  # in one order, whichever came first
    pq.write_table(rows.select(columns).take(order), at / "rows.parquet")
    np.save(at / "vectors.npy", vectors[order.to_numpy()])
    write_json(
        at / "index.json",
        {
            "store": "vectors",
            "fingerprint": fingerprint,
            "rows": len(rows),
            "dim": int(vectors.shape[1]),
            "kinds": kinds,
            "longest": longest_of(vectors),
        },
    )
