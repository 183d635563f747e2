"""All token sequences of length 1..K as numbers: by length, then lexicographically. No table, arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gnomon.core.config import option
from gnomon.errors import BadConfig, BadInput

Ints = NDArray[np.int64]

LIMIT = 100_000_000
"""Numbers of a transition matrix, states times tokens, beyond which a chain is refused, unless the caller raises the limit."""

PER_NUMBER, PER_STATE, PER_FOLLOWED = 100, 64, 24
"""Bytes that a chain and its analysis take for each number, each state, and each state of a distribution that is followed, at most:
10 tokens in a window of 5 took .25 GiB, 100 in one of 2 .08, and 2 in one of 18 .47."""


@dataclass(frozen=True)
class StateSpace:
    """The states of a model that writes T different tokens and sees the last K.

    Tokens are numbered 0..T-1 here; which ids of a vocabulary they are is not the space's business.

    Raises:
        BadConfig: T or K is too small, or the matrix has more numbers than the limit.

    >>> space = StateSpace(2, 3)
    >>> len(space), space.index([0]), space.index([1, 1, 1]), space.state(7)
    (14, 0, 13, (0, 0, 1))
    """

    tokens: int
    """T, at least 2."""
    window: int
    """K, at least 1."""
    limit: int = LIMIT
    """Most numbers of the matrix, states times T."""

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise BadConfig(f"A chain needs at least 2 tokens; got {self.tokens}.")
        if self.window < 1:
            raise BadConfig(f"window must be >= 1; got {self.window}.")
        if self.numbers > self.limit:
            raise BadConfig(
                f"{self.tokens} tokens and a window of {self.window} make {_count(self.offset(self.window + 1))} states and "
                f"{_count(self.numbers)} transitions, more than the limit of {self.limit:,}. "
                f"Choose a smaller window or fewer tokens, or raise {option('limit')}."
            )

    @property
    def full(self) -> int:
        """Number of states of length K, T^K; the only ones a long text visits."""
        return int(self.tokens**self.window)

    @property
    def numbers(self) -> int:
        """Numbers of the transition matrix: T for each state."""
        return self.offset(self.window + 1) * self.tokens

    @property
    def memory(self) -> int:
        """Bytes that the chain and its analysis take at most, the model apart."""
        states = self.offset(self.window + 1)
        return PER_NUMBER * self.numbers + PER_STATE * states + PER_FOLLOWED * min(64 * states, 2**24)

    def check_memory(self, free: int | None) -> None:
        """Refuse a chain for which the memory does not suffice.

        Args:
            free: bytes; None: not known, and nothing is refused.

        Raises:
            BadConfig: it takes more.
        """
        if free is not None and self.memory > free:
            raise BadConfig(
                f"The chain of {self.tokens} tokens and a window of {self.window} has {self.numbers:,} transitions and takes about "
                f"{self.memory / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free. Choose a smaller window or fewer tokens."
            )

    def __len__(self) -> int:
        return self.offset(self.window + 1)

    def offset(self, length: int) -> int:
        """Number of states shorter than `length`, which is the index of the first state of that length."""
        return int((self.tokens**length - self.tokens) // (self.tokens - 1))

    def index(self, state: Sequence[int]) -> int:
        """The number of a state.

        Raises:
            BadInput: the state is empty, too long, or has a token that is not in 0..T-1.
        """
        if not 1 <= len(state) <= self.window or not all(0 <= x < self.tokens for x in state):
            raise BadInput(
                f"A state has 1 to {self.window} tokens, each in 0..{self.tokens - 1}; got {list(state)}."
            )
        value = 0
        for token in state:
            value = value * self.tokens + token
        return self.offset(len(state)) + value

    def state(self, index: int) -> tuple[int, ...]:
        """The state with the given number.

        Raises:
            BadInput: there is no such state.
        """
        if not 0 <= index < len(self):
            raise BadInput(f"There are {len(self):,} states, numbered from 0; got {index}.")
        length = next(n for n in range(1, self.window + 1) if index < self.offset(n + 1))
        return tuple(self.block(length)[index - self.offset(length)].tolist())

    def block(self, length: int, start: int = 0, stop: int | None = None) -> Ints:
        """States of one length as a matrix of tokens, `[N, length]`, in order; rows `start` to `stop` of them."""
        stop = self.tokens**length if stop is None else stop
        values = np.arange(start, stop, dtype=np.int64)[:, None]
        powers = self.tokens ** np.arange(length - 1, -1, -1, dtype=np.int64)
        digits: Ints = values // powers % self.tokens
        return digits

    def successors(self) -> Ints:
        """State after each state and token, `[S, T]`: the token is appended, and a window too long loses its first."""
        after = [np.empty((0, self.tokens), dtype=np.int64)]
        tokens = np.arange(self.tokens, dtype=np.int64)
        for length in range(1, self.window + 1):
            grown = np.arange(self.tokens**length, dtype=np.int64)[:, None] * self.tokens + tokens
            if length < self.window:
                after.append(self.offset(length + 1) + grown)
            else:
                after.append(self.offset(length) + grown % self.full)
        return np.concatenate(after)

    def label(self, index: int, names: Sequence[str] | None = None) -> str:
        """A state in words: its tokens' names, with spaces between unless all are single characters."""
        names = names or [str(token) for token in range(self.tokens)]
        joint = "" if all(len(name) == 1 for name in names) else " "
        return joint.join(names[token] for token in self.state(index))


def _count(n: int) -> str:
    return f"{n:,}" if n < 10**12 else f"about 10^{int(n.bit_length() * math.log10(2))}"
