"""Report pages of the verbs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from gnomon.core.data.execute import Totals
from gnomon.core.metrics.stats import wilson
from gnomon.core.report import Page
from gnomon.methods.sieve.fitting.application import outside_note
from gnomon.methods.sieve.fitting.calibration import GRID
from gnomon.methods.sieve.fitting.cost import Cost
from gnomon.methods.sieve.fitting.evaluation import evaluate, self_consistency
from gnomon.methods.sieve.fitting.model import PASS, SCORE, Card
from gnomon.methods.sieve.fitting.sieve import Fit
from gnomon.methods.sieve.judging.filters import Filter
from gnomon.methods.sieve.judging.labels import Label
from gnomon.methods.sieve.judging.rating import Preference

SHOWN = 6
"""Snippets of each kind that a page shows."""

LONGEST = 300
"""Characters of a snippet that a page shows."""

CHARTED = 3.0
"""Largest bill in a chart, in bills of the judge on everything."""


def labels(page: Page, draws: Sequence[Sequence[Label]], chosen: Filter) -> None:
    """The base rate, and the judge's agreement with itself."""
    rows = draws[0]
    answered = [row for row in rows if row.label is not None]
    passes = sum(row.label == 1 for row in answered)
    low, high = wilson(passes, len(answered))
    page.title = f'{len(rows):,} snippets judged by "{chosen.name}"'
    page.figures(
        {
            "labels": len(answered),
            "passes": passes,
            "base rate": passes / len(answered) if answered else None,
            "without verdict": len(rows) - len(answered),
        }
    )
    page.text(f"The base rate lies between {low:.2%} and {high:.2%} (95%, Wilson).")
    if len(draws) > 1:
        page.section("Does the judge agree with itself?")
        page.text(
            "The same snippets, judged again: no student can agree with the judge more than the judge does."
        )
        page.table(
            [{"draws": f"1 and {k + 2}", **_agreement(rows, other)} for k, other in enumerate(draws[1:])]
        )
    _filter(page, chosen)
    page.section("Snippets")
    _snippets(page, [row for row in answered if row.label == 1], "passed")
    _snippets(page, [row for row in answered if row.label == 0], "failed")
    _snippets(page, [row for row in rows if row.label is None], "got no verdict")


def _agreement(a: Sequence[Label], b: Sequence[Label]) -> dict[str, Any]:
    pairs = [(x.label, y.label) for x, y in zip(a, b, strict=True) if None not in (x.label, y.label)]
    consistency = self_consistency([x for x, _ in pairs], [y for _, y in pairs])
    return {
        "snippets": consistency["n"],
        "agreement": consistency["agreement"],
        "kappa": consistency["kappa"],
    }


def fit(page: Page, fitted: Fit, chosen: Filter, tested: Sequence[Label]) -> None:
    """Labels round by round, the threshold, and a test where the settings have one."""
    outcome, card, counts = fitted.outcome, fitted.model.card, fitted.store.counts()
    page.title = f'A filter for "{chosen.name}" from {len(fitted.store):,} verdicts'
    if outcome.stopped:
        page.title += ", stopped early"
        page.figures({"stopped early": outcome.stopped})
        page.text(
            f"**The judge stopped before the budget of labels was spent.** {outcome.stopped} The model was trained on the labels "
            "that there are, and can be used; the same command, with a higher limit where one was met, goes on from here."
        )
    page.figures(
        {
            "labels": len(fitted.store),
            "passes among labels": counts["pass"] / max(counts["pass"] + counts["fail"], 1),
            "base rate": outcome.base_rate,
            "threshold": outcome.threshold,
            "expected pass rate": outcome.calibration.expected["pass rate"],
        }
    )
    uniform = fitted.store.uniform_rows()
    low, high = wilson(sum(row.label == 1 for row in uniform), len(uniform))
    page.text(
        f"The judge passes {outcome.base_rate:.2%} of the stream, by the curve below; {low:.2%} to {high:.2%} by its "
        f"{len(uniform):,} uniform labels alone (95%, Wilson). The threshold aims at {card.objective.replace('-', ' ')}, and is "
        f"expected to keep {card.expected['pass rate']:.2%} of the snippets."
    )
    if tested:
        _test(page, fitted, tested)
    page.section("Labels, round by round")
    at = np.cumsum([state.labels for state in outcome.rounds]).tolist()
    shares = {
        "passes among the labels": [(x, s.pass_share) for x, s in zip(at, outcome.rounds, strict=True)],
        "base rate": [(x, s.base_rate) for x, s in zip(at, outcome.rounds, strict=True)],
        "width of the interval": [
            (x, s.widths[-1]) for x, s in zip(at, outcome.rounds, strict=True) if s.widths and s.number
        ],
    }
    page.lines({name: points for name, points in shares.items() if points}, x_label="labels", y_label="share")
    page.table(
        [
            {
                "round": s.number,
                "labels": s.labels,
                "passes": s.passes,
                "without verdict": s.failed,
                "snippets scored": s.read,
                "interval width": s.widths[-1] if s.widths and s.number else None,
            }
            for s in outcome.rounds
        ]
    )
    page.section("The threshold")
    middles = (np.arange(GRID) + 0.5) / GRID
    step = GRID // 200
    page.lines(
        {
            "P(pass)": list(
                zip(middles[::step].tolist(), outcome.calibration.curve[::step].tolist(), strict=True)
            )
        },
        x_label="rank of the score in the stream",
        y_label="share that the judge passes",
        caption="fitted on labels that the scoring student had not seen, weighted by the chance to be labelled",
    )
    page.table([outcome.calibration.expected], caption="what the threshold is expected to do on the stream")
    _filter(page, chosen)
    page.section("Snippets that were hard to tell")
    nearest = sorted(
        (row for row in fitted.store.training_rows() if row.score_at_query is not None),
        key=lambda row: abs((row.score_at_query or 0.0) - outcome.threshold),
    )
    _snippets(page, [row for row in nearest if row.label == 1], "passed")
    _snippets(page, [row for row in nearest if row.label == 0], "failed")


def _test(page: Page, fitted: Fit, tested: Sequence[Label]) -> None:
    answered = [row for row in tested if row.label is not None]
    page.section("Test")
    if not answered:
        page.text(f"The judge gave no verdict on any of {len(tested)} snippets that were set aside.")
        return
    scores = fitted.model.student.predict([row.text for row in answered])
    truth = [row.label for row in answered]
    page.text("Snippets of documents that were set aside, against the judge's verdicts.")
    measured = evaluate(scores, truth, fitted.outcome.threshold, documents=[row.doc_id for row in answered])[
        "judge"
    ]
    page.table([_comparison(measured)], caption="with 95% bootstrap intervals over documents")
    kept = float(np.mean(scores >= fitted.outcome.threshold))
    expected = fitted.model.card.expected["pass rate"]
    page.table(
        [{"expected": expected, "seen": kept, "the judge's": measured["base_rate"]}],
        caption="pass rate: expected of the threshold, and seen on the test",
    )
    page.figures({"pass rate on the test": kept})
    page.figures({"balanced accuracy": measured["balanced_accuracy"], "AP": measured["average_precision"]})


def applied(
    page: Page, totals: Totals, card: Card, rows: Iterator[tuple[str, dict[str, Any]]], text_field: str
) -> None:
    """Documents that passed, with examples."""
    sums = totals.sums
    scored = sums.get("scored", 0)
    page.title = _title(f'{totals.read:,} documents filtered by "{card.filter["name"]}"', card)
    page.simulated = card.is_simulated
    page.figures(
        {
            "documents": totals.read,
            "passed": int(sums.get("passed", 0)),
            "pass rate": sums.get("passed", 0) / scored if scored else None,
            "expected pass rate, snippets": card.expected.get("pass rate"),
            "pass rate, snippets": sums.get("above", 0) / sums["snippets"] if sums.get("snippets") else None,
            "refused": totals.rejected,
        }
    )
    page.text(outside_note(sums.get("outside", 0), sums.get("snippets", 0)))
    page.text(
        f"In training the judge passed {card.base_rate:.2%} of the snippets. Threshold {card.threshold:.4f} ({card.objective}). "
        f"Model version `{card.version}`, judge `{card.judge}`."
    )
    if card.stopped:
        page.text(f"The fit of this model was stopped early: {card.stopped}")
    if card.expected and sums.get("snippets"):
        page.table(
            [{"expected": card.expected["pass rate"], "seen": sums.get("above", 0) / sums["snippets"]}],
            caption="share of the snippets that pass: expected on the stream of the fit, and seen here",
        )
    seen = [raw for _, raw in islice(rows, 2000)]
    for title, kept in (("passed", True), ("were dropped", False)):
        ranked = sorted((r for r in seen if r[PASS] == kept), key=lambda r: r[SCORE], reverse=kept)
        shown: dict[str, float] = {}
        for row in ranked:
            shown.setdefault(_short(str(row[text_field])), row[SCORE])
        if shown:
            page.section(f"Some that {title}")
            page.table([{"score": score, "text": text} for text, score in islice(shown.items(), SHOWN)])


def evaluation(
    page: Page,
    figures: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    card: Card,
    preference: Preference | None,
) -> None:
    """Agreement of judge, student and truth, and examples of disagreement."""
    page.title = _title(f'"{card.filter["name"]}" on {figures["n"]:,} labelled snippets', card)
    page.simulated = card.is_simulated
    judged = figures["judge"]
    page.figures(
        {
            "snippets": judged["n"],
            "balanced accuracy": judged["balanced_accuracy"],
            "agreement": judged["agreement"],
            "AP": judged["average_precision"],
        }
    )
    page.section("Agreement")
    names = {
        "judge": "student against judge",
        "truth": "student against truth",
        "judge_truth": "judge against truth",
    }
    measures = {title: _comparison(figures[name]) for name, title in names.items() if name in figures}
    page.table(
        [
            {"measure": name} | {title: row.get(name) for title, row in measures.items()}
            for name in measures["student against judge"]
        ],
        caption="with 95% bootstrap intervals over documents",
    )
    page.table(
        [
            {"the judge": "passes", "student keeps": judged["tp"], "student drops": judged["fn"]},
            {"the judge": "fails", "student keeps": judged["fp"], "student drops": judged["tn"]},
        ],
        caption="snippets",
    )
    if "where_agreed" in figures:
        agreed = figures["where_agreed"]
        page.text(
            f"On the {agreed['n']:,} snippets on which judge and student agree, both are wrong on {agreed['errors']:.2%} of them."
        )
    if preference is not None:
        page.section("Whom people side with")
        page.text(
            f"Of {preference.n} disagreements that were rated, people said what the student says in {preference.share:.0%} "
            f"(95% interval {preference.low:.0%} to {preference.high:.0%})."
        )
    page.section("Where they differ")
    if all(r["label"] in (None, int(r["pass"])) for r in rows):
        page.text("Nowhere: they agree on every snippet.")
    for title, label in (
        ("the judge passes, the student drops", 1),
        ("the judge fails, the student keeps", 0),
    ):
        shown = [r for r in rows if r["label"] == label and r["pass"] != bool(label)]
        if shown:
            page.table(
                [{"score": r["score"], "text": _short(r["text"])} for r in shown[:SHOWN]],
                caption=f"{title}: {len(shown)}",
            )


def _comparison(figures: Mapping[str, Any]) -> dict[str, Any]:
    names = ("balanced_accuracy", "f1", "agreement", "kappa", "average_precision")
    return {
        name.replace("_", " "): (figures[name], *figures["intervals"][name])
        if name in figures["intervals"]
        else figures[name]
        for name in names
        if name in figures
    }


def bill(page: Page, cost: Cost, measured_names: Sequence[str]) -> None:
    """The bill."""
    figures = cost.figures()
    page.title = f"Filtering {cost.snippets:,} snippets: {cost.total_usd:,.2f} USD"
    if cost.judge_all_usd:
        page.title += f", {_percent(cost.ratio)} of the judge on everything"
    page.figures(
        {
            "total, USD": figures["total_usd"],
            "judge on everything, USD": figures["judge_all_usd"],
            "ratio": figures["ratio"],
            "break-even, snippets": figures["break_even"],
        }
    )
    source = (
        f"Measured by the fit: {', '.join(measured_names)}."
        if measured_names
        else "All numbers are assumptions."
    )
    page.text(
        f"{source} One judge call costs as much as {figures['calls_per_judge_call']:,.0f} snippets scored by the student."
    )
    page.table(
        [
            {
                "labels": cost.judge_usd,
                "training": cost.training_usd,
                "scoring": cost.scoring_usd,
                "total": cost.total_usd,
                "judge on everything": cost.judge_all_usd,
            }
        ],
        caption="the bill, in USD",
    )
    page.table(
        [{"one judge call": cost.usd_per_call, "one snippet scored": cost.usd_per_snippet}],
        caption="prices, in USD",
    )
    if not cost.judge_all_usd:
        return
    sizes = [10**power for power in range(3, 10)]
    ratios = [(size, replace(cost, snippets=size).ratio) for size in sizes]
    page.lines(
        {
            "student": [(size, ratio) for size, ratio in ratios if ratio <= CHARTED],
            "judge on everything": [(size, 1.0) for size in sizes],
        },
        x_label="snippets in the corpus",
        y_label="bill, in bills of the judge on everything",
        log_x=True,
    )


def _percent(share: float) -> str:
    """A share with two digits at least, however small.

    >>> _percent(0.0346), _percent(0.0000026)
    ('3.46%', '0.00026%')
    """
    return f"{share:.2%}" if share >= 0.001 or not share else f"{100 * share:.2g}%"


def _title(title: str, by: Card) -> str:
    return f"SIMULATED: {title}" if by.is_simulated else title


def _filter(page: Page, chosen: Filter) -> None:
    page.section("The filter")
    page.text(f"{chosen.description}\n\n- **passes:** {chosen.pass_}\n- **fails:** {chosen.fail}")


def _snippets(page: Page, rows: Sequence[Label], what: str) -> None:
    if rows:
        is_scored = any(row.score_at_query is not None for row in rows)
        table = [{"score": row.score_at_query, "text": _short(row.text)} for row in rows[:SHOWN]]
        page.table(table, caption=what, columns=None if is_scored else ["text"])


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
