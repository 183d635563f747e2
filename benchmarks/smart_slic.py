"""NMFk against scikit-learn's multiplicative updates at equal work, and a ranking on the graph against a loop over its rows.

    python benchmarks/smart_slic.py      writes docs/results/bench-smart-slic.json; with --only it prints a part

Times are CPU seconds on one thread, both sides in one run; ratios are what to look at.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from common.record import main

from gnomon.core.retrieval.graph import Edge, Has, Node, Statement, build_graph
from gnomon.methods.smart_slic import NMFk, Options

COPIES, ITERATIONS, K = 5, 100, 8


def factors() -> dict[str, Any]:
    """Perturbed copies of a sparse matrix, factorised with the same starting method and as many updates."""
    from sklearn.decomposition import NMF

    draw = np.random.default_rng(0)
    topics = draw.dirichlet(np.full(3000, 0.03), K)
    columns = [draw.multinomial(120, topics[i % K]) for i in range(1500)]
    X = sp.csr_matrix(np.stack(columns, 1).astype(float))
    start = time.process_time()
    result = NMFk(Options(copies=COPIES, iterations=ITERATIONS)).fit(X, [K])
    ours = time.process_time() - start
    start = time.process_time()
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that it did not converge, which is what a fixed number of updates means
        for _ in range(COPIES):
            copy = X.copy()
            copy.data *= draw.uniform(0.7, 1.3, len(copy.data))
            model = NMF(K, solver="mu", init="nndsvd", max_iter=ITERATIONS, tol=0, random_state=0)
            W = model.fit_transform(copy)
            errors.append(float(np.linalg.norm(X - W @ model.components_) / sp.linalg.norm(X)))
    theirs = time.process_time() - start
    return {
        "matrix": list(X.shape),
        "entries": int(X.nnz),
        "ours_s": ours,
        "scikit_learn_s": theirs,
        "ratio": theirs / ours,
        "our_error": result.fit.error,
        "their_errors": errors,
        "note": "ours includes clustering, silhouettes and the regression; theirs the errors",
    }


def ranking() -> dict[str, Any]:
    """The five authors with the most papers: counts of columns, and a loop over the rows."""
    draw = np.random.default_rng(0)
    edges = [
        Edge(Node("Author", f"a{int(a)}"), "wrote", Node("Document", f"d{i}"), "authors", f"d{i}")
        for i in range(4000)
        for a in set((draw.pareto(1.2, 4) * 30).astype(int).tolist())
    ]
    statements = [Statement(node, edge.row) for edge in edges for node in (edge.head, edge.tail)]
    graph = build_graph(Path(tempfile.mkdtemp()) / "graph", statements, edges)
    graph.top("Author", Has("wrote"), k=5)  # columns are made once
    start = time.process_time()
    for _ in range(200):
        top = graph.top("Author", Has("wrote"), k=5)
    ours = (time.process_time() - start) / 200
    start = time.process_time()
    for _ in range(5):
        papers = defaultdict(set)
        for edge in edges:
            papers[edge.head].add(edge.tail)
        loop = sorted(((node, len(p)) for node, p in papers.items()), key=lambda row: (-row[1], row[0]))[:5]
    theirs = (time.process_time() - start) / 5
    assert list(top.rows) == loop
    return {"edges": len(edges), "ours_ms": 1000 * ours, "loop_ms": 1000 * theirs, "ratio": theirs / ours}


if __name__ == "__main__":
    sys.exit(main("smart-slic", __doc__, {"factors": factors, "ranking": ranking}))
