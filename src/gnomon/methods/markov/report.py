"""What each verb shows on its report page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gnomon.core.report import Page
from gnomon.methods.markov import config
from gnomon.methods.markov.chain import rates
from gnomon.methods.markov.chain.chain import Floats
from gnomon.methods.markov.chain.lm import Analysis
from gnomon.methods.markov.chain.rates import likely_states

if TYPE_CHECKING:
    from gnomon.methods.markov.chain.forget import Forgetting
    from gnomon.methods.markov.chain.lm import MarkovLM
    from gnomon.methods.markov.icl.evaluation import Comparison
    from gnomon.methods.markov.icl.series import Series

SHOWN = 64
"""Rows of a transition matrix that are drawn; of a larger one, sums over as many groups of neighbours."""

POINTS = 201
"""Points of a drawn curve, at most."""

SMALLEST = 1e-12
"""Distances below this are rounding, and are not drawn."""


def chain(page: Page, lm: MarkovLM, analyses: Sequence[Analysis], *, begins: bool, **decoding: Any) -> None:
    """Page of `chain`: classes, matrix, mixing curves, temperatures and loops."""
    space = lm.space
    middle = min(analyses, key=lambda analysis: abs(analysis.row["temperature"] - 1))
    page.title = f"A Markov chain of {len(space):,} states: {space.tokens} tokens, window {space.window}"
    page.figures(
        {
            "states": len(space),
            "closed classes": middle.row["closed classes"],
            "|lambda_2|, tau 1" if middle.row["temperature"] == 1 else "|lambda_2|": middle.row["|lambda_2|"],
            "bound violations": sum(analysis.row["bound violations"] or 0 for analysis in analyses),
        }
    )
    page.text(
        f"The model writes only {', '.join(f'`{name}`' for name in lm.names[:12])}{' ...' if len(lm.names) > 12 else ''}: that is "
        "the chain of decoding restricted to these tokens. Every state is encoded from position 0, "
        f"{'behind' if begins else 'without'} the begin-of-text token"
        f"{f' and a prefix of {len(lm.prefix) - begins} tokens' if len(lm.prefix) > begins else ''}."
    )
    page.table([_shown(analysis.row) for analysis in analyses], caption="the chain at each temperature")
    for analysis in analyses:
        if analysis.pi is None:
            page.text(
                f"At temperature {analysis.row['temperature']:g} there are **{analysis.row['closed classes']} closed classes**: "
                "where the chain ends depends on where it begins, and there is no unique stationary distribution."
            )
    page.section("Transition matrix")
    matrix(page, lm, middle.row["temperature"], **decoding)
    page.section("How fast it forgets")
    curves(page, analyses, space.window)
    temperatures(page, analyses)
    page.section("Loops")
    loops(page, lm, middle)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("states", "transient")}


def matrix(page: Page, lm: MarkovLM, temperature: float, **decoding: Any) -> None:
    """The transition matrix as a heat map; states in order, a large one in groups."""
    size = len(lm.space)
    Q = lm.chain(temperature, **decoding).Q
    if size <= SHOWN:
        names = [lm.label(i) for i in range(size)]
        page.heatmap(
            Q.toarray().tolist(),
            x=names,
            y=names,
            caption=f"from row to column, temperature {temperature:g}",
            low=0,
        )
        return
    first = lm.space.offset(lm.space.window)
    block = Q[first:, first:].tocoo()
    group = (np.arange(lm.space.full) * SHOWN) // lm.space.full
    sums = np.zeros((SHOWN, SHOWN))
    np.add.at(sums, (group[block.row], group[block.col]), block.data)
    sums /= np.maximum(np.bincount(group, minlength=SHOWN), 1)[:, None]
    page.heatmap(
        sums.tolist(),
        low=0,
        caption=f"full-length states in {SHOWN} groups of neighbours, temperature {temperature:g}",
    )


def curves(page: Page, analyses: Sequence[Analysis], window: int) -> None:
    """Measured distance and the rate that the second eigenvalue predicts, as decimal logarithms."""
    series: dict[str, list[tuple[float, float]]] = {}
    for analysis in analyses:
        if analysis.curve is None:
            continue
        tau, second = analysis.row["temperature"], analysis.row["|lambda_2|"]
        measured = _logs(analysis.curve.steps, analysis.curve.tv)
        series[f"measured, tau {tau:g}"] = measured
        if second is not None and len(measured) > window + 1 and 0 < second < 1:
            n0, y0 = measured[min(len(measured) - 1, max(window, len(measured) // 2))]
            line = [(n, y0 + (n - n0) * math.log10(second)) for n, _ in measured]
            series[f"predicted, tau {tau:g}"] = [(n, y) for n, y in line if y <= 0.1]
    if not series:
        return
    page.lines(
        series,
        x_label="tokens",
        y_label="log10 of the distance",
        caption="worst total variation from the stationary distribution; predicted: the slope of the second eigenvalue",
    )
    page.table(
        [
            {
                "temperature": analysis.row["temperature"],
                "eps": 10 ** analysis.row["log10 eps"] if analysis.row["log10 eps"] is not None else 0.0,
                "bound at the last step": float(
                    rates.bound(_log_eps(analysis.row), window, analysis.curve.steps[-1:])[0]
                ),
                "measured there": float(analysis.curve.largest[-1]),
                "steps": int(analysis.curve.steps[-1]),
                "every start": analysis.curve.is_exact,
            }
            for analysis in analyses
            if analysis.curve is not None
        ],
        caption="the paper's bound on the largest difference of an entry, and what was measured",
    )


def _log_eps(row: Mapping[str, Any]) -> float:
    return row["log10 eps"] * math.log(10) if row["log10 eps"] is not None else -math.inf


def _logs(steps: Sequence[int] | Any, values: Floats) -> list[tuple[float, float]]:
    """Up to `POINTS` points of a curve, where it is more than rounding."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, POINTS).round().astype(int))
    steps, values = np.asarray(steps)[chosen], values[chosen]
    return [(int(n), math.log10(v)) for n, v in zip(steps, values, strict=True) if v > SMALLEST]


def temperatures(page: Page, analyses: Sequence[Analysis]) -> None:
    """Eps and the second eigenvalue over temperature."""
    rows = [analysis.row for analysis in analyses if analysis.row["|lambda_2|"] is not None]
    if len(rows) < 2:
        return
    eps = [(row["temperature"], row["log10 eps"]) for row in rows if row["log10 eps"] is not None]
    if eps:
        page.lines({"log10 eps": eps}, x_label="temperature", y_label="log10 eps")
    page.lines(
        {"|lambda_2|": [(row["temperature"], row["|lambda_2|"]) for row in rows]},
        x_label="temperature",
        y_label="second eigenvalue, modulus",
    )


def loops(page: Page, lm: MarkovLM, analysis: Analysis) -> None:
    """Greedy cycles and the most visited states."""
    cycles = lm.greedy_cycles()
    page.table(
        [
            {
                "period": cycle.period,
                "share of starts": cycle.basin,
                "states": " > ".join(lm.label(i) for i in cycle.members[:8])
                + (" ..." if cycle.period > 8 else ""),
            }
            for cycle in cycles[:10]
        ],
        caption=f"greedy decoding ends in one of {len(cycles)} cycles",
    )
    if analysis.pi is not None:
        page.table(
            [
                {"state": lm.label(i), "probability": p, "return time": back}
                for i, p, back in likely_states(analysis.pi)
            ],
            caption=f"most visited states, temperature {analysis.row['temperature']:g}; the return time is 1 / probability",
        )


def forgotten(page: Page, curves: Sequence[Forgetting]) -> None:
    """Page of `forget`: distance between the two prompts by tokens written."""
    page.title = "How fast the model forgets its prompt"
    page.figures({f"forgotten after, tau {curve.temperature:g}": curve.forgotten_at for curve in curves})
    page.text(
        "Total variation between the next-token distributions that follow the two prompts, averaged over sampled continuations. "
        "The floor is what two samples from one prompt differ by."
    )
    series = {}
    for curve in curves:
        series[f"tau {curve.temperature:g}"] = list(enumerate(curve.distance.tolist()))
        series[f"floor, tau {curve.temperature:g}"] = list(enumerate(curve.floor.tolist()))
    page.lines(series, x_label="tokens written", y_label="total variation")
    page.table(
        [
            {
                "temperature": curve.temperature,
                "at once": float(curve.distance[0]),
                "at the end": float(curve.distance[-1]),
                "floor at the end": float(curve.floor[-1]),
                "forgotten after": curve.forgotten_at,
            }
            for curve in curves
        ]
    )


def bounded(page: Page, cfg: config.Bound, vocab: int, width: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Page of `bound`: the table of bounds and what each says."""
    page.title = f"Generalisation bound, {'in context' if cfg.kind == 'icl' else 'pre-training'}"
    page.figures({"B_bar": rows[0]["B_bar"], "risk at most": rows[0]["risk at most"]})
    page.text(
        f"T = {vocab:,}, r = {width:,}, temperature {cfg.temperature:g}, delta = {cfg.delta:g}. B_U holds for final features no "
        f"longer than {cfg.feature_norm:g}; the paper supposes 1, and RMS norms give about the root of the width, "
        f"{math.sqrt(width):.3g}."
    )
    page.table(rows)


def learned(page: Page, cfg: config.Icl, chains: Sequence[Series], comparison: Comparison) -> None:
    """Page of `icl`: risks of model and baselines, and the scaling law."""
    page.title = f"Learning {cfg.kind} chains of {cfg.states} states in context"
    line = comparison.slope("model", cfg.first)
    page.figures(
        {
            "risk": float(comparison.last("model").mean()),
            "slope": line.slope,
            "lost mass": float(comparison.lost.mean()),
            "series": len(chains),
        }
    )
    page.text(
        f"Distance ({cfg.distance}) between the true and the predicted distribution of the next state, over {len(chains)} series. "
        "Theory: the risk falls as n to the -1/2. The lost mass is the probability that the model gave to other tokens."
    )
    page.table(
        comparison.rows(first=cfg.first),
        caption=f"after {int(comparison.at[-1])} states",
        best={"risk": "min"},
    )
    scaling(page, comparison, cfg.first)


def scaling(page: Page, comparison: Comparison, first: int, caption: str = "") -> None:
    """The scaling law: risk against n, and the fitted line of the model."""
    line = comparison.slope("model", first)
    columns = np.unique(
        np.geomspace(1, len(comparison.at), min(20, len(comparison.at))).round().astype(int) - 1
    )
    series: dict[str, list[Any]] = {}
    for arm in comparison.risks:
        mean = comparison.risks[arm].mean(0)
        series[arm] = [(int(comparison.at[i]), math.log10(mean[i])) for i in columns if mean[i] > 0]
    series[f"fit: slope {line.slope:.2f} +- {line.error:.2f}"] = [
        (int(n), (line.intercept + line.slope * math.log(n)) / math.log(10))
        for n in comparison.at[columns]
        if n >= first
    ]
    page.lines(series, x_label="states read", y_label="log10 of the risk", log_x=True, caption=caption)
