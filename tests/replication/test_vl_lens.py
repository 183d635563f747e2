"""vl-lens in miniature, one seed: image tokens say what is there and where, and erasing does more than damage."""

from dataclasses import replace

import numpy as np
import pytest

from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.methods.vl_lens.mini import SCALES, Seen, measure, train

pytestmark = [pytest.mark.replication, pytest.mark.slow]


@pytest.fixture(scope="module")
def trial(tmp_path_factory):
    scale = replace(SCALES["mini"], tests=300, mentions=20)
    run = Run(tmp_path_factory.mktemp("run") / "run", method="vl-lens", verb="mini", quiet=True)
    of_seed = run.within("seed-10")
    of_seed.rng = Rng(10)
    handle = ModelHandle.load(train(scale, of_seed), kind="vlm", device="cpu")
    part = run.within("trial")
    part.rng = Rng(10).child("trial")
    yield measure(Seen.of(handle, scale, part.rng.child("test")), scale, part).numbers
    run.close()


def test_internal_confidence_tells_hallucinated_mentions(trial):
    auc = {arm: numbers.get("AUC of hallucinated mentions") for arm, numbers in trial.items()}
    assert auc["internal confidence"] > max(0.6, auc["output probability"])


def test_it_tells_which_classes_are_there(trial):
    assert trial["internal confidence"]["presence AUC"] > 0.8


def test_the_heat_map_lies_on_the_object(trial):
    heat, chance = trial["heat map"], trial["chance"]
    assert heat["mIoU"] > 2 * chance["mIoU"] and heat["pointing game"] > 3 * chance["pointing game"]


def test_erasing_removes_more_than_chance_and_no_fewer_of_what_is_not_there(trial):
    """That correct mentions are harder to erase is a claim about means over seeds: of one seed it is .30 against .30 or .95 against
    .60, by the processor. Here hallucinated ones may not be the harder ones beyond what 20 mentions of each can tell.
    """
    removed = {arm: trial[arm]["removed"] for arm in ("hallucinated", "correct", "random direction")}
    assert removed["hallucinated"] > 3 * removed["random direction"]
    two_errors = 2 * np.sqrt(
        sum(removed[arm] * (1 - removed[arm]) / 20 for arm in ("hallucinated", "correct"))
    )
    assert removed["hallucinated"] > removed["correct"] - max(two_errors, 0.05)
    assert trial["hallucinated"]["kept"] > 0.85
    assert np.isfinite(list(removed.values())).all()
