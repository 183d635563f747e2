"""Arms with equal budgets, a loss that no cut of the batch changes, and measurements by hand."""

import copy

import numpy as np
import pytest
import torch

from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.train import TrainConfig
from gnomon.methods.neutral_residues import Design, Mixture, Study, activity, drift, extend, prepare
from gnomon.methods.neutral_residues.evaluation import gates_along
from gnomon.methods.neutral_residues.extension import backbone, count
from gnomon.methods.neutral_residues.training import Corpus, loss_of, pack

CFG = TrainConfig(lr=3e-3, batch_size=4, max_steps=3, max_length=8, epochs=99)
WIDE = Design(extra=1.0)


@pytest.fixture
def model(checkpoint):
    return load_model(checkpoint("llama"), device="cpu")


@pytest.fixture
def study(model, checkpoint):
    tokenizer = load_tokenizer(checkpoint("llama"))
    new = pack(["x = [i for i in range(9)]\n" * 9], tokenizer)
    old = pack(["The old domain is made of words. " * 9], tokenizer)
    return Study(model, tokenizer, Corpus(new, new), Corpus(old, old), p=0.5, length=8)


@pytest.mark.parametrize("extra", [0.5, 1.0, 3.0])
def test_every_method_gets_as_many_weights(model, extra):
    budget = extra * backbone(model)
    for method in ("neutral", "adapter", "lora"):
        made = prepare(copy.deepcopy(model), method, Design(extra=extra))
        assert count(made, trainable=True) == pytest.approx(budget, rel=0.25), method
    assert count(prepare(copy.deepcopy(model), "full", Design()), trainable=True) == count(model)


def test_the_backbone_counts_without_its_embeddings(model):
    tables = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    assert backbone(model, "total") - backbone(model) == sum(t.numel() for t in tables)


@pytest.mark.parametrize("local", ["l1", "ce", "none"])
def test_no_cut_of_the_batch_changes_the_loss(model, local):
    draw = np.random.default_rng(0)
    new, old = (draw.integers(3, 200, (9, 6)).astype(np.uint16) for _ in range(2))
    extended = extend(model, Design(extra=1.0, gate="sigmoid", local=local, alpha=0.7))
    with torch.no_grad():
        for block in extended.blocks:
            block.out.weight.normal_(std=0.3)
    loss = loss_of(extended)

    def gradient(micro, processes):
        mixed = Mixture(new, old, 0.4, 7, generator=Rng(1), micro_batch_size=micro)
        parts = [mixed.at(2, process, processes) for process in range(processes)]
        total = sum(loss(extended, one) for part in parts for one in part.micro) / parts[0].targets
        extended.zero_grad()
        total.backward()
        return total.item(), torch.cat([p.grad.flatten() for p in extended.extension_parameters()])

    value, whole = gradient(None, 1)
    for micro, processes in ((2, 1), (1, 3), (None, 2)):
        other, cut = gradient(micro, processes)
        assert other == pytest.approx(value, rel=1e-5)
        assert torch.allclose(cut, whole, atol=1e-6)
    mixed = Mixture(new, old, 0.4, 7, generator=Rng(1))
    (one,) = mixed.at(2).micro
    out = extended(one["input_ids"], labels=one["labels"], domain=one["domain"])
    assert value == pytest.approx(out.loss.item(), rel=1e-5)


def test_training_moves_the_blocks_alone_and_resumes_exactly(study, tmp_path):
    before = {name: p.clone() for name, p in study.model.state_dict().items()}

    def train(folder, **changes):
        run = Run(folder, method="neutral-residues", verb="train", quiet=True)
        arm = study.train(
            "neutral", WIDE, CFG if not changes else TrainConfig(**{**vars(CFG), **changes}), run
        )
        run.close()
        return arm

    arm = train(tmp_path / "a")
    assert all(torch.equal(p, study.model.state_dict()[name]) for name, p in before.items())
    inside = {n: p for n, p in arm.model.model.state_dict().items() if ".blocks." not in n}
    assert all(torch.equal(p, before[n.replace(".mlp.mlp.", ".mlp.")]) for n, p in inside.items())
    assert all(block.out.weight.any() for block in arm.model.blocks)
    again = train(tmp_path / "a")  # from the checkpoint of the last step
    assert all(
        torch.equal(a, b) for a, b in zip(arm.model.parameters(), again.model.parameters(), strict=True)
    )


def test_what_an_arm_is_measured_by(study, tmp_path):
    run = Run(tmp_path / "run", method="neutral-residues", verb="train", quiet=True)
    for method in ("neutral", "adapter", "lora", "full"):
        part = run.within(method)
        row = study.arm(method, WIDE, CFG, part)
        assert row["learning"] == pytest.approx(row["new before"] - row["new"])
        assert row["forgetting"] == pytest.approx(row["original"] - row["original before"])
        assert row["drift"] > 0
        assert ("residual ratio" in row) == (method in ("neutral", "adapter"))
        assert study.arm(method, WIDE, CFG, part) == row  # read back
    run.close()


def test_the_same_start_gives_the_same_weights(model):
    for method in ("neutral", "adapter", "lora"):
        first, again = (
            prepare(copy.deepcopy(model), method, WIDE, generator=Rng(3)).state_dict() for _ in range(2)
        )
        assert all(torch.equal(first[name], again[name]) for name in first), method


def test_activity_and_gates_by_hand(model):
    rows = np.random.default_rng(0).integers(3, 200, (5, 7)).astype(np.uint16)
    extended = extend(model, Design(extra=1.0), generator=Rng(2)).eval()
    with torch.no_grad():
        for i, block in enumerate(extended.blocks):
            block.out.weight.normal_(std=0.3, generator=Rng(3).child(i).torch())
            block.gate.bias.fill_(0.0)
    seen = []
    extended.switch.watch = lambda layer, rho, g: seen.append((rho.detach(), g.detach()))
    extended.model(torch.from_numpy(rows.astype(np.int64)), use_cache=False)
    extended.switch.watch = None
    found = activity(extended, rows, batch_size=2)
    assert found.residual.tolist() == pytest.approx([rho.abs().mean().item() for rho, _ in seen], rel=1e-4)
    assert found.is_open.tolist() == pytest.approx([(g > 0).float().mean().item() for _, g in seen])
    assert found.gate.tolist() == pytest.approx([g.mean().item() for _, g in seen], rel=1e-4)
    along = gates_along(extended, rows[0].tolist())
    assert along == pytest.approx(np.stack([g[0, :, 0].numpy() for _, g in seen], 1), abs=1e-5)


def test_drift_is_the_divergence_from_the_backbone(model, checkpoint):
    rows = np.random.default_rng(0).integers(3, 200, (3, 6)).astype(np.uint16)
    extended = extend(model, Design(extra=1.0)).eval()
    assert drift(extended, rows) == 0
    with torch.no_grad():
        for block in extended.blocks:
            block.out.weight.normal_(std=0.3)
    ids = torch.from_numpy(rows.astype(np.int64))
    base = load_model(checkpoint("llama"), device="cpu")
    with torch.no_grad():
        p, q = (m(ids, use_cache=False).logits.log_softmax(-1) for m in (base, extended.model))
    expected = (p.exp() * (p - q)).sum(-1).mean().item()
    assert drift(extended, rows, batch_size=2) == pytest.approx(expected, rel=1e-4)
    assert drift(extended.model, rows, base) == pytest.approx(expected, rel=1e-4)


def test_a_gate_that_stays_shut_is_reported(study, tmp_path, caplog, monkeypatch):
    from gnomon.methods.neutral_residues.training import arms

    monkeypatch.setattr(arms, "PATIENCE", 2)
    extended = extend(copy.deepcopy(study.model), WIDE)
    with torch.no_grad():
        extended.blocks[1].gate.bias.fill_(-1e3)
    run = Run(tmp_path / "run", method="neutral-residues", verb="train", quiet=True)
    from gnomon.methods.neutral_residues import train_arm

    train_arm(extended, study.mixture(CFG, Rng(0)), CFG, run=run, on_step=[arms.GateWatcher(extended)])
    run.close()
    said = [r.getMessage() for r in caplog.records if "shut gate does not learn" in r.getMessage()]
    assert len(said) == 1 and "the gate of layer 1 " in said[0]
