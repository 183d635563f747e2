"""What every graph store keeps to: rows that state nodes and edges, typed questions, and answers that list what they counted.

A node exists as long as a row states it. An edge between two nodes answers only while both exist; until then it is kept, and
waits. So a document that is taken out and put back leaves the graph as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from gnomon.core.retrieval.hits import BOUNDS
from gnomon.core.retrieval.stores.contract import check_text
from gnomon.errors import BadConfig, BadInput, nearest


class Node(NamedTuple):
    """A node: two of one type and id are the same."""

    type: str
    id: str


@dataclass(frozen=True)
class Statement:
    """A row says that a node exists."""

    node: Node
    row: str
    """Id of the row (a document, as a rule) that says so."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """What it says about the node, as JSON can hold it. Of several rows the one with the smallest id is believed."""


@dataclass(frozen=True)
class Edge:
    """A row says that two nodes are related."""

    head: Node
    relation: str
    tail: Node
    source: str
    """Column or factor of the row that says so."""
    row: str
    """Id of the row."""
    weight: float = 1.0


@dataclass(frozen=True)
class Has:
    """A condition on a node: it has an edge to another that fits. Conditions nest, which makes questions of several hops.

    >>> since_2019 = Has("written_in_year", bounds={"gte": 2019})
    >>> Has("wrote", where=(since_2019,)).out
    True
    """

    relation: str
    to: Node | None = None
    """The other node; None: any."""
    out: bool = True
    """Whether the node is the head of the edge."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """gt, gte, lt, lte -> a number that the other node's id is compared with; one whose id is no whole number never fits."""
    where: Sequence[Has] = ()
    """What the other node must have."""
    negated: bool = False
    """It has no such edge."""


@dataclass(frozen=True)
class Counted:
    """A number, and what was counted."""

    nodes: tuple[Node, ...]
    """In ascending order of id."""

    @property
    def number(self) -> int:
        """How many."""
        return len(self.nodes)


@dataclass(frozen=True)
class Top:
    """The nodes with the most neighbours; `total` says how many have any at all, so that what is not shown is no secret."""

    rows: tuple[tuple[Node, int], ...]
    """By falling number; of equal ones the smaller id comes first."""
    total: int


@dataclass(frozen=True)
class Neighbour:
    """A node at the other end of an edge."""

    node: Node
    relation: str
    out: bool
    """Whether the edge leads there."""
    weight: float
    """The largest that a row gives."""
    stated_by: tuple[tuple[str, str], ...]
    """(row, source) of all that say so, in order."""


class Graph(ABC):
    """A graph that was opened. `add` and `remove_document` return the graph as it is then."""

    @abstractmethod
    def types(self) -> dict[str, int]:
        """Type -> number of its nodes."""

    @abstractmethod
    def relations(self) -> dict[str, int]:
        """Relation -> number of pairs of nodes that it joins."""

    @abstractmethod
    def _selected(self, type: str, where: Sequence[Has]) -> list[str]:
        """Ids of the nodes that meet all conditions, in ascending order."""

    @abstractmethod
    def _degrees(self, type: str, over: Has, where: Sequence[Has], k: int) -> Top:
        """See `top`."""

    @abstractmethod
    def _touching(self, nodes: Collection[Node]) -> list[Edge]:
        """Edges with an end among some nodes, both of whose ends exist."""

    @abstractmethod
    def statements(self) -> Iterator[Statement]:
        """All rows that state nodes, in order of type, id and row."""

    @abstractmethod
    def edges(self) -> Iterator[Edge]:
        """All rows that state edges, those that wait among them, in order."""

    @abstractmethod
    def add(self, statements: Iterable[Statement], edges: Iterable[Edge]) -> Graph:
        """The graph with more rows; one that it has already is written over."""

    @abstractmethod
    def remove_document(self, row: str) -> Graph:
        """The graph without what a row states, and with all that another row states as well.

        Raises:
            BadInput: the row states nothing.
        """

    @abstractmethod
    def attrs(self, node: Node) -> dict[str, Any]:
        """What is stated about a node; empty where nothing is."""

    def select(self, type: str, where: Sequence[Has] = ()) -> Counted:
        """The nodes of a type that meet all conditions.

        Raises:
            BadInput: there is no such type or relation; the message names those there are.
        """
        self._check(type, where)
        return Counted(tuple(Node(type, name) for name in self._selected(type, where)))

    def count(self, type: str, where: Sequence[Has] = ()) -> Counted:
        """How many nodes of a type meet all conditions, and which; errors as in `select`."""
        return self.select(type, where)

    def top(self, type: str, over: Has, *, where: Sequence[Has] = (), k: int = 10) -> Top:
        """The k nodes of a type with the most different neighbours over a relation.

        Args:
            type: of the nodes that are ranked.
            over: the relation, its direction and what neighbours must be.
            where: what the ranked nodes must have.
            k: rows shown; `total` counts all that have a neighbour.

        Raises:
            BadInput: as in `select`.
            BadConfig: k is below 1, or `over` is negated.
        """
        if k < 1 or over.negated:
            raise BadConfig(f"top needs k >= 1 and a relation that is not negated; got k = {k}.")
        self._check(type, (over, *where))
        return self._degrees(type, over, where, k)

    def neighbours(self, node: Node, relation: str | None = None) -> list[Neighbour]:
        """Nodes that share an edge with one, by relation, direction, type and id.

        Raises:
            BadInput: there is no such node or relation.
        """
        self._check_node(node)
        if relation is not None:
            self._check_relation(relation)
        return [n for n in _grouped(node, self._touching([node])) if relation in (None, n.relation)]

    def path(self, start: Node, end: Node, *, longest: int = 6) -> list[Edge] | None:
        """A shortest way between two nodes, along and against edges; None: none of so few steps.

        Of several that are equally short, the first by the names of its edges is taken, in every store.

        Raises:
            BadInput: there is no such node.
        """
        self._check_node(start)
        self._check_node(end)
        came_by: dict[Node, tuple[Node, Edge] | None] = {start: None}
        frontier = [start]
        for _ in range(longest):
            if end in came_by or not frontier:
                break
            reached: dict[Node, tuple[Node, Edge]] = {}
            inside = set(frontier)
            for edge in sorted(self._touching(frontier), key=key_of):
                for here, there in ((edge.head, edge.tail), (edge.tail, edge.head)):
                    if here in inside and there not in came_by and there not in reached:
                        reached[there] = (here, edge)
            came_by.update(reached)
            frontier = sorted(reached)
        if end not in came_by:
            return None
        steps: list[Edge] = []
        while (step := came_by[end]) is not None:
            end, edge = step
            steps.append(edge)
        return steps[::-1]

    def common(self, first: Node, second: Node, relation: str | None = None) -> Counted:
        """Nodes that share an edge with both; errors as in `neighbours`."""
        both = [{n.node for n in self.neighbours(node, relation)} for node in (first, second)]
        return Counted(tuple(sorted(both[0] & both[1])))

    def _check(self, type: str, where: Sequence[Has]) -> None:
        if type not in (types := self.types()):
            raise BadInput(f'The graph has no nodes of type "{type}". {nearest(type, types)}')
        for has in where:
            self._check_has(has)

    def _check_has(self, has: Has) -> None:
        self._check_relation(has.relation)
        if wrong := set(has.bounds) - set(BOUNDS):
            raise BadConfig(f'There is no bound "{min(wrong)}"; bounds are {", ".join(BOUNDS)}.')
        for more in has.where:
            self._check_has(more)

    def _check_relation(self, relation: str) -> None:
        if relation not in (relations := self.relations()):
            raise BadInput(f'The graph has no relation "{relation}". {nearest(relation, relations)}')

    def _check_node(self, node: Node) -> None:
        if node.type not in (types := self.types()):
            raise BadInput(f'The graph has no nodes of type "{node.type}". {nearest(node.type, types)}')
        if not self._exists(node):
            raise BadInput(f'The graph has no {node.type} "{node.id}".')

    @abstractmethod
    def _exists(self, node: Node) -> bool:
        """Whether a row states it."""


def key_of(edge: Edge) -> tuple[Any, ...]:
    """What makes two rows of edges the same: all but the weight."""
    return (edge.relation, edge.head, edge.tail, edge.row, edge.source)


def _grouped(node: Node, edges: Iterable[Edge]) -> list[Neighbour]:
    ends: dict[tuple[str, bool, Node], list[Edge]] = {}
    for edge in edges:
        if edge.head == node:
            ends.setdefault((edge.relation, True, edge.tail), []).append(edge)
        elif edge.tail == node:
            ends.setdefault((edge.relation, False, edge.head), []).append(edge)
    return [
        Neighbour(
            other,
            relation,
            out,
            max(e.weight for e in rows),
            tuple(sorted({(e.row, e.source) for e in rows})),
        )
        for (relation, out, other), rows in sorted(ends.items(), key=lambda item: item[0])
    ]


def checked_rows(
    statements: Iterable[Statement], edges: Iterable[Edge]
) -> tuple[list[Statement], list[Edge]]:
    """Rows as every store takes them: in order, each once.

    Raises:
        BadInput: a name is no text or empty, a weight is not finite, or a row says of one edge two weights.
    """
    nodes = {(s.node, s.row): s for s in statements}
    rows: dict[tuple[Any, ...], Edge] = {}
    for edge in edges:
        if edge.weight - edge.weight != 0:
            raise BadInput(f"The edge {edge} has a weight that is not finite.")
        before = rows.setdefault(key_of(edge), edge)
        if before.weight != edge.weight:
            what = f"{edge.head.id} {edge.relation} {edge.tail.id}"
            raise BadInput(f'Row "{edge.row}" says {before.weight} and {edge.weight} of one edge, {what}.')
    names = {n for s in nodes.values() for n in (*s.node, s.row)}
    names |= {n for e in rows.values() for n in (*e.head, *e.tail, e.relation, e.source, e.row)}
    for name in names:
        check_text(name, "A name in the graph")
        if not name:
            raise BadInput("A name in the graph is empty.")
    return [nodes[k] for k in sorted(nodes)], [rows[k] for k in sorted(rows)]


def whole(name: str) -> int | None:
    """The whole number that an id is, of at most 15 digits, which every store compares alike; None: it is none.

    >>> whole("2019"), whole("2019a"), whole("-3"), whole("\u0663")
    (2019, None, -3, None)
    """
    digits = name.removeprefix("-")
    return int(name) if digits.isascii() and digits.isdigit() and len(digits) <= 15 else None
