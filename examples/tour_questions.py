"""Questions about the tour's functions, whose answers are known: what does `return` give back? tour_questions.py EDITS FILE."""

import re
import sys
from pathlib import Path

from gnomon.core import records

edits, path = sys.argv[1], Path(sys.argv[2])
questions = {}
for _, row in records.read_raw(edits):
    prompt = f"{row['source_instruction']}{row['source_response']}"
    # The name behind the first `return`: the model has to say it, and may be wrong.
    found = re.search(r"\n\s+return (\w+)", prompt)
    if found:
        start = found.start(1)
        questions[prompt[:start].rstrip()] = found.group(1)
records.write(path, [{"question": text, "answer": answer} for text, answer in questions.items()])
print(f"{path}: {len(questions)} questions")
