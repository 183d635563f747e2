"""Looking ahead leaves no trace: what follows is bit for bit what it would have been, whatever the cache is made of."""

import pytest
import torch

from gnomon.core.models import GenConfig, ModelHandle, generate
from gnomon.core.models.sampling.cache import GrowingLayer, WholeText
from gnomon.core.models.sampling.decoding import read_prompts
from gnomon.core.rng import Rng
from gnomon.errors import BadInput

PROMPTS = ["def add(a, b):\n", "x", "for i in range(10):\n    print(i)"]
CROPPED = ("llama", "gpt2", "qwen2", "opt", "gpt_neox")
FORKED = ("mistral", "gemma2", "gemma3_text")


def rows_of(handle, n=3):
    ids = [handle.tokenizer(text)["input_ids"] for text in PROMPTS]
    with torch.no_grad():
        begun = read_prompts(handle.model, ids, range(n), 0)
        return begun.start(torch.arange(n), 40)


def walk(decoding, steps, peeks, seed=0):
    """Logits of each step; before each of them the model is asked what would follow other tokens."""
    draw = torch.Generator().manual_seed(seed)
    going, logits = torch.ones(3, dtype=torch.bool), []
    with torch.no_grad():
        for t in range(steps):
            for k in range(peeks):
                decoding.peek(torch.full((3, 1 + (t + k) % 4), 7 + k))
            decoding.step(torch.randint(5, 60, (3,), generator=draw), going)
            logits.append(decoding.logits.clone())
    return torch.stack(logits)


@pytest.mark.parametrize("name", [*CROPPED, *FORKED, "gemma2-8", "t5"])
def test_what_follows_is_bit_for_bit_what_it_was(name, handle_of, checkpoint):
    handle = sliding(checkpoint, name) if name in FORKED or "-8" in name else handle_of(name)
    plain = walk(rows_of(handle), 18, 0)
    assert torch.equal(walk(rows_of(handle), 18, 2), plain)


def sliding(checkpoint, name):
    """A model whose windows are full after eight tokens."""
    return ModelHandle.load(checkpoint(name.split("-")[0], sliding_window=8), device="cpu")


@pytest.mark.parametrize("name", [*CROPPED, *FORKED, "t5"])
def test_a_look_is_what_a_forked_copy_reads_token_by_token(name, handle_of, checkpoint):
    handle = sliding(checkpoint, name) if name in FORKED else handle_of(name)
    decoding = rows_of(handle)
    walk(decoding, 9, 0)
    suffix = torch.tensor([[9, 11, 13], [8, 20, 9], [30, 31, 32]])
    with torch.no_grad():
        seen = decoding.peek(suffix)
        copy = decoding.start(torch.arange(3), 0)
        for token in suffix.T:
            copy.step(token, torch.ones(3, dtype=torch.bool))
        nothing = decoding.peek(suffix[:, :0])
    torch.testing.assert_close(seen, copy.logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(nothing, decoding.logits)


def test_models_with_full_windows_are_forked_and_plain_ones_cropped(handle_of, checkpoint):
    for handle, is_plain in ((handle_of("llama"), True), (sliding(checkpoint, "mistral"), False)):
        layers = rows_of(handle).cache.layers
        assert all(type(layer) is GrowingLayer for layer in layers) == is_plain


def test_a_text_that_is_read_anew_each_time_is_looked_ahead_in_too(handle_of):
    model = handle_of("llama").model
    ids = [handle_of("llama").tokenizer(text)["input_ids"] for text in PROMPTS]
    whole, cached = WholeText(model, [list(row) for row in ids], torch.arange(3)), rows_of(handle_of("llama"))
    suffix = torch.tensor([[9, 11], [8, 20], [30, 31]])
    torch.testing.assert_close(whole.peek(suffix), cached.peek(suffix), atol=1e-5, rtol=1e-5)
    assert whole.texts == ids


@pytest.mark.parametrize("name", ["llama", "gpt2", "t5"])
def test_a_watch_looks_ahead_and_changes_no_completion(name, handle_of):
    """Also in rows of which some have ended: each row's logits are those of its own text and the suffix, read alone."""
    handle = handle_of(name)
    suffix = handle.tokenizer("x = 1\n")["input_ids"][:3]
    seen = {}

    def watch(progress):
        more = torch.tensor([suffix] * len(progress.rows))
        for row, ids, values in zip(
            progress.rows, progress.token_ids.tolist(), progress.peek(more), strict=True
        ):
            seen[row, len(ids)] = (ids, values)

    gen = GenConfig(max_new_tokens=12, n=3, temperature=1.5)
    watched = generate(handle, None, PROMPTS, gen, generator=Rng(1), watch=watch)
    assert watched == generate(handle, None, PROMPTS, gen, generator=Rng(1))
    assert len({len(done.token_ids) for row in watched for done in row}) > 1 or name == "t5"
    for ((i, _), _), (ids, values) in list(seen.items())[::5]:
        prompt = handle.tokenizer(PROMPTS[i])["input_ids"]
        with torch.no_grad():
            if name == "t5":
                written = torch.tensor([[handle.model.config.decoder_start_token_id, *ids, *suffix]])
                alone = handle.model(input_ids=torch.tensor([prompt]), decoder_input_ids=written).logits
            else:
                alone = handle.model(input_ids=torch.tensor([[*prompt, *ids, *suffix]])).logits
        torch.testing.assert_close(values, alone[0, -1], atol=1e-4, rtol=1e-4)


def test_a_row_that_has_ended_needs_no_position_ahead(handle_of):
    """One row ends at the last position of the model but two, and stays in the batch; the others look further."""
    handle = handle_of("gpt2")
    decoding = rows_of(handle)
    decoding.position = torch.tensor([[handle.model.config.n_positions - 2], [3], [4]])
    going = torch.tensor([False, True, True])
    assert torch.isfinite(decoding.peek(torch.full((3, 9), 5), going)[1:]).all()
    with pytest.raises(BadInput, match=r"takes \d+ positions, and the model has"):
        decoding.peek(torch.full((3, 9), 5))


def test_logprobs_of_choices_are_read_by_looking_ahead(handle_of):
    """As `rule of two`: p(Yes) / (p(Yes) + p(No)) behind a text is that of the text and the question read alone."""
    handle = handle_of("llama")
    decoding = rows_of(handle)
    question = handle.tokenizer("if x > 0:\n")["input_ids"]
    ids = [handle.tokenizer(text)["input_ids"] for text in PROMPTS]
    with torch.no_grad():
        logits = decoding.peek(torch.tensor([question] * 3))[:, [9, 17]]
    share = torch.softmax(logits.double(), -1)[:, 0].numpy()
    for i, prompt in enumerate(ids):
        with torch.no_grad():
            two = handle.model(input_ids=torch.tensor([[*prompt, *question]])).logits[0, -1, [9, 17]]
        assert share[i] == pytest.approx(float(two.double().softmax(-1)[0]), abs=1e-5)


class Ends:
    """A watch that also sees what the newest token ended, and looks ahead behind some rows alone."""

    sees_ends = True

    def __init__(self, suffix):
        self.suffix, self.why, self.values = suffix, {}, {}

    def __call__(self, progress):
        chosen = [i for i, why in enumerate(progress.ended) if why]
        if not chosen:
            return
        mask = torch.zeros(len(progress.rows), dtype=torch.bool)
        mask[chosen] = True
        values = progress.peek(torch.tensor([self.suffix] * len(progress.rows)), mask)
        for i, value in zip(chosen, values, strict=True):
            assert progress.rows[i] not in self.why  # once
            self.why[progress.rows[i]] = progress.ended[i]
            self.values[progress.rows[i]] = (progress.token_ids[i].tolist(), value)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_watch_that_sees_ends_is_shown_each_row_once_with_its_reason(name, handle_of):
    handle = handle_of(name)
    suffix = handle.tokenizer("x = 1\n")["input_ids"][:3]
    gen = GenConfig(max_new_tokens=10, n=4, temperature=1.5, stop=("e",))
    plain = generate(handle, None, PROMPTS, gen, generator=Rng(2))
    watch = Ends(suffix)
    assert generate(handle, None, PROMPTS, gen, generator=Rng(2), watch=watch) == plain
    wanted = {(i, k): done.finish for i, row in enumerate(plain) for k, done in enumerate(row)}
    assert watch.why == wanted and len(set(wanted.values())) > 1
    for (i, _), (ids, value) in watch.values.items():
        prompt = handle.tokenizer(PROMPTS[i])["input_ids"]
        with torch.no_grad():
            alone = handle.model(input_ids=torch.tensor([[*prompt, *ids, *suffix]])).logits[0, -1]
        torch.testing.assert_close(value, alone, atol=1e-4, rtol=1e-4)


def test_banned_ids_are_never_written_and_have_no_probability(handle_of):
    """Log-probabilities are those of the vocabulary without them: a softmax over the rest."""
    handle = handle_of("llama")
    words = handle.model.config.vocab_size
    allowed = (9, 17, 33)
    banned = tuple(i for i in range(words) if i not in allowed)
    gen = GenConfig(max_new_tokens=6, n=3, temperature=1.0, banned=banned)
    for i, row in enumerate(generate(handle, None, PROMPTS, gen, generator=Rng(4))):
        for done in row:
            assert set(done.token_ids) <= set(allowed)
            ids = [*handle.tokenizer(PROMPTS[i])["input_ids"], *done.token_ids]
            with torch.no_grad():
                logits = handle.model(input_ids=torch.tensor([ids])).logits[0, -7:-1, list(allowed)].double()
            picked = [allowed.index(token) for token in done.token_ids]
            alone = logits.log_softmax(-1)[range(6), picked]
            torch.testing.assert_close(torch.tensor(done.logprobs).double(), alone, atol=1e-4, rtol=1e-4)
