"""Trains a small retriever in a process of its own: `fixtures_interleaved_training.py FOLDER OPTIONS`, OPTIONS as JSON."""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from fixtures_interleaved import new_encoder, small_documents, small_queries
from fixtures_training import SmallRun
from gnomon.core.train import TrainConfig
from gnomon.methods.interleaved_retrieval import Pair, Retrieving, Training, train_retriever
from gnomon.methods.interleaved_retrieval.encoding.training import with_adapters


def train(folder, *, steps=3, batch=4, merge="mean", pick="last", lora=None, every=0, negatives=0, **options):
    """Weights and losses after a few steps; five pairs, the fifth with the document of the first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = new_encoder(Retrieving(merge=merge, pick=pick))
        if lora:
            encoder = with_adapters(encoder, lora)
    documents = small_documents(4)
    numbers = [0, 1, 2, 3, 0]
    pairs = [Pair(q, i, 1) for q, i in zip(small_queries(5), numbers, strict=True)]
    cfg = TrainConfig(
        lr=1e-3,
        batch_size=batch,
        max_steps=steps,
        epochs=100,
        checkpoint_every=every,
        warmup_steps=0,
        schedule="constant",
    )
    history = train_retriever(
        encoder,
        documents,
        pairs,
        cfg,
        run=SmallRun(Path(folder)),
        options=Training(negatives=negatives, **options),
    )
    return encoder, history


if __name__ == "__main__":
    encoder, history = train(sys.argv[1], **json.loads(sys.argv[2]))
    if int(__import__("os").environ.get("RANK", "0")) == 0:
        state = {k: v.clone().contiguous() for k, v in encoder.handle.model.state_dict().items()}
        save_file(state, Path(sys.argv[1]) / "weights.safetensors")
        (Path(sys.argv[1]) / "losses.json").write_text(json.dumps(history.curve("loss")))
