"""The miniature's page: curves and tables of the arms, one search to click through, postscripts, key phrases, the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.results import Scores
from gnomon.core.study import Results
from gnomon.methods.crispo.config import AT_5, LATE, MODEL_AT_5
from gnomon.methods.crispo.report import pages
from gnomon.methods.crispo.report.tree import draw_tree
from gnomon.methods.crispo.search.store import SavedSearch, Store


def write(page: Page, results: Results) -> None:
    """Write the page of the miniature, part by part."""
    page.text(
        "Critic and optimiser are simulated, and so is the writer in all parts but the last. They get the strings that a language "
        "model would get, and their noise and their mistakes are known. What is shown is that the loop carries a critique to where "
        "it helps, chooses well, and gains nothing from a critic that has nothing to say; not how good a critic a model is."
    )
    scores = results.measured()
    if "search" in results.shown:
        _searches(page, results)
    if "without" in scores:
        _suffix(page, results)
    if "both" in scores:
        page.section("Key phrases in the prompt")
        page.text(
            "The house wants facts told that the notes do not mark; ranked key phrases show them. Two arms have the phrases in the "
            "prompt, and two are optimised; the search moves K along with the wording."
        )
        page.table(
            _table(scores, ["plain", "key phrases only", "crispo only", "both"], ["ROUGE-1 F"]),
            best={"ROUGE-1 F": "max"},
        )
    if MODEL_AT_5 in scores.get("crispo", {}):
        page.section("A trained writer")
        page.text(
            "A tiny Llama, trained from nothing for some minutes on prompts with style requests and their summaries, does the "
            "task from its saved folder. It follows requests for style and has not learned to copy facts, so that their order is "
            "out of its reach."
        )
        _curves(page, results, "model", "best on train so far, a trained writer")
        page.table(_table(scores, ["opro", "crispo"], [MODEL_AT_5]), best={MODEL_AT_5: "max"})
    page.figures(
        {
            f"{arm}, style after 5 steps": results.mean(arm, AT_5)
            for arm in ("crispo", "opro")
            if AT_5 in scores.get(arm, {})
        }
    )


def curves(results: Results) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Part -> arm -> step -> the best score on train so far, per world or seed."""
    by_part: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row in results.rows.get("curves", []):
        steps = by_part.setdefault(row["part"], {}).setdefault(row["arm"], {})
        steps.setdefault(row["step"], []).append(row["value"])
    return by_part


def _searches(page: Page, results: Results) -> None:
    page.section("The search for the style")
    page.text(
        "The share of eight aspects in which a summary agrees with the reference. Every arm asks the writer equally often. "
        "*Blind critic*: it sees no difference and now and then suggests something at random. *Critiques of other tasks*: "
        "critiques written for other houses. *Shuffled critiques*: each prompt is shown with the critique of another prompt of "
        "the same search. A house style is the same for all prompts, so that a critique is mostly true of another prompt too: "
        "this control takes away little here, and its gain is no leak."
    )
    _curves(page, results, "search", "best on train so far, means over worlds")
    scores = results.measured()
    arms = [arm for arm, by_metric in scores.items() if AT_5 in by_metric]
    page.table(_table(scores, arms, [AT_5, LATE]), caption="on test, means over worlds", best={AT_5: "max"})
    folder, shown = results.folder / "search", results.shown["search"]
    store = Store(folder, None, None, is_simulated=True)
    store.save(shown.history, shown.calls, shown.best)
    saved = SavedSearch.read(folder)
    page.text("One search of the arm `crispo`, in the first world:")
    draw_tree(page, saved, saved.search["metrics"][0])


def _suffix(page: Page, results: Results) -> None:
    page.section("A postscript for a second metric")
    page.text(
        "The writer invents reasons, praise, guests and places. A prompt tuned for style is frozen, and a postscript is searched "
        "by mean rank over the style and the support by the notes, or under the constraint to lose at most 0.02 of the style. "
        "The second metric is the share of content words that the "
        "notes hold, a stand-in for faithfulness."
    )
    scores = results.measured()
    arms = ("without", "with postscript", "with constrained postscript")
    metrics = ("first metric", "second metric")
    rows = [{"prompt": arm, **{metric: _interval(scores, arm, metric) for metric in metrics}} for arm in arms]
    page.table(rows, caption="on test, means over worlds")
    pages.front(page, SavedSearch.read(results.folder / "suffix"))


def _curves(page: Page, results: Results, part: str, caption: str) -> None:
    series = {}
    for arm, curve in curves(results)[part].items():
        points = []
        for step, values in curve.items():
            mean = mean_interval(values)
            points.append((step, mean.estimate, mean.low, mean.high))
        series[arm] = points
    page.lines(series, x_label="step", y_label="style", caption=caption)


def _table(scores: Scores, arms: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, **{metric: _interval(scores, arm, metric) for metric in metrics}}
        for arm in arms
        if arm in scores
    ]


def _interval(scores: Scores, arm: str, metric: str) -> tuple[float, float, float] | None:
    values = scores.get(arm, {}).get(metric)
    if not values:
        return None
    mean = mean_interval(list(values.values()))
    return mean.estimate, mean.low, mean.high
