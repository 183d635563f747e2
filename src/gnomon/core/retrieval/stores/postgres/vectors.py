"""Vectors in PostgreSQL by pgvector: exact or by a graph (HNSW), filters as SQL before the search, a build in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core.retrieval.hits import Condition, Hit, Where, conditions
from gnomon.core.retrieval.stores.contract import (
    MORE,
    Floats,
    Meta,
    Rows,
    check_fingerprint,
    check_has,
    check_length,
    checked,
    checked_queries,
    exact,
    joined_kinds,
    slack,
)
from gnomon.core.retrieval.stores.postgres.server import Server, entry, replace_table, table

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

EF = 100
"""Least size of HNSW's list of candidates."""
LARGEST = 1000
"""Largest list that pgvector keeps: for more hits the search is exact."""
_TYPES = {"bool": "boolean", "int": "bigint", "float": "float8", "str": "text"}
_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Postgres:
    """An index of vectors in PostgreSQL. It always shows the newest rows; many can search while another writes."""

    approximates = True

    def __init__(self, server: Server):
        self._server = server
        self._name = table(server.name)
        about = server.read(lambda connection: _about(connection, server), self._name)
        self.fingerprint: str = about["fingerprint"]
        """Of the encoder that made the vectors."""
        self.approximate: bool = about["approximate"]
        """Searched by a graph."""

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
        approximate: bool = False,
    ) -> Postgres:
        """A new index, in one transaction: whoever searches sees the old one until it is whole. Arguments as in `build_index`.

        Raises:
            BadConfig: an index is there already, or vectors are too long for the server.
            WorkLost: the server was lost; the old index is whole.
        """
        rows, server = checked(ids, vectors, meta), Server(reference)
        from psycopg import sql  # here: a package that is missing has been named

        dim = rows.vectors.shape[1]

        def work(connection: Connection[Any]) -> None:
            def fill(new: Composable, generation: int) -> dict[str, Any]:
                label = f"gnomon_{server.name}.{generation}"
                connection.execute(
                    sql.SQL(
                        'CREATE TABLE {} (id text COLLATE "C" NOT NULL, embedding vector({}) NOT NULL, meta jsonb NOT NULL)'
                    ).format(new, sql.Literal(dim))
                )
                _copy(connection, new, rows)
                # Made once all rows are in: faster, and the graph is better.
                connection.execute(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY (id)").format(
                        new, sql.Identifier(f"{label}.id")
                    )
                )
                if approximate:
                    connection.execute(
                        sql.SQL("CREATE INDEX {} ON {} USING hnsw (embedding vector_ip_ops)").format(
                            sql.Identifier(f"{label}.hnsw"), new
                        )
                    )
                return {
                    "fingerprint": fingerprint,
                    "dim": dim,
                    "longest": rows.longest,
                    "kinds": rows.kinds,
                    "approximate": approximate,
                }

            replace_table(connection, server, "vectors", "", anew=anew, fill=fill)
            connection.execute(sql.SQL("ANALYZE {}").format(table(server.name)))

        server.write(work)
        return cls(server)

    @classmethod
    def open(cls, reference: str, *, fingerprint: str | None = None) -> Postgres:
        """The index behind a reference; errors as in `open_index`."""
        index = cls(Server(reference))
        check_fingerprint(reference, index.fingerprint, fingerprint)
        return index

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._server.close()

    def __len__(self) -> int:
        return self._read_one("SELECT count(*) FROM {}")

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        return self._matching([])

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._described()["dim"])

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return sorted(self._described()["kinds"])

    def _described(self) -> dict[str, Any]:
        return self._server.read(self._current, self._name)

    def _current(self, connection: Connection[Any]) -> dict[str, Any]:
        """The description as it is now; an index that was built anew by another encoder is not to be mixed up with this one."""
        about = _about(connection, self._server)
        check_fingerprint(self._server.reference, about["fingerprint"], self.fingerprint)
        return about

    def _read_one(self, query: str) -> Any:
        from psycopg import sql

        statement = sql.SQL(query).format(self._name)

        def work(connection: Connection[Any]) -> Any:
            self._current(connection)
            row = connection.execute(statement).fetchone()
            return row and row[0]

        return self._server.read(work, self._name)

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Postgres:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        from psycopg import sql
        from psycopg.types.json import Jsonb

        rows = checked(ids, vectors, meta)

        def work(connection: Connection[Any]) -> None:
            about = self._current(connection)
            check_fingerprint(self._server.reference, about["fingerprint"], fingerprint)
            check_length(about["dim"], rows.vectors, "these have")
            about["kinds"] = joined_kinds(about["kinds"], rows.kinds)
            about["longest"] = max(about["longest"], rows.longest)
            connection.execute(
                sql.SQL("DELETE FROM {} WHERE id = ANY(%s::text[])").format(self._name), [rows.ids]
            )
            _copy(connection, self._name, rows)
            connection.execute(
                "UPDATE gnomon_indexes SET about = %s WHERE name = %s AND kind = 'vectors'",
                [Jsonb(about), self._server.name],
            )

        self._server.write(work)
        return self

    def remove(self, ids: Sequence[str]) -> Postgres:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        from psycopg import sql

        def work(connection: Connection[Any]) -> None:
            self._current(connection)
            gone = connection.execute(
                sql.SQL("DELETE FROM {} WHERE id = ANY(%s::text[]) RETURNING id").format(self._name),
                [list(ids)],
            ).fetchall()
            check_has(ids, (name for (name,) in gone))

        self._server.write(work)
        return self

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        wanted = conditions(where, self._described()["kinds"])
        return self._matching(wanted) if wanted else None

    def _matching(self, wanted: Sequence[Condition]) -> list[str]:
        from psycopg import sql

        filters, values = _filters(wanted)
        statement = sql.SQL("SELECT id FROM {} WHERE {} ORDER BY id").format(self._name, filters)

        def work(connection: Connection[Any]) -> list[str]:
            self._current(connection)
            return [name for (name,) in connection.execute(statement, values)]

        return self._server.read(work, self._name)

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        All queries see one state of the table. Candidates come from the server; their scores are summed here, see
        `gnomon.core.retrieval.stores.contract.exact`. With an approximate index a filter, or a k above `LARGEST`, makes the
        search exact: a graph finds its neighbours first and filters them afterwards.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length or not finite, or a column is not there.
            ModelMismatch: another encoder has built the index anew.
        """

        def work(connection: Connection[Any]) -> list[list[Hit]]:
            about = self._current(connection)
            rows = checked_queries(queries, k, about["dim"])
            wanted = conditions(where, about["kinds"])
            by_graph = about["approximate"] and not wanted and k <= LARGEST
            if by_graph:
                connection.execute("SELECT set_config('hnsw.iterative_scan', 'relaxed_order', true)")
                size = min(LARGEST, max(EF, 2 * k))
                connection.execute("SELECT set_config('hnsw.ef_search', %s, true)", [str(size)])
            return [self._nearest(connection, query, k, wanted, about["longest"], by_graph) for query in rows]

        return self._server.read(work, self._name)

    def _nearest(
        self,
        connection: Connection[Any],
        query: Floats,
        k: int,
        wanted: Sequence[Condition],
        longest: float,
        by_graph: bool,
    ) -> list[Hit]:
        """Hits of one query."""
        from psycopg import sql

        filters, values = _filters(wanted)
        # A graph orders by the bare operator; added to a number it is not used.
        distance = sql.SQL("embedding <#> %s" if by_graph else "(embedding <#> %s) + 0")
        statement = sql.SQL("SELECT id, embedding, {} AS distance FROM {} WHERE {}").format(
            distance, self._name, filters
        )
        near = connection.execute(
            statement + sql.SQL(" ORDER BY distance LIMIT %s"), [query, *values, k + MORE], binary=True
        ).fetchall()
        if len(near) < k and by_graph:
            return self._nearest(connection, query, k, wanted, longest, False)
        if len(near) == k + MORE:
            furthest = near[k - 1][2] + slack(query, longest)
            if near[-1][2] <= furthest:  # more rows may tie than were fetched
                near = connection.execute(
                    statement + sql.SQL(" AND (embedding <#> %s) <= %s"),
                    [query, *values, query, furthest],
                    binary=True,
                ).fetchall()
        if not near:
            return []
        vectors = np.stack([row[1].to_numpy() for row in near])
        return exact((row[0] for row in near), vectors, query, k)


def _about(connection: Connection[Any], server: Server) -> dict[str, Any]:
    row = entry(connection, server, "vectors")
    assert row is not None
    return row[1]


def _copy(connection: Connection[Any], name: Composable, rows: Rows) -> None:
    from pgvector import Vector
    from psycopg import sql
    from psycopg.types.json import Jsonb

    statement = sql.SQL("COPY {} (id, embedding, meta) FROM STDIN WITH (FORMAT BINARY)").format(name)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(["text", "vector", "jsonb"])
        for row in zip(rows.ids, rows.vectors, rows.meta, strict=True):
            copy.write_row((row[0], Vector(row[1]), Jsonb(row[2])))


def _filters(wanted: Iterable[Condition]) -> tuple[Composable, list[Any]]:
    """Conditions as SQL with places for values, and the values: names of columns are values too."""
    from psycopg import sql

    texts, values = ["true"], []
    for condition in wanted:
        if condition.kind == "null":  # no row has a value
            texts.append("true" if condition.or_null else "false")
            continue
        kind = _TYPES[condition.kind]
        order = ' COLLATE "C"' if kind == "text" else ""
        column = f"((meta ->> %s::text)::{kind}{order})"
        if condition.among is not None:
            part = f"{column} = ANY(%s::{kind}[])"
            values += [condition.column, list(condition.among)]
            if condition.or_null:
                part = f"({part} OR meta ->> %s::text IS NULL)"
                values.append(condition.column)
            texts.append(part)
        for name, value in condition.bounds.items():
            texts.append(f"{column} {_COMPARE[name]} %s::{kind}")
            values += [condition.column, value]
    return sql.SQL(" AND ".join(texts)), values
