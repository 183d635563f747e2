"""Approximate search in a folder: a graph (HNSW of FAISS), rows that are gone marked in it, `compact` to build it anew."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gnomon.core.files import write_json
from gnomon.core.retrieval.hits import Hit, Where, conditions
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
    slack,
)
from gnomon.core.retrieval.stores.folder import described, mask_of, search_rows, table_of
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.lazy import optional

LINKS, EF_BUILD, EF = 32, 200, 100
"""Neighbours a row is linked with, and the candidates kept while building and, at least, while searching."""


class Approximate:
    """An index of vectors with a graph, reference "faiss:FOLDER".

    A graph cannot lose rows: removed ones are marked and stay in the files until `compact`. Handles of before see the old rows.
    """

    approximates = True

    def __init__(self, generations: Generations, at: Path):
        self._faiss = optional("faiss", "faiss-cpu", "faiss")
        self._generations = generations
        about = described(at, "faiss")
        self.fingerprint: str = about["fingerprint"]
        """Of the encoder that made the vectors."""
        self.kinds: dict[str, str] = about["kinds"]
        """Column -> kind of its values."""
        self._longest: float = about["longest"]
        self._at = at
        self._graph: Any = self._faiss.read_index(str(at / "graph.faiss"))
        self._rows: pa.Table = pq.read_table(at / "rows.parquet")
        """In the order of the graph, the dead among them."""
        self._names: list[str] = self._rows.column("id").to_pylist()
        self._alive = self._rows.column("alive").to_numpy(zero_copy_only=False)

    def __len__(self) -> int:
        return int(self._alive.sum())

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        return sorted(self._names[i] for i in np.flatnonzero(self._alive))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._graph.d)

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return list(self.kinds)

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
        approximate: bool = True,
    ) -> Approximate:
        """A new index; arguments and errors as in `build_index`. It is always approximate."""
        faiss = optional("faiss", "faiss-cpu", "faiss")
        generations, rows = Generations(Path(reference.partition(":")[2])), checked(ids, vectors, meta)
        graph = _graph_of(faiss, rows.vectors)
        about = {"fingerprint": fingerprint, "kinds": rows.kinds, "longest": rows.longest}
        with generations.writing(anew=anew) as at:
            faiss.write_index(graph, str(at / "graph.faiss"))
            _write(at, _alive(table_of(rows)), about)
        return cls.open(reference)

    @classmethod
    def open(cls, reference: str, *, fingerprint: str | None = None) -> Approximate:
        """The index in a folder; errors as in `open_index`."""
        generations = Generations(Path(reference.partition(":")[2]))
        index = generations.read(lambda at: cls(generations, at))
        check_fingerprint(generations.folder, index.fingerprint, fingerprint)
        return index

    def _opened(self) -> Approximate:
        """The newest generation."""
        return self._generations.read(lambda at: Approximate(self._generations, at))

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Approximate:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        rows = checked(ids, vectors, meta)
        with self._generations.writing(anew=True) as at:
            newest = self._opened()
            check_fingerprint(self._generations.folder, newest.fingerprint, self.fingerprint)
            check_fingerprint(self._generations.folder, newest.fingerprint, fingerprint)
            check_length(newest.dim, rows.vectors, "these have")
            kinds = joined_kinds(newest.kinds, rows.kinds)
            newest._graph.add(rows.vectors)
            self._faiss.write_index(newest._graph, str(at / "graph.faiss"))
            both = [newest._without(ids), _alive(table_of(rows))]
            longest = max(newest._longest, rows.longest)
            about = {"fingerprint": fingerprint, "kinds": kinds, "longest": longest}
            _write(at, pa.concat_tables(both, promote_options="permissive"), about)
        return self._opened()

    def remove(self, ids: Sequence[str]) -> Approximate:
        """The index without some rows, which are marked and no longer found.

        Raises:
            BadInput: it has no such row.
        """
        with self._generations.writing(anew=True) as at:
            newest = self._opened()
            check_has(ids, newest.ids)
            os.link(newest._at / "graph.faiss", at / "graph.faiss")  # the same graph: nothing to copy
            _write(at, newest._without(ids), newest._about())
        return self._opened()

    def compact(self) -> Approximate:
        """The index built anew of the rows that are left: the files shrink, and the graph holds no dead."""
        with self._generations.writing(anew=True) as at:
            newest = self._opened()
            alive = np.flatnonzero(newest._alive)
            graph = _graph_of(self._faiss, newest._vectors()[alive])
            self._faiss.write_index(graph, str(at / "graph.faiss"))
            _write(at, newest._rows.take(alive), newest._about())
        return self._opened()

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        if not conditions(where, self.kinds):
            return None
        return sorted(self._names[i] for i in self._places(where))

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query, some of which the graph may miss.

        A filter makes the search exact, over the rows that it leaves: in the graph they may not be linked with each other. So
        does a graph that returns fewer rows than there are, and a tie that may go on beyond what it returns.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length or not finite, or a column is not there.
        """
        queries = checked_queries(queries, k, self.dim)
        if conditions(where, self.kinds) or k >= len(self):
            return self._exact(queries, k, where)
        options = {"efSearch": max(EF, 2 * k, k + MORE)}
        if not self._alive.all():
            bits = np.packbits(self._alive, bitorder="little")
            options["sel"] = self._faiss.IDSelectorBitmap(bits)
        parameters = self._faiss.SearchParametersHNSW(**options)
        wanted = min(len(self), k + MORE)
        vectors, hits = self._vectors(), []
        all_scores, all_near = self._graph.search(queries, wanted, params=parameters)
        for query, scores, near in zip(queries, all_scores, all_near, strict=True):
            near = near[near >= 0]
            more_may_tie = scores[-1] >= scores[k - 1] - slack(query, self._longest)
            if len(near) < k or (len(near) < len(self) and more_may_tie):
                hits += self._exact(query[None], k, where)
            else:
                hits.append(exact([self._names[i] for i in near], vectors[near], query, k))
        return hits

    def _exact(self, queries: Floats, k: int, where: Where | None) -> list[list[Hit]]:
        rows = self._places(where)
        return search_rows([self._names[i] for i in rows], self._vectors()[rows], queries, k, self._longest)

    def _places(self, where: Where | None) -> Any:
        return np.flatnonzero(self._alive & mask_of(self._rows, conditions(where, self.kinds)))

    def _vectors(self) -> Floats:
        """[N, D] of all rows, as the graph holds them; not a copy."""
        flat, count = self._faiss.downcast_index(self._graph.storage), self._graph.ntotal
        if not count:
            return np.zeros((0, self.dim), np.float32)
        vectors: Floats = self._faiss.rev_swig_ptr(flat.get_xb(), count * self.dim).reshape(count, self.dim)
        return vectors

    def _without(self, ids: Sequence[str]) -> pa.Table:
        gone = set(ids)
        alive = [bool(a) and name not in gone for a, name in zip(self._alive, self._names, strict=True)]
        return _alive(self._rows.drop_columns("alive"), alive)

    def _about(self) -> dict[str, Any]:
        return {"fingerprint": self.fingerprint, "kinds": self.kinds, "longest": self._longest}


def _graph_of(faiss: Any, vectors: Floats) -> Any:
    """The graph of [N, D] vectors."""
    graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = EF_BUILD
    graph.add(vectors)
    return graph


def _alive(rows: pa.Table, alive: Sequence[bool] | None = None) -> pa.Table:
    return rows.append_column("alive", pa.array(alive or [True] * len(rows), pa.bool_()))


def _write(at: Path, rows: pa.Table, about: dict[str, Any]) -> None:
    pq.write_table(rows, at / "rows.parquet")
    write_json(at / "index.json", {"store": "faiss", **about})
