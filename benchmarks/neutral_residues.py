"""What a training step and a pass of an extended model cost, against full fine-tuning and the plain model.

    python benchmarks/neutral_residues.py      writes docs/results/bench-neutral-residues.json

One Llama with random weights, wide enough that matrix products take most of the time, on one thread. Times are CPU seconds,
the median of rounds in which the ways take turns; ratios are what to look at. Optimiser memory is counted from its tensors.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.train.losses import token_cross_entropy
from gnomon.core.train.optim import decay_groups, make_adamw
from gnomon.methods.neutral_residues import Design, Extended, extend, prepare
from gnomon.methods.neutral_residues.extension import METHODS, count

SIZE = {"hidden": 512, "layers": 6, "heads": 8, "max_length": 512}
BATCH, LENGTH = 4, 256


def base() -> Any:
    """The backbone."""
    tokenizer = train_bpe(["def add(a, b):\n    return a + b\n"], 300)
    model = new_llama(tokenizer, **SIZE, generator=Rng(0))  # type: ignore[arg-type]
    model.resize_token_embeddings(4000, mean_resizing=False)
    return model


def training() -> dict[str, Any]:
    """A step of each method: forward, backward, AdamW."""
    ids = torch.randint(0, 4000, (BATCH, LENGTH), generator=Rng(1).torch())
    domain = torch.tensor([0, 1, 1, 1])
    ways, memory, weights = {}, {}, {}
    for method in METHODS:
        model = prepare(copy.deepcopy(base()), method, Design()).train()
        optimizer = make_adamw(decay_groups(model, 0.01), 1e-4)

        def step(model: Any = model, optimizer: Any = optimizer) -> None:
            if isinstance(model, Extended):
                loss = model(ids, labels=ids, domain=domain).loss
            else:
                loss = token_cross_entropy(model(input_ids=ids, use_cache=False).logits, ids, "token_mean")
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        step()
        held = sum(
            t.numel() * t.element_size()
            for s in optimizer.state.values()
            for t in s.values()
            if torch.is_tensor(t)
        )
        ways[method], memory[method], weights[method] = step, held / 2**20, count(model, trainable=True)
    seconds = take_turns(ways, rounds=7)
    return {
        "seconds a step": seconds,
        "share of full fine-tuning": {name: value / seconds["full"] for name, value in seconds.items()},
        "trained weights": weights,
        "optimiser memory, MiB": memory,
    }


def inference() -> dict[str, Any]:
    """Reading a long prompt: the plain model, blocks with open gates, and blocks whose gates are shut for most tokens."""
    ids = torch.randint(0, 4000, (BATCH, LENGTH), generator=Rng(1).torch())
    plain, opened, shut = base().eval(), extend(base(), Design()).eval(), extend(base(), Design()).eval()
    for model, bias in ((opened, 3.0), (shut, -3.0)):
        with torch.no_grad():
            for i, block in enumerate(model.blocks):
                block.out.weight.normal_(std=0.02, generator=Rng(2).child(i).torch())
                block.gate.bias.fill_(bias)  # type: ignore[union-attr]

    def read(model: Any) -> None:
        with torch.no_grad():
            model(input_ids=ids, use_cache=False)

    seconds = take_turns(
        {
            "plain": lambda: read(plain),
            "gates open": lambda: read(opened.model),
            "gates shut": lambda: read(shut.model),
        },
        rounds=9,
    )
    return {
        "seconds": seconds,
        "times plain": {name: value / seconds["plain"] for name, value in seconds.items()},
    }


if __name__ == "__main__":
    MODEL = {"class": "LlamaForCausalLM", **SIZE, "weights": "random"}
    sys.exit(main("neutral-residues", __doc__, {"training": training, "inference": inference}, model=MODEL))
