"""Put gated blocks beside a model's feed-forward networks: the model is the same until they are trained, and can be it again."""

import sys

import torch

from gnomon.core.models import ModelHandle, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.neutral_residues import Design, extend

TEXTS = ["def add(a, b):", "    return a + b", "for name in names:", "    print(name)"]

if len(sys.argv) > 1:
    handle = ModelHandle.load(sys.argv[1])
else:
    tokenizer = train_bpe(TEXTS, vocab_size=300)
    handle = ModelHandle(new_llama(tokenizer, 64, 2, 4, 64, Rng(0)).eval(), tokenizer)
batch = handle.encode(TEXTS, side="right")
before = handle.logits(batch)
extended = extend(handle.model, Design(extra=0.2), generator=Rng(1)).eval()
trained = sum(p.numel() for p in extended.extension_parameters())
print(f"{trained:,} of {sum(p.numel() for p in extended.parameters()):,} weights are trained")
print("a fresh extension changes nothing:", torch.equal(handle.logits(batch), before))
