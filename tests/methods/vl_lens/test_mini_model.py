"""What the miniature's model learns from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures_vl_lens import SCALE, WORLD, pictures, scenes, seer
from gnomon.core.rng import Rng
from gnomon.core.train.losses import IGNORED
from gnomon.methods.vl_lens.config import CLAIMS
from gnomon.methods.vl_lens.mini import BOARD, PROMPT, SCALES, CaptionedScenes, CellText, pixels

STEPS = 100


def told(text):
    """The cells and the caption of a text of stage 1."""
    words = seer().tokenizer.decode(text).split()
    return words[1:37], [w for w in words[38:-1] if w != "and"]


def test_images_go_in_as_the_processor_hands_them_over():
    batch = seer().encode([seer().prompt(PROMPT)] * 4, images=pictures())
    expected = batch.pixels["pixel_values"]
    rounding = 0.5 / 255 / min(seer().processor.image_processor.image_std)
    assert (pixels(scenes(), seer().processor) - expected).abs().max() <= rounding + 1e-6


def test_the_prompt_stands_where_it_stood_in_training():
    batch = CaptionedScenes(seer().processor, SCALE, STEPS, Rng(0)).at(0, 0, 1).micro[0]
    asked = seer().encode([seer().prompt(PROMPT)], images=pictures(1)).input_ids[0]
    assert batch["input_ids"][0, : len(asked)].tolist() == asked.tolist()
    assert (batch["labels"][:, : len(asked)] == IGNORED).all()
    assert (batch["labels"][:, len(asked) :] == batch["input_ids"][:, len(asked) :]).all()


def test_targets_are_counted_as_the_loss_counts_them():
    for source in (CellText, CaptionedScenes):
        batch = source(seer().processor, SCALE, STEPS, Rng(0)).at(3, 0, 1)
        assert batch.targets == int((batch.micro[0]["labels"][:, 1:] != IGNORED).sum())


def test_the_first_texts_name_every_cell_of_every_object():
    batch = CellText(seer().processor, SCALE, STEPS, Rng(0)).at(0, 0, 1).micro[0]
    for text in batch["input_ids"]:
        cells, caption = told(text)
        assert len(caption) == len(set(caption)) == 3
        assert {name: cells.count(name) for name in set(cells)} == {BOARD: 24, **dict.fromkeys(caption, 4)}
        grid = np.array(cells).reshape(6, 6)
        for name in caption:
            rows, columns = np.nonzero(grid == name)
            assert rows.max() - rows.min() == columns.max() - columns.min() == 1


def test_towards_the_end_half_of_an_object_s_cells_pass_for_empty():
    scale = replace(SCALE, batch_size=200)
    batch = CellText(seer().processor, scale, STEPS, Rng(0)).at(STEPS - 1, 0, 1).micro[0]
    named = [sum(cell != BOARD for cell in told(text)[0]) / 12 for text in batch["input_ids"]]
    assert np.mean(named) == pytest.approx(0.5, abs=0.05)


def test_a_step_is_a_function_of_its_number():
    source = CaptionedScenes(seer().processor, SCALE, STEPS, Rng(0))
    a, b, other = (source.at(step, 0, 1).micro[0] for step in (5, 5, 6))
    assert torch.equal(a["pixel_values"], b["pixel_values"]) and torch.equal(a["labels"], b["labels"])
    assert not torch.equal(a["pixel_values"], other["pixel_values"])


@pytest.mark.parametrize("name", SCALES)
def test_every_object_fills_whole_cells(name):
    scale = SCALES[name]
    world = scale.world(0)
    assert scale.size % scale.patch == 0 and world.slot % scale.patch == 0
    assert len(world.classes) == scale.classes and set(WORLD.classes) <= set(world.classes)


def test_the_thresholds_are_those_that_were_fixed():
    assert [(claim.compare, claim.margin) for claim in CLAIMS] == [
        ("AUC of hallucinated mentions: internal confidence >= output probability", 0.03),
        ("AUC of hallucinated mentions: internal confidence >= 0.65", 0),
        ("mIoU: heat map >= 0.35", 0),
        ("removed: hallucinated >= 0.35", 0),
        ("kept: hallucinated >= 0.9", 0),
        ("removed less 3 x the random direction's: hallucinated >= 0", 0),
        ("removed: hallucinated > correct", 0),
    ]
