"""Prompts that begin alike get what each would get alone."""

import pytest
import torch

from fixtures_models import CAUSAL, SEQ2SEQ
from gnomon.core.models.batch import pad
from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.models.sampling.prefix import goes_on_from_shared, last_states, read_shared, shared_length
from gnomon.core.models.sampling.states import States, inputs_of

SHARED = [7, 30, 41, 12, 99, 100, 8, 55]
PROMPTS = [[*SHARED, 20], [*SHARED, 21, 22, 23, 24, 25], [*SHARED, 20, 9]]

WINDOWED = {"mistral", "gemma2", "gemma3_text", "phi3", "qwen2", "qwen3"}


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
def test_logits_are_those_of_each_prompt_alone(name, handle_of):
    model = handle_of(name).model
    with torch.no_grad():
        together = read_shared(model, PROMPTS, range(3), 0, least=4)
        steps = torch.tensor([50, 51, 52])
        rows = torch.tensor([2, 0, 1])
        after = together.start(rows, 2)
        after.step(steps, torch.ones(3, dtype=torch.bool))
        for i, prompt in enumerate(PROMPTS):
            alone = read_prompts(model, [prompt], [0], 0)
            torch.testing.assert_close(together.logits[i], alone.logits[0], atol=1e-4, rtol=1e-4)
            at = rows.tolist().index(i)
            after_alone = alone.start(torch.tensor([0]), 2)
            after_alone.step(steps[at : at + 1], torch.ones(1, dtype=torch.bool))
            torch.testing.assert_close(after.logits[at], after_alone.logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CAUSAL)
def test_last_states_are_those_of_each_text_read_whole(name, handle_of):
    handle = handle_of(name)
    together = last_states(handle.model, PROMPTS, 0, least=4)
    if together is None:
        assert not goes_on_from_shared(handle.model)
        return
    module = States(handle.model)
    for i, text in enumerate(PROMPTS):
        with torch.no_grad():
            alone = module(*inputs_of(pad([text], 0), handle.kind, handle.model))
        torch.testing.assert_close(together[i], alone[0], atol=1e-4, rtol=1e-4)
    assert last_states(handle.model, PROMPTS, 0, least=9) is None  # too little is shared


def test_the_shared_tokens_are_read_once(handle_of):
    model, sizes = handle_of("llama").model, []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        assert goes_on_from_shared(model)
        sizes.clear()
        with torch.no_grad():
            read_shared(model, PROMPTS, range(3), 0, least=4)
    finally:
        hook.remove()
    assert sizes == [(1, len(SHARED)), (3, 5)]


def test_a_window_of_attention_is_not_shifted_by_padding(handle_of):
    """Slots of the cache that hold padding would push real tokens out of the window."""
    for name in WINDOWED & set(CAUSAL):
        model = handle_of(name).model
        if getattr(model.config, "sliding_window", None):
            assert not goes_on_from_shared(model), name


def test_what_is_shared_leaves_each_prompt_a_token():
    assert shared_length([[1, 2, 3], [1, 2, 3, 4], [1, 2, 9]]) == 2
    assert shared_length([[1, 2, 3], [1, 2, 3, 4]]) == 2
    assert shared_length([[1], [1, 2]]) == 0
    assert shared_length([[4, 2], [1, 2]]) == 0
