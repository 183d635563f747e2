"""Report pages of the verbs.

Numbers about a search: how fast it found what it found, how far it looked around, and how far train and dev disagree.
"""

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

# Numbers about a search: how fast it found what it found, how far it looked around, and how far train and dev disagree.

PAIRS = 200
"""Pairs of prompts whose distance is taken, at most."""


def search_figures(told: Any, metric: str) -> dict[str, Any]:
    """The figures of a search.

    Args:
        told: a `store.SavedSearch`.
        metric: which metric's curve.

    Returns:
        Best on train and dev; `train - dev gap` of the returned prompt; `area under the curve` of the best on dev, the mean over
        steps; `task calls to 90%` of the final gain on train; prompts, distinct ones, their mean pairwise distance (share of
        characters to be edited), and refused proposals.
    """
    steps: Sequence[Mapping[str, Any]] = told.search["steps"]
    curve = [step["values"]["dev"][metric] for step in steps]
    best = told.best["scores"]
    refused = total_rejected(steps)
    texts = list(dict.fromkeys(prompt["prompt"] for prompt in told.prompts))
    return {
        "best on dev": best["dev"][metric],
        "train - dev gap": best["train"][metric] - best["dev"][metric],
        "area under the curve": sum(curve) / len(curve),
        "task calls to 90%": calls_to(steps, metric, 0.9),
        "task calls": steps[-1]["task_calls"],
        "prompts": len(told.prompts),
        "distinct prompts": len(texts),
        "prompt distance": mean_distance(texts),
        "proposals refused": sum(refused.values()),
        "prompts that copy a reference": sum(bool(prompt["copies"]) for prompt in told.prompts),
        "prompts dropped by racing": sum(prompt["dropped"] for prompt in told.prompts),
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


# Report pages of the verbs.

TOP = 10
"""Prompts in the table."""


def search(page: Page, told: SavedSearch, metric: str | None = None) -> None:
    """A search: figures, curve, tree, front, the best prompts and what was refused.

    Args:
        page: where to.
        told: the search, as its folder tells it.
        metric: the one to draw; None: the first.

    Raises:
        BadConfig: there is no such metric.
    """
    metrics = {one["name"]: one for one in told.search["metrics"]}
    name = metric or next(iter(metrics))
    if name not in metrics:
        raise BadConfig(f'The search has no metric "{name}". {nearest(name, metrics)}')
    figures = search_figures(told, name)
    page.figures({key: figures[key] for key in ("best on dev", "task calls", "prompts", "proposals refused")})
    page.section("The prompt that is returned")
    _returned(page, told)
    page.section("How it was found")
    _curve(page, told, name)
    draw_tree(page, told, metrics[name])
    if len(metrics) > 1:
        front(page, told)
    page.section("The best prompts")
    _table(page, told, list(metrics))
    page.section("Figures of the search")
    page.table([{"figure": key, "value": human(value)} for key, value in figures.items()])
    if refused := total_rejected(told.search["steps"]):
        rows = [{"reason": reason, "proposals": count} for reason, count in refused.most_common()]
        page.table(rows, caption="proposals that were refused, by reason")
    if STAND_IN in metrics:
        page.text(
            f"**{STAND_IN}** is the share of a prediction's content words and numbers that its input holds. It stands in for a "
            "measure of faithfulness and is none: it sees no negation and no fact put together wrongly."
        )


def _returned(page: Page, told: SavedSearch) -> None:
    best, first = told.best, told.prompts[0]
    if copies := best["copies"]:
        page.text(
            f"**It holds the reference of train row {', '.join(copies)} word for word.** --forbid-copies refuses that."
        )
    if told.search["main"] is not None:
        page.text(
            "The main prompt is fixed; what is shown is its postscript."
            + ("" if best["prompt"] else " None is best: the postscript is empty.")
        )
    if best["number"] == first["number"]:
        page.text("No prompt that was found is better on dev than the given one.")
    page.diff(first["prompt"], best["prompt"], caption="against the given prompt, line by line")
    page.text(
        "The score on dev is the best of many and therefore too good; what the prompt is worth shows on rows that chose nothing."
    )


def _curve(page: Page, told: SavedSearch, metric: str) -> None:
    steps = told.search["steps"]
    series: dict[str, list[tuple[float, float]]] = {
        f"best so far on {split}": [(step["step"], step["values"][split][metric]) for step in steps]
        for split in ("train", "dev")
    }
    new = []
    for step in steps:
        values = [
            value
            for number in step["new"]
            if (value := told.prompts[number]["scores"].get("train", {}).get(metric)) is not None
        ]
        if values:
            new.append((step["step"], sum(values) / len(values)))
    series["new prompts on train, mean"] = new
    page.lines(series, x_label="step", y_label=metric, caption=f"{metric} over the search")


def front(page: Page, told: SavedSearch) -> None:
    """Prompts on dev by the first two metrics, those that none beats joined by a line."""
    one, other = told.search["metrics"][:2]
    there = [
        (prompt, prompt["scores"]["dev"][one["name"]], prompt["scores"]["dev"][other["name"]])
        for prompt in told.prompts
        if "dev" in prompt["scores"]
    ]
    xs, ys = [x for _, x, _ in there], [y for _, _, y in there]
    points = [
        {
            "number": prompt["number"],
            "x": round(60 + 450 * _share(x, xs)),
            "y": round(280 - 260 * _share(y, ys)),
            "is_on": prompt["number"] in told.search["front"],
            "is_best": prompt["number"] == told.search["best"],
            "label": f"prompt {prompt['number']}: {one['name']} {x:.4g}, {other['name']} {y:.4g}",
        }
        for prompt, x, y in there
    ]
    on = sorted((p["x"], p["y"]) for p in points if p["is_on"])
    page.panel(
        room_file(__name__, "report/front.html.j2"),
        caption="The prompts measured on dev; filled ones are beaten by none in every metric, the ringed one is returned",
        points=points,
        line="M" + "L".join(f"{x} {y}" for x, y in on) if len(on) > 1 else "",
        x_label=one["name"],
        y_label=other["name"],
        x_low=f"{min(xs):.3g}",
        x_high=f"{max(xs):.3g}",
        y_low=f"{min(ys):.3g}",
        y_high=f"{max(ys):.3g}",
    )


def _share(value: float, values: Sequence[float]) -> float:
    return (value - min(values)) / ((max(values) - min(values)) or 1.0)


def _table(page: Page, told: SavedSearch, metrics: Sequence[str]) -> None:
    sign = {one["name"]: 1 if one["higher_is_better"] else -1 for one in told.search["metrics"]}
    there = [prompt for prompt in told.prompts if "dev" in prompt["scores"]]
    there.sort(key=lambda p: -sign[metrics[0]] * p["scores"]["dev"][metrics[0]])
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
        for prompt in there[:TOP]
    ]
    if all(row["key phrases"] is None for row in rows):
        rows = [{name: value for name, value in row.items() if name != "key phrases"} for row in rows]
    page.table(rows, caption=f"by {metrics[0]} on dev")


def test(page: Page, rows: Sequence[Mapping[str, Any]]) -> None:
    """Scores on rows that nothing was chosen by, and differences with their intervals."""
    page.section("On test")
    page.table(
        rows, caption="means over rows; differences with 95% intervals of a paired bootstrap over rows"
    )
    page.figures(
        {f"test {row['metric']}": row["score"] for row in rows if row["prompt"] == rows[-1]["prompt"]}
    )
