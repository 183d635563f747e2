"""The miniature: exact chains of trained toys against the paper's theorem, and chains learned in context against counting.

The models that learn in context were trained on chains; the paper's were trained on text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from gnomon.core import env
from gnomon.core.claims import decide
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.study import write_summary
from gnomon.methods.markov import mini_page
from gnomon.methods.markov.config import CLAIMS, Mini
from gnomon.methods.markov.icl.evaluation import FIRST, Comparison, compare
from gnomon.methods.markov.icl.series import Series, dirichlet, drifting, sample
from gnomon.methods.markov.lm import TEMPERATURES, MarkovLM
from gnomon.methods.markov.mini_models import (
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


@dataclass
class Findings:
    """What all seeds brought."""

    scores: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    """Arm -> metric -> per seed a number, or a number per chain, as claims name them."""
    chains: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, chain and temperature."""
    learning: list[dict[str, Any]] = field(default_factory=list)
    """One row per seed, task and arm."""
    shown: dict[str, Any] = field(default_factory=dict)
    """Of the first seed: chains and comparisons to draw."""

    def add(self, arm: str, metric: str, value: Any) -> None:
        """One seed's score."""
        self.scores.setdefault(arm, {}).setdefault(metric, []).append(value)


def mini(cfg: Mini, run: Run) -> None:
    """Run the parts for every seed, decide the claims and write the page."""
    scale = SCALES[cfg.scale]
    seeds = range(run.seed, run.seed + cfg.seeds)
    run.plan(
        seeds=list(seeds),
        parity_models=len(ORBITS) * cfg.seeds if "chain" in cfg.parts else 0,
        in_context_models=2 * cfg.seeds if "icl" in cfg.parts else 0,
        steps_per_in_context_model=scale.steps,
        exact_chains=[f"T={t}, K={k}" for t, k in ((2, 3), *scale.windows)],
    )
    env.check_scale(cfg.scale, scale.device)
    run.page.title = "markov in miniature: exact chains, and chains learned in context"
    found = Findings()
    for seed in seeds:
        checks: list[dict[str, Any]] = []
        if "chain" in cfg.parts:
            checks += _orbits(scale, seed, run, found)
        if "icl" in cfg.parts:
            checks += _in_context(scale, seed, run, found)
        for metric in ("structure as stated", "steps that violate the bound", "eps rises with temperature"):
            found.add("every chain", metric, [check[metric] for check in checks])
    verdicts = [
        decide(found.scores, claim)
        for claim in CLAIMS
        if cfg.scale != "smoke" and claim.comparison.metric in found.scores.get(claim.comparison.left, {})
    ]
    run.page.verdicts(verdicts)
    mini_page.write(run.page, found.chains, found.learning, found.shown, found.scores)
    numbers = {"chains": found.chains, "learning": found.learning}
    write_summary(run, cfg, scale, verdicts, numbers, "--parts", *cfg.parts)


def _orbits(scale: Scale, seed: int, run: Run, found: Findings) -> list[dict[str, Any]]:
    """The parity model on its four orbits."""
    checks = {}
    mass = []
    for name, start in ORBITS.items():
        text = parity_text(start)
        part = run.within(f"seed-{seed}/orbit-{name}")
        part.rng = Rng(seed).child("orbit", name)
        lm = MarkovLM(train_toy(text, scale, part), window=3)
        checks[name] = _check(lm, f"orbit {name}", scale, seed, run, found, [text])
        mass.append(checks[name]["mass, tau 1"])
        if seed == run.seed:
            found.shown[name] = (lm, checks[name]["analyses"])
    metric = "|lambda_2| falls with temperature"
    found.add("periodic orbits", metric, [checks[name][metric] for name in PERIODIC])
    found.add("fixed points", metric, [checks[name][metric] for name in ORBITS if name not in PERIODIC])
    found.add("every orbit", "mass on training states, tau 1", mass)
    return list(checks.values())


def _check(
    lm: MarkovLM, name: str, scale: Scale, seed: int, run: Run, found: Findings, texts: Sequence[Sequence[int]] | None = None
) -> dict[str, Any]:  # fmt: skip
    """What the paper says of every chain, at every temperature."""
    steps = scale.bound_steps if len(lm.space) <= 1000 else 200
    analyses = lm.analyse(TEMPERATURES, steps=steps, texts=texts)
    sound = [_is_sound(lm, one.row["temperature"], one) for one in analyses]
    eps = [one.row["log10 eps"] for one in analyses]
    second = [one.row["|lambda_2|"] for one in analyses]
    for one in analyses:
        row = {"seed": seed, "chain": name, **{k: v for k, v in one.row.items() if k != "top state"}}
        found.chains.append(row)
        run.log(**row)
    return {
        "structure as stated": float(all(sound)),
        "steps that violate the bound": float(sum(one.row["bound violations"] for one in analyses)),
        "eps rises with temperature": float(all(a < b for a, b in pairwise(eps))),
        "|lambda_2| falls with temperature": float(all(a > b for a, b in pairwise(second))),
        "mass, tau 1": analyses[TEMPERATURES.index(1.0)].row.get("mass on training states"),
        "analyses": analyses,
    }


def _is_sound(lm: MarkovLM, temperature: float, one: Any) -> bool:
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
        and (one.row["closed classes"], one.row["period"], one.row["transient"]) == (1, 1, short)
        and np.abs(Q.T @ one.pi - one.pi).sum() < 1e-9
        and not one.pi[:short].any()
    )


def _in_context(scale: Scale, seed: int, run: Run, found: Findings) -> list[dict[str, Any]]:
    """Two models trained on fresh chains, held against counting; then the exact chain of the first."""
    checks = []
    for name, law, states in (("d=3", dirichlet, 3), ("many states", drifting, scale.states)):
        part = run.within(f"seed-{seed}/{name.replace(' ', '-')}")
        part.rng = Rng(seed).child("in context", name)
        model = train_learner(law, states, scale, part)
        draw = part.rng.child("test").numpy()
        laws = np.stack([law(states, draw) for _ in range(scale.tests)])
        chains = [Series(name, x, P) for x, P in zip(sample(laws, scale.length, draw), laws, strict=True)]
        compared = compare(chains, predictions(model, chains))
        _score(name, compared, seed, run, found)
        if name == "d=3":
            for tokens, window in scale.windows:
                lm = MarkovLM(model, range(tokens), window, prefix=(states,))
                checks.append(
                    _check(lm, f"in-context model, T={tokens}, K={window}", scale, seed, run, found)
                )
    return checks


def _score(name: str, compared: Comparison, seed: int, run: Run, found: Findings) -> None:
    last = {arm: float(compared.last(arm).mean()) for arm in compared.risks}
    for row in compared.rows(first=FIRST):
        told = {
            "seed": seed,
            "task": name,
            "arm": row["arm"],
            "risk": last[row["arm"]],
            "slope": row["slope"],
        }
        found.learning.append(told)
        run.log(**told)
    for arm in ("model", "counting", "add-1"):
        found.add(arm, f"risk, {name}", last[arm])
        found.add(arm, f"slope, {name}", compared.slope(arm).slope)
    found.add("model", f"risk over counting's, {name}", last["model"] / last["counting"])
    found.add(
        "model", f"risk over best counting's, {name}", last["model"] / min(last[arm] for arm in COUNTING)
    )
    if seed == run.seed:
        found.shown[name] = compared
