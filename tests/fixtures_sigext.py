"""Small encoders of true classes over the council's words, rows from its world, and a training that is killed on request.

    python fixtures_sigext.py FOLDER BASE [--die-at STEP]

trains an extractor in FOLDER from the encoder at BASE and leaves `FOLDER/model`.
"""

import os
import signal
import sys
from pathlib import Path
from random import Random

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 130,
}
ENCODERS = {
    "longformer": {"attention_window": 8, "sep_token_id": 1},
    "roberta": {},
    "big_bird": {"attention_type": "original_full"},
    "modernbert": {"local_attention": 16, "global_attn_every_n_layers": 1, "reference_compile": False},
    "bert": {},
}


def words():
    from gnomon.methods.sigext.mini import tokenizer

    return tokenizer()


def save_encoder(folder, family="longformer", **size):
    """An untrained token classifier of a family, with its tokenizer; returns the folder."""
    from transformers import AutoConfig, AutoModelForTokenClassification

    from gnomon.core.rng import Rng, seeded

    made = words()
    ids = {"vocab_size": len(made), "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1, "num_labels": 2}
    config = AutoConfig.for_model(family, **{**SIZES, **ENCODERS[family], **ids, **size})
    with seeded(Rng(0).child(family)):
        AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    made.save_pretrained(folder)
    return folder


def raw_rows(n, seed=0, facts=5, name="row"):
    """Documents of a council with references that follow the policy."""
    from dataclasses import replace

    from gnomon.methods.sigext.council import TARGET
    from gnomon.methods.sigext.mini import SCALES, make_rows

    return make_rows(n, replace(SCALES["smoke"], facts=facts), TARGET, Random(seed), name)


def rows(n, seed=0, facts=5, name="row"):
    from gnomon.methods.sigext.mini import as_rows

    return as_rows(raw_rows(n, seed, facts, name))


def echo(request):
    """A language model that says its prompt again."""
    return request.messages[-1].content


def train(folder, base, die_at=None):
    """A training of 24 steps with a checkpoint every 5; dies at a step when asked to."""
    import torch

    from gnomon.core.run import Run
    from gnomon.core.train import TrainConfig
    from gnomon.methods.sigext import SigExtModel
    from gnomon.methods.sigext.extractor import training

    torch.set_num_threads(1)
    if die_at is not None:
        plain, steps = training.weighted_loss, 0

        def loss(model, batch):
            nonlocal steps
            steps += 1
            if steps > die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(model, batch)

        training.weighted_loss = loss
    run = Run(Path(folder) / "run", method="sigext", verb="train", quiet=True)
    extractor = SigExtModel.new(base, device="cpu", rng=run.rng)
    cfg = TrainConfig(
        lr=5e-3,
        batch_size=4,
        epochs=4,
        reduction="sum",
        grad_clip=1.0,
        checkpoint_every=5,
        warmup_steps=3,
        keep_best=True,
    )
    found = training.train_extractor(extractor, rows(24, 1), rows(9, 2, 9), cfg, run=run, batch_tokens=4096)
    run.close()
    extractor.save_pretrained(Path(folder) / "model")
    return extractor, found


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], int(sys.argv[4]) if "--die-at" in sys.argv else None)
