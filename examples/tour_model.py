"""Make a small untrained Llama with a tokenizer for Python, as an ordinary model folder: tour_model.py EDITS FOLDER."""

import sys
from pathlib import Path

import transformers

from gnomon.core import records
from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng

edits, folder = sys.argv[1], Path(sys.argv[2])
if (folder / "config.json").exists():
    print(f"{folder} is there already")
    sys.exit()

texts = [raw["source_instruction"] + raw["source_response"] for _, raw in records.read_raw(edits)]
tokenizer = train_bpe(texts, vocab_size=1024)
model = new_llama(tokenizer, hidden=128, layers=3, heads=4, max_length=512, generator=Rng(0).child("model"))
transformers.utils.logging.disable_progress_bar()
model.save_pretrained(folder)
tokenizer.save_pretrained(folder)
print(f"{folder}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
