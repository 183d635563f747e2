"""A T5 in this process: every answer against the model's own, one prompt at a time and without padding."""

import pytest
import torch

from gnomon.core.llm import ask, close, complete, open_llm
from gnomon.core.models import tiny_causal
from gnomon.core.rng import Rng

PROMPTS = [
    "Add two numbers.",
    "Why?",
    "Write a function that keeps the even numbers.",
    "x",
    "for i in range(10)",
]
OPTIONS = [{}, {"temperature": 1.0, "seed": 4}, {"choices": ("yes", "no way", "n")}]


@pytest.fixture(scope="module", params=["t5", "bart"])
def local(request, tiny_tokenizer, tmp_path_factory):
    """A T5 counts positions relatively, a BART from the left: padding on the wrong side would move its prompts."""
    folder = tmp_path_factory.mktemp(request.param)
    save(request.param, tiny_tokenizer, folder)
    llm = open_llm(f"hf:{folder}", device="cpu")
    yield llm
    close(llm)


def save(family, tokenizer, folder):
    if family == "t5":
        tiny_causal("t5", tokenizer, folder, generator=Rng(3))
        return
    from transformers import BartConfig, BartForConditionalGeneration

    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
           "bos_token_id": tokenizer.bos_token_id, "decoder_start_token_id": tokenizer.eos_token_id,
           "forced_eos_token_id": None}  # fmt: skip
    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
             "encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 128}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BartForConditionalGeneration(
            BartConfig(vocab_size=len(tokenizer), init_std=0.5, **sizes, **ids)
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def prompt_ids(local, text):
    return torch.tensor([local.tokenizer(f"{text}\n\n")["input_ids"]])


def test_greedy_answers_are_those_of_transformers(local):
    replies = complete(local, [ask(text, max_tokens=12) for text in PROMPTS], concurrency=16)
    for text, reply in zip(PROMPTS, replies, strict=True):
        ids = prompt_ids(local, text)
        whole = local.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=12
        )
        written = whole[0, 1:]
        assert reply.text == local.tokenizer.decode(written, skip_special_tokens=True)
        assert (reply.usage.tokens_in, reply.usage.tokens_out) == (ids.shape[1], len(written))
    assert len({reply.text for reply in replies}) > 1


@pytest.mark.parametrize("options", OPTIONS)
def test_what_a_row_gets_does_not_depend_on_its_batch(local, options):
    requests = [ask(text, max_tokens=10, want_logprobs=True, **options) for text in PROMPTS]
    together = complete(local, requests, concurrency=16)
    alone = complete(local, requests, concurrency=1)
    for one, other in zip(together, alone, strict=True):
        assert (one.text, one.usage) == (other.text, other.usage)
        assert [v for _, v in one.logprobs] == pytest.approx([v for _, v in other.logprobs], abs=1e-4)


def test_draws_differ_and_repeat(local):
    requests = [ask("Why?", temperature=1.0, max_tokens=10, draw=draw) for draw in range(6)]
    first, again = complete(local, requests), complete(local, requests[::-1])[::-1]
    assert [reply.text for reply in first] == [reply.text for reply in again]
    assert len({reply.text for reply in first}) == 6


def test_choices_are_scored_by_the_decoder(local):
    choices = ("PASS", "FAIL", "a longer choice than the others")
    (reply,) = complete(local, [ask("Why?", choices=choices, want_logprobs=True)])
    begin = local.model.config.decoder_start_token_id
    for text, value in reply.logprobs:
        answer = local.tokenizer(text)["input_ids"]
        with torch.no_grad():
            output = local.model(
                input_ids=prompt_ids(local, "Why?"), decoder_input_ids=torch.tensor([[begin, *answer[:-1]]])
            )
        logprobs = torch.log_softmax(output.logits[0], -1)
        assert value == pytest.approx(sum(float(logprobs[t, i]) for t, i in enumerate(answer)), abs=1e-4)
