"""Texts for the tour's later steps: documentation that the filter kept; methods, functions: tour_texts.py TOUR."""

import re
import sys
from pathlib import Path

from gnomon.core import records

METHOD = re.compile(r"\bself\b")
"""What tells a method from a function."""

tour = Path(sys.argv[1])
kept = [{"text": row["text"]} for _, row in records.read_raw(tour / "filtered") if row["sieve_pass"]]
functions = {row["source_response"]: None for _, row in records.read_raw(tour / "edits")}
code = [{"text": text} for text in functions]
texts = {
    "documentation": kept,
    "code": code,
    "methods": [row for row in code if METHOD.search(row["text"])],
    "functions": [row for row in code if not METHOD.search(row["text"])],
}
for name, rows in texts.items():
    records.write(tour / f"texts/{name}.jsonl", rows)
    print(f"{name}: {len(rows)} texts")
