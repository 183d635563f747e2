import dataclasses
from collections import Counter
from contextlib import contextmanager

import pytest
import torch

from fixtures_models import CAUSAL, SEQ2SEQ, logprobs_alone
from gnomon.core.models import GenConfig, generate, load_model, load_tokenizer
from gnomon.core.models.sampling.sampler import Progress, end_loops
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

PROMPTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i)", "if"]
GREEDY = GenConfig(max_new_tokens=24, temperature=0)


@pytest.fixture(params=(*CAUSAL, *SEQ2SEQ))
def handle(request, handle_of):
    return handle_of(request.param)


@contextmanager
def shapes_read(model):
    """The shapes [B, T] of the token ids that the model reads inside the `with`."""
    shapes = []
    hook = model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    try:
        yield shapes
    finally:
        hook.remove()


def test_greedy_is_the_librarys_greedy(handle):
    found = generate(handle, None, PROMPTS, GREEDY, generator=Rng(0))
    for prompt, (completion,) in zip(PROMPTS, found, strict=True):
        ids = handle.processor(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = handle.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=24,
                do_sample=False,
                use_cache=handle.kind
                == "causal",  # the library's cache cannot hold a decoder deeper than its encoder
            )
        read = 1 if handle.kind == "seq2seq" else ids.shape[1]
        assert list(completion.token_ids) == expected[0, read:].tolist()


def test_cached_is_uncached_and_logprobs_are_the_models_own(handle):
    gen = GenConfig(max_new_tokens=24, temperature=0.7, top_p=0.9, n=2)
    found = generate(handle, None, PROMPTS, gen, generator=Rng(0))
    for prompt, completions in zip(PROMPTS, found, strict=True):
        for completion in completions:
            expected = logprobs_alone(handle, prompt, completion.token_ids)
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "t5"])
def test_neither_batch_size_nor_order_nor_company_changes_a_completion(name, handle_of):
    handle, gen = handle_of(name), GenConfig(max_new_tokens=6, top_p=0.95, n=3)

    def sample(prompts, batch_size):
        sized = dataclasses.replace(gen, batch_size=batch_size)
        found = generate(handle, None, prompts, sized, generator=Rng(3))
        return {p: [c.token_ids for c in completions] for p, completions in zip(prompts, found, strict=True)}

    expected = sample(PROMPTS, 64)
    assert sample(PROMPTS, 1) == sample(PROMPTS, 7) == expected
    assert sample(PROMPTS[::-1], 5) == expected
    assert sample(PROMPTS[1:2], 64) == {PROMPTS[1]: expected[PROMPTS[1]]}


def test_samples_differ_between_indices_repeats_and_seeds(handle_of):
    handle = handle_of("llama")
    gen = GenConfig(max_new_tokens=16, n=4)
    first, repeat = generate(handle, None, ["x", "x"], gen, generator=Rng(0))
    (other,) = generate(handle, None, ["x"], gen, generator=Rng(1))
    assert len({c.token_ids for c in (*first, *repeat, *other)}) == 12
    (again,) = generate(handle, None, ["x"], gen, generator=Rng(0))
    assert [c.token_ids for c in again] == [c.token_ids for c in first]


def test_the_first_token_follows_the_models_distribution(handle_of):
    handle = handle_of("llama")
    n = 4000
    gen = GenConfig(max_new_tokens=1, temperature=0.05, n=n, batch_size=n)
    (completions,) = generate(handle, None, ["x"], gen, generator=Rng(0))
    counts = Counter(c.token_ids[0] for c in completions)
    probs = torch.softmax(handle.logits(handle.encode(["x"]))[0, -1] / 0.05, -1)
    common = (probs * n >= 5).nonzero().squeeze(-1).tolist()
    expected = [*(n * float(probs[t]) for t in common), n * (1 - float(probs[common].sum()))]
    observed = [*(counts[t] for t in common), n - sum(counts[t] for t in common)]
    degrees = len(common)
    assert degrees > 20
    chi_square = sum((o - e) ** 2 / e for o, e in zip(observed, expected, strict=True))
    assert chi_square < degrees + 3.3 * (2 * degrees) ** 0.5  # about the 0.1% point


def test_a_prompt_is_read_once_however_many_samples_follow(handle_of):
    handle = handle_of("llama")
    gen = GenConfig(max_new_tokens=3, n=6, batch_size=4)
    with shapes_read(handle.model) as read:
        generate(handle, None, ["for i in range(10)"], gen, generator=Rng(0))
    assert read == [
        (1, len(handle.processor("for i in range(10)")["input_ids"])),
        (4, 1),
        (4, 1),
        (2, 1),
        (2, 1),
    ]


def test_rows_that_ended_leave_the_batch(handle_of):
    handle = handle_of("llama")

    def end_all_but_the_first(progress):
        return torch.tensor([sample > 0 for _, sample in progress.rows])

    with shapes_read(handle.model) as read:
        gen = GenConfig(max_new_tokens=4, n=8)
        generate(handle, None, ["x"], gen, generator=Rng(0), watch=end_all_but_the_first)
    assert [rows for rows, _ in read] == [1, 1, 1, 1]


def test_watch_sees_each_row_and_ends_what_it_wants(handle):
    seen = {}

    def watch(progress):
        for row, tokens, logits in zip(
            progress.rows, progress.token_ids.tolist(), progress.logits, strict=True
        ):
            assert tokens[:-1] == seen.get(row, [])
            assert logits.shape == (300,)
            seen[row] = tokens
        return torch.tensor([len(seen[row]) == 2 + prompt + sample for prompt, sample in progress.rows])

    gen = GenConfig(max_new_tokens=12, n=2, batch_size=3)
    found = generate(handle, None, ["x", "y"], gen, generator=Rng(5), watch=watch)
    unwatched = generate(handle, None, ["x", "y"], gen, generator=Rng(5))
    for i, completions in enumerate(found):
        for k, completion in enumerate(completions):
            length = 2 + i + k
            assert list(completion.token_ids) == seen[i, k]
            assert completion.token_ids == unwatched[i][k].token_ids[:length]
            if len(unwatched[i][k].token_ids) > length:
                assert (len(completion.token_ids), completion.finish) == (length, "watch")


def test_each_prompt_may_bring_its_own_random_stream(handle_of):
    handle, gen = handle_of("llama"), GenConfig(max_new_tokens=8, n=2)
    prompts, seeds = ["x", "if", "x", "x"], [3, 4, 5, 3]
    together = generate(handle, None, prompts, gen, generator=[Rng(seed) for seed in seeds])
    for prompt, seed, found in zip(prompts, seeds, together, strict=True):
        (alone,) = generate(handle, None, [prompt], gen, generator=Rng(seed))
        assert [c.token_ids for c in found] == [c.token_ids for c in alone]
    assert together[0] == together[3] != together[2]
    with pytest.raises(BadInput, match="2 prompts need as many generators; got 1"):
        generate(handle, None, ["x", "y"], gen, generator=[Rng(0)])


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "t5"])
def test_edits_know_the_prompt_of_each_row(name, handle_of):
    """Prompts are sorted and rows leave the batch; an edit for one prompt still finds its own rows."""
    handle = handle_of(name)
    site = "decoder.embed" if handle.kind == "seq2seq" else "embed"
    shift = 4 * torch.linspace(-1, 1, 32)
    gen = GenConfig(max_new_tokens=6, n=2, batch_size=3)
    plain = generate(handle, None, PROMPTS, gen, generator=Rng(0))
    with handle.edit({site: lambda hidden, step: hidden + shift * (step.rows == 2)[:, None, None]}):
        edited = generate(handle, None, PROMPTS, gen, generator=Rng(0))
    for i, (a, b) in enumerate(zip(plain, edited, strict=True)):
        is_same = [x.logprobs == pytest.approx(y.logprobs, abs=1e-4) for x, y in zip(a, b, strict=True)]
        assert is_same == [i != 2] * 2


def test_a_stop_text_ends_a_completion_and_is_stripped(handle_of):
    handle = handle_of("llama")
    (full,) = generate(handle, None, ["x"], GenConfig(max_new_tokens=40), generator=Rng(0))[0]
    stop = full.text[7:9]
    cut = generate(handle, None, ["x"], GenConfig(max_new_tokens=40, stop=(stop, "never")), generator=Rng(0))[
        0
    ][0]
    assert cut.finish == "stop"
    assert cut.text == full.text[: full.text.index(stop)]
    assert cut.token_ids == full.token_ids[: len(cut.token_ids)]
    assert stop in handle.processor.decode(list(cut.token_ids))
    assert stop not in handle.processor.decode(list(cut.token_ids[:-1]))


def test_the_end_of_text_token_ends_a_completion_and_its_text(handle_of):
    handle = handle_of("llama")
    eos = handle.processor.eos_token_id
    bias = torch.zeros(300)
    bias[eos] = 1e4

    def then_stop(module, args, output):
        output.logits = output.logits + bias * (handle_calls.pop(0) if handle_calls else 1)

    handle_calls = [0, 0, 0]
    hook = handle.model.register_forward_hook(then_stop)
    try:
        (completion,) = generate(handle, None, ["x"], GenConfig(max_new_tokens=9), generator=Rng(0))[0]
    finally:
        hook.remove()
    assert completion.finish == "eos"
    assert completion.token_ids[3:] == (eos,)
    assert "</s>" not in completion.text
    assert completion.logprobs[3] == pytest.approx(0)


def test_completions_end_where_the_models_positions_do(handle_of):
    for family in ("gpt2", "llama"):
        handle = handle_of(family)
        long, short = [5] * 120, [5] * 100
        gen = GenConfig(max_new_tokens=20, temperature=0)
        found = generate(handle, None, [long, short], gen, generator=Rng(0))
        assert [(len(c.token_ids), c.finish) for (c,) in found] == [(8, "length"), (20, "length")]
        among_many = generate(handle, None, [long, *[short] * 15], gen, generator=Rng(0))
        assert among_many[0][0].token_ids == found[0][0].token_ids
        with pytest.raises(BadInput, match="Prompt 0 has 128 tokens and the model 128 positions"):
            generate(handle, None, [[5] * 128], gen, generator=Rng(0))


def test_embeddings_padded_beyond_the_tokenizer_do_no_harm(checkpoint):
    folder = checkpoint("olmo", vocab_size=320)
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    found = generate(
        model, tokenizer, ["x"], GenConfig(max_new_tokens=30, n=20, stop=("zz",)), generator=Rng(0)
    )
    assert any(max(c.token_ids) >= len(tokenizer) for c in found[0])


def test_a_models_mode_is_put_back_and_no_prompts_give_nothing(checkpoint, tiny_tokenizer):
    model = load_model(checkpoint("llama")).train()
    assert generate(model, tiny_tokenizer, [], GREEDY, generator=Rng(0)) == []
    generate(model, tiny_tokenizer, ["x"], GREEDY, generator=Rng(0))
    assert model.training
    with pytest.raises(BadInput, match="plain LlamaForCausalLM needs its tokenizer"):
        generate(model, None, ["x"], GREEDY, generator=Rng(0))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_new_tokens", 0, "gen.max_new_tokens must be >= 1; got 0."),
        ("n", -1, "gen.n must be >= 1; got -1."),
        ("temperature", -0.5, "gen.temperature must be >= 0; got -0.5."),
        ("temperature", float("nan"), "gen.temperature must be >= 0; got nan."),
        ("top_p", 0.0, "gen.top_p must be above 0 and at most 1; got 0.0."),
        ("top_p", 1.5, "gen.top_p must be above 0 and at most 1; got 1.5."),
        ("stop", ("",), "gen.stop must not hold an empty text."),
    ],
)
def test_bad_settings_are_named(field, value, said):
    with pytest.raises(BadConfig) as error:
        GenConfig(**{field: value})
    assert str(error.value) == said


def test_a_real_pretrained_model_tells_its_story(shared_data):
    folder = shared_data / "models" / "stories260K"
    gen = GenConfig(max_new_tokens=40, temperature=0, stop=(".",))
    (story,), (more,) = generate(
        load_model(folder), load_tokenizer(folder), ["", "Once upon"], gen, generator=Rng(0)
    )
    assert story.text == "Once upon a time, there was a little girl named Lily"
    assert more.text == " a time, there was a little girl named Lily"
    assert story.finish == more.finish == "stop"


def test_a_row_that_repeats_itself_is_a_loop_and_one_that_does_not_is_none():
    def ends(*rows):
        ids = torch.tensor(rows)
        stopped = end_loops(Progress(tuple((i, 0) for i in range(len(rows))), ids, torch.zeros(len(rows), 2)))
        return None if stopped is None else stopped.tolist()

    cycle, twice = (list(range(n)) * 200 for n in (42, 60))
    counts = list(range(128))
    late = [*range(500, 516), *cycle[:128]]
    assert ends(cycle[:128], twice[:128], counts, [7] * 128) == [True, False, False, True]
    assert ends(late, [*cycle[:143], 99]) == [True, False]
    assert ends(twice[:176], cycle[:176]) == [False, True] and ends(twice[:192], [99, *twice[:191]]) == [
        True,
        True,
    ]
    assert ends(cycle[:127]) is None and ends(cycle[:130]) is None  # too few tokens, and between two looks
