"""The vectors of a large corpus, worked out in shards by any number of processes, and kept in Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomon.core.data.execute import Engine, Rejected, Totals, map_shards, parts
from gnomon.core.log import Advances
from gnomon.core.retrieval.encoders.text import TextEncoder
from gnomon.core.retrieval.passages import Passage
from gnomon.errors import BadInput

SHARD_ROWS = 1024
"""Passages a shard."""


@dataclass(frozen=True)
class _Encode:
    """The step: passages to rows of id and vector."""

    encoder: TextEncoder
    suffix = ".parquet"

    def __call__(self, passages: Iterator[Passage]) -> Iterator[Any]:
        texts: list[str] = []
        ids: list[str] = []
        for passage in passages:
            if passage.text.strip():
                ids.append(passage.id)
                texts.append(passage.text)
            else:
                yield Rejected("The passage is empty.", {"id": passage.id})
        vectors = self.encoder.encode(texts) if texts else ()
        for name, vector in zip(ids, vectors, strict=True):
            yield {"id": name, "vector": vector.tolist()}


def encode_corpus(
    encoder: TextEncoder,
    passages: Iterable[Passage],
    folder: Path,
    *,
    engine: Engine = "local",
    workers: int = 1,
    shard_rows: int = SHARD_ROWS,
    progress: Advances | None = None,
) -> Totals:
    """Encode passages into `folder`, one Parquet file a shard; a job that was killed goes on with the shards that are missing.

    Args:
        encoder: with several processes each loads its own.
        passages: read once, in order, and never held in memory as a whole. Empty ones are left out, with their ids in `_rejected`.
        folder: where the parts lie.
        engine: `local` processes, or `ray`.
        workers: number of processes; 1 with `local` runs in this process.
        shard_rows: passages a shard.
        progress: told the number of passages done.

    Raises:
        BadConfig: the folder was made with another encoder or from other passages.
        WorkLost: a worker process died; finished shards are kept.
    """
    settings = {"encoder": encoder.fingerprint, "too_long": encoder.too_long}
    return map_shards(
        _Encode(encoder),
        passages,
        folder,
        engine=engine,
        workers=workers,
        shard_rows=shard_rows,
        settings=settings,
        progress=progress,
    )


def read_vectors(folder: Path) -> tuple[list[str], NDArray[np.float32]]:
    """Ids and vectors [N, D] of a folder that `encode_corpus` filled, in the order of the passages.

    Raises:
        BadInput: nothing is there.
    """
    tables = [table for path in parts(folder, ".parquet") if (table := pq.read_table(path)).num_rows]
    if not tables:
        raise BadInput(f'There are no vectors in "{folder}".')
    ids = [name for table in tables for name in table.column("id").to_pylist()]
    rows = [np.stack(table.column("vector").to_numpy()).astype(np.float32) for table in tables]
    return ids, np.concatenate(rows)
