"""The miniature's page: curves and tables of the arms, one search to click through, postscripts, key phrases, the trained model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.metrics.stats import mean_interval
from gnomon.core.report import Page
from gnomon.core.run import Run
from gnomon.methods.crispo.config import AT_5, LATE, MODEL_AT_5
from gnomon.methods.crispo.report import pages
from gnomon.methods.crispo.report.tree import draw_tree
from gnomon.methods.crispo.scoring.metrics import mean
from gnomon.methods.crispo.search.store import Store, Told
from gnomon.methods.crispo.search.task import Result

if TYPE_CHECKING:
    from gnomon.methods.crispo.mini.study import Findings

Rows = Sequence[Mapping[str, Any]]


def write(run: Run, found: Findings, shown: Result | None) -> None:
    """Everything, in order."""
    page = run.page
    page.text(
        "Critic and optimiser are simulated, and so is the writer in all parts but the last. They get the strings that a language "
        "model would get, and their noise and their mistakes are known. What is shown is that the loop carries a critique to where "
        "it helps, chooses well, and gains nothing from a critic that has nothing to say; not how good a critic a model is."
    )
    if shown is not None:
        _searches(page, found, shown, run)
    if "without" in found.scores:
        _suffix(page, found, run)
    if "both" in found.scores:
        page.section("Key phrases in the prompt")
        page.text(
            "The house wants facts told that the notes do not mark; ranked key phrases show them. Two arms have the phrases in the "
            "prompt, and two are optimised; the search moves K along with the wording."
        )
        page.table(
            _table(found, ["plain", "key phrases only", "crispo only", "both"], ["ROUGE-1 F"]),
            best={"ROUGE-1 F": "max"},
        )
    if MODEL_AT_5 in found.scores.get("crispo", {}):
        page.section("A trained writer")
        page.text(
            "A tiny Llama, trained from nothing for some minutes on prompts with style requests and their summaries, does the "
            "task from its saved folder. It follows requests for style and has not learned to copy facts, so that their order is "
            "out of its reach."
        )
        _curves(page, found, "model", "best on train so far, a trained writer")
        page.table(_table(found, ["opro", "crispo"], [MODEL_AT_5]), best={MODEL_AT_5: "max"})
    figures = {
        name: _mean(found, name, AT_5) for name in ("crispo", "opro") if AT_5 in found.scores.get(name, {})
    }
    page.figures({f"{name}, style after 5 steps": value for name, value in figures.items()})


def _searches(page: Page, found: Findings, shown: Result, run: Run) -> None:
    page.section("The search for the style")
    page.text(
        "The share of eight aspects in which a summary agrees with the reference. Every arm asks the writer equally often. "
        "*Blind critic*: it sees no difference and now and then suggests something at random. *Critiques of other tasks*: "
        "critiques written for other houses. *Shuffled critiques*: each prompt is shown with the critique of another prompt of "
        "the same search. A house style is the same for all prompts, so that a critique is mostly true of another prompt too: "
        "this control takes away little here, and its gain is no leak."
    )
    _curves(page, found, "search", "best on train so far, means over worlds")
    arms = [arm for arm, scores in found.scores.items() if AT_5 in scores]
    page.table(_table(found, arms, [AT_5, LATE]), caption="on test, means over worlds", best={AT_5: "max"})
    folder = run.folder / "search"
    store = Store(folder, None, None, is_simulated=True)
    store.save(shown.history, shown.calls, shown.best)
    told = Told.read(folder)
    page.text("One search of the arm `crispo`, in the first world:")
    draw_tree(page, told, told.search["metrics"][0])


def _suffix(page: Page, found: Findings, run: Run) -> None:
    page.section("A postscript for a second metric")
    page.text(
        "The writer invents reasons, praise, guests and places. A prompt tuned for style is frozen, and a postscript is searched "
        "by mean rank over the style and the support by the notes, or under the constraint to lose at most 0.02 of the style. "
        "The second metric is the share of content words that the "
        "notes hold, a stand-in for faithfulness."
    )
    rows = [
        {
            "prompt": arm,
            **{metric: _interval(found, arm, metric) for metric in ("first metric", "second metric")},
        }
        for arm in ("without", "with postscript", "with constrained postscript")
    ]
    page.table(rows, caption="on test, means over worlds")
    pages.front(page, Told.read(run.folder / "suffix"))


def _curves(page: Page, found: Findings, part: str, caption: str) -> None:
    series = {}
    for arm, curve in found.curves[part].items():
        points = []
        for step, values in curve.items():
            one = mean_interval(values)
            points.append((step, one.estimate, one.low, one.high))
        series[arm] = points
    page.lines(series, x_label="step", y_label="style", caption=caption)


def _table(found: Findings, arms: Sequence[str], metrics: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"arm": arm, **{metric: _interval(found, arm, metric) for metric in metrics}}
        for arm in arms
        if arm in found.scores
    ]


def _interval(found: Findings, arm: str, metric: str) -> tuple[float, float, float] | None:
    values = found.scores.get(arm, {}).get(metric)
    if not values:
        return None
    one = mean_interval(list(values.values()))
    return one.estimate, one.low, one.high


def _mean(found: Findings, arm: str, metric: str) -> float:
    return mean(list(found.scores[arm][metric].values()))
