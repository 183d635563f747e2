"""Pages of the verbs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.ma_rlhf import config

Row = Mapping[str, Any]

READ = (
    "`log_ratio` is the mean of log policy - log reference over sampled tokens. Where sampling is cut (top-k, top-p) or cooled, "
    "samples are not drawn from the policy itself, and this mean may be negative: it is no KL then. `kl` is the mean of "
    "exp(-d) - 1 + d of the same differences, which is never negative."
)


def coloured(page: Page, kept: Row, caption: str) -> None:
    """An answer by macro actions: a bar between two, and the colour of its advantage on each token."""
    pairs: list[tuple[str, float | None]] = []
    before = None
    for piece, part, advantage in zip(kept["pieces"], kept["segments"], kept["advantages"], strict=True):
        if before is not None and part != before:
            pairs.append(("|", None))
        pairs.append((piece, advantage))
        before = part
    page.tokens(
        pairs, caption=f"{caption}: reward {kept['reward']:.2f}, ended by {kept['finish']}", label="advantage"
    )


def trained(page: Page, rows: Sequence[Row], answers: Path, cfg: config.Train, verdict: str = "") -> None:
    """A training: its numbers, curves, and answers of the first and last rollout."""
    page.title = f"PPO over macro actions ({cfg.macro.name})"
    if not rows:
        return
    last = rows[-1]
    tail = rows[-max(1, len(rows) // 10) :]
    page.figures({
        "reward, first": rows[0]["reward"], "reward, last tenth": sum(r["reward"] for r in tail) / len(tail),
        "log-ratio an answer": last["log_ratio_answer"], "kl a token": last["kl"], "distinct answers": last["distinct"],
        "cut by the length limit": last["cut_share"], "macro actions an answer": last["macro_actions"],
    })  # fmt: skip
    if verdict:
        page.text(verdict)
    page.lines({"reward": [(r["step"], r["reward"]) for r in rows]}, x_label="updates", y_label="reward")
    page.lines(
        {"log-ratio": [(r["step"], r["log_ratio"]) for r in rows], "kl": [(r["step"], r["kl"]) for r in rows]},
        x_label="updates", y_label="nats a token",
    )  # fmt: skip
    page.text(READ)
    page.lines(
        {name: [(r["step"], r[name]) for r in rows] for name in ("clip_share", "explained_variance", "distinct", "cut_share")},
        x_label="updates", y_label="share",
    )  # fmt: skip
    shown = [rows[i] for i in sorted({0, len(rows) // 2, len(rows) - 1})]
    page.table([dict(row) for row in shown], caption="the numbers of the first, a middle and the last update")
    page.section("Answers, by macro action and advantage")
    files = sorted(answers.glob("*.json"))
    for path in files[:1] + files[-1:]:
        for kept in json.loads(path.read_text("utf-8"))[:3]:
            coloured(page, kept, f'rollout {int(path.stem) + 1}, task "{kept["id"]}"')


def segmented(page: Page, rows: Sequence[Row]) -> None:
    """How each rule cuts a text."""
    page.title = "A text cut into macro actions"
    page.text("Tokens are joined by bars where a macro action ends; colours alternate.")
    for row in rows:
        page.section(str(row["rule"]))
        pairs: list[tuple[str, float | None]] = []
        for i, piece in enumerate(row["actions"]):
            pairs += [("|", None)] * (i > 0) + [(piece, 1.0 if i % 2 else -1.0)]
        page.tokens(pairs, label="alternates")
        sizes: Counter[int] = Counter(row["sizes"])
        page.bars(
            {str(row["rule"]): {str(size): float(sizes[size]) for size in sorted(sizes)}},
            y_label="macro actions",
            caption="tokens of a macro action",
        )
        if row["fell_back"]:
            page.text("The rule has no way to cut this text; `fixed` did.")
    page.table(
        [
            {
                "rule": r["rule"],
                "macro actions": len(r["sizes"]),
                "mean size": sum(r["sizes"]) / len(r["sizes"]),
                "largest": max(r["sizes"]),
            }
            for r in rows
        ]
    )


def rewarded(page: Page, row: Row, history: Any) -> None:
    """A reward model: its accuracy on pairs set aside, beside rules of length."""
    page.title = "A reward model"
    page.figures(row)
    page.lines(
        {"loss": [(r["step"], r["loss"]) for r in history.records if "loss" in r]},
        x_label="updates",
        y_label="loss of a pair (nats)",
    )
    page.text(
        "`shorter is better` and `longer is better` are the accuracies of two rules that look at nothing but length. A "
        "reward model near one of them teaches a policy to write short, or long."
    )


def fine_tuned(page: Page, history: Any, count: int) -> None:
    """The first stage."""
    page.title = f"Fine-tuned on {count:,} answers"
    page.lines(
        {"loss": [(r["step"], r["loss"]) for r in history.records if "loss" in r]},
        x_label="updates",
        y_label="loss of a token (nats)",
    )


def evaluated(page: Page, rows: Sequence[Row], wins: Row | None, shown: Sequence[Row]) -> None:
    """A policy's rewards, and its wins."""
    page.title = "Reward on held-out prompts"
    page.table(rows, caption="the reward of each model; log-ratio against the other one")
    if wins:
        page.section("Wins")
        page.figures(wins)
    page.table(shown, caption="answers to the first prompts")


def write_real(page: Page, results: Results) -> None:
    """Write the sections of the real run's page."""
    page.text(
        "A real story model of 260,000 parameters goes on from three openings; the reward, at the end alone, is the share of words "
        "from a list of 27 friendly ones. All arms of a seed share prompts and random streams, at the same learning rates."
    )
    curves(page, results.rows["curves"], "step", "friendly", "updates")
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
    shown_answers(page, results)


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


def curves(page: Page, rows: Sequence[Row], x: str, y: str, label: str) -> None:
    """Draw a number of each arm over another one, mean and range of the seeds."""
    series = {}
    for arm, mine in list(_split(rows).items())[:8]:
        at: dict[float, list[float]] = {}
        for row in mine:
            at.setdefault(row[x], []).append(row[y])
        series[arm] = [
            (spot, sum(values) / len(values), min(values), max(values)) for spot, values in at.items()
        ]
    page.lines(series, x_label=label, y_label=y, caption="mean of the seeds, and their range")


def shown_answers(page: Page, results: Results) -> None:
    """Answers of the first and the last rollout, coloured."""
    for name, folder in results.shown.items():
        if not name.startswith("answers "):
            continue
        files = sorted(Path(folder).glob("*.json"))
        page.section(f"Answers of {name.removeprefix('answers ')}, by macro action and advantage")
        for path in files[:1] + files[-1:]:
            for kept in json.loads(path.read_text("utf-8"))[:2]:
                coloured(page, kept, f"update {int(path.stem) + 1}")
