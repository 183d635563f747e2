"""How fast the chain of a model is built, against the plain loop over states, and how far T and K go.

    python benchmarks/markov.py      writes docs/results/bench-markov.json; with --only it prints a part

Times are CPU seconds on one thread, each part in one run; ratios are what to look at.
"""

from __future__ import annotations

import resource
import sys
import time
from functools import partial
from typing import Any

import numpy as np
import torch
from common.record import main

from gnomon.core.rng import Rng
from gnomon.methods.markov import Chain, StateSpace
from gnomon.methods.markov.chain import analyse, score_model
from gnomon.methods.markov.mini import llama

SIZES = ((2, 8), (2, 12), (4, 6), (10, 4))
"""(T, K) that are built in every way."""

LARGE = ((2, 16), (2, 20), (10, 6))
"""(T, K) that are built and analysed in our way alone."""


def plain(model: Any, space: StateSpace) -> np.ndarray:
    """Each state by itself."""
    rows = []
    with torch.no_grad():
        for i in range(len(space)):
            rows.append(model(torch.tensor([space.state(i)]), use_cache=False).logits[0, -1].numpy())
    return np.array(rows)


def by_length(model: Any, space: StateSpace) -> np.ndarray:
    """All states of one length as batches, without a cache."""
    found = []
    with torch.no_grad():
        for length in range(1, space.window + 1):
            for start in range(0, space.tokens**length, 4096):
                stop = min(start + 4096, space.tokens**length)
                ids = torch.from_numpy(space.block(length, start, stop))
                found.append(model(ids, use_cache=False).logits[:, -1].numpy())
    return np.concatenate(found)


def building() -> list[dict[str, Any]]:
    """Three ways to the same logits."""
    rows = []
    for tokens, window in SIZES:
        space = StateSpace(tokens, window)
        model = llama(tokens, 64, 3, 4, 64, Rng(0)).eval()
        seconds, found = {}, {}
        for name, way in (
            ("plain loop", partial(plain, model, space)),
            ("batches by length", partial(by_length, model, space)),
            ("walk over the tree", partial(score_model, model, space, range(tokens))),
        ):
            start = time.process_time()
            found[name] = way()
            seconds[name] = time.process_time() - start
        for name in found:
            assert np.allclose(found[name], found["plain loop"], atol=1e-5), name
        row: dict[str, Any] = {"T": tokens, "K": window, "states": len(space), "seconds": seconds}
        row["times plain"] = seconds["plain loop"] / seconds["walk over the tree"]
        row["times batches"] = seconds["batches by length"] / seconds["walk over the tree"]
        rows.append(row)
    return rows


def reach() -> list[dict[str, Any]]:
    """States scored, and one temperature analysed in full, with the memory of the whole process so far."""
    rows = []
    for tokens, window in LARGE:
        space = StateSpace(tokens, window)
        model = llama(tokens, 64, 3, 4, 64, Rng(0)).eval()
        start = time.process_time()
        logits = score_model(model, space, range(tokens))
        scored = time.process_time()
        found = analyse(Chain.from_logits(space, logits), 1.0, steps=3 * window)
        done = time.process_time()
        rows.append(
            {
                "T": tokens,
                "K": window,
                "full-length states": space.full,
                "scoring_s": scored - start,
                "analysis_s": done - scored,
                "bound violations": found.row["bound violations"],
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
        print(rows[-1], flush=True)
    return rows


PARTS = {"building": building, "reach": reach}


if __name__ == "__main__":
    sys.exit(main("markov", __doc__, PARTS))
