"""Spending limits: the call that would exceed one is not made."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from gnomon.core.config import check, option
from gnomon.core.llm.base import LLM, Reply, Request, Usage, aclose
from gnomon.core.llm.stack.cache import Store
from gnomon.core.llm.stack.stored import tokens_asked
from gnomon.errors import BadConfig, BudgetSpent

FILE = "spent.sqlite"
"""Name of the file that remembers what earlier runs have spent."""


@dataclass(frozen=True)
class Prices:
    """What tokens cost, in USD per million."""

    tokens_in: float
    """Tokens of prompts."""
    tokens_out: float
    """Tokens of answers."""

    @classmethod
    def of(cls, tokens_in: float | None, tokens_out: float | None) -> Prices | None:
        """The prices of settings; None where one of the two is not known."""
        return None if tokens_in is None or tokens_out is None else cls(tokens_in, tokens_out)

    def usd(self, usage: Usage) -> float:
        """The cost of `usage` in USD.

        >>> Prices(2.5, 10).usd(Usage(1_000_000, 100_000))
        3.5
        """
        return (usage.tokens_in * self.tokens_in + usage.tokens_out * self.tokens_out) / 1e6


@dataclass(frozen=True)
class Amount:
    """Something spent, set aside or allowed."""

    calls: int = 0
    """Requests that were answered, or may have been charged."""
    tokens: int = 0
    """Tokens in and out."""
    usd: float = 0.0
    """Money; 0 without prices."""

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.calls + other.calls, self.tokens + other.tokens, self.usd + other.usd)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.calls - other.calls, self.tokens - other.tokens, self.usd - other.usd)


@dataclass(eq=False)
class _Turn:
    """A request that waits for room in the budget."""

    most: Amount
    loop: asyncio.AbstractEventLoop
    called: asyncio.Event
    refusal: str | None = None


class Budgeted:
    """`llm` with a spending limit.

    Each call first sets aside the most it may take: the guessed length of its prompt and `max_tokens`. It waits while only calls
    under way stand in its way, since they mostly take less than they set aside; it is refused when what has been spent leaves no
    room for it, and from then on so is every other, short ones too: which rows are left out depends on their order alone.

    Args:
        llm: who is asked.
        calls: most calls; None without limit, as below.
        tokens: most tokens, of prompts and answers together.
        usd: most money; needs `prices`.
        prices: what tokens cost.
        thinking_tokens: tokens that an answer may take beyond the limit of its request.
        folder: when given, what earlier runs with this folder have spent counts too, and this run's is added to it.

    Raises:
        BadConfig: a limit is negative, or one of money has no prices.
    """

    def __init__(
        self,
        llm: LLM,
        *,
        calls: int | None = None,
        tokens: int | None = None,
        usd: float | None = None,
        prices: Prices | None = None,
        thinking_tokens: int = 0,
        folder: Path | None = None,
    ):
        for name, limit in (("calls", calls), ("tokens", tokens), ("usd", usd)):
            check(limit is None or limit >= 0, f"llm.budget_{name}", ">= 0", limit)
        if usd is not None and prices is None:
            prices_in_out = f"{option('llm.price_in')} and {option('llm.price_out')}"
            raise BadConfig(f"A budget in USD needs prices. Set {prices_in_out}, in USD per million tokens.")
        self.llm, self.name, self.prices = llm, llm.name, prices
        self._thinking_tokens = thinking_tokens
        self._limits = {"calls": calls, "tokens": tokens, "usd": usd}
        self._ledger = None if folder is None else _Ledger(folder)
        self._spent = self._ledger.read() if self._ledger else Amount()
        self._aside = Amount()
        self._refusal: str | None = None
        self._lock = threading.Lock()
        self._waiting: deque[_Turn] = deque()

    @property
    def spent(self) -> Amount:
        """What has been spent so far, earlier runs with the same folder included."""
        return self._spent

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model.

        Raises:
            BudgetSpent: the call would exceed the budget; it was not made.
        """
        most = self._amount(Usage(tokens_asked(request), request.max_tokens + self._thinking_tokens))
        await self._set_aside(most)
        took = Amount()
        try:
            reply = await self.llm.acomplete(request)
            if reply.is_charged:
                took = self._amount(reply.usage)
            return reply
        finally:
            self._settle(most, took)

    async def aclose(self) -> None:
        """Close the ledger and what is behind."""
        if self._ledger:
            self._ledger.store.close()
        await aclose(self.llm)

    def _amount(self, usage: Usage) -> Amount:
        usd = self.prices.usd(usage) if self.prices else 0.0
        return Amount(1, usage.tokens_in + usage.tokens_out, usd)

    async def _set_aside(self, most: Amount) -> None:
        turn = _Turn(most, asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.append(turn)
            self._admit()
        try:
            await turn.called.wait()
        except asyncio.CancelledError:
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                elif turn.refusal is None:
                    self._aside -= most
                self._admit()
            raise
        if turn.refusal is not None:
            raise BudgetSpent(turn.refusal)

    def _settle(self, most: Amount, took: Amount) -> None:
        if self._ledger and took.calls:
            self._ledger.add(took)
        with self._lock:
            self._aside -= most
            self._spent += took
            self._admit()

    def _admit(self) -> None:
        """Call those who wait, in their order, as far as there is room; the lock is held."""
        while self._waiting:
            turn = self._waiting[0]
            self._refusal = self._refusal or self._over(self._spent + turn.most)
            if self._refusal is None:
                if self._over(self._spent + self._aside + turn.most) is not None:
                    return
                self._aside += turn.most
            turn.refusal = self._refusal
            self._waiting.popleft()
            turn.loop.call_soon_threadsafe(turn.called.set)

    def _over(self, amount: Amount) -> str | None:
        """The sentence that says which limit `amount` is over; None when it is over none."""
        for name, limit in self._limits.items():
            if limit is not None and getattr(amount, name) > limit + 1e-9:
                spent = getattr(self._spent, name)
                amounts = f"{spent:.4f} of {limit} USD" if name == "usd" else f"{spent} of {limit} {name}"
                limit_of = option(f"llm.budget_{name}")
                return f"The budget of {self.name} is spent: {amounts}. Raise {limit_of} to go on where this run stopped."
        return None


class _Ledger:
    """What all runs with a folder have spent, together."""

    def __init__(self, folder: Path):
        self.store = Store(
            folder / FILE,
            "CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY, calls INTEGER, tokens INTEGER, usd REAL)",
        )

    def read(self) -> Amount:
        rows = self.store.run("SELECT calls, tokens, usd FROM spent WHERE id = 1")
        return Amount(*rows[0]) if rows else Amount()  # type: ignore[arg-type]

    def add(self, took: Amount) -> None:
        self.store.run(
            "INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0.0)",
            "UPDATE spent SET calls = calls + ?, tokens = tokens + ?, usd = usd + ? WHERE id = 1",
            values=(took.calls, took.tokens, took.usd),
        )
