"""The eraser's training: batches, losses, layers, balance, resume, several processes."""

import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fixtures_elm
import fixtures_process
from fixtures_elm import DESIGN, FLUENT, erase_small, rival_small, small_model, small_texts, small_tokenizer
from fixtures_training import SmallRun, free_port
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm import ELM, Texts
from gnomon.methods.elm.config import ELMConfig
from gnomon.methods.elm.erasure import ErasureLoss, attach, encode_all, frozen, layer_range, ratio
from gnomon.methods.elm.mini import personas
from gnomon.methods.elm.texts import FLUENT as FLUENT_ROW
from gnomon.methods.elm.texts import Feed

SCRIPT = Path(fixtures_elm.__file__)


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def feed(batch_size=3, **options):
    forget, retain = small_texts()
    texts = encode_all(small_tokenizer(), [forget], retain, FLUENT, personas())
    return Feed(texts, batch_size, generator=Rng(0), **options)


def test_every_text_is_read_once_a_pass():
    made = feed(3)
    assert len(made) == 3
    for kind in (0, 1):
        seen = sorted(tuple(row.ids) for step in range(3) for row in made.rows(step)[kind])
        wanted = made.texts.forget[0] if kind == 0 else made.texts.retain
        assert seen == sorted(map(tuple, wanted))
    assert [r.ids for r in made.rows(4)[0]] == [r.ids for r in feed(3).rows(4)[0]]  # any step on its own


def test_forget_sets_take_turns_and_one_named_twice_comes_twice_as_often():
    bio, cyber = [[1], [2], [3], [4]], [[11], [12]]
    made = Feed(Texts([bio, bio, cyber], [[9]]), 1, generator=Rng(0))
    drawn = [made.rows(step)[0][0].ids[0] for step in range(6)]
    assert [one > 10 for one in drawn] == [False, False, True, False, False, True]
    assert sorted(d for d in drawn if d < 10) == [1, 2, 3, 4]
    assert sorted(d for d in drawn if d > 10) == [11, 12]


def test_fluent_texts_come_every_nth_step_and_learn_no_prompt():
    made = feed(3, fluency_every=2, fluency_batch=2)
    assert [len(made.rows(step)[2]) for step in range(4)] == [2, 0, 2, 0]
    (micro,) = made.at(0).micro
    row = micro["labels"][micro["kind"] == FLUENT_ROW][0]
    first = next(r.first for r in made.rows(0)[2])
    assert (row[:first] == -100).all()
    assert row[first] != -100


def test_shares_of_processes_are_the_whole_batch():
    made = feed(5, fluency_every=1, fluency_batch=3)
    whole = made.at(0).micro[0]
    parts = [made.at(0, p, 2).micro[0] for p in range(2)]
    for name in ("ids", "labels"):
        real = [
            row[row >= 0].tolist()
            for part in parts
            for row, c in zip(part[name], part["counts"], strict=True)
            if c
        ]
        assert (
            sorted(map(tuple, real)) == sorted(tuple(row[row >= 0].tolist()) for row in whole[name])
            or name == "ids"
        )
    assert sum(int(part["counts"].sum()) for part in parts) == len(whole["counts"])
    assert len(parts[0]["kind"]) == len(parts[1]["kind"])


def test_nothing_to_forget_or_retain_is_told():
    with pytest.raises(BadInput, match="no forget text"):
        Feed(Texts([], [[1]]), 1, generator=Rng(0))
    with pytest.raises(BadInput, match="no retain text"):
        Feed(Texts([[[1]]], []), 1, generator=Rng(0))
    with pytest.raises(BadInput, match="no forget text"):
        encode_all(small_tokenizer(), [[]], ["the cat"], [], personas())


def loss_at(step=0, design=DESIGN, micro=None, dropout=0.0):
    tokenizer = small_tokenizer()
    run = SmallRun("/nowhere")
    model = attach(small_model(tokenizer), replace(design, dropout=dropout), Rng(3))
    made = feed(4, fluency_every=1, fluency_batch=2, micro_batch_size=micro)
    loss = ErasureLoss(model, design, run)
    return loss, model, made.at(step)


def test_the_retain_term_begins_at_zero_and_the_erase_term_above_the_entropy_of_q():
    loss, model, batch = loss_at()
    terms = loss.terms(model, batch.micro[0])
    assert set(terms) == {"erase", "retain", "fluency"}
    assert terms["retain"].item() == pytest.approx(0, abs=1e-6)
    assert terms["erase"].item() > 0
    assert terms["fluency"].item() == pytest.approx(
        float(torch.tensor(len(small_tokenizer())).log()), rel=0.1
    )


def test_micro_batches_add_up_to_the_batch():
    whole, model, batch = loss_at()
    values = {k: v.item() for k, v in whole.terms(model, batch.micro[0]).items()}
    parts, model, batch = loss_at(micro=1)
    assert len(batch.micro) == 4
    sums = dict.fromkeys(values, 0.0)
    for micro in batch.micro:
        for name, value in parts.terms(model, micro).items():
            sums[name] += value.item()
    assert sums == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_the_frozen_pass_sees_no_adapter_and_leaves_the_mode():
    tokenizer = small_tokenizer()
    plain = small_model(tokenizer)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        wanted = plain(ids).logits
    model = attach(small_model(tokenizer), DESIGN, Rng(0)).train()
    with torch.no_grad():
        for parameter in weights_of(model):
            parameter.fill_(0.3)
        assert not torch.allclose(model(ids).logits, wanted)
    with frozen(model):
        assert torch.equal(model(ids).logits, wanted)
        assert not model.training
        assert not torch.is_grad_enabled()
    assert model.training
    assert all(p.requires_grad for p in weights_of(model))


def weights_of(model):
    return [p for name, p in model.named_parameters() if "lora" in name]


def test_only_the_named_layers_are_trained():
    model = attach(small_model(small_tokenizer()), replace(DESIGN, layers="1,3"), Rng(0))
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert {name.split(".layers.")[1].split(".")[0] for name in names} == {"1", "2"}
    kinds = {name.split("_proj")[0].rpartition(".")[2] for name in names}
    assert kinds == {"q", "k", "v", "o", "gate", "up", "down"}
    with pytest.raises(
        BadConfig, match='layers must name a range of blocks of a model of 3, such as "4,8"; got "1,4"'
    ):
        attach(small_model(small_tokenizer()), replace(DESIGN, layers="1,4"), Rng(0))


@pytest.mark.parametrize(
    ("depth", "wanted"), [(32, (4, 8)), (80, (10, 20)), (12, (2, 4)), (4, (0, 2)), (2, (0, 2)), (1, (0, 1))]
)
def test_auto_layers(depth, wanted):
    assert layer_range("auto", depth) == wanted


def test_bad_layers_and_top_k_are_told():
    with pytest.raises(BadConfig, match='layers must be "auto" or two numbers'):
        replace(DESIGN, layers="few")
    with pytest.raises(BadConfig, match="top_k must be at most"):
        loss_at(design=replace(DESIGN, top_k=5000))


def test_each_term_s_gradient_is_measured_and_balance_makes_them_as_long(tmp_path):
    _, _, run = erase_small(tmp_path / "a", max_steps=3)
    rows = [row for row in run.logged() if "erase" in row]
    assert ["gradient of erase" in row for row in rows] == [True, False, True]
    assert rows[0]["gradient of retain"] < 1e-6 < rows[0]["gradient of erase"]
    assert rows[0]["support"] > 1
    assert ratio({"erase": 4.0, "retain": 2.0, "fluency": 0.0}, "retain") == 2.0
    assert ratio({"erase": 4.0, "retain": 1e-9}, "retain") == 100.0
    assert ratio({"erase": 4.0, "fluency": 0.0}, "fluency") == 1.0
    plain, _, _ = erase_small(tmp_path / "b", max_steps=3, design=replace(DESIGN, norms_every=0))
    same, _, _ = erase_small(tmp_path / "c", max_steps=3)
    assert all(
        torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(same).values(), strict=True)
    )
    other, _, _ = erase_small(tmp_path / "d", max_steps=3, design=replace(DESIGN, balance="grad_norm"))
    assert any(
        not torch.equal(a, b) for a, b in zip(weights(plain).values(), weights(other).values(), strict=True)
    )


def test_one_hot_targets_are_warned_of(tmp_path, caplog):
    erase_small(tmp_path, max_steps=1, design=replace(DESIGN, eta=1e6))
    assert "Targets are one-hot" in caplog.text


def test_the_frozen_weights_stay_and_an_adapter_loads_without_this_package(tmp_path):
    from peft import PeftModel

    tokenizer = small_tokenizer()
    base = small_model(tokenizer)
    base.save_pretrained(tmp_path / "base")
    from gnomon.core.models import load_model
    from gnomon.core.models.adapters import without_deprecations

    forget, retain = small_texts()
    cfg = ELMConfig(
        concept=["zor", "zed"], eta=2.0, eta_schedule="constant", top_k=8, layers="0,2", min_chars=1,
        personas=write_personas(tmp_path), train=TrainConfig(lr=1e-2, batch_size=4, max_steps=3, epochs=9),
    )  # fmt: skip
    assert cfg.concept == "zor, zed"
    eraser = ELM(load_model(tmp_path / "base", device="cpu"), tokenizer, cfg)
    model = eraser.fit(forget, retain, FLUENT)
    assert len(eraser.history.curve("loss")) == 3
    model.save_pretrained(tmp_path / "adapter")
    with without_deprecations():
        fresh = PeftModel.from_pretrained(small_model(tokenizer), str(tmp_path / "adapter")).eval()
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.equal(fresh(ids).logits, model(ids).logits)
        assert not torch.allclose(fresh(ids).logits, base(ids).logits)
        with model.disable_adapter():
            assert torch.equal(model(ids).logits, base(ids).logits)


def write_personas(folder):
    file = folder / "personas.yaml"
    file.write_text("expert: ['text of expert in {concept} :']\nnovice: ['text of novice in {concept} :']\n")
    return str(file)


def start(launcher, folder, *more, **settings):
    import gnomon

    source = os.pathsep.join([str(Path(gnomon.__file__).parents[1]), str(SCRIPT.parent)])
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, str(SCRIPT), str(folder), json.dumps(settings), *more]
    return fixtures_process.run(command, env=env)


@pytest.mark.scale
def test_a_run_that_was_killed_continues_to_the_same_bits(tmp_path):
    expected, whole, _ = erase_small(tmp_path / "whole", checkpoint_every=2)
    killed = start([sys.executable], tmp_path / "cut", "--die-at", "3", checkpoint_every=2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    model, history, run = erase_small(tmp_path / "cut", checkpoint_every=2)
    assert history == whole
    assert all(
        torch.equal(a, b) for a, b in zip(weights(model).values(), weights(expected).values(), strict=True)
    )
    assert [row["step"] for row in run.logged() if "erase" in row] == [1, 2, 3, 4, 5]


def start_two(folder, **settings):
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done = start([sys.executable, *launcher], folder, **settings)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return lines, [line["loss"] for line in lines if "loss" in line]


@pytest.mark.scale
@pytest.mark.parametrize("balance", ["none", "grad_norm"])
def test_two_processes_give_what_one_gives(tmp_path, balance):
    design = replace(DESIGN, dropout=0.0, balance=balance)
    model, history, alone = erase_small(tmp_path / "one", design=design)
    lines, losses = start_two(tmp_path / "two", design={"dropout": 0.0, "balance": balance})
    assert losses == pytest.approx(history.curve("loss"), rel=1e-3)
    wanted = [row for row in alone.logged() if "erase" in row]
    for mine, other in zip([line for line in lines if "erase" in line], wanted, strict=True):
        assert mine == pytest.approx(other, rel=2e-3, abs=1e-5)
    found = load_file(tmp_path / "two" / "weights.safetensors")
    assert max((found[n] - w).abs().max() for n, w in weights(model).items()) < 2e-3


@pytest.mark.scale
@pytest.mark.parametrize("method", ["elm", "npo"])
def test_two_processes_that_share_the_weights_give_what_one_gives(tmp_path, method):
    """The frozen model that the loss reads is shared out too: ELM's is the base of its adapters, NPO's a copy."""
    design = replace(DESIGN, dropout=0.0)
    train = partial(erase_small, design=design) if method == "elm" else partial(rival_small, method=method)
    model, history, _ = train(tmp_path / "one")
    more = {"design": {"dropout": 0.0}} if method == "elm" else {"method": method}
    _, losses = start_two(tmp_path / "two", sharded=True, **more)
    assert losses == pytest.approx(history.curve("loss"), rel=1e-3)
    trained = load_file(tmp_path / "two" / "weights.safetensors")
    assert max((trained[n] - w).abs().max() for n, w in weights(model).items()) < 2e-3


@pytest.mark.scale
def test_a_process_without_a_text_of_its_own_neither_crashes_nor_counts(tmp_path):
    """Batch size 1 on two processes: one of them always reads a text that fills the batch up."""
    _, history, _ = rival_small(tmp_path / "one", "repnoise", batch_size=1)
    _, losses = start_two(tmp_path / "two", method="repnoise", batch_size=1)
    assert losses == pytest.approx(history.curve("loss"), rel=1e-3)


def test_terms_cannot_be_balanced_by_gradients_that_no_process_has(tmp_path):
    with pytest.raises(BadConfig, match="grad_norm needs whole gradients"):
        erase_small(tmp_path, design=replace(DESIGN, balance="grad_norm"), sharded=True)
