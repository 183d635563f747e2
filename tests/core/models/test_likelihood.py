"""Log-probabilities in slices of time are those of the whole logits, whatever stands between the last block and them."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fixtures_models import CAUSAL, SEQ2SEQ
from gnomon.core.metrics.lm import token_nll
from gnomon.core.models.sampling import likelihood
from gnomon.core.models.sampling.likelihood import token_logprobs

SCALED = {
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 7.0},
    "gemma2": {"final_logit_softcapping": 3.0},
}
SIZES = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "initializer_range": 0.6,
}  # fmt: skip


def plain(model, inputs, ids):
    with torch.no_grad():
        values = torch.log_softmax(model(**inputs, use_cache=False).logits[:, :-1].float(), -1)
    return values.gather(-1, ids[:, 1:, None]).squeeze(-1)


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch):
    monkeypatch.setattr(likelihood, "SLICE", 2000)  # a few tokens at a time


@pytest.mark.parametrize("name", [*CAUSAL, *SEQ2SEQ])
@pytest.mark.parametrize("side", ["left", "right"])
def test_every_family_has_the_values_of_its_whole_logits(handle_of, name, side):
    handle = handle_of(name)
    targets = ["x = 1", "return a and b or c"] if handle.kind == "seq2seq" else None
    batch = handle.encode(["def add(a, b):", "if x > 0: y = 3 and no more"], targets, side=side)
    read = batch.target or batch
    wanted = plain(handle.model, batch.inputs(handle.kind, handle.model), read.input_ids)
    wanted = wanted.where(read.mask[:, 1:] & read.mask[:, :-1], 0.0)
    torch.testing.assert_close(handle.logprobs(batch)[:, 1:], wanted, atol=1e-5, rtol=1e-6)
    assert handle.logprobs(batch)[:, 0].abs().max() == 0


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_factors_and_soft_caps_are_seen_and_kept(name, dtype):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SIZES, **SCALED[name])
    model = AutoModelForCausalLM.from_config(config).to(dtype).eval()
    ids = torch.randint(1, 97, (3, 40))
    logprobs = token_logprobs(model, {"input_ids": ids}, ids)
    assert model not in likelihood._whole
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(
        logprobs[:, 1:], plain(model, {"input_ids": ids}, ids), atol=tolerance, rtol=1e-6
    )
    assert float(logprobs.std()) > 0.1


def test_no_more_than_a_slice_of_logits_exists(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint("llama")).eval()
    shapes = []
    model.get_output_embeddings().register_forward_hook(lambda m, a, out: shapes.append(out.numel()))
    nll, count = token_nll(model, [list(range(5, 60)), list(range(6, 50))])
    assert count == 54 + 43 and nll.shape == (2,)
    assert len(shapes) > 10 and max(shapes) <= 2000


def test_a_model_with_something_else_on_its_way_is_taken_whole(checkpoint):
    model = AutoModelForCausalLM.from_pretrained(checkpoint("llama")).eval()
    own = model.forward

    def forward(*args, **kwargs):
        output = own(*args, **kwargs)
        output.logits = output.logits.roll(1, -1) + 1.5
        return output

    forward.__signature__ = __import__("inspect").signature(own)
    model.forward = forward
    ids = torch.randint(1, 200, (2, 30))
    logprobs = token_logprobs(model, {"input_ids": ids}, ids)
    torch.testing.assert_close(logprobs[:, 1:], plain(model, {"input_ids": ids}, ids), atol=1e-5, rtol=1e-6)
    assert model in likelihood._whole
