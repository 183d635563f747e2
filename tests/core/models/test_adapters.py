import sys

import pytest
import torch

import fixtures_process
from fixtures_models import FAMILIES
from gnomon.core.models import (
    GenConfig,
    ModelHandle,
    add_lora,
    add_token,
    generate,
    load_model,
    load_tokenizer,
    save_lora,
)
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput

TEXT = "x\n<|diff|>@@ -0,0 +1 @@\n+y"


@pytest.fixture(scope="module", autouse=True)
def _peft():
    """Importing peft takes seconds; no single test should seem slow for it."""
    import peft  # noqa: F401


def make_adapted(folder, into):
    """A model with a new token and adapters that do something, saved to `into`."""
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    index = add_token(model, tokenizer, "<|diff|>")
    adapted = add_lora(model, 2, new_tokens=[index])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_lora(adapted, tokenizer, into)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        return adapted, ids, adapted.eval()(ids).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_and_the_rows_of_a_new_token_are_trained_and_saved(family, checkpoint, tmp_path):
    adapted, ids, logits = make_adapted(checkpoint(family), tmp_path)
    trained = [name for name, p in adapted.named_parameters() if p.requires_grad]
    rows = [name for name in trained if "trainable_tokens" in name]
    assert len(rows) == (1 if family in ("gpt2", "gemma2") else 2)  # tied: one row serves in and out
    assert all("lora_" in name for name in set(trained) - set(rows))
    # The adapters are small: no full embedding is among them.
    assert (tmp_path / "adapter_model.safetensors").stat().st_size < 25_000
    again = load_model(tmp_path, device="cpu")
    with torch.no_grad():
        assert torch.equal(again(ids).logits, logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_of_some_blocks_alone(family, checkpoint):
    model = load_model(checkpoint(family))
    depth = model.config.get_text_config().num_hidden_layers
    adapted = add_lora(model, 2, layers=(depth - 1, depth))
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all(f".{depth - 1}." in name for name in trained)
    assert not any(f".{block}." in name for name in trained for block in range(depth - 1))
    whole = add_lora(load_model(checkpoint(family)), 2)
    per_block = {n for n, p in whole.named_parameters() if p.requires_grad and f".{depth - 1}." in n}
    assert trained == per_block, "every linear map of the block has its adapter"


@pytest.mark.parametrize("layers", [(0, 0), (1, 0), (-1, 1), (0, 99)])
def test_adapters_of_blocks_that_are_not_there(layers, checkpoint):
    with pytest.raises(BadConfig, match="layers"):
        add_lora(load_model(checkpoint("llama")), 2, layers=layers)


def test_an_adapted_model_is_sampled_and_looked_into_like_any_other(checkpoint, tmp_path):
    adapted, ids, logits = make_adapted(checkpoint("llama"), tmp_path)
    handle = ModelHandle(adapted, load_tokenizer(tmp_path))
    ((found,),) = generate(handle, None, [TEXT], GenConfig(max_new_tokens=8, temperature=0), generator=Rng(0))
    with torch.no_grad():
        expected = adapted.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False
        )
    assert list(found.token_ids) == expected[0, ids.shape[1] :].tolist()
    last = handle.capture(handle.encode([TEXT]), ["1.resid_post"])["1.resid_post"]
    torch.testing.assert_close(handle.lens(last), logits)


def test_without_new_tokens_the_embeddings_stay_frozen(checkpoint):
    adapted = add_lora(load_model(checkpoint("llama")), 2, alpha=2, targets=["q_proj"])
    trained = {
        name.split(".lora_")[0].split(".")[-1] for name, p in adapted.named_parameters() if p.requires_grad
    }
    assert trained == {"q_proj"}
    assert adapted.base_model.model.model.layers[0].self_attn.q_proj.scaling == {"default": 1.0}


def test_a_target_that_does_not_exist_is_named(checkpoint):
    with pytest.raises(BadInput, match=r"No adapter fits LlamaForCausalLM.*nowhere"):
        add_lora(load_model(checkpoint("llama")), 2, targets=["nowhere"])


@pytest.mark.slow
def test_plain_peft_loads_the_folder_in_a_fresh_process(checkpoint, tmp_path):
    _, ids, logits = make_adapted(checkpoint("llama"), tmp_path / "adapter")
    torch.save({"ids": ids, "logits": logits}, tmp_path / "expected.pt")
    code = f"""
import torch
from peft import AutoPeftModelForCausalLM
expected = torch.load({str(tmp_path / "expected.pt")!r})
model = AutoPeftModelForCausalLM.from_pretrained({str(tmp_path / "adapter")!r}).eval()
with torch.no_grad():
    assert torch.equal(model(expected["ids"]).logits, expected["logits"])
"""
    done = fixtures_process.run([sys.executable, "-c", code])
    assert done.returncode == 0, done.stderr
