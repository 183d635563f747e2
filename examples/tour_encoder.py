"""Make a small untrained encoder with a tokenizer for documentation, as an ordinary model folder: tour_encoder.py ROWS FOLDER."""

import sys
from pathlib import Path

import transformers

from gnomon.core import records
from gnomon.core.models import train_bpe
from gnomon.core.rng import Rng, seeded

rows, folder = sys.argv[1], Path(sys.argv[2])
if (folder / "config.json").exists():
    print(f"{folder} is there already")
    sys.exit()

tokenizer = train_bpe([raw["document"] for _, raw in records.read_raw(rows)], vocab_size=800)
config = transformers.LongformerConfig(
    vocab_size=len(tokenizer),
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=256,
    attention_window=16,
    max_position_embeddings=514,
    pad_token_id=tokenizer.pad_token_id,
    bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id,
    sep_token_id=tokenizer.eos_token_id,
    num_labels=2,
)
transformers.utils.logging.disable_progress_bar()
with seeded(Rng(0).child("encoder")):
    model = transformers.LongformerForTokenClassification(config)
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
