"""How a data step is spread over processes, as settings. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from gnomon.core.config import check


@dataclass(frozen=True, kw_only=True)
class Shards:
    """How a data step is spread over processes."""

    LOOSE: ClassVar[tuple[str, ...]] = ("engine", "workers")

    engine: Literal["local", "ray"] = "local"
    """Where shards are worked on: processes of this machine, or Ray."""
    workers: int = 1
    """Number of worker processes. The output does not depend on it."""
    shard_rows: int = 64
    """Records per shard; a killed job repeats at most the shards it was working on."""

    def __post_init__(self) -> None:
        check(self.workers >= 1, "workers", ">= 1", self.workers)
        check(self.shard_rows >= 1, "shard_rows", ">= 1", self.shard_rows)
