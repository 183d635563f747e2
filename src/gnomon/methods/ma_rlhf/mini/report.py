"""Pages of the miniature and of the real run: curves, the control's verdict, other rules, and coloured answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.ma_rlhf import report

Row = Mapping[str, Any]


def write(page: Page, results: Results) -> None:
    """Write the sections of the miniature's page."""
    page.text(
        "A prompt names one of four classes; the policy writes words, and gets a reward at the end alone: the share of words "
        "that belong to the class. It began by writing good words with probability 0.4. All arms of a seed share the start, "
        "the prompts and the random streams, at the same learning rates."
    )
    if "curves" in results.rows:
        _curves(page, results.rows["curves"], "answers", "share good", "answers written so far")
        arms = means(results.rows["arms"], "arm")
        page.table(arms, caption="means over seeds; the last columns are those of the last updates",
                   best={"final share good": "max", "rollouts to .60": "min"})  # fmt: skip
    scores = results.scores()
    if {"n=1", "n=5", "matched"} <= scores.keys():
        page.section("The control")
        page.text(verdict({arm: scores[arm]["final share good"] for arm in ("n=1", "n=5", "matched")}, 0.02))
    _answers(page, results)
    if "text" in results.rows:
        page.section("Every rule once, on real sentences")
        page.table(
            means(results.rows["text"], "rule"),
            caption="the first sentence of a docstring; direction alone, no threshold",
        )


def write_real(page: Page, results: Results) -> None:
    """Write the sections of the real run's page."""
    page.text(
        "A real story model of 260,000 parameters goes on from three openings; the reward, at the end alone, is the share of words "
        "from a list of 27 friendly ones. All arms of a seed share prompts and random streams, at the same learning rates."
    )
    _curves(page, results.rows["curves"], "step", "friendly", "updates")
    page.table(means(results.rows["arms"], "arm"), caption="share of friendly words, 0..1, means over seeds",
               best={"last 6": "max", "at equal log-ratio": "max"})  # fmt: skip
    scores = results.scores()
    page.section("The control")
    arms = {arm: scores[arm]["friendly words, last updates"] for arm in ("n=1", "n=5", "matched")}
    page.text(verdict(arms, 0.05))
    page.section("The price")
    page.lines(
        {arm: [(r["log-ratio"], r["friendly"]) for r in _by_step(rows)] for arm, rows in _split(results.rows["curves"]).items()},
        x_label="log-ratio of an answer (nats)",
        y_label="share of friendly words", caption="reward against distance from the reference",
    )  # fmt: skip
    page.text(
        "The reward is hacked: sentences become lists of happy words. Three whole answers of the last updates, for each arm:"
    )
    first = results.seeds[0]
    page.table(
        [
            {k: v for k, v in row.items() if k != "seed"}
            for row in results.rows["answers"]
            if row["seed"] == first
        ]
    )
    _answers(page, results)


def verdict(scores: Mapping[str, Sequence[float]], margin: float) -> str:
    """What the lambda-matched control says, in a sentence.

    >>> verdict({"n=1": [0.7], "n=5": [0.75], "matched": [0.745]}, 0.02)[:56]
    'Token PPO with lambda to the power 1/5 ends at 0.745, ma'
    """
    mean = {arm: sum(values) / len(values) for arm, values in scores.items()}
    gaps = [abs(a - b) for a, b in zip(scores["n=5"], scores["matched"], strict=True)]
    is_equal = max(gaps) <= margin
    what = (
        "the two are equal in every seed, so the speed-up comes from the longer horizon of credit, and not from the grouping."
        if is_equal
        else f"the two differ by up to {max(gaps):.3f} in a seed, more than {margin:g}: the horizon is not all of it."
    )
    return (
        f"Token PPO with lambda to the power 1/5 ends at {mean['matched']:.3f}, macro actions of five tokens at {mean['n=5']:.3f}, "
        f"token PPO with the same lambda at {mean['n=1']:.3f}: {what}"
    )


def _split(rows: Sequence[Row]) -> dict[str, list[Row]]:
    arms: dict[str, list[Row]] = {}
    for row in rows:
        arms.setdefault(row["arm"], []).append(row)
    return arms


def _by_step(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Means over seeds, update by update."""
    steps: dict[Any, list[Row]] = {}
    for row in rows:
        steps.setdefault(row["step"], []).append(row)
    return [
        {
            "friendly": sum(r["friendly"] for r in same) / len(same),
            "log-ratio": sum(r["log_ratio_answer"] for r in same) / len(same),
        }
        for same in steps.values()
    ]


def _curves(page: Page, rows: Sequence[Row], x: str, y: str, label: str) -> None:
    series = {}
    for arm, mine in list(_split(rows).items())[:8]:
        at: dict[float, list[float]] = {}
        for row in mine:
            at.setdefault(row[x], []).append(row[y])
        series[arm] = [
            (place, sum(values) / len(values), min(values), max(values)) for place, values in at.items()
        ]
    page.lines(series, x_label=label, y_label=y, caption="mean of the seeds, and their range")


def _answers(page: Page, results: Results) -> None:
    """Answers of the first and the last rollout, coloured."""
    for name, folder in results.shown.items():
        if not name.startswith("answers "):
            continue
        files = sorted(Path(folder).glob("*.json"))
        page.section(f"Answers of {name.removeprefix('answers ')}, by macro action and advantage")
        for path in files[:1] + files[-1:]:
            for kept in json.loads(path.read_text("utf-8"))[:2]:
                report.coloured(page, kept, f"update {int(path.stem) + 1}")
