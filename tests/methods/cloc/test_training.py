"""Losses by hand, batches that any number of processes share, and a training whose checkpoint is drop-in."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures_training import free_port
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.cloc import RegionLoss, load_cloc
from gnomon.methods.cloc.training.data import Source, labelled, read_rows
from gnomon.methods.cloc.training.losses import (
    ClocLoss,
    contrast,
    dropped_share,
    grounding_loss,
    sigmoid_contrast,
    too_alike,
)
from gnomon.methods.cloc.training.training import ClocBatches

ROOT = Path(__file__).resolve().parents[3]


def items_of(scenes):
    rows, _ = read_rows(Source(str(scenes / "images.jsonl"), str(scenes / "regions.jsonl")))
    return labelled(rows)[0]


def test_the_contrast_is_worked_out_by_hand():
    """Two pairs with scores 2 and 0: -log(e^2 / (e^2 + 1)) each way."""
    scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert contrast(scores).item() == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    uneven = torch.tensor([[1.0, 0.0], [3.0, 2.0]])
    rows = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2
    columns = (math.log(1 + math.exp(2)) + math.log(1 + math.exp(-2))) / 2
    assert contrast(uneven).item() == pytest.approx((rows + columns) / 2, abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6))
def test_equal_captions_lose_nothing_under_the_filter_and_ln_r_without(count, seed):
    texts = torch.nn.functional.normalize(torch.ones(count, 4), dim=-1)
    same = too_alike(texts, 0.9)
    assert dropped_share(same) == 1.0
    scores = torch.randn(count, count, generator=torch.Generator().manual_seed(seed))
    assert contrast(scores, same).item() == pytest.approx(0, abs=1e-6)
    assert contrast(torch.zeros(count, count)).item() == pytest.approx(math.log(count), abs=1e-6)
    assert not too_alike(texts, None).any() and contrast(torch.zeros(0, 0)).item() == 0


def test_the_filter_drops_pairs_off_the_diagonal_by_their_texts():
    texts = torch.tensor([[1.0, 0.0], [0.95, math.sqrt(1 - 0.95**2)], [0.0, 1.0]])
    alike = too_alike(texts, 0.9)
    assert alike.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    assert dropped_share(alike) == pytest.approx(1 / 3)


def test_siglip_s_loss_and_the_box_loss_by_hand():
    scores = torch.tensor([[1.0, -2.0], [0.5, 3.0]])
    wanted = sum(math.log(1 + math.exp(-v)) for v in (1.0, 2.0, -0.5, 3.0)) / 2
    assert sigmoid_contrast(scores).item() == pytest.approx(wanted, abs=1e-6)
    boxes = torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 1.0, 1.0]])
    assert grounding_loss(boxes + 0.1, boxes).item() == pytest.approx(0.01, abs=1e-7)
    assert grounding_loss(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_batch_without_regions_is_the_image_term_alone(kind, dual, scenes):
    model = load_cloc(str(dual(kind)), rng=Rng(0))
    from dataclasses import replace

    bare = [replace(item, regions=()) for item in items_of(scenes)[:6]]
    batch = ClocBatches(bare, model.towers, 6, RegionLoss(), generator=Rng(1)).at(0).micro[0]
    bias = getattr(model.model, "logit_bias", None)
    loss = ClocLoss(model.model.logit_scale, bias)
    value = loss(model, batch)
    value.backward()
    output = model.model(pixel_values=batch["pixels"], input_ids=batch["caption_input_ids"],
                         **({} if kind == "siglip" else {"attention_mask": batch["caption_attention_mask"]}))  # fmt: skip
    scores = output.logits_per_image
    wanted = contrast(scores) if kind == "clip" else sigmoid_contrast(scores)
    assert value.item() == pytest.approx(wanted.item(), abs=1e-5) and loss.parts["lambda"] == 0
    gradients = [p.grad for p in model.prompter.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() and not g.any() for g in gradients)  # there, and zero


def test_lambda_is_the_share_of_images_with_regions(dual, scenes):
    from dataclasses import replace

    model = load_cloc(str(dual("clip")), rng=Rng(0))
    items = [
        replace(item, regions=() if i < 3 else item.regions) for i, item in enumerate(items_of(scenes)[:4])
    ]
    batch = ClocBatches(items, model.towers, 4, RegionLoss(weight=2.0), generator=Rng(1)).at(0).micro[0]
    loss = ClocLoss(model.model.logit_scale, None, RegionLoss(weight=2.0))
    total = loss(model, batch).item()
    parts = loss.parts
    assert parts["lambda"] == 0.5
    assert total == pytest.approx(
        parts["image_loss"] + 0.5 * (parts["region_loss"] + parts["box_loss"]), abs=1e-5
    )


def test_processes_share_a_batch_and_each_step_draws_its_regions(dual, scenes):
    model = load_cloc(str(dual("clip")), rng=Rng(0))
    items = items_of(scenes)
    batches = ClocBatches(items, model.towers, 7, RegionLoss(regions=1), generator=Rng(1))
    whole = batches.at(2).micro[0]
    shares = [batches.at(2, p, 3).micro[0] for p in range(3)]
    assert torch.equal(torch.cat([s["boxes"] for s in shares]), whole["boxes"])
    assert [int(s["counts"].sum()) for s in shares] == [3, 3, 1] and {len(s["counts"]) for s in shares} == {3}
    assert torch.equal(torch.cat([s["pixels"][s["counts"]] for s in shares]), whole["pixels"])
    drawn = {step: batches.drawn(0, step)[0].text for step in range(12)}
    assert len(set(drawn.values())) == 2 and drawn == {
        step: batches.drawn(0, step)[0].text for step in range(12)
    }


PROCESS = """
import json, sys, torch
from pathlib import Path
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.methods.cloc import RegionLoss, load_cloc, train
from gnomon.methods.cloc.training.data import Source, labelled, read_rows
from gnomon.core.run import Run
torch.set_num_threads(1)
folder, scenes, out = sys.argv[1:4]
rows, _ = read_rows(Source(f"{scenes}/images.jsonl", f"{scenes}/regions.jsonl"))
items, _ = labelled(rows)
from dataclasses import replace
items = [replace(item, regions=item.regions if i % 3 else ()) for i, item in enumerate(items)]
model = load_cloc(folder, rng=Rng(0)).double()
run = Run(Path(out), method="cloc", verb="train", quiet=True)
cfg = TrainConfig(lr=1e-3, batch_size=5, epochs=1, reduction="sum", checkpoint_every=0)
history = train(model, items, RegionLoss(regions=2, text_filter=0.999), cfg, run=run)
if run.is_main:
    Path(out, "losses.json").write_text(json.dumps(history.curve("loss")))
    torch.save({k: v for k, v in model.state_dict().items()}, Path(out, "weights.pt"))
run.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_train_as_one(processes, dual, scenes, tmp_path):
    """Gathered negatives, unequal numbers of regions, a share without any: the curve and the weights are those of one process."""
    script = tmp_path / "job.py"
    script.write_text(PROCESS)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    common = [str(script), str(dual("clip")), str(scenes)]
    for count, command in (
        (1, [sys.executable]),
        (
            processes,
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                f"--nproc_per_node={processes}",
                "--master_port",
                free_port(),
            ],
        ),
    ):
        done = subprocess.run(
            [*command, *common, str(tmp_path / str(count))],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    one, several = (json.loads((tmp_path / str(n) / "losses.json").read_text()) for n in (1, processes))
    assert several == pytest.approx(one, abs=5e-5) and len(one) == 5
    a, b = (torch.load(tmp_path / str(n) / "weights.pt") for n in (1, processes))
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, atol=2e-5, rtol=0)


def test_frozen_towers_stay_as_they_are_and_only_the_prompter_learns(dual, scenes, tmp_path):
    from gnomon.core.run import Run
    from gnomon.core.train import TrainConfig
    from gnomon.methods.cloc import train

    model = load_cloc(str(dual("clip")), rng=Rng(0))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = Run(tmp_path / "run", method="cloc", verb="train", quiet=True)
    cfg = TrainConfig(lr=3e-3, batch_size=8, epochs=4, reduction="sum", checkpoint_every=0)
    loss = RegionLoss(regions=2, text_filter=None)  # to random weights all texts are alike
    history = train(model, items_of(scenes), loss, cfg, run=run, freeze=("vision", "text"))
    run.close()
    losses = history.curve("loss")
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    for name, value in model.state_dict().items():
        is_same = torch.equal(value, before[name])
        assert is_same == (name.startswith("model.") and "logit_scale" not in name) or name.startswith(
            "prompter.mlp"
        )
    with pytest.raises(BadConfig, match="micro_batch_size must be None"):
        train(model, items_of(scenes), RegionLoss(), TrainConfig(micro_batch_size=2), run=run)


def test_a_text_tower_that_takes_all_texts_for_one_is_an_error(dual, scenes, tmp_path, monkeypatch):
    from gnomon.core.run import Run
    from gnomon.core.train import TrainConfig
    from gnomon.methods.cloc import train

    model = load_cloc(str(dual("clip")), rng=Rng(0))
    monkeypatch.setattr(
        type(model.towers), "read", lambda self, encoded: torch.ones(len(encoded["input_ids"]), 24)
    )
    run = Run(tmp_path / "run", method="cloc", verb="train", quiet=True)
    with pytest.raises(
        BadInput, match=r"dropped more than 90% of the negatives 3 steps running.*--loss\.filter-after"
    ):
        train(
            model,
            items_of(scenes),
            RegionLoss(),
            TrainConfig(batch_size=8, epochs=2),
            run=run,
            freeze=("text",),
        )
    run.close()
