from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_training import small_examples
from gnomon.core.rng import Rng
from gnomon.core.train import Batches, Example
from gnomon.errors import BadInput


def make(examples, batch_size, **more):
    return Batches(examples, batch_size, pad_id=2, generator=Rng(0), **more)


def texts(batch):
    """The rows of all micro-batches as (tokens, targets), padding taken off."""
    return [
        (tuple(ids[mask.bool()].tolist()), tuple(labels[mask.bool()].tolist()))
        for micro in batch.micro
        for ids, mask, labels in zip(
            micro["input_ids"], micro["attention_mask"], micro["labels"], strict=True
        )
    ]


def test_a_batch_by_hand():
    examples = [Example([5, 6, 7], [-100, 6, 7]), Example([8, 9], [8, 9])]
    batch = make(examples, 2).at(0)
    (micro,) = batch.micro
    assert micro["input_ids"].tolist() == [[8, 9, 2], [5, 6, 7]]
    assert micro["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert micro["labels"].tolist() == [[8, 9, -100], [-100, 6, 7]]
    assert batch.targets == 3  # nothing predicts the first token of a text


def test_each_epoch_shows_every_example_once_in_a_new_order():
    batches = make(small_examples(10), 4)
    assert len(batches) == 3
    epochs = [[i for step in range(3) for i in batches.rows(3 * epoch + step)] for epoch in range(3)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert batches.rows(4) == make(small_examples(10), 4).rows(4)  # asked for out of turn


@given(
    n=st.integers(1, 12),
    batch_size=st.integers(1, 12),
    processes=st.integers(1, 3),
    micro=st.integers(1, 4) | st.none(),
)
def test_processes_and_micro_batches_share_out_the_same_rows(n, batch_size, processes, micro):
    examples = small_examples(n)
    whole, shared = make(examples, batch_size), make(examples, batch_size, micro_batch_size=micro)
    for step in range(len(whole)):
        shares = [shared.at(step, process, processes) for process in range(processes)]
        rows = [row for share in shares for row in texts(share)]
        learnt = [row for row in rows if any(label != -100 for label in row[1])]
        assert Counter(learnt) == Counter(texts(whole.at(step)))
        assert {share.targets for share in shares} == {whole.at(step).targets}
        assert len({len(share.micro) for share in shares}) == 1  # or one process would wait for ever
        assert len(rows) - len(learnt) < processes
        assert all(len(m["input_ids"]) <= (micro or batch_size) for share in shares for m in share.micro)


def test_micro_batches_group_similar_lengths():
    examples = [Example([5] * length, [5] * length) for length in (9, 2, 8, 3)]
    batch = make(examples, 4, micro_batch_size=2).at(0)
    assert [tuple(micro["input_ids"].shape) for micro in batch.micro] == [(2, 3), (2, 9)]


def test_long_examples_are_cut_and_counted():
    batches = make([Example([5, 6, 7, 8], [5, 6, 7, 8]), Example([5, 6], [5, 6])], 2, max_length=3)
    assert batches.n_cut == 1
    assert torch.equal(batches.at(0).micro[0]["input_ids"], torch.tensor([[5, 6, 2], [5, 6, 7]]))


@pytest.mark.parametrize(
    ("examples", "said"),
    [
        ([], "There is no example to train on"),
        ([Example([5, 6], [5])], "Example 0 has 2 tokens and 1 labels"),
        (
            [Example([5, 6], [5, 6]), Example([5, 6], [5, -100])],
            "Example 1 has no target within its first 3 tokens",
        ),
        ([Example([5, 6, 7, 8], [-100, -100, -100, 8])], "Example 0 has no target within its first 3 tokens"),
    ],
)
def test_examples_that_cannot_teach_are_named(examples, said):
    with pytest.raises(BadInput, match=said):
        make(examples, 2, max_length=3)
