import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fixtures_contrastive
from fixtures_contrastive import Pairs, encode, loss_of, small_encoder, train_pairs
from fixtures_training import free_port
from gnomon.core.train import cached_step, gather, info_nce
from gnomon.core.train.contrastive import NOTHING, text_ids
from gnomon.errors import BadInput


def test_cross_entropy_by_hand():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    passages = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    scores = [[2, 1.2, 0], [0, 1.6, 2]]  # over a temperature of .5
    places = torch.tensor([0, 1])
    wanted = sum(
        math.log(sum(math.exp(s) for s in row)) - row[place]
        for row, place in zip(scores, (0, 1), strict=True)
    )
    loss = info_nce(queries, passages, places, torch.tensor([5, 6, 7]), temperature=0.5)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    back = [[2, 0], [1.2, 1.6]]
    other = sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(back))
    both = info_nce(queries, passages, places, torch.tensor([5, 6, 7]), temperature=0.5, symmetric=True)
    assert both.item() == pytest.approx((wanted + other) / 2, rel=1e-6)


def test_a_text_that_is_the_positive_once_more_is_no_negative():
    queries, passages = torch.eye(3), torch.eye(3)
    ids = text_ids(["the cat", "a dog", "the cat"])
    places = torch.arange(3)
    wanted = math.log(math.e + 1) - 1  # the positive beside the dog alone
    loss = info_nce(queries[:1], passages, places[:1], ids, temperature=1.0)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    nobody = torch.tensor([int(ids[0]), NOTHING, 9])
    assert info_nce(queries[:1], passages, places[:1], nobody, temperature=1.0).item() == pytest.approx(
        wanted, rel=1e-6
    )
    counted = info_nce(queries, passages, torch.tensor([0, NOTHING, NOTHING]), ids, temperature=1.0)
    assert counted.item() == pytest.approx(wanted, rel=1e-6)
    assert int(text_ids([""])[0]) >= 0 and int(text_ids(["x"])[0]) == int(text_ids(["x", "y"])[0])
    with pytest.raises(BadInput, match="none of the 3 passages"):
        info_nce(queries, passages, torch.tensor([0, 1, 3]), ids)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("symmetric", [False, True])
def test_pieces_give_what_one_big_batch_gives(symmetric):
    model, micro = small_encoder(), Pairs(1).at(0, 0, 1).micro[0]
    whole = encode(model, micro)
    expected = info_nce(
        whole[:5], whole[5:], micro["places"], micro["passage"], temperature=0.1, symmetric=symmetric
    )
    wanted = gradients(model, expected)
    for pieces in (1, 2, 5, 10):
        value = loss_of(pieces, symmetric=symmetric)(model, micro)
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        for a, b in zip(gradients(model, 2 * value), wanted, strict=True):
            torch.testing.assert_close(a, 2 * b, atol=1e-6, rtol=1e-6)


def test_dropout_is_the_same_both_times():
    """The same pieces with the graph kept throughout, which is what a large memory would do."""
    model, micro = small_encoder(dropout=0.3).train(), Pairs(1).at(0, 0, 1).micro[0]
    parts = [
        {"ids": i, "mask": m} for i, m in zip(micro["ids"].chunk(5), micro["mask"].chunk(5), strict=True)
    ]

    def loss(embedded):
        return info_nce(embedded[:5], embedded[5:], micro["places"], micro["passage"], temperature=0.1)

    torch.manual_seed(3)
    expected = loss(torch.cat([encode(model, part) for part in parts]))
    after = torch.rand(1)
    wanted = gradients(model, expected)
    torch.manual_seed(3)
    value = cached_step(model, lambda part: encode(model, part), parts, loss)
    assert torch.equal(torch.rand(1), after)  # nor is a random number drawn twice afterwards
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    for a, b in zip(gradients(model, value), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-6)


def test_a_temperature_is_trained_too():
    model, micro = small_encoder(), Pairs(1).at(0, 0, 1).micro[0]
    scale = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    whole = encode(model, micro)
    info_nce(whole[:5], whole[5:], micro["places"], micro["passage"], temperature=scale).backward()
    wanted, scale.grad = scale.grad.clone(), None
    (3 * loss_of(2, temperature=scale, also=[scale])(model, micro)).backward()
    assert scale.grad.item() == pytest.approx(3 * wanted.item(), rel=1e-6)


def test_without_gradients_it_is_a_number():
    model, micro = small_encoder(), Pairs(1).at(0, 0, 1).micro[0]
    value = loss_of(2)(model, micro)
    with torch.no_grad():
        plain = loss_of(3)(model, micro)
    assert not plain.requires_grad and plain.item() == pytest.approx(value.item(), rel=1e-6)
    assert gather(torch.ones(2)).tolist() == [1, 1]  # one process
    with pytest.raises(BadInput, match="nothing to embed"):
        cached_step(model, lambda piece: piece, [], torch.sum)


@pytest.mark.scale
@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes_train_what_one_trains(sharded, tmp_path):
    """Five pairs: the second process fills its share up with one that counts for nothing."""
    import gnomon

    model, history = train_pairs(tmp_path / "one")
    source = str(Path(gnomon.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    script, settings = fixtures_contrastive.__file__, json.dumps({"pieces": 3, "sharded": sharded})
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done = subprocess.run(
        [sys.executable, *launcher, script, str(tmp_path / "two"), settings],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "two/metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == pytest.approx(history.curve("loss"), rel=1e-6)
    trained = load_file(tmp_path / "two/weights.safetensors")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name], parameter.detach(), atol=1e-6, rtol=1e-5)


def test_further_texts_can_be_kept_out_of_a_query_s_negatives():
    queries, passages = torch.eye(3), torch.eye(3)
    ids, places = torch.tensor([5, 6, 7]), torch.arange(3)
    never = torch.tensor([[6, NOTHING], [NOTHING, NOTHING], [5, 6]])
    # The first has the third alone beside its positive, the second both others, the third none.
    wanted = (math.log(math.e + 1) - 1) + (math.log(math.e + 2) - 1) + 0
    loss = info_nce(queries, passages, places, ids, temperature=1.0, never=never)
    assert loss.item() == pytest.approx(wanted, rel=1e-6)
    own = torch.tensor([[5], [6], [7]])  # a positive stays a positive
    assert info_nce(queries, passages, places, ids, temperature=1.0, never=own).item() == pytest.approx(
        3 * (math.log(math.e + 2) - 1), rel=1e-6
    )
