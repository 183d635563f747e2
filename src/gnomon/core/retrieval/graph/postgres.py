"""A graph in PostgreSQL: the same two tables, and the same questions as SQL whose names are always values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.retrieval.graph.contract import Edge, Graph, Has, Node, Statement, Top, checked_rows
from gnomon.core.retrieval.graph.folder import COLUMNS, edge_of, row_of
from gnomon.core.retrieval.stores.postgres.server import Server, entry, replace_table, table
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

_NODES = """
CREATE TABLE {} (
    type text COLLATE "C" NOT NULL, id text COLLATE "C" NOT NULL, row text COLLATE "C" NOT NULL, attrs jsonb NOT NULL,
    PRIMARY KEY (type, id, row)
)"""
_EDGES = """
CREATE TABLE {} (
    relation text COLLATE "C" NOT NULL, head_type text COLLATE "C" NOT NULL, head text COLLATE "C" NOT NULL,
    tail_type text COLLATE "C" NOT NULL, tail text COLLATE "C" NOT NULL, row text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL, weight double precision NOT NULL,
    PRIMARY KEY (relation, head_type, head, tail_type, tail, row, source)
)"""
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_KEPT = "relation, head_type, head, tail_type, tail, row, source, weight"


class PostgresGraph(Graph):
    """A graph on a server; all that it answers is read anew, so that it sees what others write."""

    def __init__(self, server: Server):
        self._server = server
        self._tables = {"nodes": table(server.name, ".nodes"), "edges": table(server.name, ".edges")}

    @classmethod
    def open(cls, reference: str) -> PostgresGraph:
        """The graph behind a reference; errors as in `open_graph`."""
        graph = cls(Server(reference))
        graph._server.read(lambda c: entry(c, graph._server, "edges"), graph._tables["edges"])
        return graph

    @classmethod
    def build(
        cls, reference: str, statements: Iterable[Statement], edges: Iterable[Edge], *, anew: bool = False
    ) -> PostgresGraph:
        """A new graph, copied in within one transaction; errors as in `build_graph`."""
        nodes, rows = checked_rows(statements, edges)
        graph = cls(Server(reference))
        from psycopg import sql

        def work(connection: Connection[Any]) -> None:
            def fill_nodes(new: Composable, generation: int) -> dict[str, Any]:
                connection.execute(sql.SQL(_NODES).format(new))
                _copy_nodes(connection, new, nodes)
                return {"rows": len(nodes)}

            def fill_edges(new: Composable, generation: int) -> dict[str, Any]:
                connection.execute(sql.SQL(_EDGES).format(new))
                _copy_edges(connection, new, rows)
                for end in ("head", "tail"):
                    label = sql.Identifier(f"gnomon_{graph._server.name}.{end}.{generation}")
                    columns = sql.SQL(", ").join(map(sql.Identifier, (f"{end}_type", end)))
                    connection.execute(sql.SQL("CREATE INDEX {} ON {} ({})").format(label, new, columns))
                return {"rows": len(rows)}

            for name, fill in (("nodes", fill_nodes), ("edges", fill_edges)):
                replace_table(connection, graph._server, name, f".{name}", anew=anew, fill=fill)
                connection.execute(sql.SQL("ANALYZE {}").format(graph._tables[name]))

        graph._server.write(work)
        return graph

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._server.close()

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        from psycopg import sql

        statement = sql.SQL(query).format(**self._tables)
        return self._server.read(lambda c: c.execute(statement, values).fetchall(), self._tables["edges"])

    def types(self) -> dict[str, int]:
        """Type -> number of its nodes."""
        return dict(self._rows("SELECT type, count(DISTINCT id) FROM {nodes} GROUP BY type ORDER BY type"))

    def relations(self) -> dict[str, int]:
        """Relation -> number of pairs of nodes that it joins."""
        return dict(
            self._rows(
                "SELECT e.relation, count(DISTINCT (e.head_type, e.head, e.tail_type, e.tail)) "
                f"FILTER (WHERE {_exists('e', 'head')} AND {_exists('e', 'tail')}) "
                "FROM {edges} e GROUP BY e.relation ORDER BY e.relation"
            )
        )

    def statements(self) -> Iterator[Statement]:
        """All rows that state nodes."""
        rows = self._rows("SELECT type, id, row, attrs FROM {nodes} ORDER BY type, id, row")
        return (Statement(Node(t, i), row, attrs) for t, i, row, attrs in rows)

    def edges(self) -> Iterator[Edge]:
        """All rows that state edges."""
        order = "relation, head_type, head, tail_type, tail, row, source"
        return map(_edge, self._rows(f"SELECT {_KEPT} FROM {{edges}} ORDER BY {order}"))

    def attrs(self, node: Node) -> dict[str, Any]:
        """What is stated about a node, by the row with the smallest id that says anything."""
        rows = self._rows(
            "SELECT attrs FROM {nodes} WHERE type = %s AND id = %s AND attrs <> '{{}}' ORDER BY row LIMIT 1",
            node,
        )
        return dict(rows[0][0]) if rows else {}

    def _exists(self, node: Node) -> bool:
        return bool(self._rows("SELECT 1 FROM {nodes} WHERE type = %s AND id = %s LIMIT 1", node))

    def _selected(self, type: str, where: Sequence[Has]) -> list[str]:
        conditions, values = _conditions(where, "n")
        query = (
            "SELECT n.id FROM (SELECT DISTINCT type, id FROM {nodes} WHERE type = %s) n "
            f"WHERE {conditions} ORDER BY n.id"
        )
        return [name for (name,) in self._rows(query, [type, *values])]

    def _degrees(self, type: str, over: Has, where: Sequence[Has], k: int) -> Top:
        near, far = ("head", "tail") if over.out else ("tail", "head")
        fitting, values = _edge_fits(over, "e", 0)
        conditions, more = _conditions(where, "n")
        query = (
            f"SELECT n.id, count(DISTINCT (e.{far}_type, e.{far})) AS degree, count(*) OVER () "
            "FROM (SELECT DISTINCT type, id FROM {nodes} WHERE type = %s) n JOIN {edges} e "
            f"ON e.{near}_type = n.type AND e.{near} = n.id AND {fitting} WHERE {conditions} "
            "GROUP BY n.id ORDER BY degree DESC, n.id LIMIT %s"
        )
        rows = self._rows(query, [type, *values, *more, k])
        return Top(tuple((Node(type, name), degree) for name, degree, _ in rows), rows[0][2] if rows else 0)

    def _touching(self, nodes: Collection[Node]) -> list[Edge]:
        types, ids = [node.type for node in nodes], [node.id for node in nodes]
        among = "IN (SELECT * FROM unnest(%s::text[], %s::text[]))"
        query = (
            f"SELECT {_KEPT} FROM {{edges}} e WHERE ((head_type, head) {among} OR (tail_type, tail) {among}) "
            f"AND {_exists('e', 'head')} AND {_exists('e', 'tail')}"
        )
        return list(map(_edge, self._rows(query, [types, ids, types, ids])))

    def add(self, statements: Iterable[Statement], edges: Iterable[Edge]) -> PostgresGraph:
        """The graph with more rows; one that it has already is written over."""
        nodes, rows = checked_rows(statements, edges)
        from psycopg import sql

        def work(connection: Connection[Any]) -> None:
            for name in ("nodes", "edges"):
                fresh = sql.Identifier(f"fresh_{name}")
                key = ("type", "id", "row") if name == "nodes" else COLUMNS[:-1]
                value = "attrs" if name == "nodes" else "weight"
                connection.execute(
                    sql.SQL("CREATE TEMP TABLE {} (LIKE {} INCLUDING ALL) ON COMMIT DROP").format(
                        fresh, self._tables[name]
                    )
                )
                if name == "nodes":
                    _copy_nodes(connection, fresh, nodes)
                else:
                    _copy_edges(connection, fresh, rows)
                connection.execute(
                    sql.SQL(
                        "INSERT INTO {} SELECT * FROM {} ON CONFLICT ({}) DO UPDATE SET {} = EXCLUDED.{}"
                    ).format(
                        self._tables[name],
                        fresh,
                        sql.SQL(", ").join(map(sql.Identifier, key)),
                        sql.Identifier(value),
                        sql.Identifier(value),
                    )
                )

        self._server.write(work)
        return self

    def remove_document(self, row: str) -> PostgresGraph:
        """The graph without what a row states.

        Raises:
            BadInput: the row states nothing.
        """
        from psycopg import sql

        def work(connection: Connection[Any]) -> int:
            return sum(
                connection.execute(sql.SQL("DELETE FROM {} WHERE row = %s").format(name), [row]).rowcount
                for name in self._tables.values()
            )

        if not self._server.write(work):
            raise BadInput(f'No row "{row}" states anything in "{self._server.reference}".')
        return self


def _exists(edge: str, end: str) -> str:
    return f"EXISTS (SELECT 1 FROM {{nodes}} x WHERE x.type = {edge}.{end}_type AND x.id = {edge}.{end})"


def _conditions(where: Sequence[Has], node: str, depth: int = 0) -> tuple[str, list[Any]]:
    """Conditions on the node of an alias as SQL, with the values in its places."""
    texts, values = ["true"], []
    for has in where:
        edge = f"e{depth}"
        near = "head" if has.out else "tail"
        fitting, more = _edge_fits(has, edge, depth)
        texts.append(
            f"{'NOT ' * has.negated}EXISTS (SELECT 1 FROM {{edges}} {edge} WHERE "
            f"{edge}.{near}_type = {node}.type AND {edge}.{near} = {node}.id AND {fitting})"
        )
        values += more
    return " AND ".join(texts), values


def _edge_fits(has: Has, edge: str, depth: int) -> tuple[str, list[Any]]:
    """Whether an edge is of the relation and its far end fits."""
    far = "tail" if has.out else "head"
    texts = [f"{edge}.relation = %s", _exists(edge, far)]
    values: list[Any] = [has.relation]
    if has.to is not None:
        texts.append(f"{edge}.{far}_type = %s AND {edge}.{far} = %s")
        values += [*has.to]
    for name, value in has.bounds.items():
        # CASE, since the server may look at the parts of AND in any order. {{ }}: braces are places for names.
        number = f"CASE WHEN {edge}.{far} ~ '^-?[0-9]{{{{1,15}}}}$' THEN {edge}.{far}::bigint END"
        texts.append(f"{number} {_COMPARE[name]} %s::double precision")
        values.append(value)
    if has.where:
        inner = f"o{depth}"
        conditions, more = _conditions(has.where, inner, depth + 1)
        texts.append(
            f"EXISTS (SELECT 1 FROM (SELECT {edge}.{far}_type AS type, {edge}.{far} AS id) {inner} WHERE {conditions})"
        )
        values += more
    return " AND ".join(texts), values


def _edge(row: Sequence[Any]) -> Edge:
    return edge_of(dict(zip(COLUMNS, row, strict=True)))


def _copy_nodes(connection: Connection[Any], name: Composable, statements: Sequence[Statement]) -> None:
    from psycopg import sql
    from psycopg.types.json import Jsonb

    statement = sql.SQL("COPY {} (type, id, row, attrs) FROM STDIN").format(name)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for s in statements:
            copy.write_row((*s.node, s.row, Jsonb(dict(s.attrs))))


def _copy_edges(connection: Connection[Any], name: Composable, edges: Sequence[Edge]) -> None:
    from psycopg import sql

    columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(name, columns)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for edge in edges:
            copy.write_row(row_of(edge))
