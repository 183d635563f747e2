"""Passages in PostgreSQL, found again by its full-text search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.core.retrieval.passages import Passage
from gnomon.core.retrieval.stores.contract import check_text
from gnomon.core.retrieval.stores.postgres.server import Server, entry, replace_table, table
from gnomon.errors import BadConfig, BadInput, nearest

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

_TABLE = """
CREATE TABLE {} (
    id text COLLATE "C" NOT NULL, doc_id text NOT NULL, text text NOT NULL, passage jsonb NOT NULL,
    words tsvector GENERATED ALWAYS AS (to_tsvector({}::regconfig, text)) STORED
)"""

# Passages that share any word with the query, as BM25 has it; plainto_tsquery would want all of them.
_SEARCH = r"""
WITH wanted AS (
    SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery AS query
    FROM unnest(to_tsvector({}::regconfig, %s))
)
SELECT id, ts_rank_cd(words, query, 1) AS score FROM {}, wanted
WHERE words @@ query AND (%s::text[] IS NULL OR id = ANY(%s::text[]))
ORDER BY score DESC FETCH FIRST %s ROWS WITH TIES"""


class FullText(Mapping[str, Passage]):
    """Passages by id, and a search by words that takes the place of `gnomon.core.retrieval.Terms`.

    Its ranking is not BM25: `ts_rank_cd` knows neither how rare a word is among all passages nor their mean length. It counts how
    closely a query's words stand together, over 1 + the logarithm of the passage's length.
    """

    def __init__(self, server: Server):
        self._server = server
        self._name = table(server.name, ".text")
        about = server.read(lambda connection: self._about(connection), self._name)
        self.language: str = about["language"]
        """PostgreSQL's name of the configuration that cuts and stems words."""

    def _about(self, connection: Connection[Any]) -> dict[str, Any]:
        row = entry(connection, self._server, "text")
        assert row is not None
        return row[1]

    @classmethod
    def build(
        cls, reference: str, passages: Iterable[Passage], *, language: str = "english", anew: bool = False
    ) -> FullText:
        """Passages in a table of their own, in one transaction.

        Args:
            reference: "postgres://HOST/DB#NAME"; the name may be that of an index of vectors.
            passages: with different ids.
            language: a text search configuration of the server: "english", "german", "simple" ...
            anew: replace those that are there.

        Raises:
            BadInput: two passages have the same id.
            BadConfig: there are some already, or the server has no such language.
        """
        rows, server = list(passages), Server(reference)
        from psycopg import sql  # here: a package that is missing has been named
        from psycopg.types.json import Jsonb

        if len({passage.id for passage in rows}) < len(rows):
            raise BadInput("Two passages have the same id.")
        for passage in rows:
            check_text(passage.id, "An id")
            check_text(passage.text, f'The text of "{passage.id}"')

        def work(connection: Connection[Any]) -> None:
            languages = [name for (name,) in connection.execute("SELECT cfgname FROM pg_ts_config")]
            if language not in languages:
                raise BadConfig(
                    f'The server has no text search configuration "{language}". {nearest(language, languages)}'
                )

            def fill(new: Composable, generation: int) -> dict[str, Any]:
                label = f"gnomon_{server.name}.text.{generation}"
                connection.execute(sql.SQL(_TABLE).format(new, sql.Literal(language)))
                statement = sql.SQL("COPY {} (id, doc_id, text, passage) FROM STDIN").format(new)
                with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    for passage in rows:
                        others = {
                            key: value
                            for key, value in asdict(passage).items()
                            if key not in ("id", "doc_id", "text")
                        }
                        copy.write_row((passage.id, passage.doc_id, passage.text, Jsonb(others)))
                connection.execute(
                    sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY (id)").format(
                        new, sql.Identifier(f"{label}.id")
                    )
                )
                connection.execute(
                    sql.SQL("CREATE INDEX {} ON {} USING gin (words)").format(
                        sql.Identifier(f"{label}.gin"), new
                    )
                )
                return {"language": language}

            replace_table(connection, server, "text", ".text", anew=anew, fill=fill)

        server.write(work)
        return cls(server)

    @classmethod
    def open(cls, reference: str) -> FullText:
        """The passages behind a reference.

        Raises:
            BadInput: there are none.
        """
        return cls(Server(reference))

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._server.close()

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        return [row[0] for row in self._rows("SELECT id FROM {} ORDER BY id", [])]

    def search(self, queries: Sequence[str], k: int, among: NDArray[Any] | None = None) -> list[list[Hit]]:
        """The k passages that rank highest, for each query; only those that share a word with it, so there may be none.

        Args:
            queries: in words.
            k: hits a query, at most.
            among: places in `ids` of the passages that may be returned; None: all.

        Raises:
            BadConfig: k is below 1.
        """
        if k < 1:
            raise BadConfig(f"k must be at least 1; got {k}.")
        allowed = None
        if among is not None:
            ids = self.ids
            allowed = [ids[i] for i in among]
        hits = []
        for query in queries:
            check_text(query, "A query")
            rows = self._rows(_SEARCH, [query, allowed, allowed, k], self.language)
            hits.append(ranked(rows, k, source="terms"))
        return hits

    def _rows(self, text: str, values: Sequence[Any], language: str | None = None) -> list[tuple[Any, ...]]:
        from psycopg import sql

        parts = [self._name] if language is None else [sql.Literal(language), self._name]
        statement = sql.SQL(text).format(*parts)
        return self._server.read(
            lambda connection: connection.execute(statement, values).fetchall(), self._name
        )

    def __getitem__(self, name: str) -> Passage:
        rows = self._rows("SELECT id, doc_id, text, passage FROM {} WHERE id = %s", [name])
        if not rows:
            raise KeyError(name)
        (key, doc_id, text, others), *_ = rows
        others["headings"] = tuple(others["headings"])
        return Passage(id=key, doc_id=doc_id, text=text, **others)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        ((count,),) = self._rows("SELECT count(*) FROM {}", [])
        return int(count)
