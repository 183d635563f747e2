"""ELM's direction in miniature: a domain comes to chance, the other stays, the text stays fluent."""

from dataclasses import replace

import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.elm.mini import OURS, SCALES, fluent_texts, learned_personas, measure, run_arm, stage
from gnomon.methods.elm.mini.arms import arms

pytestmark = [pytest.mark.replication, pytest.mark.slow]

SCALE = replace(SCALES["mini"], judge_steps=120, fluent_texts=64, prompts=20, probe_contexts=2, relearn=(1,))


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("run") / "run", method="elm", verb="mini", quiet=True)

    def part(name):
        made = run.within(name)
        made.rng = Rng(10).child(name)
        return made

    yield stage(SCALE, part("world"), part("base"), part("judge")), part
    run.close()


def test_a_domain_is_taken_out_and_all_else_stays(ready):
    made, part = ready
    assert learned_personas(made) > 0.2
    before = measure(made.base, made)
    assert before["forget"] >= 0.9
    assert before["retain"] >= 0.9
    fluent = fluent_texts(SCALE, made, part("fluent"))
    ours = next(arm for arm in arms(SCALE, full=False) if arm.name == OURS)
    (after,) = run_arm(ours, SCALE, made, fluent, part("elm"))
    assert after["forget"] <= 0.5
    assert after["true option"] <= 0.4
    assert after["retain"] >= 0.9
    assert after["R-PPL"] <= 1.3 * before["R-PPL"]
    assert after["perplexity, generic"] <= 1.1 * before["perplexity, generic"]
