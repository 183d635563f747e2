"""The bounds against the paper's headline values, and hand-worked ones."""

import math

import pytest
import torch
from safetensors.torch import save_file

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.markov import bounds
from gnomon.methods.markov.bounds import ChainConstants


@pytest.mark.parametrize(
    ("vocab", "width", "n_train", "b_bar", "error"),
    [
        (32_000, 4096, 1e12, 4047.72, 0.015548),
        (32_000, 4096, 2e12, 4047.72, 0.010994),
        (128_000, 4096, 1.5e13, 8095.43, 0.008029),
        (256_128, 2048, 3e12, 9629.55, 0.021356),
        (256_128, 4608, 1.3e13, 11793.74, 0.012565),
    ],
    ids=["Llama-7B", "Llama-2-7B", "Llama-3-8B", "Gemma-2B", "Gemma-2-27B"],
)
def test_headline_values(vocab, width, n_train, b_bar, error):
    b = bounds.b_bar(vocab, bounds.paper_b_u(vocab, width))
    assert b == pytest.approx(b_bar, abs=0.005)
    assert bounds.l1_error(b, n_train) == pytest.approx(error, abs=5e-7)


def test_the_sample_size_undoes_the_error():
    b = bounds.b_bar(32_000, bounds.paper_b_u(32_000, 4096))
    n = bounds.sample_size(b, 0.015548)
    assert n == pytest.approx(1e12, rel=1e-4)
    assert bounds.l1_error(b, n) <= 0.015548 < bounds.l1_error(b, n - 1000)


def test_pretraining_by_hand():
    """B = 2, N = 400, delta = 2/e: sqrt(log e) = 1, gap = 2 / 20."""
    found = bounds.pretraining(2.0, 400, delta=2 / math.e, empirical=0.3)
    assert (found.gap, found.risk, found.is_vacuous) == (pytest.approx(0.1), pytest.approx(0.4), False)
    assert "at most 0.4" in found.sentence()


def test_a_vacuous_bound_is_called_vacuous():
    found = bounds.pretraining(4047.72, 10_000)
    assert found.is_vacuous
    assert "vacuous" in found.sentence()
    assert "at most" not in found.sentence()


def test_ambiguity_temperature_and_dependence_by_hand():
    assert bounds.b_bar(2, 0.0) == pytest.approx(2 * math.sqrt(math.log(2)))
    assert bounds.b_bar(2, 0.0, c0=math.exp(-9)) == pytest.approx(6)
    assert bounds.b_bar(2, 0.0, c0=math.exp(-9), gamma=2) == pytest.approx(12)
    assert bounds.b_bar(2, 3.0, temperature=2) == pytest.approx(2 * math.sqrt(math.log(2) + 3))


def test_icl_by_hand():
    """d = 2, B_U = 0, p_min = e^-4: B = 4; N = 100, t_min = 25, delta = 2/e: 4 * .5."""
    found = bounds.icl(
        ChainConstants(2, 25, math.exp(-4)), 0.0, 100, delta=2 / math.e, empirical=0.1, distance=0.2
    )
    assert (found.b_bar, found.gap, found.risk) == (pytest.approx(4), pytest.approx(2), pytest.approx(2.3))
    assert found.is_vacuous
    assert bounds.icl(
        ChainConstants(2, 25, math.exp(-4)), 0.0, 10**6, delta=2 / math.e
    ).risk == pytest.approx(0.02)


def test_one_tensor_is_read_from_a_checkpoint(tmp_path):
    rows = torch.tensor([[3.0, 4.0], [0.0, -1.0], [5.0, 12.0]])
    save_file(
        {"lm_head.weight": rows, "model.embed_tokens.weight": torch.zeros(3, 2)},
        tmp_path / "model.safetensors",
    )
    found = bounds.from_model(tmp_path)
    assert (found.vocab, found.width, found.tensor) == (3, 2, "lm_head.weight")
    assert (found.b_u, found.largest) == (19.0, 12.0)
    assert found.paper_b_u == pytest.approx(3 * math.sqrt(2))


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_tied_and_untied_checkpoints(checkpoint, handle_of, family):
    weight = handle_of(family).model.get_output_embeddings().weight.detach().double()
    assert bounds.from_model(checkpoint(family)).b_u == pytest.approx(float(weight.norm(dim=1).sum()))


def test_a_sharded_checkpoint(tmp_path, handle_of):
    model = handle_of("llama").model
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    weight = model.get_output_embeddings().weight.detach().double()
    assert bounds.from_model(tmp_path).b_u == pytest.approx(float(weight.norm(dim=1).sum()))


def test_checkpoints_that_cannot_be_read(tmp_path):
    with pytest.raises(BadInput, match="no safetensors"):
        bounds.from_model(tmp_path)
    save_file({"something": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match="no tensor called"):
        bounds.from_model(tmp_path)
    with pytest.raises(BadInput, match="neither a folder here nor a cached"):
        bounds.from_model("nobody/no-such-model")


@pytest.mark.parametrize(
    "call",
    [
        lambda: bounds.b_bar(1, 1.0),
        lambda: bounds.b_bar(2, -1.0),
        lambda: bounds.b_bar(2, 1.0, temperature=0),
        lambda: bounds.b_bar(2, 1.0, c0=0.0),
        lambda: bounds.b_bar(2, 1.0, gamma=0.5),
        lambda: bounds.pretraining(1.0, 0),
        lambda: bounds.pretraining(1.0, 10, delta=1),
        lambda: bounds.sample_size(1.0, 0),
        lambda: bounds.icl(ChainConstants(2, 0, 0.1), 0.0, 10),
        lambda: bounds.icl(ChainConstants(2, 4, 0), 0.0, 10),
        lambda: bounds.paper_b_u(0, 3),
    ],
)
def test_numbers_out_of_range(call):
    with pytest.raises(BadConfig, match="must be"):
        call()
