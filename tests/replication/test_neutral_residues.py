"""The direction in miniature: with the local loss a block learns and leaves the old domain more alone than a plain adapter."""

from dataclasses import replace

import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.neutral_residues.mini import SCALES, study
from gnomon.methods.neutral_residues.mini.world import world

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_our_blocks_forget_less_than_a_plain_adapter_for_what_they_learn(tmp_path):
    """A third of the miniature's base training, a smaller model, fewer held-out bytes."""
    lr = {"neutral": (4e-3,), "adapter": (2e-3,)}
    scale = replace(
        SCALES["mini"]["source"], hidden=64, layers=2, base_steps=120, steps=50, held_bytes=20_000, lr=lr
    )
    run = Run(tmp_path / "run", method="neutral-residues", verb="mini", seed=30, quiet=True)
    part = run.within("seed-30")
    part.rng = Rng(30)
    arms = {name: kind for name, kind in study.kinds(scale.alpha, full=False).items() if name in lr}
    ready = world("source", scale, study.base_of(part), tuning=True)
    ours, adapter = study.one_seed(scale, arms, ready, part)
    run.close()
    assert ours["learning"] > 0 and adapter["learning"] > 0
    assert ours["forgetting"] / ours["learning"] < adapter["forgetting"] / adapter["learning"]
    assert ours["residual ratio"] < 0.8
    assert ours["first loss off"] == 0
