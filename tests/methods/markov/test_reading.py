"""Reading a model in context: against a plain loop, one token a state and digit by digit; and the forgetting of prompts."""

import numpy as np
import pytest
import torch

from gnomon.core.models import load_model, tiny_causal, train_bpe
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.markov import forgetting, icl
from gnomon.methods.markov.chain import distance
from gnomon.methods.markov.icl import predict, write_states


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A tiny Llama whose tokenizer writes single characters."""
    folder = tmp_path_factory.mktemp("reader")
    tokenizer = train_bpe(["abc"], 259)
    tiny_causal("llama", tokenizer, folder, max_position_embeddings=256)
    return load_model(folder, device="cpu"), tokenizer


def probability(model, ids, token):
    with torch.no_grad():
        return float(
            torch.softmax(model(torch.tensor([ids]), use_cache=False).logits[0, -1].double(), -1)[token]
        )


@pytest.mark.parametrize("bos", ["no", "yes"])
def test_single_tokens_are_read_behind_the_separator(reader, bos):
    model, tokenizer = reader
    chains = [icl.generate("random", 3, 6, seed) for seed in (0, 1, 2)]
    found = predict(model, tokenizer, chains, bos=bos, batch_size=2)
    digits = [tokenizer.convert_tokens_to_ids(str(i)) for i in range(3)]
    for one, chain in zip(found, chains, strict=True):
        for n in (1, 4, 6):
            text = "".join(f"{state}," for state in chain.x[:n])
            ids = ([tokenizer.bos_token_id] if bos == "yes" else []) + tokenizer(text)["input_ids"]
            plain = np.array([probability(model, ids, token) for token in digits])
            assert one.p[n - 1] == pytest.approx(plain / plain.sum(), abs=1e-6)
            assert one.lost[n - 1] == pytest.approx(1 - plain.sum(), abs=1e-6)


def test_digits_are_multiplied(reader):
    """12 states are written 44..55; a state's probability is that of its first digit times that of its second."""
    model, tokenizer = reader
    chain = icl.generate("random", 12, 5, 0)
    writing = write_states(tokenizer, 12)
    assert (writing.first, writing.width, writing.is_single) == (44, 2, False)
    (found,) = predict(model, tokenizer, [chain], at=[2, 5])
    for row, n in enumerate((2, 5)):
        ids = tokenizer("".join(f"{44 + state}," for state in chain.x[:n]))["input_ids"]
        plain = []
        for state in range(12):
            a, b = (tokenizer.convert_tokens_to_ids(c) for c in str(44 + state))
            plain.append(probability(model, ids, a) * probability(model, [*ids, a], b))
        assert found.p[row] == pytest.approx(np.array(plain) / sum(plain), abs=1e-6)
        assert found.lost[row] == pytest.approx(1 - sum(plain), abs=1e-6)


def test_seven_hundred_states_are_written_from_150_on(reader):
    writing = write_states(reader[1], 700)
    assert (writing.first, writing.width) == (150, 3)
    with pytest.raises(BadInput, match="not all numbers of 1 digits"):
        write_states(reader[1], 5, first=8)


def test_whole_numbers_as_tokens_are_read_at_once():
    tokenizer = train_bpe(["44 45 46 47 48 49 50 51 52 53 54 55 , , ," for _ in range(50)], 320)
    for name in range(44, 56):
        tokenizer.add_tokens([str(name)])
    writing = write_states(tokenizer, 12)
    assert writing.is_single
    assert len(set(writing.pieces)) == 12


def test_a_tokenizer_that_cuts_numbers_elsewhere_is_refused():
    """ "150" is "15" and "0" here, and "200" three digits."""
    cutting = train_bpe(["15 15 15 15"], 260)
    with pytest.raises(ModelMismatch, match="neither as one token each nor digit by digit"):
        write_states(cutting, 700)


def test_series_that_do_not_fit_are_refused(reader):
    model, tokenizer = reader
    with pytest.raises(ModelMismatch, match="has 256 positions"):
        predict(model, tokenizer, [icl.generate("random", 3, 200, 0)])
    with pytest.raises(BadInput, match="same length"):
        predict(model, tokenizer, [icl.generate("random", 3, n, 0) for n in (5, 6)])


def test_evaluate_puts_the_model_beside_counting(reader):
    found = icl.evaluate(*reader, [icl.generate("random", 3, 40, seed) for seed in range(3)])
    assert list(found.risks)[:3] == ["model", "counting", "add-1"]
    assert found.risks["model"].shape == found.lost.shape == (3, 40)
    assert [row["arm"] for row in found.rows()] == list(found.risks)
    assert found.mean("model")[0][0] == 1


def test_distance_of_mixtures_by_hand():
    p, q = np.array([[0.5, 0.3, 0.1, 0.1]]), np.array([[0.2, 0.6, 0.2, 0.0]])
    assert distance(p, q, 4) == pytest.approx([0.4])
    assert distance(p, q, 2) == pytest.approx([0.3])  # the other two have 0.2 under both
    assert distance(p, q, 99) == pytest.approx([0.4])


def test_the_first_distance_is_exact_and_equal_prompts_stay_at_the_floor(reader):
    model, _ = reader
    a, b = [40, 41, 42], [50, 51]
    (found,) = forgetting(model, (a, b), temperatures=(2.0,), samples=8, steps=3, top=300, generator=Rng(0))
    with torch.no_grad():
        p, q = (torch.softmax(model(torch.tensor([ids])).logits[0, -1].double() / 2, -1) for ids in (a, b))
    assert found.distance[0] == pytest.approx(float((p - q).abs().sum() / 2), abs=1e-6)
    assert found.floor[0] == pytest.approx(0, abs=1e-7)
    assert found.distance.shape == found.floor.shape == (4,)
    (same,) = forgetting(model, (a, a), temperatures=(1.0,), samples=200, steps=3, top=300, generator=Rng(0))
    assert same.distance[0] == pytest.approx(0, abs=1e-7)
    assert (same.distance[1:] < 2 * same.floor[1:]).all()
    assert same.forgotten_at == 0


def test_forgetting_needs_sound_numbers(reader):
    model, _ = reader
    with pytest.raises(BadInput, match="no tokens"):
        forgetting(model, ([], [1]), generator=Rng(0))
    with pytest.raises(BadConfig, match="samples >= 2"):
        forgetting(model, ([1], [1]), samples=1, generator=Rng(0))
    with pytest.raises(ModelMismatch, match="positions"):
        forgetting(model, ([1], [1]), steps=256, generator=Rng(0))
