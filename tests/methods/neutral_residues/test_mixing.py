"""The mixture: its share is exact, each domain is read evenly, processes and micro-batches change nothing."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.neutral_residues import Mixture
from gnomon.methods.neutral_residues.training import NEW, OLD


def rows(count, length=4, first=0):
    return (first + np.arange(count * length).reshape(count, length)).astype(np.uint16)


def mixture(p=0.1, batch_size=8, n_new=30, n_old=12, seed=0, **more):
    old = rows(n_old, first=1000) if n_old else None
    return Mixture(rows(n_new), old, p, batch_size, generator=Rng(seed), **more)


@given(st.floats(0, 1), st.integers(1, 9), st.integers(1, 40), st.integers(0, 99))
def test_the_share_is_never_off_by_more_than_one_sequence(p, batch_size, steps, seed):
    mixed = mixture(p, batch_size, seed=seed)
    counts = Counter(domain for step in range(steps) for domain, _ in mixed.batch(step))
    assert abs(counts[OLD] - p * batch_size * steps) < 1 + 1e-6


def test_the_share_is_exact_over_seeds():
    firsts = [sum(d == OLD for d, _ in mixture(0.1, 4, seed=seed).batch(0)) for seed in range(2000)]
    assert np.mean(firsts) == pytest.approx(0.4, abs=0.04)


def test_every_row_comes_once_a_pass_and_flags_are_right():
    mixed = mixture(0.25, 8)
    new, old = [], []
    for step in range(30):
        for domain, row in mixed.batch(step):
            assert (row[0] >= 1000) == (domain == OLD)
            (old if domain == OLD else new).append(int(row[0]))
    assert set(Counter(new[:30]).values()) == {1} and len(new[:30]) == 30
    assert set(Counter(old[:12]).values()) == {1}
    assert new[:30] != new[30:60]  # another order in the next pass
    assert [r.tolist() for _, r in mixture(0.25, 8).batch(7)] == [r.tolist() for _, r in mixed.batch(7)]


def test_an_epoch_reads_the_new_text_once():
    assert len(mixture(0.0, 8)) == math.ceil(30 / 8)
    assert len(mixture(0.5, 8)) == math.ceil(30 / 4)
    assert len(mixture(1.0, 8)) == math.ceil(12 / 8)


@given(st.integers(1, 9), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4)))
def test_processes_and_micro_batches_share_a_batch_without_loss(batch_size, processes, micro):
    mixed = mixture(0.3, batch_size, micro_batch_size=micro)
    seen, sizes = Counter(), set()
    for process in range(processes):
        part = mixed.at(3, process, processes)
        assert part.targets == batch_size * 3
        sizes.add(len(part.micro))
        for one in part.micro:
            counted = one["counts"]
            seen.update(map(tuple, one["input_ids"][counted].tolist()))
            assert (one["labels"][~counted] == -100).all()
            assert torch.equal(one["domain"][counted] == OLD, one["input_ids"][counted][:, 0] >= 1000)
            assert int(one["n_old"]) == 4 * sum(d == OLD for d, _ in mixed.batch(3))
    assert len(sizes) == 1
    assert seen == Counter(tuple(row.tolist()) for _, row in mixed.batch(3))


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(BadConfig, match=r"p must be in 0\.\.1; got 1\.5"):
        mixture(1.5)
    with pytest.raises(BadConfig, match=r"--original, or set --p 0"):
        mixture(0.1, n_old=0)
    with pytest.raises(BadInput, match="4 and 5 tokens long"):
        Mixture(rows(3), rows(3, 5), 0.1, 2, generator=Rng(0))
    assert {d for d, _ in mixture(0.0, n_old=0).batch(0)} == {NEW}
