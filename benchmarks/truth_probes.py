"""How fast answers and their states are had, against one at a time with all states kept; and a grid of probes.

    python benchmarks/truth_probes.py      writes docs/results/bench-truth-probes.json; with --only it prints a part

One Llama with random weights on one thread. Times are CPU seconds of the process; ratios are what to look at.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common.record import main
from sklearn.linear_model import LogisticRegression

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.truth_probes import Answering, Capture, Question, RepStore, collect, represent
from gnomon.methods.truth_probes.probes import fit_cells

QUESTIONS, K, NEW = 16, 10, 16
POSITIONS = ("last_q", "first_answer", "-1")


def make_handle() -> ModelHandle:
    """A model wide enough that matrix products take most of the time; no token ends a text."""
    tokenizer = train_bpe(["which of these is it and why"], 300)
    model = new_llama(tokenizer, hidden=256, layers=6, heads=8, max_length=512, generator=Rng(0))
    tokenizer.eos_token = None
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    return ModelHandle(model.eval(), tokenizer)


def make_questions() -> list[Question]:
    """Questions of different lengths."""
    return [
        Question("which of these is it? " + "and why " * (3 + i % 8), "x", id=str(i))
        for i in range(QUESTIONS)
    ]


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and the result."""
    before = time.process_time()
    found = way()
    return time.process_time() - before, found


def plain(handle: ModelHandle, questions: list[Question]) -> list[np.ndarray]:
    """Every sample by `model.generate`, alone; a second pass with all hidden states; then the wanted ones."""
    found = []
    for question in questions:
        ids = handle.processor(f"Q: {question.question}\nA:", return_tensors="pt")["input_ids"]
        for _ in range(K):
            with torch.no_grad():
                whole = handle.model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=True,
                    max_new_tokens=NEW,
                    pad_token_id=0,
                )
                states = handle.model(whole, output_hidden_states=True, use_cache=False).hidden_states
            kept = torch.stack(states[1:])[:, 0]
            found.append(kept[:, [ids.shape[1] - 1, ids.shape[1], -1]].numpy())
    return found


def ours(handle: ModelHandle, questions: list[Question]) -> RepStore:
    """All samples with the prompt read once, and the wanted states in one batched pass."""
    answers = collect(
        handle, None, questions, Answering(samples=K, max_new_tokens=NEW, stop=(), batch_size=80)
    )
    return represent(handle, None, answers, Capture(site="residual", positions=POSITIONS))


def answering() -> dict[str, Any]:
    """Samples and states."""
    handle, questions = make_handle(), make_questions()
    ours(handle, questions[:1]), plain(handle, questions[:1])
    seconds = {}
    seconds["one by one"], kept = timed(lambda: plain(handle, questions))
    seconds["gnomon"], store = timed(lambda: ours(handle, questions))
    assert len(kept) == len(store.states) == QUESTIONS * K
    return {
        "questions": QUESTIONS,
        "samples": K,
        "new_tokens": NEW,
        "cpu_seconds": seconds,
        "times_faster": seconds["one by one"] / seconds["gnomon"],
        "kept_bytes_per_answer": {
            "all states": int(6 * (30 + NEW) * 256 * 4),
            "gnomon": int(store.states[0].nbytes),
        },
    }


def probing() -> dict[str, Any]:
    """A grid of probes, against scikit-learn's defaults on raw features cell by cell."""
    rng = np.random.default_rng(0)
    n, layers, positions, width = 1000, 6, 4, 256
    z = rng.integers(0, 2, n)
    base = rng.normal(0, 1, (n, 1, positions, width)) + 0.3 * z[:, None, None, None] * (np.arange(width) < 20)
    states = (base + 0.3 * rng.normal(0, 1, (n, layers, positions, width))) * rng.uniform(0.1, 10, width)
    names = tuple(f"p{i}" for i in range(positions))
    store = RepStore(
        states.astype(np.float16),
        "m",
        "k",
        "mlp",
        tuple(range(layers)),
        names,
        tuple((str(i), 0, 0) for i in range(n)),
    )
    rows = np.arange(n)

    def raw() -> None:
        for layer in range(layers):
            for name in names:
                LogisticRegression(max_iter=2000).fit(store.at(layer, name), z)

    seconds = {}
    seconds["cell by cell, raw features"], _ = timed(raw)
    seconds["gnomon: standardised, warm starts"], _ = timed(lambda: fit_cells(store, z, rows))
    before, after = seconds.values()
    return {
        "answers": n,
        "cells": layers * positions,
        "width": width,
        "cpu_seconds": seconds,
        "times_faster": before / after,
    }


PARTS = {"answering": answering, "probing": probing}


if __name__ == "__main__":
    sys.exit(main("truth-probes", __doc__, PARTS))
