"""The rivals' losses, by hand and against plain formulas, and that each one trains."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fixtures_elm import DESIGN, FLUENT, small_model, small_texts, small_tokenizer
from fixtures_training import SmallRun
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.methods.elm import train_baseline
from gnomon.methods.elm.erasure import BASELINES, ErasureLoss, attach, encode_all
from gnomon.methods.elm.mini import personas
from gnomon.methods.elm.rivals import (
    NPO,
    RMU,
    WHP,
    Ascent,
    Constants,
    SimNPO,
    down_projection,
    gaussian_mmd,
    generic_labels,
    last_maps,
    npo_loss,
    reinforce,
    simnpo_loss,
    steering_layer,
    text_logprobs,
)
from gnomon.methods.elm.rivals.arms import loss_of
from gnomon.methods.elm.texts import Feed


@pytest.fixture(scope="module")
def texts():
    forget, retain = small_texts()
    return encode_all(small_tokenizer(), [forget], retain, FLUENT, personas())


def batches(texts, micro=None):
    return Feed(texts, 4, generator=Rng(0), micro_batch_size=micro).at(0).micro


def nll(model, rows):
    """Mean next-token loss over all tokens of some texts, each read alone."""
    total, count = 0.0, 0
    for ids in rows:
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(float(logp[i, ids[i + 1]]) for i in range(len(ids) - 1))
        count += len(ids) - 1
    return total / count


@pytest.mark.parametrize("micro", [None, 1])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_ascent_is_minus_the_forget_loss_plus_the_weighed_retain_loss(texts, micro, weight):
    model = small_model(small_tokenizer())
    forget, retain, _ = Feed(texts, 4, generator=Rng(0)).rows(0)
    wanted = weight * nll(model, [r.ids for r in retain]) - nll(model, [r.ids for r in forget])
    loss = Ascent(weight)
    found = sum(loss(model, batch).item() for batch in batches(texts, micro))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_npo_by_hand():
    """Equal models: -(2 / 0.1) log(1/2) = 13.863; a text ten nats less likely: 20 log(1 + e^-1) = 6.265."""
    found = npo_loss(torch.tensor([-5.0, -15.0]), torch.tensor([-5.0, -5.0]), 0.1)
    assert found.tolist() == pytest.approx([20 * math.log(2), 20 * math.log(1 + math.exp(-1))])


def test_npo_starts_from_equal_models(texts):
    model = small_model(small_tokenizer())
    loss = NPO(copy.deepcopy(model), 0.1, 0.0)
    assert sum(loss(model, b).item() for b in batches(texts, 1)) == pytest.approx(20 * math.log(2), rel=1e-5)


def test_simnpo_by_hand():
    """Two tokens of probability 1/4, beta 2: log(1 + 1/16); a margin of log 4: log(1 + 1/4). Twice the length changes nothing."""
    logprobs, lengths = torch.tensor([2, 4]) * math.log(0.25), torch.tensor([2.0, 4.0])
    assert simnpo_loss(logprobs, lengths, 2.0).tolist() == pytest.approx([math.log(17 / 16)] * 2)
    assert simnpo_loss(logprobs, lengths, 2.0, math.log(4)).tolist() == pytest.approx([math.log(5 / 4)] * 2)
    # beta 4: -(2 / 4) log sigmoid(4 log 4) = log(1 + 1/256) / 2
    assert simnpo_loss(logprobs, lengths, 4.0).tolist() == pytest.approx([math.log(257 / 256) / 2] * 2)


@pytest.mark.parametrize("micro", [None, 1])
def test_simnpo_reads_each_text_by_its_own_length(texts, micro):
    model = small_model(small_tokenizer())
    forget, retain, _ = Feed(texts, 4, generator=Rng(0)).rows(0)
    per_token = [-nll(model, [row.ids]) for row in forget]
    away = sum(2 / 4.5 * math.log1p(math.exp(4.5 * p + 0.5)) for p in per_token) / len(forget)
    wanted = away + 2.0 * nll(model, [r.ids for r in retain])
    found = sum(SimNPO(4.5, 0.5, 2.0)(model, batch).item() for batch in batches(texts, micro))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_a_text_s_log_probability():
    logits = torch.log(torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]]))
    labels = torch.tensor([[-100, 1, 0]])
    assert float(text_logprobs(logits, labels)) == pytest.approx(math.log(0.5 * 0.25))


def test_rmu_trains_three_maps_and_its_direction_has_length_c(texts):
    model = small_model(small_tokenizer())
    loss = RMU(model, copy.deepcopy(model), c=6.5, generator=Rng(1))
    assert loss.layer == 2
    assert float(loss.u.norm()) == pytest.approx(6.5)
    assert (loss.u >= 0).all()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    assert names == [f"model.layers.{i}.mlp.down_proj.weight" for i in range(3)]
    again = RMU(model, copy.deepcopy(model), c=6.5, generator=Rng(1))
    assert torch.equal(loss.u, again.u)


def test_rmu_s_loss_is_the_mean_square_distance_from_its_direction(texts):
    """Before training the retain term is zero."""
    model = small_model(small_tokenizer())
    loss = RMU(model, copy.deepcopy(model), c=3.0, generator=Rng(1))
    forget = Feed(texts, 4, generator=Rng(0)).rows(0)[0]
    squares, tokens = 0.0, 0
    for row in forget:
        with torch.no_grad():
            seen = model(torch.tensor([list(row.ids)]), output_hidden_states=True)
            block = model.model.layers[2]
            caught = []
            hook = block.register_forward_hook(
                lambda m, a, o, c=caught: c.append(o[0] if isinstance(o, tuple) else o)
            )
            model(torch.tensor([list(row.ids)]))
            hook.remove()
        assert seen is not None
        squares += float((caught[0][0] - loss.u).square().mean(-1).sum())
        tokens += len(row.ids)
    found = sum(loss(model, batch).item() for batch in batches(texts, 1))
    assert found == pytest.approx(squares / tokens, rel=1e-4)


@pytest.mark.parametrize(("depth", "wanted"), [(32, 7), (24, 5), (4, 2), (2, 1), (1, 0)])
def test_the_steered_layer(depth, wanted):
    assert steering_layer(depth) == wanted


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3", "gemma2", "opt", "qwen2"])
def test_the_last_map_of_each_family_s_mlp(handle_of, family):
    handle = handle_of(family)
    module = down_projection(handle.sites.top.blocks[0])
    names = {id(m): name for name, m in handle.sites.top.blocks[0].named_modules()}
    assert names[id(module)].rpartition(".")[2] in ("down_proj", "c_proj", "dense_4h_to_h", "fc2")


def test_mmd_of_a_sample_with_itself_is_zero_and_far_apart_it_is_large():
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, 3, generator=draw) for _ in range(2))
    assert float(gaussian_mmd(x, x)) == pytest.approx(0, abs=1e-5)
    assert float(gaussian_mmd(x, y)) < 0.3 < float(gaussian_mmd(x, y + 10))


def test_mmd_by_hand():
    """x = (0), y = (2): both distances squared are 4, their mean over pairs is 4; K = sum of exp(-4 / (4 * 2^(i-2)))."""
    wanted = 2 * 5 - 2 * sum(math.exp(-1 / 2 ** (i - 2)) for i in range(5))
    assert float(gaussian_mmd(torch.zeros(1, 1), torch.full((1, 1), 2.0))) == pytest.approx(wanted)


def test_generic_labels_by_hand():
    """What the reinforced model prefers is pushed down: 3 - 5 * relu(4 - 3) = -2, so that the second wins."""
    base, reinforced = torch.tensor([3.0, 1.0, 0.0]), torch.tensor([4.0, 0.5, 0.0])
    assert int(generic_labels(base, reinforced, 5.0)) == 1
    assert int(generic_labels(base, reinforced, 0.0)) == 0


def test_whp_learns_labels_of_the_base_and_the_reinforced_model(texts, tmp_path):
    model = small_model(small_tokenizer())
    cfg = TrainConfig(lr=1e-2, batch_size=4, max_steps=3, epochs=9)
    taught = reinforce(copy.deepcopy(model), texts.forget[0], (), cfg, rank=2, run=SmallRun(tmp_path))
    rows = [r.ids for r in Feed(texts, 4, generator=Rng(0)).rows(0)[0]]
    total, tokens = 0.0, 0
    with torch.no_grad():
        for ids in rows:
            one = torch.tensor([list(ids)])
            labels = generic_labels(model(one).logits[0], taught(one).logits[0], 5.0)
            total += float(torch.nn.functional.cross_entropy(model(one).logits[0], labels, reduction="sum"))
            tokens += len(ids)
        found = sum(WHP(taught)(model, batch).item() for batch in batches(texts, 1))
    assert found == pytest.approx(total / tokens, rel=1e-4)


@pytest.mark.parametrize("method", BASELINES)
def test_each_baseline_trains_and_repeats(method, texts, tmp_path):
    cfg = TrainConfig(lr=1e-3, batch_size=3, max_steps=2, epochs=9)
    constants, found = Constants(whp_steps=2, rmu_c=2.0), []
    for name in ("a", "b"):
        model = small_model(small_tokenizer())
        history = train_baseline(
            model, texts, method, constants, cfg, run=SmallRun(tmp_path / name),
            reinforced_run=SmallRun(tmp_path / f"{name}-reinforced"),
        )  # fmt: skip
        assert len(history.curve("loss")) == 2
        found.append(SimpleNamespace(curve=history.curve("loss"), weights=list(model.parameters())))
    before = list(small_model(small_tokenizer()).parameters())
    assert found[0].curve == found[1].curve
    assert any(not torch.equal(a, b) for a, b in zip(before, found[0].weights, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(found[0].weights, found[1].weights, strict=True))


@pytest.mark.parametrize(
    ("kind", "name", "wanted"),
    [
        ("mixtral", "MixtralForCausalLM", {"mlp.experts.down_proj"}),
        (
            "deepseek_v3",
            "DeepseekV3ForCausalLM",
            {"mlp.experts.down_proj", "mlp.shared_experts.down_proj.weight"},
        ),
        ("llama", "LlamaForCausalLM", {"mlp.down_proj.weight"}),
    ],
)
def test_rmu_trains_the_experts_of_a_mixture_and_never_its_attention(kind, name, wanted):
    from fixtures_architectures import small_model as small_architecture

    block = small_architecture(kind, name).model.layers[-1]
    ids = {id(p) for p in last_maps(block)}
    assert {n for n, p in block.named_parameters() if id(p) in ids} == wanted


def test_adapters_that_miss_the_experts_say_so(caplog):
    from fixtures_architectures import small_model as small_architecture
    from gnomon.methods.elm import Erasure
    from gnomon.methods.elm.erasure import attach

    adapted = attach(small_architecture("mixtral", "MixtralForCausalLM"), Erasure(layers="0,2"), Rng(0))
    assert not any("experts" in n for n, p in adapted.named_parameters() if p.requires_grad)
    assert "mlp.experts.down_proj" in caplog.text and "only attention" in caplog.text


@pytest.mark.parametrize("method", [*BASELINES, "elm"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_shares_of_a_batch_add_up_to_it_whatever_a_process_lacks(method, batch_size, texts, tmp_path):
    """Of one text and of three on two processes; rows that only fill a share up are no part of any loss, nor of its gradient."""
    run = SmallRun(tmp_path)
    model = small_model(small_tokenizer())
    if method == "elm":
        model = attach(model, replace(DESIGN, dropout=0.0, norms_every=0), run.rng.child("adapters"))
        loss = ErasureLoss(model, replace(DESIGN, dropout=0.0, norms_every=0), run)
    else:
        cfg = TrainConfig(lr=1e-3, batch_size=batch_size, max_steps=2, epochs=9)
        constants = Constants(whp_steps=2, rmu_c=2.0)
        loss = loss_of(model, texts, method, constants, cfg, run, SmallRun(tmp_path / "taught"))
    feed = Feed(texts if method == "elm" else replace(texts, fluent=()), batch_size, generator=Rng(0))
    trained = [p for p in model.parameters() if p.requires_grad]

    def summed(processes):
        values, total = [], [torch.zeros_like(p) for p in trained]
        for process in range(processes):
            for micro in feed.at(0, process, processes).micro:
                value = loss(model, micro)
                values.append(float(value.detach()))
                for sum_, g in zip(total, torch.autograd.grad(value, trained), strict=True):
                    assert torch.isfinite(
                        g
                    ).all()  # and there is one for each weight, or several processes would wait
                    sum_ += g
        return sum(values), total

    one, whole = summed(1)
    if method == "repnoise" and batch_size > 1:  # its MMD is that of a process's tokens
        assert math.isfinite(summed(2)[0])
        return
    both, shared = summed(2)
    assert both == pytest.approx(one, rel=1e-4, abs=1e-5)
    for a, b in zip(whole, shared, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)
