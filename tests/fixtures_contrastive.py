"""A small encoder, pairs of texts, and a script that trains it contrastively in a process of its own.

    python fixtures_contrastive.py FOLDER '{"pieces": 2}'

leaves metrics and `FOLDER/weights.safetensors`.
"""

import json
import os
import sys
from pathlib import Path

import torch

from fixtures_training import SmallRun
from gnomon.core.train import GlobalBatch, TrainConfig, cached_step, fit, gather, info_nce
from gnomon.core.train.contrastive import NOTHING, offset_of, text_ids

QUERIES = [f"which {name}" for name in ("cat", "dog", "elk", "fox", "gnu")]
POSITIVES = ["the cat", "a dog", "the elk", "the cat", "gnus"]  # the fourth says what the first says


def ids_of(text):
    return [ord(letter) - 32 for letter in text][:12]


def small_encoder(dropout=0.0, dtype=torch.float64):
    """A GPT-2 whose mean state is a text's vector."""
    from transformers import GPT2Config, GPT2Model

    rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    sizes = {"vocab_size": 96, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2Model(GPT2Config(**sizes, **rates)).to(dtype)


def encode(model, piece):
    """Unit vectors of a piece of texts."""
    states = model(input_ids=piece["ids"], attention_mask=piece["mask"]).last_hidden_state
    mask = piece["mask"][..., None]
    return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


def collate(texts):
    rows = [ids_of(text) for text in texts]
    width = max(map(len, rows))
    return {
        "ids": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    }


class Pairs:
    """All pairs in every step; each process has its share, the last filled up with pairs that count for nothing."""

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return self.steps

    def at(self, step, process, processes):
        share = -(-len(QUERIES) // processes)
        rows = range(process * share, (process + 1) * share)
        texts = [(QUERIES[i], POSITIVES[i]) if i < len(QUERIES) else (QUERIES[0], POSITIVES[0]) for i in rows]
        counts = torch.tensor([i < len(QUERIES) for i in rows])
        both = collate([q for q, _ in texts] + [p for _, p in texts])
        ids = torch.where(counts, text_ids([p for _, p in texts]), NOTHING)
        places = torch.where(counts, torch.arange(share), NOTHING)
        return GlobalBatch([{**both, "passage": ids, "places": places}], len(QUERIES))


def loss_of(pieces, temperature=0.1, symmetric=False, also=()):
    """The contrastive loss of a share of pairs, embedded in so many pieces."""

    def loss(model, micro):
        n = len(micro["places"])

        def whole(embedded):
            queries, passages = embedded[:n], embedded[n:]
            return info_nce(
                gather(queries), gather(passages), gather(offset_of(micro["places"], n)), gather(micro["passage"]),
                temperature=temperature, symmetric=symmetric,
            )  # fmt: skip

        parts = [
            {"ids": ids, "mask": mask}
            for ids, mask in zip(micro["ids"].chunk(pieces), micro["mask"].chunk(pieces), strict=True)
        ]
        return cached_step(model, lambda piece: encode(model, piece), parts, whole, also=also)

    return loss


def train_pairs(folder, *, pieces=1, is_main=True, sharded=False):
    cfg = TrainConfig(lr=1e-2, batch_size=len(QUERIES), epochs=1, sharded=sharded)
    model, run = small_encoder(), SmallRun(folder, is_main=is_main)
    history = fit(model, Pairs(4), loss_of(pieces), cfg, run=run)
    return model, history


def main():
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
    is_main = os.environ.get("RANK", "0") == "0"
    model, _ = train_pairs(folder, is_main=is_main, **settings)
    if is_main:
        save_file({n: p.detach() for n, p in model.named_parameters()}, str(folder / "weights.safetensors"))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
