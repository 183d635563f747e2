"""Training of a retriever: the loss by hand, pieces, processes, resume after a kill, new tokens and adapters."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fixtures_interleaved_training
from fixtures_interleaved import new_encoder, small_documents, small_queries
from fixtures_interleaved_training import train
from fixtures_training import SmallRun, free_port
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval import (
    InterleavedEncoder,
    Pair,
    Retrieving,
    Training,
    merged,
    train_retriever,
)
from gnomon.methods.interleaved_retrieval.encoding.training import (
    Contrastive,
    merge_sections,
    mined,
    pairs_of,
)
from gnomon.methods.interleaved_retrieval.encoding.vectors import MERGES, best_sections, section_scores


def environment():
    here = Path(__file__).resolve()
    paths = [here.parents[3] / "src", here.parents[2], here.parent]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }


def loss_of(merge="mean", **options):
    encoder = new_encoder(Retrieving(merge=merge, temperature=0.2))
    documents, queries = small_documents(3), small_queries(4)
    pairs = [Pair(queries[0], 0), Pair(queries[1], 1), Pair(queries[2], 2), Pair(queries[3], 0)]
    return encoder, documents, pairs, Contrastive(encoder, documents, pairs, Training(**options), rng=Rng(0))


class Trained(torch.nn.Module):
    """What the loss calls."""

    log_temperature = None

    def __init__(self, states, temperature):
        super().__init__()
        self.states, self.temperature = states, lambda: temperature

    def forward(self, inputs, mask):
        return self.states(inputs, mask)


@pytest.mark.parametrize("merge", ["mean", "norm_mean", "token_weighted_mean", "max_sim"])
def test_the_loss_is_the_cross_entropy_of_what_is_searched_later(merge):
    """Two queries share document 0: its second column is left out of the first one's sum, and the other way round."""
    encoder, documents, pairs, loss = loss_of(merge)
    micro = {"pairs": torch.tensor([0, 1, 2, 3]), "step": torch.tensor(0)}
    with torch.no_grad():
        value = float(loss(Trained(encoder.module, 0.2), micro))
    queries = encoder.encode_queries([pair.query for pair in pairs])
    encoded = encoder.encode_sections(documents)
    scores = (
        best_sections(section_scores(queries, encoded), encoded.offsets)
        if merge == "max_sim"
        else queries @ merged(encoded, merge).T
    )
    columns = [0, 1, 2, 0]  # of the batch; the other column of its own document is no negative
    expected = 0.0
    for q, own in enumerate(columns):
        rivals = [d for c, d in enumerate(columns) if c == q or d != own]
        expected -= scores[q, own] / 0.2 - np.log(np.exp(scores[q, rivals] / 0.2).sum())
    assert value == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("merge", list(MERGES))
def test_merging_with_gradients_is_merging(merge):
    rng = np.random.default_rng(0)
    vectors, tokens = rng.normal(size=(5, 4)).astype(np.float32), np.array([3, 1, 2, 5, 1])
    owners = torch.tensor([0, 0, 1, 1, 1])
    theirs = merge_sections(torch.tensor(vectors), owners, torch.tensor(tokens).float(), 2, merge)
    for i, part in enumerate((slice(0, 2), slice(2, 5))):
        np.testing.assert_allclose(theirs[i], MERGES[merge](vectors[part], tokens[part]), rtol=1e-5)


def test_pieces_and_fill_change_no_gradient():
    gradients = []
    for tokens in (1 << 20, 60):
        encoder, _, _, loss = loss_of(piece_tokens=tokens)
        micro = {"pairs": torch.tensor([0, 1, 2, -1]), "step": torch.tensor(0)}
        encoder.module.train()
        loss(Trained(encoder.module, 0.2), micro).backward()
        gradients.append({n: p.grad for n, p in encoder.module.named_parameters() if p.grad is not None})
    whole, pieces = gradients
    assert whole.keys() == pieces.keys()
    for name in whole:
        torch.testing.assert_close(pieces[name], whole[name], rtol=1e-3, atol=5e-5)


def test_sections_are_drawn_anew_and_the_evidence_is_always_there():
    encoder, documents, _, _ = loss_of()
    pairs = [Pair(small_queries(1)[0], 0, 2)]
    loss = Contrastive(encoder, documents, pairs, Training(sections=2), rng=Rng(0))
    drawn = {tuple(u.section for u in loss.chosen(0, 0, step)) for step in range(20)}
    assert drawn == {(0, 2), (1, 2)}
    assert [u.section for u in loss.chosen(0, 0, 3)] == [u.section for u in loss.chosen(0, 0, 3)]
    without = Contrastive(
        encoder, documents, [Pair(small_queries(1)[0], 0)], Training(sections=2), rng=Rng(0)
    )
    assert len({tuple(u.section for u in without.chosen(0, 0, step)) for step in range(30)}) == 3


@pytest.mark.parametrize("merge", ["mean", "max_sim"])
def test_training_lowers_the_loss(merge, tmp_path):
    encoder, history = train(tmp_path, steps=12, batch=5, merge=merge)
    losses = history.curve("loss")
    assert losses[-1] < 0.7 * losses[0]
    rows = encoder.handle.model.get_input_embeddings().weight[
        [encoder.units.ends[r] for r in ("passage", "query")]
    ]
    assert not torch.equal(rows[0], rows[1])  # both ends have learned


def test_adapters_learn_the_rows_of_the_ends_and_are_merged_when_saved(tmp_path):
    encoder, history = train(tmp_path / "run", steps=6, batch=5, lora=2)
    assert history.curve("loss")[-1] < history.curve("loss")[0]
    trained = [n for n, p in encoder.handle.model.named_parameters() if p.requires_grad]
    assert all("lora_" in n or "trainable_tokens" in n for n in trained) and any(
        "trainable_tokens" in n for n in trained
    )
    again = InterleavedEncoder.from_pretrained(encoder.save_pretrained(tmp_path / "saved"))
    np.testing.assert_allclose(
        again.encode_queries(small_queries(2)), encoder.encode_queries(small_queries(2)), atol=1e-5
    )


def test_two_processes_train_what_one_trains(tmp_path):
    """Five pairs of which two share a document: the second process fills its share up."""
    encoder, history = train(tmp_path / "one", steps=3, batch=5, sections=2)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    options = json.dumps({"steps": 3, "batch": 5, "sections": 2})
    done = subprocess.run(
        [sys.executable, *launcher, fixtures_interleaved_training.__file__, str(tmp_path / "two"), options],
        env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    losses = json.loads((tmp_path / "two" / "losses.json").read_text())
    assert losses == pytest.approx(history.curve("loss"), rel=1e-4)
    weights = load_file(tmp_path / "two" / "weights.safetensors")
    for name, value in encoder.handle.model.state_dict().items():
        torch.testing.assert_close(weights[name], value, atol=2e-4, rtol=1e-3)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path):
    whole, _ = train(tmp_path / "whole", steps=12, every=2)
    options = json.dumps({"steps": 12, "every": 2})
    command = [sys.executable, fixtures_interleaved_training.__file__, str(tmp_path / "killed"), options]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL)
    saved = tmp_path / "killed" / "checkpoints"
    for _ in range(600):
        if saved.is_dir() and any(saved.glob("step-0000000[2-9]")):
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "weights.safetensors").exists()
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    weights = load_file(tmp_path / "killed" / "weights.safetensors")
    for name, value in whole.handle.model.state_dict().items():
        assert torch.equal(weights[name], value), name


def test_a_temperature_is_learned_within_its_range(tmp_path):
    encoder, _ = train(tmp_path, steps=4, batch=5, learn_temperature=True)
    assert encoder.how.temperature != 0.07 and 0.01 <= encoder.how.temperature <= 1


def test_mined_negatives_share_words_and_are_not_right(tmp_path):
    documents, queries = small_documents(5), small_queries(5)
    pairs = mined(documents, [Pair(queries[0], 0), Pair(queries[0], 3), Pair(queries[1], 1)], 2)
    assert not {0, 3} & set(pairs[0].negatives) and len(pairs[0].negatives) == 2
    assert 1 not in pairs[2].negatives
    with pytest.raises(BadInput, match="need more than 5 documents"):
        mined(documents, pairs, 5)
    _, history = train(tmp_path, steps=2, negatives=1)
    assert np.isfinite(history.curve("loss")).all()


def test_judgements_become_pairs():
    documents, queries = small_documents(3), small_queries(3)
    qrels = {"q0": {"doc 0": 1, "doc%202#1": 2, "doc 1": 0}, "q1": {"doc%201#9": 1}, "q2": {"nowhere": 1}}
    pairing = pairs_of(queries, documents, qrels)
    assert [(p.query.id, p.document, p.section) for p in pairing.pairs] == [("q0", 0, None), ("q0", 2, 1)]
    assert [reason.split(":")[0] for reason in pairing.left_out] == ['query "q1"', 'query "q2"']


def test_what_cannot_be_trained():
    encoder = new_encoder()
    run = SmallRun("unused")
    with pytest.raises(BadInput, match="no pair"):
        train_retriever(encoder, small_documents(1), [], TrainConfig(), run=run)
    with pytest.raises(BadConfig, match="sections must be >= 1"):
        Training(sections=0)
