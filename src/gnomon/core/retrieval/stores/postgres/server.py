"""A PostgreSQL server: connections that come back, transactions to read and to write in, and the table of what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from gnomon.core.retrieval.stores.contract import check_secrets, split_reference
from gnomon.errors import BadConfig, BadInput, WorkLost
from gnomon.lazy import optional

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

T = TypeVar("T")

_REGISTRY = """
CREATE TABLE IF NOT EXISTS gnomon_indexes (
    name text NOT NULL, kind text NOT NULL, generation bigint NOT NULL, about jsonb NOT NULL, PRIMARY KEY (name, kind)
)"""


class Server:
    """The server of a reference "postgres://HOST/DB#NAME". A connection that has gone is opened again by the next call.

    Args:
        reference: an address as libpq reads it (also with `?host=` a folder of sockets or `?service=`), and a name. Passwords
            come from PGPASSWORD, a password file or a service file.

    Raises:
        BadConfig: the reference names nothing, or holds a password.
        MissingExtra: psycopg or pgvector is not installed.
    """

    def __init__(self, reference: str):
        check_secrets(reference)
        address, self.name = split_reference(reference)
        self.reference = reference
        self._address = "postgresql:" + address.partition(":")[2]
        self._psycopg = optional("psycopg", "psycopg", "postgres")
        self._pgvector = optional("pgvector.psycopg", "pgvector", "postgres")
        self._connection: Connection[Any] | None = None
        self._lock = threading.RLock()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()

    def read(self, work: Callable[[Connection[Any]], T], table: Composable) -> T:
        """What `work` reads in one transaction, which sees one state of the database; once more where the connection had gone.

        Args:
            work: reads.
            table: that it reads. It is locked against being replaced before the transaction's state is fixed: a table that
                took the name later would look empty.
        """
        with self._lock, self._errors():
            was_open = self._connection is not None
            try:
                return self._read(work, table)
            except self._psycopg.OperationalError:
                if not (was_open and self._connection is not None and self._connection.closed):
                    raise
                return self._read(work, table)

    def _read(self, work: Callable[[Connection[Any]], T], table: Composable) -> T:
        from psycopg import sql

        connection = self._opened()
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))
            return work(connection)

    def write(self, work: Callable[[Connection[Any]], T]) -> T:
        """What `work` writes in one transaction, all of it or nothing. A second writer of the same name waits for the first."""
        with self._lock, self._errors():
            connection = self._opened()
            self._prepare(connection)
            with connection.transaction():
                connection.execute(
                    "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"gnomon {self.name}"]
                )
                return work(connection)

    def _opened(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            try:
                # Statements are not prepared: an index that is built anew may have vectors of another length.
                self._connection = self._psycopg.connect(
                    self._address, autocommit=True, prepare_threshold=None
                )
            except (self._psycopg.OperationalError, self._psycopg.ProgrammingError) as error:
                raise BadConfig(f'"{self.reference}" cannot be reached: {str(error).strip()}') from error
            self._register(self._connection)
        return self._connection

    def _register(self, connection: Connection[Any]) -> None:
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone():
            self._pgvector.register_vector(connection)

    def _prepare(self, connection: Connection[Any]) -> None:
        """The extension and the table of indexes, where they are not there."""
        present = connection.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'vector') AND to_regclass('gnomon_indexes') IS NOT NULL"
        ).fetchone()
        if present == (True,):
            return
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('gnomon', 0))")
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(_REGISTRY)
        self._register(connection)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors that a user can mend, in their words."""
        psycopg = self._psycopg
        try:
            yield
        except psycopg.errors.UndefinedTable:
            raise BadInput(f'There is no index in "{self.reference}". Build one first.') from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise BadConfig(
                f'"{self.reference}": the role lacks a right ({_first(error)}). Readers need SELECT on gnomon_indexes and on it.'
            ) from error
        except psycopg.errors.ReadOnlySqlTransaction as error:
            raise BadConfig(f'"{self.reference}" can only be read: {_first(error)}.') from error
        except (psycopg.errors.ProgramLimitExceeded, psycopg.errors.UndefinedFile) as error:
            raise BadConfig(f'"{self.reference}": {_first(error)}.') from error
        except psycopg.OperationalError as error:
            raise WorkLost(
                f'"{self.reference}" was lost ({_first(error)}). What was stored before is whole; repeat the command.'
            ) from error


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def table(name: str, part: str = "") -> Composable:
    """The name of an index's table, quoted."""
    from psycopg import sql

    return sql.Identifier(f"gnomon_{name}{part}")


def entry(
    connection: Connection[Any], server: Server, kind: str, *, needed: bool = True
) -> tuple[int, dict[str, Any]] | None:
    """Generation and description of what is stored under a name; None where there is nothing.

    Args:
        connection: to read by.
        server: that it belongs to; names the index.
        kind: "vectors" or "text".
        needed: nothing is an error.

    Raises:
        BadInput: there is nothing, and something is needed.
    """
    there = connection.execute("SELECT to_regclass('gnomon_indexes') IS NOT NULL").fetchone() == (True,)
    row = None
    if there:
        row = connection.execute(
            "SELECT generation, about FROM gnomon_indexes WHERE name = %s AND kind = %s", [server.name, kind]
        ).fetchone()
    if row is None and needed:
        raise BadInput(f'There is no index in "{server.reference}". Build one first.')
    return row


def replace_table(
    connection: Connection[Any],
    server: Server,
    kind: str,
    suffix: str,
    *,
    anew: bool,
    fill: Callable[[Composable, int], dict[str, Any]],
) -> None:
    """A table that is filled beside the old one and then takes its name, with the rights that roles have on the old one.

    Args:
        connection: in a transaction.
        server: names the index.
        kind: "vectors" or "text".
        suffix: of the table's name.
        anew: replace what is there.
        fill: creates the table by the name it gets and fills it; its second argument numbers the generation, for names of
            indexes, which stay. Returns the description.

    Raises:
        BadConfig: there is one, and it is not to be replaced.
    """
    from psycopg import sql
    from psycopg.types.json import Jsonb

    before = entry(connection, server, kind, needed=False)
    if before is not None and not anew:
        raise BadConfig(f'"{server.reference}" holds an index already. Open it, or build it anew.')
    generation = 1 if before is None else before[0] + 1
    new, final = table(server.name, f"{suffix}.new"), table(server.name, suffix)
    about = fill(new, generation)
    if before is not None:
        rights: Sequence[tuple[str | None, str]] = connection.execute(
            "SELECT CASE WHEN grantee <> 0 THEN pg_get_userbyid(grantee) END, privilege_type "
            "FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass(%s) AND grantee <> relowner",
            [final.as_string(connection)],
        ).fetchall()
        for role, right in rights:  # the server's own word for the right
            to = sql.SQL("PUBLIC") if role is None else sql.Identifier(role)
            words = sql.SQL(right)
            connection.execute(sql.SQL("GRANT {} ON {} TO {}").format(words, new, to))
    # Only here do readers wait, for as long as it takes to rename.
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(final))
    connection.execute(sql.SQL("ALTER TABLE {} RENAME TO {}").format(new, final))
    connection.execute(
        "INSERT INTO gnomon_indexes VALUES (%s, %s, %s, %s) ON CONFLICT (name, kind) "
        "DO UPDATE SET generation = EXCLUDED.generation, about = EXCLUDED.about",
        [server.name, kind, generation, Jsonb(about)],
    )
