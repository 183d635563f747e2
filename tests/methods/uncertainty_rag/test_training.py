"""A retriever's training: the loss by hand, pieces and processes that change nothing, and what it learns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import fixtures_uncertainty_rag as made
from fixtures_training import SmallRun, free_port
from gnomon.core.retrieval import TextEncoder
from gnomon.core.rng import Rng
from gnomon.core.train import TrainConfig
from gnomon.core.train.contrastive import NOTHING
from gnomon.errors import BadInput
from gnomon.methods.uncertainty_rag import Contrast, train_retriever
from gnomon.methods.uncertainty_rag.training.retriever import ContrastiveLoss, Draws

CFG = TrainConfig(lr=3e-3, batch_size=5, epochs=2, max_length=64, checkpoint_every=0)


class PartRun(SmallRun):
    """A small run with parts."""

    page = None

    def within(self, name):
        part = PartRun(self.folder / name, is_main=self.is_main)
        part.rng = self.rng.child(name)
        return part


def mined_rows(n=11):
    """Anchors of a topic, with positives of it and negatives of others."""
    draw, names = np.random.default_rng(3), list(made.TOPICS)
    rows = []
    for i in range(n):
        topic, other = names[i % 4], names[(i + 1) % 4]
        text = lambda name: " ".join(draw.choice(made.TOPICS[name].split(), 5))  # noqa: E731
        positives, negatives = [text(topic) for _ in range(3)], [text(other) for _ in range(3)]
        rows.append({
            "anchor": f"a{i}", "anchor_text": text(topic), "positives": ["x"] * 3, "positive_texts": positives,
            "negatives": ["y"] * 3, "negative_texts": negatives,
        })  # fmt: skip
    return rows


def trained(folder, encoder_ref, **options):
    encoder = TextEncoder.load(encoder_ref, max_tokens=64)
    contrast = Contrast(**{"hard": 2, **options.pop("contrast", {})})
    cfg = TrainConfig(
        **{
            **{f: getattr(CFG, f) for f in ("lr", "batch_size", "epochs", "max_length", "checkpoint_every")},
            **options,
        }
    )
    result = train_retriever(
        encoder, mined_rows(), cfg, contrast, run=PartRun(folder, is_main=os.environ.get("RANK", "0") == "0")
    )
    return encoder, result


def test_the_loss_of_a_batch_by_hand(models):
    encoder = TextEncoder.load(models[1], max_tokens=64)
    batches = Draws(mined_rows(), encoder, CFG, 1, Rng(0))
    rows = batches.drawn(0)
    texts = [text for _, positive, negatives in rows for text in (positive, *negatives)]
    queries, passages = (
        encoder.encode([row["anchor_text"] for row, _, _ in rows], "query"),
        encoder.encode(texts),
    )
    scores = queries @ passages.T / 0.05
    wanted = 0.0
    for i, (row, positive, _) in enumerate(rows):
        never = {positive, row["anchor_text"], *row["positive_texts"]}
        columns = [j for j, text in enumerate(texts) if text not in never or j == 2 * i]
        wanted += np.log(np.exp(scores[i, columns]).sum()) - scores[i, 2 * i]
    (micro,) = batches.at(0, 0, 1).micro
    loss = ContrastiveLoss(encoder, 0.05, None)
    assert float(loss(encoder.embeds.model.eval(), micro).detach()) == pytest.approx(wanted, rel=1e-4)
    assert batches.at(0, 0, 1).targets == 5 and loss.negatives_seen == pytest.approx(9, abs=1.0)


def test_equal_texts_are_no_negatives_wherever_they_come_from(models):
    """An anchor that is another row's positive, and positives of one row that stand in another."""
    encoder = TextEncoder.load(models[1], max_tokens=64)
    row = {
        "anchor_text": "bread",
        "positives": ["p"],
        "positive_texts": ["oven"],
        "negatives": ["n"],
        "negative_texts": ["sail"],
    }
    twin = {**row, "anchor_text": "oven", "positive_texts": ["BREAD"], "negative_texts": ["Oven"]}
    (micro,) = Draws([row, twin], encoder, CFG, 1, Rng(0)).at(0, 0, 1).micro
    loss = ContrastiveLoss(encoder, 1.0, None)
    value = float(loss(encoder.embeds.model.eval(), micro).detach())
    # What says bread or oven is no negative of either: sail is left for both.
    vectors = {t: encoder.encode([t])[0] for t in ("bread", "oven", "sail", "BREAD")}
    first, second = (vectors[a] @ vectors[p] for a, p in (("bread", "oven"), ("oven", "BREAD")))
    wanted = sum(
        np.log(np.exp(s) + np.exp(vectors[a] @ vectors["sail"])) - s
        for a, s in (("bread", first), ("oven", second))
    )
    assert value == pytest.approx(wanted, rel=1e-4) and loss.negatives_seen == 1


@pytest.mark.parametrize("micro", [1, 4, 7])
def test_pieces_train_what_one_big_batch_trains(models, tmp_path, micro):
    """sentence-transformers#2916: accumulation adds no negatives; here it is caching, and every row sees the whole batch."""
    whole, told = trained(tmp_path / "whole", models[1])
    cut, pieces = trained(tmp_path / "cut", models[1], micro_batch_size=micro)
    assert pieces.curves["hard"] == pytest.approx(told.curves["hard"], rel=1e-5)
    assert pieces.negatives == told.negatives and told.negatives["hard"] > 8
    for a, b in zip(cut.embeds.model.parameters(), whole.embeds.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_two_stages_begin_without_hard_negatives(models, tmp_path):
    _, result = trained(tmp_path, models[1], contrast={"two_stage": True})
    assert list(result.curves) == ["in batch", "hard"] and result.rows == 11
    assert result.negatives["in batch"] < 5 < result.negatives["hard"]


def test_it_learns_the_topics_and_saves_a_folder_that_others_open(models, tmp_path):
    def right(encoder):
        rows = mined_rows()
        anchors = encoder.encode([r["anchor_text"] for r in rows], "query")
        good, bad = (encoder.encode([r[k][0] for r in rows]) for k in ("positive_texts", "negative_texts"))
        return float(((anchors * good).sum(1) > (anchors * bad).sum(1)).mean())

    before = TextEncoder.load(models[1], max_tokens=64)
    encoder, _ = trained(tmp_path / "run", models[1], epochs=12)
    assert right(encoder) > max(0.9, right(before))
    name = encoder.fingerprint
    assert name != before.fingerprint
    folder = encoder.save(tmp_path / "saved")
    wanted = encoder.encode(["bread in the oven", "a ship"])
    code = (
        "import sys, json; from gnomon.core.retrieval import TextEncoder; e = TextEncoder.load(sys.argv[1]);"
        "print(json.dumps([e.fingerprint, e.encode(['bread in the oven', 'a ship']).tolist()]))"
    )
    import fixtures_process

    done = fixtures_process.run(
        [sys.executable, "-c", code, str(folder)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    again, vectors = json.loads(done.stdout.splitlines()[-1])
    assert again == name and np.array(vectors) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.slow
def test_sentence_transformers_opens_the_trained_folder_to_the_same_vectors(models, tmp_path):
    import warnings

    encoder, _ = trained(tmp_path / "run", models[1])
    folder = encoder.save(tmp_path / "saved")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(
            ["bread", "the harbour"]
        )
    assert encoder.encode(["bread", "the harbour"]) == pytest.approx(theirs, abs=1e-5)


def test_rows_without_positives_or_negatives(models, tmp_path):
    encoder, rows = TextEncoder.load(models[1], max_tokens=64), mined_rows(4)
    bare = {**rows[0], "negatives": [], "negative_texts": []}
    assert (
        len(Draws([bare, *rows[1:]], encoder, CFG, 1, Rng(0)).rows) == 3
    )  # one row takes no negative from the others
    assert Draws([bare], encoder, CFG, 1, Rng(0)).hard == 0
    with pytest.raises(BadInput, match="No row has a positive"):
        Draws([{**rows[0], "positives": [], "positive_texts": []}], encoder, CFG, 1, Rng(0))


def test_a_share_that_is_short_is_filled_up_with_what_counts_for_nothing(models):
    encoder = TextEncoder.load(models[1], max_tokens=64)
    batches = Draws(mined_rows(), encoder, CFG, 1, Rng(0))
    parts = [batches.at(0, rank, 2).micro[0] for rank in (0, 1)]
    assert [len(part["places"]) for part in parts] == [3, 3]
    assert (
        int((parts[1]["places"] == NOTHING).sum()) == 1 and int((parts[1]["passages"] == NOTHING).sum()) == 2
    )


@pytest.mark.scale
def test_two_processes_train_what_one_trains(models, tmp_path):
    import gnomon

    encoder, result = trained(tmp_path / "one", models[1], micro_batch_size=3)
    paths = [
        str(Path(gnomon.__file__).parents[1]),
        str(Path(made.__file__).parent),
        str(Path(__file__).parent),
    ]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done = subprocess.run(
        [sys.executable, *launcher, __file__, str(tmp_path / "two"), str(models[1])],
        env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    curve = json.loads((tmp_path / "two" / "curve.json").read_text())
    assert curve == pytest.approx(result.curves["hard"], rel=1e-5)
    weights = load_file(tmp_path / "two" / "weights.safetensors")
    for name, parameter in encoder.embeds.model.named_parameters():
        torch.testing.assert_close(weights[name], parameter.detach(), atol=2e-5, rtol=1e-4)


if __name__ == "__main__":
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    encoder, result = trained(folder, sys.argv[2], micro_batch_size=3)
    if os.environ.get("RANK", "0") == "0":
        (folder / "curve.json").write_text(json.dumps(result.curves["hard"]))
        save_file(
            {n: p.detach().clone() for n, p in encoder.embeds.model.named_parameters()},
            str(folder / "weights.safetensors"),
        )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
