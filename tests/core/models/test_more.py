"""Samples on demand, likeliest tokens alone, and a temperature for each sample."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.models import GenConfig, generate
from gnomon.core.models.sampling.sampler import choose
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

PROMPTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i)"]
GEN = GenConfig(max_new_tokens=6, n=1)


def texts(rows):
    return [[done.token_ids for done in row] for row in rows]


@pytest.mark.parametrize("name", ["llama", "t5"])
def test_samples_of_earlier_rounds_are_kept_and_equal_those_of_a_plain_run(name, handle_of):
    """its_hub 262: groups of 1, 1, 2 and no further: four samples, which are the first four of sixteen drawn at once."""
    handle, rounds = handle_of(name), {0: [1, 2, 0], 1: [0], 2: [3, 0]}
    plain = generate(handle, None, PROMPTS, dataclasses.replace(GEN, n=16), generator=Rng(4))
    counts = []

    def more(i, done):
        counts.append((i, len(done)))
        return rounds[i].pop(0)

    drawn = generate(handle, None, PROMPTS, GEN, generator=Rng(4), more=more)
    assert [len(row) for row in drawn] == [4, 1, 4]
    assert texts(drawn) == [ids[: len(row)] for ids, row in zip(texts(plain), drawn, strict=True)]
    assert counts == [(0, 1), (1, 1), (2, 1), (0, 2), (2, 4), (0, 4)]
    assert [len(row) for row in generate(handle, None, PROMPTS, GEN, generator=Rng(4))] == [1, 1, 1]


def test_as_many_samples_are_written_as_are_counted(handle_of):
    """LLaVA-CoT 35: best of N turned out to be best of two. By the rows that the model itself reads."""
    handle, rows = handle_of("llama"), []
    hook = handle.model.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        gen = GenConfig(max_new_tokens=2, n=1, batch_size=64)
        drawn = generate(
            handle, None, PROMPTS[:1], gen, generator=Rng(0), more=lambda i, d: {1: 3, 4: 12}.get(len(d), 0)
        )
    finally:
        hook.remove()
    assert len(drawn[0]) == 16
    assert (
        sum(size for size, width in rows if width == 1) <= 16
    )  # one step each but for those that ended at once


def test_a_count_that_is_none_is_said(handle_of):
    for count in (-1, 1.0, None, True):
        with pytest.raises(BadInput, match="more gave"):
            generate(handle_of("llama"), None, PROMPTS, GEN, generator=Rng(0), more=lambda i, d, c=count: c)


def test_every_sample_has_its_temperature_whether_drawn_at_once_or_on_demand(handle_of):
    handle = handle_of("llama")
    gen = GenConfig(max_new_tokens=8, n=4, temperature=(0.0, 0.5, 2.0))
    together = texts(generate(handle, None, PROMPTS, gen, generator=Rng(2)))
    for k, temperature in enumerate((0.0, 0.5, 2.0, 2.0)):
        alone = generate(
            handle, None, PROMPTS, GenConfig(max_new_tokens=8, n=4, temperature=temperature), generator=Rng(2)
        )
        assert [row[k] for row in texts(alone)] == [row[k] for row in together]
    first = dataclasses.replace(gen, n=1)
    later = generate(
        handle, None, PROMPTS, first, generator=Rng(2), more=lambda i, d: 3 if len(d) == 1 else 0
    )
    assert texts(later) == together


def test_logprobs_are_those_of_the_untempered_and_untruncated_model(handle_of):
    from fixtures_models import logprobs_alone

    handle = handle_of("gpt2")
    gen = GenConfig(max_new_tokens=8, n=2, temperature=(0.3, 2.0), top_k=3)
    for prompt, row in zip(PROMPTS, generate(handle, None, PROMPTS, gen, generator=Rng(0)), strict=True):
        for done in row:
            expected = logprobs_alone(handle, prompt, done.token_ids)
            torch.testing.assert_close(torch.tensor(done.logprobs), expected, atol=1e-4, rtol=1e-4)


def test_the_likeliest_by_hand():
    """Probabilities .1 .4 .2 .3: the two likeliest are 1 and 3, with 4/7 and 3/7 of the mass."""
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    for uniform, token in ((0.0, 1), (0.57, 1), (0.572, 3), (0.999, 3)):
        assert choose(logits, 1.0, 1.0, torch.tensor([uniform]), 2).item() == token
    # then top_p of what is left: .5 of the mass is in token 1 alone
    assert choose(logits, 1.0, 0.5, torch.tensor([0.999]), 2).item() == 1
    ties = torch.zeros(1, 5)
    assert {choose(ties, 1.0, 1.0, torch.tensor([u / 50]), 2).item() for u in range(50)} == {0, 1}


@given(st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 2.5]))
def test_only_the_likeliest_are_drawn_as_transformers_has_them(k, seed, temperature):
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper

    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 9, generator=draw)
    uniform = torch.rand(4, generator=draw)
    kept = TopKLogitsWarper(min(k, 9))(None, TemperatureLogitsWarper(temperature)(None, logits))
    cumulative = kept.softmax(-1).cumsum(-1)
    wanted = [
        next(i for i in range(9) if row[i] > u * row[-1])
        for row, u in zip(cumulative, uniform.tolist(), strict=True)
    ]
    assert choose(logits, temperature, 1.0, uniform, k).tolist() == wanted


def test_rows_of_other_temperatures_are_drawn_as_alone():
    draw = torch.Generator().manual_seed(0)
    logits, uniform = torch.randn(6, 30, generator=draw), torch.rand(6, generator=draw)
    heats = torch.tensor([0.0, 0.7, 1.0, 0.0, 2.0, 0.3])
    for top_p, top_k in ((1.0, None), (0.8, None), (1.0, 4), (0.8, 4)):
        mixed = choose(logits, heats, top_p, uniform, top_k).tolist()
        alone = [
            choose(logits[i : i + 1], float(heats[i]), top_p, uniform[i : i + 1], top_k).item()
            for i in range(6)
        ]
        assert mixed == alone


def test_settings_that_mean_nothing_are_refused():
    for wrong in (
        {"top_k": 0},
        {"temperature": ()},
        {"temperature": (0.5, -1.0)},
        {"temperature": float("nan")},
    ):
        with pytest.raises(BadConfig, match="gen\\."):
            GenConfig(**wrong)
    assert GenConfig(temperature=(0.0, 0.5)).temperature_of(7) == 0.5
    assert not GenConfig(temperature=(0.0, 0.5)).is_greedy and GenConfig(temperature=(0.0,)).is_greedy
