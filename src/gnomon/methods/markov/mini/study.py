"""The miniature: exact chains of trained toys against the paper's theorem, and chains learned in context against counting.

The models that learn in context were trained on chains; the paper's were trained on text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from gnomon.core.run import PartOfRun, Run
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.markov.chain.lm import TEMPERATURES, MarkovLM
from gnomon.methods.markov.config import CLAIMS, Mini
from gnomon.methods.markov.icl.evaluation import FIRST, Comparison, compare
from gnomon.methods.markov.icl.series import Series, dirichlet, drifting, sample
from gnomon.methods.markov.mini import report
from gnomon.methods.markov.mini.world import (
    ORBITS,
    PERIODIC,
    SCALES,
    Scale,
    parity_text,
    predictions,
    train_learner,
    train_toy,
)

COUNTING = ("counting", "add-1", "add-1/d", "back-off")
"""Baselines that learn."""


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    STUDY.run(cfg, run)


def _plan(cfg: Mini, scale: Scale) -> Mapping[str, object]:
    return {
        "parity_models": len(ORBITS) * cfg.seeds if "chain" in cfg.parts else 0,
        "in_context_models": 2 * cfg.seeds if "icl" in cfg.parts else 0,
        "steps_per_in_context_model": scale.steps,
        "exact_chains": [f"T={t}, K={k}" for t, k in ((2, 3), *scale.windows)],
    }


def _orbits(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """The parity model on its four orbits."""
    checks = {}
    mass = []
    for name, start in ORBITS.items():
        text = parity_text(start)
        toy = part.within(f"orbit-{name}", part.rng.child("orbit", name))
        lm = MarkovLM(train_toy(text, scale, toy), window=3)
        checks[name] = _check(lm, f"orbit {name}", scale, out, [text])
        mass.append(checks[name]["mass, tau 1"])
        out.show(name, (lm, checks[name]["analyses"]))
    metric = "|lambda_2| falls with temperature"
    out.score("periodic orbits", metric, [checks[name][metric] for name in PERIODIC])
    out.score("fixed points", metric, [checks[name][metric] for name in ORBITS if name not in PERIODIC])
    out.score("every orbit", "mass on training states, tau 1", mass)
    _score_chains(list(checks.values()), out)


def _score_chains(checks: Sequence[Mapping[str, Any]], out: Out) -> None:
    """Scores of the theorem's statements over all chains of a seed."""
    for metric in ("structure as stated", "steps that violate the bound", "eps rises with temperature"):
        out.score("every chain", metric, [check[metric] for check in checks])


def _check(
    lm: MarkovLM, name: str, scale: Scale, out: Out, texts: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:
    """Structure, bound and temperature statements of one chain."""
    steps = scale.bound_steps if len(lm.space) <= 1000 else 200
    analyses = lm.analyse(TEMPERATURES, steps=steps, texts=texts)
    sound = [_is_sound(lm, analysis.row["temperature"], analysis) for analysis in analyses]
    eps = [analysis.row["log10 eps"] for analysis in analyses]
    second = [analysis.row["|lambda_2|"] for analysis in analyses]
    for analysis in analyses:
        row = {"chain": name, **{k: v for k, v in analysis.row.items() if k != "top state"}}
        out.add("chains", row)
        out.log(**row)
    return {
        "structure as stated": float(all(sound)),
        "steps that violate the bound": float(sum(analysis.row["bound violations"] for analysis in analyses)),
        "eps rises with temperature": float(all(a < b for a, b in pairwise(eps))),
        "|lambda_2| falls with temperature": float(all(a > b for a, b in pairwise(second))),
        "mass, tau 1": analyses[TEMPERATURES.index(1.0)].row.get("mass on training states"),
        "analyses": analyses,
    }


def _is_sound(lm: MarkovLM, temperature: float, analysis: Any) -> bool:
    """Rows that sum to 1, the stated share of entries, short states nilpotent, one aperiodic class, and a stationary pi."""
    space, Q = lm.space, lm.Q(temperature)
    short = space.offset(space.window)
    block = Q[:short, :short]
    power = block
    for _ in range(space.window - 2):
        power = power @ block
    share = Q.nnz / len(space) ** 2
    return bool(
        np.allclose(Q.sum(1), 1, atol=1e-12)
        and np.isclose(share, (space.tokens - 1) / (space.full - 1))
        and (space.window == 1 or not abs(power).sum())
        and (analysis.row["closed classes"], analysis.row["period"], analysis.row["transient"])
        == (1, 1, short)
        and np.abs(Q.T @ analysis.pi - analysis.pi).sum() < 1e-9
        and not analysis.pi[:short].any()
    )


def _in_context(scale: Scale, seed: int, part: PartOfRun, out: Out) -> None:
    """Two models trained on fresh chains, held against counting; then the exact chain of the first."""
    checks = []
    for name, law, states in (("d=3", dirichlet, 3), ("many states", drifting, scale.states)):
        inner = part.within(name.replace(" ", "-"), part.rng.child("in context", name))
        model = train_learner(law, states, scale, inner)
        draw = inner.rng.child("test").numpy()
        laws = np.stack([law(states, draw) for _ in range(scale.tests)])
        chains = [Series(name, x, P) for x, P in zip(sample(laws, scale.length, draw), laws, strict=True)]
        compared = compare(chains, predictions(model, chains))
        _score(name, compared, out)
        if name == "d=3":
            for tokens, window in scale.windows:
                lm = MarkovLM(model, range(tokens), window, prefix=(states,))
                checks.append(_check(lm, f"in-context model, T={tokens}, K={window}", scale, out))
    _score_chains(checks, out)


def _score(name: str, compared: Comparison, out: Out) -> None:
    last = {arm: float(compared.last(arm).mean()) for arm in compared.risks}
    for row in compared.rows(first=FIRST):
        learned = {"task": name, "arm": row["arm"], "risk": last[row["arm"]], "slope": row["slope"]}
        out.add("learning", learned)
        out.log(**learned)
    for arm in ("model", "counting", "add-1"):
        out.score(arm, f"risk, {name}", last[arm])
        out.score(arm, f"slope, {name}", compared.slope(arm).slope)
    out.score("model", f"risk over counting's, {name}", last["model"] / last["counting"])
    best = min(last[arm] for arm in COUNTING)
    out.score("model", f"risk over best counting's, {name}", last["model"] / best)
    out.show(name, compared)


def _summary(results: Results) -> Mapping[str, object]:
    return {name: results.rows.get(name, []) for name in ("chains", "learning")}


STUDY = Study(
    title="markov in miniature: exact chains, and chains learned in context",
    claims=CLAIMS,
    scales=SCALES,
    parts={"chain": Part(_orbits), "icl": Part(_in_context)},
    plan=_plan,
    page=report.write,
    summary=_summary,
)
