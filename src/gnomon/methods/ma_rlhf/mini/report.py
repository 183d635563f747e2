"""The page of the miniature: curves, the control's verdict, other rules, and coloured answers."""

from __future__ import annotations

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.ma_rlhf import report


def write(page: Page, results: Results) -> None:
    """Write the sections of the miniature's page."""
    page.text(
        "A prompt names one of four classes; the policy writes words, and gets a reward at the end alone: the share of words "
        "that belong to the class. It began by writing good words with probability 0.4. All arms of a seed share the start, "
        "the prompts and the random streams, at the same learning rates."
    )
    if "curves" in results.rows:
        report.curves(page, results.rows["curves"], "answers", "share good", "answers written so far")
        arms = means(results.rows["arms"], "arm")
        page.table(arms, caption="means over seeds; the last columns are those of the last updates",
                   best={"final share good": "max", "rollouts to .60": "min"})  # fmt: skip
    scores = results.scores()
    if {"n=1", "n=5", "matched"} <= scores.keys():
        page.section("The control")
        page.text(
            report.verdict({arm: scores[arm]["final share good"] for arm in ("n=1", "n=5", "matched")}, 0.02)
        )
    report.shown_answers(page, results)
    if "text" in results.rows:
        page.section("Every rule once, on real sentences")
        page.table(
            means(results.rows["text"], "rule"),
            caption="the first sentence of a docstring; direction alone, no threshold",
        )
