"""Markov's direction in miniature: the theorem on a trained toy's chains, and a prior that beats counting in context."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.markov import MarkovLM
from gnomon.methods.markov.chain import TEMPERATURES
from gnomon.methods.markov.icl import Series, compare, drifting, sample
from gnomon.methods.markov.mini import (
    ORBITS,
    PERIODIC,
    SCALES,
    parity_text,
    predictions,
    train_learner,
    train_toy,
)

pytestmark = [pytest.mark.replication, pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = Run(tmp_path_factory.mktemp("run") / "run", method="markov", verb="mini", quiet=True)
    yield made
    made.close()


@pytest.mark.parametrize("orbit", ORBITS)
def test_eps_grows_with_temperature_and_the_bound_holds(run, orbit):
    text = parity_text(ORBITS[orbit])
    part = run.within(f"orbit-{orbit}")
    part.rng = Rng(30).child("orbit", orbit)
    lm = MarkovLM(train_toy(text, SCALES["mini"], part), window=3)
    rows = [one.row for one in lm.analyse(TEMPERATURES, steps=2000, texts=[text])]
    assert [row["bound violations"] for row in rows] == [0] * len(rows)
    assert all(a["log10 eps"] < b["log10 eps"] for a, b in itertools.pairwise(rows))
    if orbit in PERIODIC:
        assert all(a["|lambda_2|"] > b["|lambda_2|"] for a, b in itertools.pairwise(rows))
    assert rows[TEMPERATURES.index(1.0)]["mass on training states"] > 0.5


def test_a_prior_over_many_states_is_worth_more_than_counts(run):
    """A quarter of the miniature's training: far below counting already."""
    scale = replace(SCALES["mini"], steps=120, tests=60)
    part = run.within("many")
    part.rng = Rng(30).child("many")
    model = train_learner(drifting, scale.states, scale, part)
    draw = Rng(31).numpy()
    laws = np.stack([drifting(scale.states, draw) for _ in range(scale.tests)])
    chains = [Series("drift", x, P) for x, P in zip(sample(laws, scale.length, draw), laws, strict=True)]
    found = compare(chains, predictions(model, chains))
    best = min(found.last(arm).mean() for arm in ("counting", "add-1", "add-1/d", "back-off"))
    assert found.last("model").mean() < 0.7 * best
