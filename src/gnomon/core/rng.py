"""Random numbers by name: one seed per run, a named child per purpose.

A child depends on the seed and its names alone, so one more random choice somewhere does not shift the others, and the
same piece of work draws the same numbers in whichever process it runs.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Rng:
    """A named place in the tree of random streams that grows from one seed.

    >>> Rng(0).child("shuffle", 3) == Rng(0).child("shuffle").child(3)
    True
    >>> Rng(0).child("a").python().random() != Rng(0).child("b").python().random()
    True
    """

    seed: int
    """The run's seed."""
    path: tuple[str | int, ...] = ()
    """Names from the root to this place."""

    def child(self, *names: str | int) -> Rng:
        """The place below this one with the given names."""
        return Rng(self.seed, self.path + names)

    @property
    def key(self) -> int:
        """A 64-bit number that is a function of seed and path only."""
        text = repr((self.seed, self.path)).encode()
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def python(self) -> random.Random:
        """A fresh standard-library generator."""
        return random.Random(self.key)

    def numpy(self) -> np.random.Generator:
        """A fresh NumPy generator."""
        import numpy as np

        return np.random.default_rng(self.key)

    def torch(self, device: str = "cpu") -> torch.Generator:
        """A fresh torch generator on `device`."""
        import torch

        return torch.Generator(device).manual_seed(self.key & (2**63 - 1))


@contextmanager
def seeded(rng: Rng, device: torch.device | None = None) -> Iterator[None]:
    """Inside the `with`, torch's global streams draw what `rng` says; after it, what they would have drawn.

    For code of others that takes no generator: initial weights, dropout.

    Args:
        rng: where the draws come from.
        device: a GPU whose stream is meant too; None: the CPU's alone.
    """
    import torch

    with torch.random.fork_rng(devices=[device] if device is not None and device.type == "cuda" else []):
        torch.manual_seed(rng.key & (2**63 - 1))
        yield
