import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core.metrics.lm import Score, score_stream, token_nll
from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.neutral_residues.training import pack

TOKENIZER = train_bpe(["some words of a text"], 300)
MODEL = new_llama(TOKENIZER, hidden=32, layers=2, heads=2, max_length=64, generator=Rng(0)).eval()


def plain(ids, start=1):
    with torch.no_grad():
        logp = MODEL(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    return -sum(float(logp[i - 1, ids[i]]) for i in range(start, len(ids)))


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(3, len(TOKENIZER) - 1), min_size=1, max_size=9), min_size=1, max_size=5))
def test_each_row_is_scored_as_if_alone(rows):
    nll, count = token_nll(MODEL, rows)
    assert nll.tolist() == pytest.approx([plain(row) for row in rows], abs=1e-3)
    assert count == sum(len(row) - 1 for row in rows)


def test_scoring_may_start_later():
    nll, count = token_nll(MODEL, [[3, 4, 5, 6], [7, 8]], starts=[3, 1])
    assert nll.tolist() == pytest.approx([plain([3, 4, 5, 6], 3), plain([7, 8])], abs=1e-4)
    assert count == 2


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_windows_predict_every_token_once(batch_size):
    stream = pack(["a text of some words", "and more of it"], TOKENIZER)
    ids = stream.ids.tolist()
    score = score_stream(MODEL, stream.ids, stream.n_bytes, 5, batch_size=batch_size)
    expected = sum(plain(ids[i : i + 5]) for i in range(0, len(ids) - 1, 4))
    assert score.nll == pytest.approx(expected, rel=1e-5)
    assert score.n_tokens == len(ids) - 1
    whole = score_stream(MODEL, stream.ids, stream.n_bytes, 64)
    assert whole.nll == pytest.approx(plain(ids), rel=1e-5)


def test_bits_and_perplexity_by_hand():
    score = Score(nll=6 * math.log(2), n_tokens=3, n_bytes=12)
    assert (score.bits_per_byte, score.perplexity) == pytest.approx((0.5, 4.0))
