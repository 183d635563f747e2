"""A graph in a folder: two tables in Parquet, and adjacency in NumPy."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomon.core.retrieval.graph.contract import (
    Edge,
    Graph,
    Has,
    Node,
    Statement,
    Top,
    checked_rows,
    key_of,
    whole,
)
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.errors import BadInput

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

_COMPARE = {"gt": np.greater, "gte": np.greater_equal, "lt": np.less, "lte": np.less_equal}


class FolderGraph(Graph):
    """A graph read from a folder."""

    def __init__(self, folder: Path, statements: Sequence[Statement], edges: Sequence[Edge]):
        self.folder = folder
        self._statements, self._edges = list(statements), list(edges)

    @classmethod
    def build(
        cls,
        folder: str | Path,
        statements: Iterable[Statement],
        edges: Iterable[Edge],
        *,
        anew: bool = False,
    ) -> FolderGraph:
        """A new graph.

        Raises:
            BadInput: rows cannot be stored, see `checked_rows`.
            BadConfig: the folder holds something else or a graph already, or another process writes it.
        """
        nodes, rows = checked_rows(statements, edges)
        with Generations(Path(folder)).writing(anew=anew) as at:
            pq.write_table(_nodes_table(nodes), at / "nodes.parquet")
            pq.write_table(_edges_table(rows), at / "edges.parquet")
        return cls(Path(folder), nodes, rows)

    @classmethod
    def open(cls, folder: str | Path) -> FolderGraph:
        """The graph in a folder.

        Raises:
            BadInput: there is none.
        """

        def opened(at: Path) -> FolderGraph:
            nodes = pq.read_table(at / "nodes.parquet").to_pylist()
            rows = pq.read_table(at / "edges.parquet").to_pylist()
            statements = [
                Statement(Node(r["type"], r["id"]), r["row"], json.loads(r["attrs"])) for r in nodes
            ]
            return cls(Path(folder), statements, [edge_of(r) for r in rows])

        return Generations(Path(folder)).read(opened)

    @cached_property
    def _nodes(self) -> list[Node]:
        """All that exist, in order: ties are then broken by place."""
        return sorted({s.node for s in self._statements})

    @cached_property
    def _number(self) -> Mapping[Node, int]:
        return {node: i for i, node in enumerate(self._nodes)}

    @cached_property
    def _span(self) -> Mapping[str, slice]:
        """Type -> places of its nodes."""
        names, starts, counts = np.unique(
            np.array([n.type for n in self._nodes], dtype=object).astype(str),
            return_index=True,
            return_counts=True,
        )
        return {str(t): slice(int(a), int(a + c)) for t, a, c in zip(names, starts, counts, strict=True)}

    @cached_property
    def _wholes(self) -> NDArray[np.float64]:
        values = [whole(node.id) for node in self._nodes]
        return np.array([np.nan if v is None else float(v) for v in values])

    @cached_property
    def _active(self) -> list[Edge]:
        return [e for e in self._edges if e.head in self._number and e.tail in self._number]

    @cached_property
    def _pairs(self) -> Mapping[str, tuple[Ints, Ints]]:
        """Relation -> its pairs of nodes, each once."""
        pairs: dict[str, set[tuple[int, int]]] = {edge.relation: set() for edge in self._edges}
        for edge in self._active:
            pairs[edge.relation].add((self._number[edge.head], self._number[edge.tail]))
        columns = {r: np.array(sorted(p), np.int64).reshape(-1, 2) for r, p in pairs.items()}
        return {r: (c[:, 0].copy(), c[:, 1].copy()) for r, c in columns.items()}

    @cached_property
    def _at(self) -> Mapping[Node, list[int]]:
        """Node -> places of the edges that touch it."""
        touching: dict[Node, list[int]] = {}
        for i, edge in enumerate(self._active):
            for node in {edge.head, edge.tail}:
                touching.setdefault(node, []).append(i)
        return touching

    def types(self) -> dict[str, int]:
        """Type -> number of its nodes."""
        return {name: span.stop - span.start for name, span in self._span.items()}

    def relations(self) -> dict[str, int]:
        """Relation -> number of pairs of nodes that it joins."""
        return {name: len(self._pairs[name][0]) for name in sorted(self._pairs)}

    def statements(self) -> Iterator[Statement]:
        """All rows that state nodes."""
        return iter(self._statements)

    def edges(self) -> Iterator[Edge]:
        """All rows that state edges."""
        return iter(self._edges)

    def attrs(self, node: Node) -> dict[str, Any]:
        """What is stated about a node, by the row with the smallest id that says anything."""
        return next((dict(s.attrs) for s in self._statements_of.get(node, []) if s.attrs), {})

    @cached_property
    def _statements_of(self) -> Mapping[Node, list[Statement]]:
        of: dict[Node, list[Statement]] = {}
        for statement in self._statements:
            of.setdefault(statement.node, []).append(statement)
        return of

    def _exists(self, node: Node) -> bool:
        return node in self._number

    def _other(self, has: Has) -> Mask | None:
        """Which nodes fit as the other end of an edge; None: all, which saves a look at each edge."""
        if has.to is None and not has.bounds and not has.where:
            return None
        mask = np.ones(len(self._nodes), bool)
        if has.to is not None:
            mask[:] = False
            if has.to in self._number:
                mask[self._number[has.to]] = True
        for name, value in has.bounds.items():
            mask &= _COMPARE[name](self._wholes, value)  # of what is no number, NaN: never
        for more in has.where:
            mask &= self._meeting(more)
        return mask

    def _ends(self, has: Has) -> Ints:
        """The near end of every pair whose far end fits."""
        heads, tails = self._pairs[has.relation]
        near, far = (heads, tails) if has.out else (tails, heads)
        mask = self._other(has)
        return near if mask is None else near[mask[far]]

    def _meeting(self, has: Has) -> Mask:
        mask = np.zeros(len(self._nodes), bool)
        mask[self._ends(has)] = True
        return ~mask if has.negated else mask

    def _selected(self, type: str, where: Sequence[Has]) -> list[str]:
        span = self._span[type]
        mask = np.ones(span.stop - span.start, bool)
        for has in where:
            mask &= self._meeting(has)[span]
        return [self._nodes[span.start + i].id for i in np.flatnonzero(mask)]

    def _degrees(self, type: str, over: Has, where: Sequence[Has], k: int) -> Top:
        span = self._span[type]
        counts = np.bincount(self._ends(over), minlength=len(self._nodes))[span]
        for has in where:
            counts = counts * self._meeting(has)[span]
        total = int(np.count_nonzero(counts))
        order = np.argsort(-counts, kind="stable")[: min(k, total)]
        return Top(tuple((self._nodes[span.start + int(i)], int(counts[i])) for i in order), total)

    def _touching(self, nodes: Collection[Node]) -> list[Edge]:
        return [self._active[i] for i in sorted({i for node in nodes for i in self._at.get(node, [])})]

    def add(self, statements: Iterable[Statement], edges: Iterable[Edge]) -> FolderGraph:
        """The graph with more rows, in a new generation; one that it has already is written over."""
        nodes, rows = checked_rows(statements, edges)
        fresh = {key_of(edge) for edge in rows}
        kept = [edge for edge in self._edges if key_of(edge) not in fresh]
        # Of two statements with one node and row the later is kept.
        return self.build(self.folder, [*self._statements, *nodes], [*kept, *rows], anew=True)

    def remove_document(self, row: str) -> FolderGraph:
        """The graph without what a row states.

        Raises:
            BadInput: the row states nothing.
        """
        statements = [s for s in self._statements if s.row != row]
        edges = [e for e in self._edges if e.row != row]
        if len(statements) + len(edges) == len(self._statements) + len(self._edges):
            raise BadInput(f'No row "{row}" states anything in "{self.folder}".')
        return self.build(self.folder, statements, edges, anew=True)


COLUMNS = ("relation", "head_type", "head", "tail_type", "tail", "row", "source", "weight")
"""Of the table of edges."""


def edge_of(row: Mapping[str, Any]) -> Edge:
    """An edge from a row of the table."""
    head, tail = Node(row["head_type"], row["head"]), Node(row["tail_type"], row["tail"])
    return Edge(head, row["relation"], tail, row["source"], row["row"], row["weight"])


def row_of(edge: Edge) -> tuple[Any, ...]:
    """The values of an edge in the order of `COLUMNS`."""
    return (edge.relation, *edge.head, *edge.tail, edge.row, edge.source, edge.weight)


def _edges_table(edges: Sequence[Edge]) -> pa.Table:
    columns = list(zip(*map(row_of, edges), strict=True)) or [()] * len(COLUMNS)
    types = [pa.string()] * (len(COLUMNS) - 1) + [pa.float64()]
    return pa.table(
        {name: pa.array(values, kind) for name, values, kind in zip(COLUMNS, columns, types, strict=True)}
    )


def _nodes_table(statements: Sequence[Statement]) -> pa.Table:
    rows = [(*s.node, s.row, json.dumps(dict(s.attrs), sort_keys=True)) for s in statements]
    columns = list(zip(*rows, strict=True)) or [()] * 4
    return pa.table(
        {n: pa.array(v, pa.string()) for n, v in zip(("type", "id", "row", "attrs"), columns, strict=True)}
    )
