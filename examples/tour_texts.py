"""Texts for the tour's later steps: documentation that the filter kept; methods, functions; digests: tour_texts.py TOUR."""

import random
import re
import sys
from pathlib import Path

from tour_writer import split

from gnomon.core import records

METHOD = re.compile(r"\bself\b")
"""What tells a method from a function."""

ENTRIES = 8
"""Entries of a digest."""


def first_sentences(rows: list[dict]) -> list[str]:
    """The first sentences of documentation strings, each once, where they are whole and of middling length."""
    found = (split(" ".join(row["text"].split()[:60])) for row in rows if ".py" in row["group"])
    first = (said[0] for said in found if said and said[0].endswith("."))
    return list(dict.fromkeys(said for said in first if 5 <= len(said.split()) <= 25))


def digests(kept: list[str], dropped: list[str], count: int, draw: random.Random) -> list[dict]:
    """Eight entries at a time, two or three of which the filter kept; the summary that a reader wants has those."""
    rows = []
    for i in range(count):
        wanted = draw.sample(kept, draw.randint(2, 3))
        entries = [*wanted, *draw.sample(dropped, ENTRIES - len(wanted))]
        draw.shuffle(entries)
        summary = [said for said in entries if said in wanted]
        rows.append({"id": f"digest-{i}", "document": " ".join(entries), "summary": " ".join(summary)})
    return rows


tour = Path(sys.argv[1])
filtered = [row for _, row in records.read_raw(tour / "filtered")]
kept = [row for row in filtered if row["sieve_pass"]]
dropped = [row for row in filtered if not row["sieve_pass"]]
functions = {row["source_response"]: None for _, row in records.read_raw(tour / "edits")}
code = [{"text": text} for text in functions]
texts = {
    "documentation": [{"text": row["text"]} for row in kept],
    "code": code,
    "methods": [row for row in code if METHOD.search(row["text"])],
    "functions": [row for row in code if not METHOD.search(row["text"])],
}

draw = random.Random(0)
halves = []
for entries in map(first_sentences, (kept, dropped)):
    draw.shuffle(entries)
    halves.append((entries[len(entries) // 3 :], entries[: len(entries) // 3]))
# No entry of the digests that are learned from stands in those that are summarised.
for name, count, (wanted, others) in zip(
    ("digests-to-learn", "digests"), (580, 200), zip(*halves, strict=True), strict=True
):
    texts[name] = digests(wanted, others, count, draw)

for name, rows in texts.items():
    records.write(tour / f"texts/{name}.jsonl", rows)
    print(f"{name}: {len(rows)} texts")
