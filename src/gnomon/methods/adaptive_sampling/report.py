"""What each verb shows on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.adaptive_sampling.measures.quality import Quality
from gnomon.methods.adaptive_sampling.measures.tradeoff import Verdict

SHOWN = 8
"""Prompts whose traces are shown."""

Rows = Sequence[Mapping[str, Any]]


def built(page: Page, rows: Rows, figures: Mapping[str, Any]) -> None:
    """Page of `build`."""
    page.title = f"{len(rows):,} labelled answers"
    page.figures(figures)
    page.text(
        "A label is the chance that a fresh sample would **not** be better: 1 where nothing is, on hopeless prompts too."
    )
    shown = sorted(rows, key=lambda row: (row["label"], row["id"]))
    picked = [*shown[:SHOWN], *shown[-SHOWN:]] if len(shown) > 2 * SHOWN else shown
    page.table(
        [{"prompt": r["prompt"][:120], "response": r["response"][:160], **{c: r[c] for c in ("reward", "label", "weight")}}
         for r in picked],
        caption="the lowest and the highest labels",
    )  # fmt: skip


def trained(page: Page, figures: Mapping[str, Any], losses: Sequence[float]) -> None:
    """Page of `train`."""
    page.title = "A model that evaluates its own answers"
    page.figures(figures)
    page.lines(
        {"loss": list(enumerate(losses, 1))},
        x_label="step",
        y_label="loss",
        caption="cross-entropy of c and anchor",
    )
    page.text(
        "Run `eval` on questions of your own before you use it: it says whether choosing by c pays there, and with which gamma."
    )


def applied(page: Page, rows: Rows, figures: Mapping[str, Any]) -> None:
    """Page of `apply`: the trace of some prompts."""
    page.title = f"{len(rows):,} prompts answered"
    page.figures(figures)
    for row in rows[:SHOWN]:
        page.section(str(row["prompt"])[:100])
        page.text(
            f"{row['k_used']} samples; it stopped because {row['trace']['why']}. Chosen: sample {row['chosen'] + 1}."
        )
        page.table(traced(row), caption="every sample in the order in which it was drawn")


def traced(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The samples of a prompt: c, where one was given up, and which was chosen."""
    table = []
    for k, sample in enumerate(row["all_samples"]):
        gone = sample["given_up"]
        what = (
            f"given up at {gone}"
            if gone is not None
            else "chosen"
            if k == row["chosen"]
            else "copy"
            if sample["is_copy"]
            else ""
        )
        table.append(
            {
                "sample": k + 1, "temperature": sample["temperature"], "c": sample["c"],
                **{f"c at {cut}": value for cut, value in sample["c_at"].items()},
                "tokens": len(sample["tokens"]), "": what, "text": sample["text"][:160],
            }
        )  # fmt: skip
    return table


def scored(page: Page, rows: Rows) -> None:
    """Page of `score`."""
    page.title = f"c of {len(rows):,} answers"
    page.table(
        [
            {"prompt": r["prompt"][:100], "response": r["response"][:160], "c": r["c"]}
            for r in rows[: 4 * SHOWN]
        ]
    )


def evaluated(
    page: Page, of: Quality, verdict: Verdict, curve: Rows, figures: Mapping[str, Any], pruning: Rows
) -> None:
    """Page of `eval`."""
    page.title = "Does choosing by c pay here?"
    page.text(f"**{verdict.sentence}**")
    page.figures({"AUC within a prompt": of.within, "calibration error": of.ece, **figures})
    page.table(
        verdict.rows,
        caption="rewards at the same number of samples; differences paired by prompt, with 95% intervals",
    )
    page.text(
        f"The AUC within a prompt ({_number(of.within)}) is what choosing needs. The pooled AUC ({_number(of.pooled)}) is beside "
        "the point: hopeless prompts have a high c on purpose."
    )
    if curve:
        page.section("Accuracy against samples")
        page.lines(
            {"on demand": sorted((r["mean_samples"], r["reward"]) for r in curve),
             "fixed number": sorted((r["mean_samples"], r["fixed"]) for r in curve)},
            x_label="samples", y_label="reward",
        )  # fmt: skip
        page.table(curve)
    if pruning:
        page.section("Giving samples up early")
        page.table(pruning)


def write_real(page: Page, results: Results) -> None:
    """Page of `real`: means over seeds."""
    page.text(
        "A third of the questions is set aside; their true chance of win or tie is counted on further samples. "
        "**question only** was taught by questions whose answers are blank: it can be calibrated, and it chooses nothing."
    )
    captions = {
        "signals": (("questions", "signal"), "AUC within a question, calibration, and the best of the samples"),
        "arms": (("arm",), "rewards; the oracle is the best possible choice"),
        "adaptive": (("gamma",), "samples on demand by c, against a fixed number at the same mean"),
    }  # fmt: skip
    for name, (keys, caption) in captions.items():
        page.section(name)
        page.table(means(results.rows[name], *keys), caption=caption)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
