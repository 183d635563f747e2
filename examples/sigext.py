"""Phrases of documents by several rankings, measured against what references say; give the folder of an extractor to add it."""

import sys
from random import Random

from gnomon.methods.sigext import Reading, Row, SigExtModel, build_prompt, measure, rank_phrases
from gnomon.methods.sigext.council import draw_facts, write_document, write_summary

reading, noise = Reading(), Random(0)
rows = []
for number in range(50):
    facts = draw_facts(9, noise)
    document, summary = write_document(facts, noise), write_summary(facts, ("budget", "vote"))
    phrases = tuple(reading.phrases(document))
    rows.append(Row(str(number), document, summary, phrases, tuple(reading.labels(phrases, summary))))
labels = [row.labels for row in rows]
for arm in ("random", "tf-idf", "textrank", "rake", "oracle"):
    ranked = rank_phrases(arm, rows)
    pairs = zip(rows, ranked, strict=True)
    scores = [[-float(order.index(p)) if p in order else -99.0 for p in row.phrases] for row, order in pairs]
    print(f"{arm:10} recall@5 {measure(labels, scores, ks=(5,)).recall[5]:.2f}")
if len(sys.argv) > 1:
    print(
        f"extractor  recall@5 {measure(labels, SigExtModel.from_pretrained(sys.argv[1]).score_rows(rows)).recall[5]:.2f}"
    )
print(build_prompt(rows[0].document, rank_phrases("oracle", rows)[0][:4]))
