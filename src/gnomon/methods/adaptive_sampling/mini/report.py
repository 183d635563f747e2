"""The page of the miniature."""

from __future__ import annotations

from gnomon.core.report import Page
from gnomon.core.study import Results, means

CAPTIONS = {
    "arms": ("arm", "what an answer costs one sample or sixteen, at the same samples"),
    "evaluators": ("evaluator", "carriers and labels, trained on the same samples"),
    "pruning": (
        "cut",
        "sixteen samples, of which a quarter stays after so many tokens; tokens as a share of all",
    ),
    "chain": (
        "",
        "a task in which the model cannot see its slips: pooled AUC is high, within a prompt it is chance, choosing brings nothing",
    ),
    "adaptive": ("gamma", "samples on demand at temperature 1, against a fixed number at the same mean"),
    "annealed": ("gamma", "the same with annealing, the first sample greedy"),
}


def write(page: Page, results: Results) -> None:
    """Tables of means over seeds, and accuracy against samples."""
    page.text(
        "A model is asked after any token of its answer whether it would do better if it started over. **c** is the "
        "probability that it would not: that a fresh sample would not beat this one. Hopeless prompts have a high c on purpose, "
        "so the pooled AUC says little; what choosing needs is the AUC within a prompt."
    )
    for name, (key, caption) in CAPTIONS.items():
        if rows := results.rows.get(name):
            page.section(name)
            page.table(means(rows, *([key] if key else [])), caption=caption)
    for name in ("adaptive", "annealed"):
        rows = means(results.rows.get(name, []), "gamma")
        if rows:
            page.lines(
                {
                    "on demand": sorted((row["mean_samples"], row["reward"]) for row in rows),
                    "fixed number": sorted((row["mean_samples"], row["fixed"]) for row in rows),
                },
                x_label="samples", y_label="accuracy", caption=CAPTIONS[name][1],
            )  # fmt: skip
