"""Encoding in length-sorted batches of a token budget against file order, and the memory of log-probabilities in slices.

    python benchmarks/encoders.py [--only SECTION ...] [--out docs/results/bench-encoders.json]

all-MiniLM-L6-v2 on the text cells of 28 notebooks, and SmolLM2-135M, both from their packages in float32, one thread. Times are CPU
seconds, the median of rounds in which the ways take turns; memory is the peak over what the loaded model holds.
"""

from __future__ import annotations

import json
import statistics
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.memory import in_fresh_processes, peak_over_now
from common.record import main
from common.timing import take_turns

from gnomon.core.models import load_model
from gnomon.core.models.load import model_at
from gnomon.core.models.sampling.likelihood import token_logprobs
from gnomon.core.retrieval import TextEncoder

NOTEBOOKS = Path(__file__).resolve().parents[2] / "shared" / "data" / "notebooks"
REF, CELLS, BATCH, ROUNDS = "embedded:minilm", 320, 32, 3
ROWS, TOKENS = 4, 512


def sections() -> list[str]:
    """The first text cells of the notebooks, in file order."""
    texts = []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            text = "".join(cell["source"]).strip()
            if cell["cell_type"] == "markdown" and text:
                texts.append(text)
    return texts[:: max(1, len(texts) // CELLS)][:CELLS]


def in_file_order(encoder: TextEncoder, texts: list[str]) -> Any:
    """Batches of 32 as they come, padded to the longest; what is too long is cut."""
    parts: list[Any] = []
    local: Any = encoder.embeds
    for first in range(0, len(texts), BATCH):
        rows = [local.rows(text, "", 0, "cut")[0][0] for text in texts[first : first + BATCH]]
        parts.append(local._forward(rows, 0))
    return torch.nn.functional.normalize(torch.cat(parts), dim=-1).numpy()


def batches() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(str(model_at(REF)), device="cpu")
    encoder, texts = TextEncoder.load(REF, too_long="cut"), sections()
    ways = {
        "file order, batches of 32": partial(in_file_order, encoder, texts),
        "sentence-transformers, batches of 32": partial(theirs.encode, texts, batch_size=BATCH),
        "gnomon, 4,096 tokens": partial(encoder.encode, texts),
    }
    vectors = [np.asarray(way()) for way in ways.values()]
    assert all(np.abs(other - vectors[-1]).max() < 1e-5 for other in vectors)
    seconds = take_turns(ways, ROUNDS)
    ours = seconds["gnomon, 4,096 tokens"]
    local: Any = encoder.embeds
    lengths = [len(local.rows(text, "", 0, "cut")[0][0]) for text in texts]
    return {
        "texts": len(texts),
        "tokens": {"median": statistics.median(lengths), "longest": max(lengths), "all": sum(lengths)},
        "cpu_seconds": seconds,
        "times_faster": {name: value / ours for name, value in seconds.items()},
    }


def likelihood_peak(name: str) -> float:
    """Peak memory in MiB of the log-probabilities of 4 texts of 512 tokens."""
    model = load_model("embedded:smollm2", device="cpu", dtype="float32")
    ids = torch.randint(100, 40_000, (ROWS, TOKENS), generator=torch.Generator().manual_seed(0))

    def whole() -> Any:
        with torch.no_grad():
            values = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[:, :-1].float(), -1)
        return values.gather(-1, ids[:, 1:, None])

    ways = {"whole logits": whole, "slices of time": partial(token_logprobs, model, {"input_ids": ids}, ids)}
    with torch.no_grad():
        model(input_ids=ids[:1, :8])  # what the first pass of all allocates is nobody's
    return peak_over_now(ways[name])


def likelihood() -> dict[str, Any]:
    peaks = in_fresh_processes(likelihood_peak, ["whole logits", "slices of time"])
    return {
        "texts": ROWS,
        "tokens": TOKENS,
        "words": 49_152,
        "peak_mib": peaks,
        "share": peaks["slices of time"] / peaks["whole logits"],
    }


SECTIONS = {"batches": batches, "likelihood": likelihood}

if __name__ == "__main__":
    sys.exit(main("encoders", __doc__, SECTIONS))
