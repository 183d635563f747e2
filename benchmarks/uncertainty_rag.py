"""What scoring pairs costs: first chunks read once against plain passes, windows at once against a loop, memory of sliced logits.

    python benchmarks/uncertainty_rag.py      writes docs/results/bench-uncertainty-rag.json; with --only it runs and prints a part

One thread. A Llama with random weights. Times are CPU seconds, medians of rounds in which the ways take turns; ratios are what
to look at.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.models.sampling.likelihood import token_logprobs
from gnomon.core.rng import Rng
from gnomon.methods.uncertainty_rag import LocalReader, Span, calibrated, uncertainty

SIZE = {"hidden": 256, "layers": 4, "heads": 4, "max_length": 1024}
WORDS = 49_152
"""As SmolLM2 has."""


def handle() -> ModelHandle:
    """The model that scores."""
    tokenizer = train_bpe(["The mill was sold to a baker.\n"], 300)
    model = new_llama(tokenizer, **SIZE, generator=Rng(0))  # type: ignore[arg-type]
    model.resize_token_embeddings(4000, mean_resizing=False)
    return ModelHandle(model.eval(), tokenizer)


def grouped() -> dict[str, Any]:
    """Sixteen anchors of 64 tokens behind each of four candidates, read with the candidate's cache and without."""
    lm, draw = handle(), np.random.default_rng(0)
    chunks = draw.integers(3, 4000, (20, 64)).tolist()
    pairs = [(chunks[c], chunks[4 + a]) for c in range(4) for a in range(16)]
    ways = {name: LocalReader(lm, grouped=name == "grouped") for name in ("plain", "grouped")}
    results = {name: reader.read(pairs) for name, reader in ways.items()}
    gap = max(
        float(np.abs(a.joint - b.joint).max())
        for a, b in zip(results["plain"], results["grouped"], strict=True)
    )
    seconds = take_turns({n: lambda r=r: r.read(pairs) for n, r in ways.items()}, 5)
    return {
        "cpu_seconds": seconds,
        "times_faster": seconds["plain"] / seconds["grouped"],
        "largest_difference": gap,
    }


def windows() -> dict[str, Any]:
    """Ten thousand pairs of 600 tokens; the loop over a hundredth of them, scaled up."""
    draw = np.random.default_rng(0)
    rows = [draw.exponential(2, 600) for _ in range(10_000)]
    span = calibrated(rows[:200], Span())

    def loop() -> None:
        for row in rows[:100]:
            parts = [row[j : j + 20] for j in range(len(row) - 19)]
            kept = [p.mean() for p in parts if p.mean() / (p.std() + 1e-6) < span.sigma]
            np.mean(kept)

    began = time.process_time()
    uncertainty(rows, span)
    ours = time.process_time() - began
    seconds = take_turns({"loop over windows": loop}, 1)["loop over windows"] * 100
    return {
        "cpu_seconds": {"at once": ours, "loop over windows": seconds},
        "times_faster": seconds / ours,
    }


def peak(way: str) -> float:
    """MiB beyond what the process holds: the log-probabilities of 8 texts of 600 tokens, whole or in slices of time."""
    torch.set_num_threads(1)
    model = new_llama(WORDS, 64, 1, 2, 700, Rng(0)).eval()
    ids = torch.randint(0, WORDS, (8, 600), generator=torch.Generator().manual_seed(0))

    @torch.no_grad()
    def whole() -> torch.Tensor:
        logits: Any = model(input_ids=ids, use_cache=False).logits
        return logits.float().log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])

    return peak_over_now(whole if way == "full" else lambda: token_logprobs(model, {"input_ids": ids}, ids))


def memory() -> dict[str, Any]:
    """Peak memory of both ways, with SmolLM2's vocabulary."""
    peaks = in_fresh_processes(peak, ("full", "sliced"))
    return {"mib": peaks, "share": peaks["sliced"] / peaks["full"]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(
        main("uncertainty-rag", __doc__, {"grouped": grouped, "windows": windows, "memory": memory})
    )
