"""Report pages of the verbs, and the figures of a search: speed, diversity, and the gap between train and dev."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from gnomon.core.files import room_file
from gnomon.core.report import Page
from gnomon.core.report.values import human
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, nearest
from gnomon.methods.crispo.report.tree import draw_tree
from gnomon.methods.crispo.scoring.metrics import STAND_IN
from gnomon.methods.crispo.search.store import SavedSearch

PAIRS = 200
"""Most pairs of prompts whose distance is computed."""


def search_figures(saved: Any, metric: str) -> dict[str, Any]:
    """The figures of a search.

    Args:
        saved: the search, read from its folder.
        metric: which metric's curve.

    Returns:
        Best on train and dev; `train - dev gap` of the returned prompt; `area under the curve` of the best on dev, the mean over
        steps; `task calls to 90%` of the final gain on train; prompts, distinct ones, their mean pairwise distance (share of
        characters to be edited), and refused proposals.
    """
    steps: Sequence[Mapping[str, Any]] = saved.search["steps"]
    curve = [step["values"]["dev"][metric] for step in steps]
    best = saved.best["scores"]
    refused = total_rejected(steps)
    texts = list(dict.fromkeys(prompt["prompt"] for prompt in saved.prompts))
    return {
        "best on dev": best["dev"][metric],
        "train - dev gap": best["train"][metric] - best["dev"][metric],
        "area under the curve": sum(curve) / len(curve),
        "task calls to 90%": calls_to(steps, metric, 0.9),
        "task calls": steps[-1]["task_calls"],
        "prompts": len(saved.prompts),
        "distinct prompts": len(texts),
        "prompt distance": mean_distance(texts),
        "proposals refused": sum(refused.values()),
        "prompts that copy a reference": sum(bool(prompt["copies"]) for prompt in saved.prompts),
        "prompts dropped by racing": sum(prompt["dropped"] for prompt in saved.prompts),
        "prompts left out for want of answers": sum(
            "train" not in prompt["scores"] and not prompt["dropped"] for prompt in saved.prompts
        ),
        "rows without an answer": total_unanswered(saved.prompts).total(),
    }


def calls_to(steps: Sequence[Mapping[str, Any]], metric: str, share: float) -> int | None:
    """Task calls until `share` of the gain on train was there, from the first step to the last; None without a gain."""
    values = [step["values"]["train"][metric] for step in steps]
    gain = values[-1] - values[0]
    if not gain:
        return None
    for step, value in zip(steps, values, strict=True):
        if (value - values[0]) / gain >= share - 1e-12:
            return int(step["task_calls"])
    return None


def total_rejected(steps: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Reason -> proposals refused for it."""
    total: Counter[str] = Counter()
    for step in steps:
        total.update(step["rejected"])
    return total


def total_unanswered(prompts: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Reason -> rows of train and dev without an answer for it, over all prompts."""
    total: Counter[str] = Counter()
    for prompt in prompts:
        for reasons in prompt.get("unanswered", {}).values():
            total.update(reasons)
    return total


def mean_distance(texts: Sequence[str]) -> float | None:
    """The mean over pairs of the share of characters that must be edited to make one of the other; None below two texts.

    >>> mean_distance(["abcd", "abcx"])
    0.25
    """
    from rapidfuzz.distance import Levenshtein

    pairs = list(combinations(texts, 2))
    if not pairs:
        return None
    if len(pairs) > PAIRS:
        pairs = Rng(0).child("pairs").python().sample(pairs, PAIRS)
    return sum(Levenshtein.normalized_distance(a, b) for a, b in pairs) / len(pairs)


TOP = 10
"""Prompts in the table."""


def search(page: Page, saved: SavedSearch, metric: str | None = None) -> None:
    """A search: figures, curve, tree, front, the best prompts and what was refused.

    Args:
        page: where to.
        saved: the search, read from its folder.
        metric: the one to draw; None: the first.

    Raises:
        BadConfig: there is no such metric.
    """
    metrics = {metric_row["name"]: metric_row for metric_row in saved.search["metrics"]}
    name = metric or next(iter(metrics))
    if name not in metrics:
        raise BadConfig(f'The search has no metric "{name}". {nearest(name, metrics)}')
    figures = search_figures(saved, name)
    page.figures({key: figures[key] for key in ("best on dev", "task calls", "prompts", "proposals refused")})
    page.section("The prompt that is returned")
    _returned(page, saved)
    page.section("How it was found")
    _curve(page, saved, name)
    draw_tree(page, saved, metrics[name])
    if len(metrics) > 1:
        front(page, saved)
    page.section("The best prompts")
    _table(page, saved, list(metrics))
    page.section("Figures of the search")
    page.table([{"figure": key, "value": human(value)} for key, value in figures.items()])
    if refused := total_rejected(saved.search["steps"]):
        rows = [{"reason": reason, "proposals": count} for reason, count in refused.most_common()]
        page.table(rows, caption="proposals that were refused, by reason")
    if unanswered := total_unanswered(saved.prompts):
        rows = [{"reason": reason, "rows": count} for reason, count in unanswered.most_common()]
        page.table(
            rows, caption="rows without an answer, by reason; they count neither for nor against a prompt"
        )
    if STAND_IN in metrics:
        page.text(
            f"**{STAND_IN}** is the share of a prediction's content words and numbers that its input holds. It stands in for a "
            "measure of faithfulness and is none: it sees no negation and no fact put together wrongly."
        )


def _returned(page: Page, saved: SavedSearch) -> None:
    best, first = saved.best, saved.prompts[0]
    if copies := best["copies"]:
        page.text(
            f"**It holds the reference of train row {', '.join(copies)} word for word.** --forbid-copies refuses that."
        )
    if saved.search["main"] is not None:
        page.text("The main prompt is fixed; what is shown is its postscript.")
    if not best["prompt"]:
        page.text("It is empty: no postscript that was tried is better on dev than none.")
    elif best["number"] == first["number"]:
        page.text("No prompt that was found is better on dev than the given one.")
    page.diff(first["prompt"], best["prompt"], caption="against the given prompt, line by line")
    page.text(
        "The score on dev is the best of many and therefore too good; what the prompt is worth shows on rows that chose nothing."
    )


def _curve(page: Page, saved: SavedSearch, metric: str) -> None:
    steps = saved.search["steps"]
    series: dict[str, list[tuple[float, float]]] = {
        f"best so far on {split}": [(step["step"], step["values"][split][metric]) for step in steps]
        for split in ("train", "dev")
    }
    new = []
    for step in steps:
        values = [
            value
            for number in step["new"]
            if (value := saved.prompts[number]["scores"].get("train", {}).get(metric)) is not None
        ]
        if values:
            new.append((step["step"], sum(values) / len(values)))
    series["new prompts on train, mean"] = new
    page.lines(series, x_label="step", y_label=metric, caption=f"{metric} over the search")


def front(page: Page, saved: SavedSearch) -> None:
    """Prompts on dev by the first two metrics, those that none beats joined by a line."""
    first, second = saved.search["metrics"][:2]
    on_dev = [
        (prompt, prompt["scores"]["dev"][first["name"]], prompt["scores"]["dev"][second["name"]])
        for prompt in saved.prompts
        if "dev" in prompt["scores"]
    ]
    xs, ys = [x for _, x, _ in on_dev], [y for _, _, y in on_dev]
    points = [
        {
            "number": prompt["number"],
            "x": round(60 + 450 * _share(x, xs)),
            "y": round(280 - 260 * _share(y, ys)),
            "is_on": prompt["number"] in saved.search["front"],
            "is_best": prompt["number"] == saved.search["best"],
            "label": f"prompt {prompt['number']}: {first['name']} {x:.4g}, {second['name']} {y:.4g}",
        }
        for prompt, x, y in on_dev
    ]
    on = sorted((p["x"], p["y"]) for p in points if p["is_on"])
    page.panel(
        room_file(__name__, "report/front.html.j2"),
        caption="The prompts measured on dev; filled ones are beaten by none in every metric, the ringed one is returned",
        points=points,
        line="M" + "L".join(f"{x} {y}" for x, y in on) if len(on) > 1 else "",
        x_label=first["name"],
        y_label=second["name"],
        x_low=f"{min(xs):.3g}",
        x_high=f"{max(xs):.3g}",
        y_low=f"{min(ys):.3g}",
        y_high=f"{max(ys):.3g}",
    )


def _share(value: float, values: Sequence[float]) -> float:
    return (value - min(values)) / ((max(values) - min(values)) or 1.0)


def _table(page: Page, saved: SavedSearch, metrics: Sequence[str]) -> None:
    sign = {
        metric_row["name"]: 1 if metric_row["higher_is_better"] else -1
        for metric_row in saved.search["metrics"]
    }
    on_dev = [prompt for prompt in saved.prompts if "dev" in prompt["scores"]]
    on_dev.sort(key=lambda p: -sign[metrics[0]] * p["scores"]["dev"][metrics[0]])
    rows = [
        {
            "prompt": prompt["number"],
            "step": prompt["step"],
            **{
                f"{split} {name}": prompt["scores"].get(split, {}).get(name)
                for split in ("train", "dev")
                for name in metrics
            },
            "words": len(prompt["prompt"].split()),
            "key phrases": prompt["k"],
        }
        for prompt in on_dev[:TOP]
    ]
    if all(row["key phrases"] is None for row in rows):
        rows = [{name: value for name, value in row.items() if name != "key phrases"} for row in rows]
    page.table(rows, caption=f"by {metrics[0]} on dev")


def test(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Scores on test rows, and differences from the first prompt with their intervals."""
    page.section("On test")
    page.table(
        rows, caption="means over rows; differences with 95% intervals of a paired bootstrap over rows"
    )
    page.figures(
        {f"test {row['metric']}": row["score"] for row in rows if row["prompt"] == rows[-1]["prompt"]}
    )
