"""Vectors in LanceDB: versioned columnar files in a folder; filters are expressions of the client, never text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import reduce
from operator import and_, or_
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from gnomon.core.retrieval.hits import Condition, Hit, Where, conditions
from gnomon.core.retrieval.stores.contract import (
    MORE,
    Floats,
    Meta,
    check_fingerprint,
    check_has,
    check_length,
    checked,
    checked_queries,
    exact,
    joined_kinds,
    longest_of,
    slack,
    split_reference,
)
from gnomon.core.retrieval.stores.folder import TYPES
from gnomon.core.retrieval.stores.generations import locked
from gnomon.errors import BadConfig, BadInput
from gnomon.lazy import optional

KEPT = timedelta(minutes=10)
"""How long a version stays for those who are reading it."""
_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
}


class Lance:
    """An index of vectors in LanceDB, reference "lance:FOLDER#NAME". It always shows the newest rows.

    Every change writes a new version of the whole table, as one step; those older than ten minutes are swept away. Columns are
    numbered (`c0`), and beside each a truth value (`h0`) says whether a row has one.
    """

    def __init__(self, reference: str):
        self._reference = reference
        address, self._name = split_reference(reference)
        self._folder = Path(address.partition(":")[2])
        self._lancedb = optional("lancedb", "lancedb", "lance")
        self._expressions = optional("lancedb.expr", "lancedb", "lance")
        if not self._folder.is_dir():
            raise BadInput(f'There is no index in "{reference}". Build one first.')
        self._database = self._lancedb.connect(str(self._folder))
        self.fingerprint: str = self._current()[1]["fingerprint"]
        """Of the encoder that made the vectors."""

    @classmethod
    def build(
        cls,
        reference: str,
        ids: Sequence[str],
        vectors: Floats,
        *,
        fingerprint: str,
        meta: Meta | None = None,
        anew: bool = False,
    ) -> Lance:
        """A new index; arguments and errors as in `build_index`."""
        rows = checked(ids, vectors, meta)
        address, name = split_reference(reference)
        folder = Path(address.partition(":")[2])
        database = optional("lancedb", "lancedb", "lance").connect(str(folder))
        about = {"fingerprint": fingerprint, "kinds": rows.kinds}
        with locked(folder / f".{name}.lock", reference):
            if (folder / f"{name}.lance").exists() and not anew:
                raise BadConfig(f'"{reference}" holds an index already. Open it, or build it anew.')
            table = _table(rows.ids, rows.vectors, rows.meta, about)
            database.create_table(name, table, mode="overwrite")
        return cls(reference)

    @classmethod
    def open(cls, reference: str, *, fingerprint: str | None = None) -> Lance:
        """The index behind a reference; errors as in `open_index`."""
        index = cls(reference)
        check_fingerprint(reference, index.fingerprint, fingerprint)
        return index

    def _current(self) -> tuple[Any, dict[str, Any]]:
        """The newest version of the table, and its description."""
        try:
            table = self._database.open_table(self._name)
        except (FileNotFoundError, ValueError):  # which of them depends on LanceDB's version
            raise BadInput(f'There is no index in "{self._reference}". Build one first.') from None
        about: dict[str, Any] = json.loads(table.schema.metadata[b"gnomon"])
        if hasattr(self, "fingerprint"):
            check_fingerprint(self._reference, about["fingerprint"], self.fingerprint)
        return table, about

    def __len__(self) -> int:
        return int(self._current()[0].count_rows())

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        return sorted(self._current()[0].to_arrow().column("id").to_pylist())

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._current()[1]["dim"])

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return sorted(self._current()[1]["kinds"])

    @contextmanager
    def _changing(self) -> Iterator[dict[str, tuple[Any, dict[str, Any]]]]:
        """The rows as they are, id -> vector and columns, to be changed and written as the next version."""
        with locked(self._folder / f".{self._name}.lock", self._reference):
            table, about = self._current()
            rows = table.to_arrow()
            vectors, columns = _vectors(rows), dict.fromkeys(about["kinds"])
            for i, column in enumerate(columns):
                columns[column] = rows.column(f"c{i}").to_pylist()
            meta = [
                {column: values[j] for column, values in columns.items() if values[j] is not None}  # type: ignore[index]
                for j in range(len(rows))
            ]
            names = rows.column("id").to_pylist()
            self._about = about
            changed = dict(zip(names, zip(vectors, meta, strict=True), strict=True))
            yield changed
            left = sorted(changed)
            stacked = np.array([changed[name][0] for name in left], np.float32).reshape(-1, about["dim"])
            new = _table(left, stacked, [changed[name][1] for name in left], about)
            written = self._database.create_table(self._name, new, mode="overwrite")
            written.optimize(cleanup_older_than=KEPT)

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Lance:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        rows = checked(ids, vectors, meta)
        with self._changing() as changed:
            check_fingerprint(self._reference, self._about["fingerprint"], fingerprint)
            check_length(self._about["dim"], rows.vectors, "these have")
            self._about["kinds"] = joined_kinds(self._about["kinds"], rows.kinds)
            changed.update(zip(rows.ids, zip(rows.vectors, rows.meta, strict=True), strict=True))
        return self

    def remove(self, ids: Sequence[str]) -> Lance:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        with self._changing() as changed:
            check_has(ids, changed)
            for name in set(ids):
                del changed[name]
        return self

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        table, about = self._current()
        wanted = conditions(where, about["kinds"])
        if not wanted:
            return None
        rows = table.search().where(self._filter(wanted, list(about["kinds"]))).select(["id"])
        return sorted(rows.limit(max(1, table.count_rows())).to_arrow().column("id").to_pylist())

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length or not finite, or a column is not there.
        """
        table, about = self._current()
        queries = checked_queries(queries, k, about["dim"])
        wanted = conditions(where, about["kinds"])
        count = table.count_rows()
        hits: list[list[Hit]] = []
        for query in queries:
            request = table.search(query, vector_column_name="vector").distance_type("dot")
            request = request.bypass_vector_index().select(["id", "vector", "_distance"])
            if wanted:
                request = request.where(self._filter(wanted, list(about["kinds"])), prefilter=True)
            if not count:
                hits.append([])
                continue
            near = request.limit(min(count, k + MORE)).to_arrow()
            if len(near) == k + MORE:
                distances = near.column("_distance").to_numpy()
                # A distance is 1 - product, rounded once more.
                rounding = 2.0**-22 * (1 + float(np.linalg.norm(query)) * about["longest"])
                furthest = distances[k - 1] + slack(query, about["longest"]) + rounding
                if distances[-1] <= furthest:  # more rows may tie than were fetched
                    near = request.limit(count).to_arrow()
            hits.append(exact(near.column("id").to_pylist(), _vectors(near), query, k) if len(near) else [])
        return hits

    def _filter(self, wanted: Sequence[Condition], columns: list[str]) -> Any:
        return reduce(and_, (self._condition(each, columns.index(each.column)) for each in wanted))

    def _condition(self, wanted: Condition, number: int) -> Any:
        col, lit = self._expressions.col, self._expressions.lit
        column, has = col(f"c{number}"), col(f"h{number}")
        if wanted.among is not None:
            any_of = [has & column.isin(list(wanted.among))] if wanted.among and wanted.kind != "null" else []
            if wanted.or_null:
                any_of.append(has == lit(False))
            return reduce(or_, any_of) if any_of else (has & (has == lit(False)))  # nothing
        bounds = wanted.bounds.items() if wanted.kind != "null" else ()
        return reduce(and_, [has, *(_COMPARE[name](column, lit(value)) for name, value in bounds)])


def _vectors(rows: pa.Table) -> Floats:
    """[N, D] of the column `vector`."""
    column = rows.column("vector").combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: Floats = flat.reshape(len(rows), -1) if len(rows) else np.zeros((0, 1), np.float32)
    return vectors


def _table(
    ids: Sequence[str], vectors: Floats, meta: Sequence[Mapping[str, Any]], about: dict[str, Any]
) -> pa.Table:
    size = vectors.shape[1]
    arrays = {
        "id": pa.array(list(ids), pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), size),
    }
    for i, (column, kind) in enumerate(about["kinds"].items()):
        values = [row.get(column) for row in meta]
        arrays[f"c{i}"] = pa.array(values, pa.bool_() if kind == "null" else TYPES[kind])
        arrays[f"h{i}"] = pa.array([value is not None for value in values], pa.bool_())
    described = json.dumps({**about, "dim": size, "longest": longest_of(vectors)})
    return pa.table(arrays).replace_schema_metadata({"gnomon": described})
