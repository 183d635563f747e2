import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.models.sampling.sampler import choose

PROBS = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.05])  # by falling probability: tokens 1, 3, 0, then 2 and 4


def pick(uniform, *, temperature=1.0, top_p=1.0, probs=PROBS):
    return choose(probs.log()[None], temperature, top_p, torch.tensor([uniform])).item()


@pytest.mark.parametrize(
    ("uniform", "token"),
    [(0.0, 0), (0.09, 0), (0.11, 1), (0.59, 1), (0.61, 2), (0.64, 2), (0.66, 3), (0.94, 3), (0.96, 4)],
)
def test_without_top_p_the_cumulative_distribution_runs_in_the_order_of_ids(uniform, token):
    assert pick(uniform) == token


@pytest.mark.parametrize(
    ("top_p", "uniform", "token"),
    [
        (0.4, 0.999, 1),  # 0.5 alone holds 0.4
        (0.7, 0.62, 1),  # 0.5 + 0.3 hold 0.7: token 1 below 0.5 / 0.8 = 0.625, token 3 above
        (0.7, 0.63, 3),
        (
            0.85,
            0.55,
            1,
        ),  # 0.5 + 0.3 + 0.1: token 1 below 0.556, token 3 below 0.889, then token 0
        (0.85, 0.56, 3),
        (0.85, 0.88, 3),
        (0.85, 0.89, 0),
        (0.999, 0.9999, 4),
    ],
)
def test_top_p_keeps_the_smallest_set_that_holds_it(top_p, uniform, token):
    assert pick(uniform, top_p=top_p) == token


def test_temperature_sharpens_by_powers():
    # At temperature 1/2 probabilities are squared: .01 .25 .0025 .09 .0025, sum
    # .355; token 1 spans 0.0282 .. 0.7324.
    assert [pick(u, temperature=0.5) for u in (0.028, 0.029, 0.732, 0.740)] == [0, 1, 1, 3]
    assert pick(0.99, temperature=0.0) == 1


@pytest.mark.parametrize("top_p", [1.0, 0.999])
def test_the_largest_number_below_one_never_reaches_a_token_of_probability_zero(top_p):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2000, 50, generator=generator)
    logits[:, 40:] = -torch.inf
    tokens = choose(logits, 1.0, top_p, torch.full((2000,), 1 - 2**-24))
    assert tokens.max() < 40


def test_equal_logits_give_the_first_when_greedy():
    assert choose(torch.zeros(2, 4), 0.0, 1.0, torch.zeros(2)).tolist() == [0, 0]


@given(
    weights=st.lists(st.floats(0.001, 1), min_size=2, max_size=12),
    top_p=st.floats(0.01, 1),
    uniform=st.floats(0, 1, exclude_max=True, width=32),
)
def test_only_tokens_of_the_nucleus_are_chosen(weights, top_p, uniform):
    probs = torch.tensor(weights) / sum(weights)
    token = pick(uniform, top_p=top_p, probs=probs)
    # A kept token is one before which the likelier ones do not yet hold top_p.
    assert probs[probs > probs[token]].sum() < top_p + 1e-5


def test_frequencies_follow_the_distribution():
    n = 20_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0))
    for top_p, kept in ((1.0, PROBS), (0.85, torch.tensor([0.1, 0.5, 0, 0.3, 0]) / 0.9)):
        tokens = choose(PROBS.log().expand(n, -1), 1.0, top_p, uniform)
        counts = torch.bincount(tokens, minlength=5)
        assert counts[kept == 0].sum() == 0
        expected = n * kept[kept > 0]
        chi_square = ((counts[kept > 0] - expected) ** 2 / expected).sum()
        assert chi_square < 18.5  # the 0.1% point with four degrees of freedom
