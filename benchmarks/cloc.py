"""What a hundred boxes cost beside one encoding of their image: the Prompter, the naive layer, and a crop a box.

    python benchmarks/cloc.py      writes docs/results/bench-cloc.json; with --only it runs and prints a part

One thread. A CLIP of B/16's sizes with random weights, 224 pixels. Times are CPU seconds, medians of rounds in which the ways take
turns; ratios are what to look at. Crops are timed for eight boxes and multiplied.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from common.record import main
from common.timing import take_turns

from gnomon.core.rng import Rng
from gnomon.methods.cloc import Prompter, Shape
from gnomon.methods.cloc.mini.world import Scale, new_dual
from gnomon.methods.cloc.regions.towers import Towers

BOXES, CROPS = 100, 8


def boxes() -> dict[str, Any]:
    """An image and a hundred boxes of it."""
    scale = replace(Scale(), side=224, patch=16, width=768, layers=12)
    towers = Towers(*new_dual(scale, Rng(0)))
    prompter = Prompter(towers.width, towers.joint).eval()
    naive = Prompter(towers.width, towers.joint, Shape("all")).eval()
    naive.load_state_dict(copy.deepcopy(prompter.state_dict()))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    corners = torch.rand(BOXES, 4, generator=torch.Generator().manual_seed(1))

    @torch.no_grad()
    def encode() -> torch.Tensor:
        return towers.see(pixels).tokens

    @torch.no_grad()
    def prompted(layer: Prompter) -> torch.Tensor:
        tokens = encode()
        return layer(layer.box_prompts(corners)[None], tokens)

    @torch.no_grad()
    def crops() -> None:
        for _ in range(CROPS):
            towers.see(pixels)

    ways = {
        "encoding alone": encode,
        "and 100 boxes": lambda: prompted(prompter),
        "and 100 boxes, all tokens": lambda: prompted(naive),
        "crops": crops,
    }
    times = take_turns(ways, 5)
    alone = times["encoding alone"]
    return {
        "cpu_seconds": times,
        "100 boxes over the encoding alone": times["and 100 boxes"] / alone,
        "100 boxes, all tokens, over the encoding alone": times["and 100 boxes, all tokens"] / alone,
        "100 crops over the encoding alone": times["crops"] / CROPS * BOXES / alone,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    raise SystemExit(main("cloc", __doc__, {"boxes": boxes}))
