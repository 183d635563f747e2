"""Training: the loss by hand, batches that change no gradient, the epoch that is kept, and a training that is killed."""

import json
import math
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

import fixtures_process
import fixtures_sigext
import gnomon
from fixtures_training import free_port
from gnomon.core import records
from gnomon.core.rng import Rng
from gnomon.core.train import Example, TrainConfig
from gnomon.errors import BadInput
from gnomon.methods.sigext import SigExtModel, measure
from gnomon.methods.sigext.extractor import DocumentBatches, weighted_loss
from gnomon.methods.sigext.phrases import threshold

LENGTHS = (5, 9, 12, 6, 7, 14, 8)


def examples():
    draw = Rng(3).python()
    rows = []
    for length in LENGTHS:
        labels = [draw.choice([-100, 0, 1]) for _ in range(length - 1)] + [1]
        rows.append(Example([draw.randrange(4, 200) for _ in range(length)], labels))
    return rows


def batches(budget, batch_size=7, multiple=1):
    return DocumentBatches(
        examples(), batch_size, batch_tokens=budget, pad_id=2, multiple=multiple, generator=Rng(1)
    )


def test_the_loss_is_the_weighted_sum_over_labelled_tokens():
    class Fixed(torch.nn.Module):
        def forward(self, input_ids):
            logits = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [0.0, 3.0], [9.0, 9.0]]])
            return type("Out", (), {"logits": logits})

    labels = torch.tensor([[0, 1, 0, -100]])
    found = weighted_loss(Fixed(), {"input_ids": torch.zeros(1, 4), "labels": labels})
    log = math.log
    expected = 0.1 * log(1 + math.exp(-2)) + 1.0 * log(1 + math.exp(-1)) + 0.1 * log(1 + math.exp(3))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("budget", [14, 40, 10_000])
def test_micro_batches_of_any_budget_give_the_same_gradient(base, budget):
    model = AutoModelForTokenClassification.from_pretrained(base).eval()  # no dropout
    whole = batches(10_000, multiple=8).at(0)
    parts = batches(budget, multiple=8).at(0)
    assert whole.targets == parts.targets == sum(label != -100 for e in examples() for label in e.labels)
    gradients = []
    for batch in (whole, parts):
        model.zero_grad()
        for micro in batch.micro:
            assert micro["input_ids"].shape[1] % 8 == 0
            weighted_loss(model, micro).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert len(parts.micro) == {14: 7, 40: 3, 10_000: 1}[budget]
    assert torch.allclose(*gradients, atol=1e-5)


@pytest.mark.parametrize("budget", [20, 10_000])
def test_processes_share_a_batch_and_compute_equally_often(budget):
    batch = batches(budget)
    shares = [batch.at(0, process, 2) for process in range(2)]
    assert len(shares[0].micro) == len(shares[1].micro)
    counted = [sum(int((micro["labels"] != -100).sum()) for micro in share.micro) for share in shares]
    assert min(counted) > 0  # none is idle
    assert sum(counted) == shares[0].targets == batch.at(0).targets


def test_every_epoch_has_every_document_once_in_an_order_of_its_own():
    batch = batches(10_000, batch_size=3)
    assert len(batch) == 3
    epochs = [[i for step in range(e * 3, e * 3 + 3) for i in batch.rows(step)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(len(LENGTHS)))
    assert epochs[0] != epochs[1]
    assert batch.rows(1) == epochs[0][3:6]  # any step may be asked for


def test_training_lowers_the_loss_and_sets_the_threshold_from_validation(trained):
    _, extractor, found = trained
    loss = found.history.curve("loss")
    assert sum(loss[-4:]) < 0.8 * sum(loss[:4])
    rows = fixtures_sigext.rows(9, 2, 9)
    assert extractor.settings.tau == pytest.approx(threshold(extractor.score_rows(rows), 75.0))
    assert found.best_epoch in (1, 2, 3, 4) and found.unscored == 0
    by_epoch = [r for r in found.history.records if "validation recall@20" in r]
    reached = [(r["validation recall@20"], r["validation R-precision"]) for r in by_epoch]
    assert found.best_epoch == reached.index(max(reached)) + 1
    chosen = [
        row for row in rows if row.n_positive >= 3
    ]  # those that choose; the weights are the best, not the last
    again = measure([row.labels for row in chosen], extractor.score_rows(chosen))
    assert (again.recall[20], again.r_precision) == pytest.approx(max(reached))
    assert found.dropped_validation == len(rows) - len(chosen) > 0


def test_without_validation_nothing_is_cut_off(base, caplog):
    cfg = TrainConfig(lr=1e-3, batch_size=4, epochs=1, reduction="sum", grad_clip=None)
    extractor = SigExtModel.new(base, device="cpu").fit(fixtures_sigext.rows(6), train=cfg)
    assert extractor.settings.tau == -math.inf
    assert "tau = -inf" in caplog.text
    assert extractor.keyphrases([fixtures_sigext.raw_rows(1)[0]["document"]], 3)[0]


def test_documents_that_teach_nothing_are_left_out_and_none_is_an_error(base):
    extractor = SigExtModel.new(base, device="cpu")
    row = fixtures_sigext.rows(1)[0]
    from dataclasses import replace

    silent = replace(row, labels=(False,) * len(row.labels))
    with pytest.raises(BadInput, match="None of the 1 training documents"):
        extractor.fit([silent])
    with pytest.raises(BadInput, match=f'Row "{row.id}" has no reference summary'):
        extractor.fit([replace(row, labels=())])
    with pytest.raises(BadInput, match="no labelled token"):
        DocumentBatches([Example([1], [-100])], 1, batch_tokens=9, pad_id=0, generator=Rng(0))


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_extractor(trained, base, tmp_path):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(gnomon.__file__).parents[1]), str(Path(__file__).parents[2])])
    }
    command = [sys.executable, fixtures_sigext.__file__, str(tmp_path), str(base)]
    died = fixtures_process.run([*command, "--die-at", "8"], env=environment)
    assert died.returncode == -9, died.stderr  # behind an evaluation, and between two checkpoints
    assert not (tmp_path / "model").exists()
    done = fixtures_process.run(command, env=environment)
    assert done.returncode == 0, done.stderr
    whole = trained[0] / "model"
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, tmp_path / "model"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert json.loads((whole / "sigext.json").read_text()) == json.loads(
        (tmp_path / "model" / "sigext.json").read_text()
    )
    steps = [
        json.loads(line)["step"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert sorted(set(steps)) == list(range(1, 25)) and len(steps) == 24 + 4


@pytest.mark.scale
def test_two_processes_train_what_one_trains(tmp_path):
    """Through the command line, under torchrun; without dropout, which draws by the shape of a batch."""
    base = fixtures_sigext.save_encoder(
        tmp_path / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    records.write(tmp_path / "rows.jsonl", fixtures_sigext.raw_rows(24))
    words = [
        "sigext",
        "train",
        tmp_path / "rows.jsonl",
        "--model",
        base,
        "--n-train",
        16,
        "--n-validation",
        8,
    ]
    words += ["--train.batch-size", 4, "--train.epochs", 2, "--train.lr", 1e-2, "--train.max-length", 128]
    words += ["--train.warmup-steps", 2, "--device", "cpu", "--quiet", "--out"]
    environment = os.environ | {
        "PYTHONPATH": str(Path(gnomon.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    for launcher, name in ([], "one"), (torchrun, "two"):
        command = [sys.executable, *launcher, "-m", "gnomon", *map(str, words), str(tmp_path / name)]
        done = fixtures_process.run(command, env=environment)
        assert done.returncode == 0, done.stderr
    one, two = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    before = load_file(base / "model.safetensors")
    assert max(float((one[name] - before[name]).abs().max()) for name in one) > 1e-2
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-4
    logged = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert [row["loss"] for row in logged[1] if "loss" in row] == pytest.approx(
        [row["loss"] for row in logged[0] if "loss" in row], rel=1e-4
    )
    taus = [json.loads((tmp_path / name / "model/sigext.json").read_text())["tau"] for name in ("one", "two")]
    assert taus[0] == pytest.approx(taus[1], abs=1e-3)
