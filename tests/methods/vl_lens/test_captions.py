"""Captions and the probability of every word in them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fixtures_vl_lens import pictures, seer
from gnomon.core.models import GenConfig
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.vl_lens import Writing
from gnomon.methods.vl_lens.captions import describe, probability_of, token_probabilities
from gnomon.methods.vl_lens.mini import PROMPT


def test_one_beam_is_greedy_and_the_batch_changes_nothing():
    alone = [describe(seer(), [p], PROMPT, Writing(beams=1, max_new_tokens=6))[0] for p in pictures()]
    assert describe(seer(), pictures(), PROMPT, Writing(beams=1, max_new_tokens=6, batch_size=3)) == alone
    assert len(set(alone)) > 1
    assert describe(seer(), [], PROMPT) == []


def likelihood(text, picture):
    tokens = token_probabilities(seer(), [picture], PROMPT, [text])[0]
    return sum(math.log(p) for _, _, p in tokens)


def test_more_beams_find_a_caption_that_is_no_less_likely():
    for picture in pictures(3):
        greedy, searched = (
            describe(seer(), [picture], PROMPT, Writing(beams=beams, max_new_tokens=4))[0] for beams in (1, 4)
        )
        assert searched and likelihood(searched, picture) >= likelihood(greedy, picture) - 1e-5


def test_probabilities_are_those_of_the_model_when_it_wrote_the_words():
    gen = GenConfig(max_new_tokens=5, temperature=0)
    asked = [seer().prompt(PROMPT)] * 4
    written = [c[0] for c in seer().generate(asked, gen, generator=Rng(0), images=pictures())]
    captions = [completion.text.strip() for completion in written]
    found = token_probabilities(seer(), pictures(), PROMPT, captions, batch_size=3)
    for completion, caption, tokens in zip(written, captions, found, strict=True):
        words = caption.split()
        assert [caption[a:b].strip() for a, b, _ in tokens] == words
        expected = torch.tensor(completion.logprobs).exp()[: len(words)]
        torch.testing.assert_close(torch.tensor([p for *_, p in tokens]), expected, atol=1e-5, rtol=1e-4)


def test_an_empty_caption_has_no_tokens():
    assert token_probabilities(seer(), pictures(1), PROMPT, [""]) == [[]]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8), st.data())
def test_the_tokens_of_a_word_are_those_that_share_a_character_with_it(widths, data):
    ends = [sum(widths[: k + 1]) for k in range(len(widths))]
    tokens = [
        (end - width, end, 1 / (k + 2)) for k, (end, width) in enumerate(zip(ends, widths, strict=True))
    ]
    start = data.draw(st.integers(0, ends[-1] - 1))
    end = data.draw(st.integers(start + 1, ends[-1]))
    first, mean = probability_of(tokens, start, end)
    inside = [p for a, b, p in tokens if set(range(a, b)) & set(range(start, end))]
    assert first == inside[0] and mean == pytest.approx(sum(inside) / len(inside))


def test_a_place_without_a_token():
    with pytest.raises(BadInput, match="No token of the caption lies between characters 3 and 5"):
        probability_of([(0, 3, 0.5)], 3, 5)
