"""Reward models: both losses by hand, heads that are kept, pairs in the layouts in which they come."""

import copy

import pytest
import torch

from fixtures_training import SmallRun
from gnomon.core import records
from gnomon.core.models import load_scorer, new_llama, new_scorer, save_scorer, train_bpe
from gnomon.core.models.sampling.likelihood import score_rows
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task
from gnomon.core.train import TrainConfig
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.ma_rlhf.training.data import Pair, is_in, read_pairs, shorter_is_better
from gnomon.methods.ma_rlhf.training.reward_model import PairBatches, accuracy, pair_losses, train_reward

TRAIN = TrainConfig(
    lr=3e-3,
    batch_size=8,
    max_length=24,
    epochs=30,
    max_steps=40,
    weight_decay=0.0,
    checkpoint_every=0,
    eval_share=0.25,
)


@pytest.fixture(scope="module")
def words():
    return train_bpe(["good bad"] * 3, 262)


@pytest.fixture(scope="module")
def model(words):
    return new_llama(words, 16, 1, 2, 32, Rng(0), intermediate=32)


PAIRS = [Pair(Task(str(i), f"q{i}:"), "good", "bad!") for i in range(16)] + [
    Pair(Task(f"x{i}", f"r{i}:"), "good", "sad?") for i in range(16)
]


def test_losses_by_hand():
    """Chosen [5, 1, 2] and rejected [5, 3]: last values 0.5 and 0.1; from the first difference on, behind an end the last."""
    values = torch.tensor([[9.0, 0.2, 0.5], [9.0, 0.1, 7.0]])
    ids, mask = torch.tensor([[5, 1, 2], [5, 3, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    softplus = lambda x: float(torch.nn.functional.softplus(torch.tensor(-x)))  # noqa: E731
    assert float(pair_losses(values, ids, mask)) == pytest.approx(softplus(0.4))
    expected = (softplus(0.2 - 0.1) + softplus(0.5 - 0.1)) / 2
    assert float(pair_losses(values, ids, mask, "divergent_tokens")) == pytest.approx(expected)


@pytest.mark.parametrize("loss_on", ["last", "divergent_tokens"])
def test_it_learns_what_is_better_and_keeps_its_head(model, words, tmp_path, loss_on):
    scorer, _, numbers = train_reward(
        model, words, PAIRS, loss_on=loss_on, train=TRAIN, run=SmallRun(tmp_path / "run")
    )
    assert numbers["set aside"] == 8 and numbers["accuracy"] == 1.0 and numbers["shorter is better"] == 0.5
    save_scorer(scorer, words, tmp_path / "saved")
    loaded = load_scorer(tmp_path / "saved", device="cpu")
    rows = [pair.ids(words)[0] for pair in PAIRS[:3]]
    assert score_rows(loaded, words, rows) == pytest.approx(score_rows(scorer, words, rows))
    # Trained further it begins with its own head (ms-swift#9239).
    cfg = TrainConfig(**{**vars(TRAIN), "max_steps": 1, "lr": 1e-9})
    again, _, _ = train_reward(loaded, words, PAIRS, train=cfg, run=SmallRun(tmp_path / "again"))
    torch.testing.assert_close(again.score.weight, scorer.score.weight, atol=1e-6, rtol=0)


def test_adapters_train_the_head_in_full_and_merging_keeps_it(model, words, tmp_path):
    """OpenRLHF#873, OpenRLHF#643."""
    base = tmp_path / "base"
    model.save_pretrained(base)
    words.save_pretrained(base)
    from gnomon.core.models import load_model

    cfg = TrainConfig(**{**vars(TRAIN), "lora_rank": 2, "lr": 1e-2})
    scorer, _, numbers = train_reward(
        load_model(base, device="cpu"), words, PAIRS, train=cfg, run=SmallRun(tmp_path / "run")
    )
    assert numbers["accuracy"] == 1.0
    save_scorer(scorer, words, tmp_path / "adapter")
    loaded = load_scorer(tmp_path / "adapter", device="cpu")
    rows = [text for pair in PAIRS[:4] for text in pair.ids(words)]
    before = score_rows(scorer, words, rows)
    assert any(before) and score_rows(loaded, words, rows) == pytest.approx(before, abs=1e-5)
    merged = new_scorer(scorer, Rng(0))
    assert score_rows(merged, words, rows) == pytest.approx(before, abs=1e-5)


def test_a_checkpoint_without_a_head_is_refused(model, words, tmp_path):
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    with pytest.raises(ModelMismatch, match="has no head"):
        load_scorer(tmp_path, device="cpu")


def test_processes_share_a_batch_of_pairs(words):
    ids = [pair.ids(words) for pair in PAIRS[:5]]
    cfg = TrainConfig(batch_size=5, max_length=24)
    whole = PairBatches(ids, cfg, 2, Rng(0)).at(0)
    shares = [PairBatches(ids, cfg, 2, Rng(0)).at(0, process, 2) for process in (0, 1)]
    assert whole.targets == 5 and [share.targets for share in shares] == [5, 5]
    assert [float(share.micro[0]["counts"].sum()) for share in shares] == [3, 2]
    assert all(len(share.micro[0]["ids"]) == 6 for share in shares)


def test_accuracy_counts_ties_half(model, words):
    scorer = new_scorer(copy.deepcopy(model), Rng(0))  # a head of zeros
    assert accuracy(scorer, words, [pair.ids(words) for pair in PAIRS[:4]]) == 0.5


def test_pairs_in_their_layouts(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b"},
        {"prompt": [{"role": "user", "content": "p"}], "chosen": "a", "rejected": "b"},
        {"chosen": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "a"}],
         "rejected": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "b"}]},
        {"chosen": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: same, then a",
         "rejected": "\n\nHuman: p\n\nAssistant: a\n\nHuman: q\n\nAssistant: same, then b"},
        {"info": {"post": "text", "subreddit": "tifu"}, "summaries": [{"text": " b"}, {"text": " a"}], "choice": 1},
        {"question": {"full_text": "p"}, "answer_0": "b", "answer_1": "a", "score_0": -1, "score_1": 1},
    ]  # fmt: skip
    records.write(tmp_path / "pairs.jsonl", rows)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert [(p.chosen, p.rejected) for p in pairs] == [("a", "b")] * 3 + [
        (" same, then a", " same, then b")
    ] + [("a", "b")] * 2
    assert pairs[3].task.prompt.endswith("q\n\nAssistant:")
    assert pairs[4].task.prompt == "POST Subreddit: r/tifu\ntext\nTL;DR: "
    assert pairs[2].task.messages == ({"role": "user", "content": "p"},)


def test_rows_that_are_no_pair_are_named_and_left_out(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": ""},
        {"prompt": "p", "chosen": "a"},
        {"prompt": "p", "chosen": "a", "rejected": "a"},
        {"question": "p", "answer_0": "b", "answer_1": "a", "score_0": 1, "score_1": 1},
        {"prompt": "p", "chosen": "a", "rejected": "b"},
    ]
    records.write(tmp_path / "pairs.jsonl", rows)
    bad = []
    assert len(read_pairs(tmp_path / "pairs.jsonl", on_bad=bad.append)) == 1
    assert [reason.split(": ")[-1] for reason in bad] == [
        "the answer rejected is empty.", "a pair needs the columns chosen and rejected; it has chosen, prompt.",
        "both answers are the same.", "both answers have one score, so neither is better.",
    ]  # fmt: skip
    with pytest.raises(BadInput, match="line 1"):
        read_pairs(tmp_path / "pairs.jsonl")


def test_parts_are_disjoint_and_have_their_sizes():
    prompts = [f"prompt {i}" for i in range(3000)]
    counts = {part: sum(is_in(part, p) for p in prompts) for part in ("sft", "reward", "ppo", "all")}
    assert counts["sft"] + counts["reward"] + counts["ppo"] == counts["all"] == 3000
    assert counts["sft"] / 3000 == pytest.approx(0.2, abs=0.03) and counts["ppo"] / 3000 == pytest.approx(
        0.4, abs=0.03
    )


def test_real_pairs(shared_data):
    """2,312 pairs, 2,307 of which share all but the last answer; none is shown."""
    bad = []
    pairs = read_pairs(shared_data / "preferences" / "hh_harmless_test.jsonl.gz", on_bad=bad.append)
    assert len(pairs) + len(bad) == 2312 and len(pairs) > 2290
    assert sum("empty" in reason for reason in bad) >= 4
    assert 0.5 < shorter_is_better(pairs) < 0.6
