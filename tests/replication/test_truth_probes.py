"""Truth-probes' direction in miniature: the exact answer's token tells errors, and without cues it tells less."""

from dataclasses import replace

import pytest

from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.truth_probes import Extraction
from gnomon.methods.truth_probes.mini import OTHERS, SCALES, World, measure, train_world

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def learned(cued, folder):
    """A study of fewer subjects, a smaller model and a shorter training than the miniature's."""
    scale = replace(SCALES["mini"], subjects=30, steps=400, samples=6, hidden=64)
    run = Run(folder / "run", method="truth-probes", verb="mini", quiet=True)
    part = run.within("world")
    part.rng = Rng(30).child("model")
    world = World.draw(scale.subjects, Rng(30), cued)
    handle, questions = train_world(world, scale, part), world.questions()
    run.close()
    tasks = [question.id.partition("-")[0] for question in questions]
    how = Extraction("known")
    return measure(handle, questions, samples=scale.samples, max_new_tokens=8, how=how, seed=30, tasks=tasks)


def test_the_exact_answer_tells_and_the_cue_is_why(tmp_path):
    with_cues, without = learned(0.8, tmp_path / "a"), learned(0.0, tmp_path / "b")
    before = [with_cues.greedy[name] for name in OTHERS if name != "-1"]
    assert with_cues.greedy["exact_last"] > max(before) + 0.2
    # The text ends behind a cue that the model wrote. How much of the truth is read there differs by seed and kernel (greedy
    # answers of four seeds: AUC .67 to .98), and the miniature's own claim is undecided for it; on samples the gap stays.
    assert with_cues.greedy["exact_last"] >= with_cues.greedy["-1"] - 0.02
    assert with_cues.sampled["exact_last"] > max(with_cues.sampled[name] for name in OTHERS) + 0.05
    assert with_cues.lead > 0.05
    assert without.lead < with_cues.lead / 2
    same, other = with_cues.skills()
    assert same > other + 0.15
