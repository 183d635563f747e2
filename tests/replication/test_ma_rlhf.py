"""The direction in miniature: at equal rollouts macro actions end with more good words than tokens, and the control with them."""

import json
from dataclasses import replace

import pytest

from gnomon.core.results import Out, Results
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.ma_rlhf import Macro, matched_lambda
from gnomon.methods.ma_rlhf.mini import study
from gnomon.methods.ma_rlhf.mini.world import SCALES
from gnomon.registry import method
from gnomon.verbs import run_verb

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def test_macro_actions_and_the_matched_control_end_higher_than_tokens(tmp_path, monkeypatch):
    """Answers of half the length, a third of the updates, a seed of its own; a shorter lambda, so that the horizon shows sooner."""
    arms = {
        "n=1": Macro(n=1, lam=0.7),
        "n=5": Macro(n=5, lam=0.7),
        "matched": Macro(n=1, lam=matched_lambda(0.7, 5)),
    }
    monkeypatch.setattr(study, "MAIN", arms)
    scale = replace(SCALES["mini"], answer=24, context=32, updates=36, longest=36, last=8)
    run = Run(tmp_path / "run", method="ma-rlhf", verb="mini", seed=30, quiet=True)
    part = run.within("seed-30")
    part.rng = Rng(30)
    results = Results([30], tmp_path)
    study._world(scale, 30, part, Out(results, run, part, "world", 30))
    run.close()
    final = {arm: scores["final share good"][0] for arm, scores in results.scores().items()}
    assert final["n=5"] > final["n=1"] + 0.02 and final["matched"] > final["n=1"] + 0.02, final


def test_the_machinery_runs(tmp_path):
    words = [
        "--scale",
        "smoke",
        "--seeds",
        "1",
        "--parts",
        "world",
        "text",
        "--out",
        str(tmp_path / "run"),
        "--quiet",
    ]
    assert run_verb(method("ma-rlhf"), "mini", words) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {row["arm"] for row in summary["arms"]} == {"n=1", "n=5", "n=inf", "matched"}
    assert {row["rule"] for row in summary["text"]} == {
        "fixed",
        "randomized",
        "perplexity",
        "surprise",
        "chunks",
        "code",
    }
    page = (tmp_path / "run" / "report.html").read_text()
    assert "The control" in page and "by macro action and advantage" in page
