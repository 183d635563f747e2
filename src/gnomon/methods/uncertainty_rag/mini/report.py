"""The page of the miniature and of the real run: every score beside every other, and what speaks against the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.report import Page
from gnomon.core.study import Results

CAPTIONS = {
    "pairs": "AUC of related against unrelated pairs: all pairs together, and within an anchor",
    "variants": "the span score with other options",
    "retrievers": "retrievers by the signal that chose their positives; MRR of the other half of a topic",
    "docstrings": "pieces of documentation strings: related where one module has both",
    "gap": "all pairs of pieces of abstracts of one field, a gap as long as a piece between the two of one: find the own one",
    "papers": "halves of abstracts that touch",
    "hubness": "how far few candidates are everybody's positives",
    "retrievers, real": "an encoder after one epoch by each signal; R@k, MRR@10 and differences to BM25 paired by question",
    "rerankers": "BM25's ten best paragraphs in another order",
}
KEYS = {
    "pairs": ["score"],
    "variants": ["variant", "direction"],
    "retrievers": ["signal"],
    "docstrings": ["score"],
    "gap": ["score"],
    "papers": ["pieces", "score"],
}


def write(page: Page, results: Results) -> None:
    """Tables of means over seeds, and the finding."""
    page.text(
        "**What speaks against the paper's particular score.** In the miniature the span score beats the plain perplexity of "
        "the joint text, as the paper says. Beside it stand two free baselines from the same pass: the conditional "
        "likelihood of the second chunk (`nll_cond`), and the `gain`, that likelihood less the one without the first "
        "chunk. Where they are higher, as in most tables below, they are the better choice: `--by gain`."
    )
    for name, caption in CAPTIONS.items():
        rows = results.rows.get(name)
        if not rows:
            continue
        page.section(name)
        page.table(_means(rows, KEYS[name]) if name in KEYS else rows, caption=caption)
    if results.rows.get("papers") or results.rows.get("gap"):
        page.text(
            "Halves that touch reward mere continuation, which flatters every conditional score; the pieces with a gap are "
            "the control. The language model has 135 million parameters and the paper's seven billion: that its size is "
            "the cause is not excluded."
        )


def _means(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    """A row per key with the means of its numbers over seeds."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    result = []
    for names, of in groups.items():
        numbers = {
            column: sum(float(row[column]) for row in of) / len(of)
            for column, value in of[0].items()
            if column not in (*keys, "seed") and isinstance(value, int | float)
        }
        result.append({**dict(zip(keys, names, strict=True)), "seeds": len(of), **numbers})
    return result
