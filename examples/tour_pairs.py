"""Pairs of summaries for a judge, the one that a reader wants before a plain one: tour_pairs.py TOUR."""

import sys
from pathlib import Path

from gnomon.core import records

tour = Path(sys.argv[1])
pairs = []
for _, row in records.read_raw(tour / "steered"):
    if row["arm"] == "none" and row["prediction"] != row["summary"]:
        pairs.append(
            {
                "id": row["id"],
                # Some biases are measured where an answer is right, others where it is preferred; half of the pairs are for each.
                "set": ("fact", "alignment")[len(pairs) % 2],
                "question": f"Which of these entries are about files?\n{row['document']}",
                "answer1": row["summary"],
                "answer2": row["prediction"],
            }
        )
records.write(tour / "texts/pairs.jsonl", pairs)
print(f"{len(pairs)} pairs")
