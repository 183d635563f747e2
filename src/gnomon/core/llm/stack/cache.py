"""A reply that was paid for is never paid for twice: replies in a sqlite file, under the complete request."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import threading
from pathlib import Path

from gnomon.core.llm.base import LLM, Reply, Request, aclose, identity
from gnomon.core.llm.stack.loop import PerLoop
from gnomon.core.llm.stack.stored import reply_from_json, reply_to_json, request_key
from gnomon.errors import BadInput

FILE = "replies.sqlite"
"""Name of the file in the cache folder."""


class Store:
    """Text under keys in a sqlite file, for several threads and processes at once; a killed process loses nothing it wrote.

    Args:
        path: the file; made with its folder on first use.
        table: SQL that creates what is missing.

    Raises:
        BadInput: the file cannot be opened, or is something else.
    """

    def __init__(self, path: Path, table: str):
        self.path, self._table = path, table
        self._lock = threading.Lock()
        self._open: tuple[int, sqlite3.Connection] | None = None
        self.run("SELECT 1")

    def run(self, *statements: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        """The rows of the last statement; all of them are one transaction, and the values go to each."""
        try:
            with self._lock, self._connection() as connection:
                rows: list[tuple[object, ...]] = []
                for statement in statements:
                    rows = connection.execute(statement, values[: statement.count("?")]).fetchall()
                return rows
        except (sqlite3.Error, OSError) as error:
            raise BadInput(
                f"{self.path}: cannot be used as a store of replies ({error}). Remove it, or name another folder."
            ) from None

    def close(self) -> None:
        """Close the file; a later use opens it again."""
        with self._lock:
            if self._open is not None and self._open[0] == os.getpid():
                self._open[1].close()
            self._open = None

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._open[0] != os.getpid():  # a connection does not survive a fork
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=60, check_same_thread=False)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(self._table)
            self._open = (os.getpid(), connection)
        return self._open[1]


class Cached:
    """`llm` with a memory: successful replies are kept in `folder` and never asked for again.

    The key is the model's identity and the complete request, the number of the draw among it: another draw is asked anew.
    Identical requests under way are asked once. Failures are not kept.

    Args:
        llm: who is asked what is not known yet.
        folder: where `replies.sqlite` is; several processes may share it.
    """

    def __init__(self, llm: LLM, folder: Path):
        self.llm, self.name = llm, llm.name
        self._store = Store(
            folder / FILE, "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
        )
        self._under_way: PerLoop[dict[str, asyncio.Future[Reply | None]]] = PerLoop(dict)

    async def acomplete(self, request: Request) -> Reply:
        """The reply from memory, or from the model.

        Raises:
            BudgetSpent: it is not known, and the model has no budget left.
        """
        key = request_key(request, identity(self.llm))
        under_way = self._under_way.get()
        while True:
            if not request.anew and (kept := self._known(key)) is not None:
                return kept
            if key not in under_way:
                return await self._ask(key, request, under_way)
            reply = await asyncio.shield(under_way[key])
            if reply is not None:
                return dataclasses.replace(reply, cached=reply.error is None)

    async def aclose(self) -> None:
        """Close the file and what is behind."""
        self._store.close()
        await aclose(self.llm)

    def __len__(self) -> int:
        """Number of replies in memory."""
        return int(str(self._store.run("SELECT COUNT(*) FROM replies")[0][0]))

    def _known(self, key: str) -> Reply | None:
        rows = self._store.run("SELECT reply FROM replies WHERE key = ?", values=(key,))
        return reply_from_json(str(rows[0][0])) if rows else None

    async def _ask(
        self, key: str, request: Request, under_way: dict[str, asyncio.Future[Reply | None]]
    ) -> Reply:
        answer = under_way[key] = asyncio.get_running_loop().create_future()
        reply: Reply | None = None
        try:
            reply = await self.llm.acomplete(request)
            if reply.error is None:
                self._store.run(
                    f"INSERT OR {'REPLACE' if request.anew else 'IGNORE'} INTO replies VALUES (?, ?)",
                    values=(key, reply_to_json(reply)),
                )
            return reply
        finally:  # whoever waits for the same reply asks himself when this one was cancelled
            del under_way[key]
            answer.set_result(reply)
