"""Saving, loading in a fresh process, other backbones, merging where it is exact and refusing where it is not."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

import fixtures_process
from gnomon.core.models import load_model
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.neutral_residues import (
    Design,
    extend,
    load_extension,
    merge,
    open_extended,
    save_extension,
)

IDS = [[5, 9, 40, 3, 77, 12]]


def opened(model, seed=5, **design):
    extended = extend(model, Design(extra=2.0, **design), generator=Rng(4)).eval()
    with torch.no_grad():
        for i, block in enumerate(extended.blocks):
            block.out.weight.normal_(std=0.3, generator=Rng(seed).child(i).torch())
    return extended


def logits(extended):
    with torch.no_grad():
        return extended(torch.tensor(IDS)).logits


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2", "gpt_neox"])
@pytest.mark.parametrize("gate", ["relu", "none"])
def test_an_extension_comes_back_beside_its_backbone(checkpoint, tmp_path, family, gate):
    extended = opened(load_model(checkpoint(family), device="cpu"), gate=gate)
    save_extension(extended, tmp_path, base=str(checkpoint(family)))
    names = set(load_file(tmp_path / "extension.safetensors"))
    ends = {"wi", "wg", "wo"} | ({"gate.weight", "gate.bias"} if gate == "relu" else set())
    assert names == {f"layers.{i}.{end}" for i in range(len(extended.blocks)) for end in ends}
    assert torch.equal(logits(open_extended(tmp_path)), logits(extended))


@pytest.mark.slow
def test_a_fresh_process_computes_the_same(checkpoint, tmp_path):
    extended = opened(load_model(checkpoint("llama"), device="cpu"))
    save_extension(extended, tmp_path / "ext", base=str(checkpoint("llama")))
    code = (
        "import sys, torch\n"
        "from safetensors.torch import save_file\n"
        "from gnomon.methods.neutral_residues import open_extended\n"
        f"save_file({{'x': open_extended(sys.argv[1])(torch.tensor({IDS})).logits.detach()}}, sys.argv[2])\n"
    )
    done = fixtures_process.run([sys.executable, "-c", code, tmp_path / "ext", tmp_path / "x"])
    assert done.returncode == 0, done.stderr
    assert torch.equal(load_file(tmp_path / "x")["x"], logits(extended))


def test_several_extensions_are_loaded_in_their_order(checkpoint, tmp_path):
    def base():
        return load_model(checkpoint("llama"), device="cpu")

    first = opened(base())
    save_extension(first, tmp_path / "1")
    second = opened(first, seed=8)
    save_extension(second, tmp_path / "2")
    again = load_extension(load_extension(base(), tmp_path / "1"), tmp_path / "2")
    assert torch.equal(logits(again), logits(second))
    with pytest.raises(ModelMismatch, match="on top of 1 others, and this model has 0"):
        load_extension(base(), tmp_path / "2")
    with pytest.raises(ModelMismatch, match="in the same order"):
        load_extension(opened(base(), seed=9), tmp_path / "2")
    with pytest.raises(BadConfig, match="stands on other extensions"):
        open_extended(tmp_path / "2")
    # The same numbers in other places sum up to the same, and compute something else.
    permuted = load_extension(base(), tmp_path / "1")
    for block in permuted.blocks:
        block.out.weight.data = block.out.weight.flip(0)
    assert not torch.equal(logits(permuted), logits(load_extension(base(), tmp_path / "1")))
    with pytest.raises(ModelMismatch, match="in the same order"):
        load_extension(permuted, tmp_path / "2")


def test_another_backbone_is_refused(checkpoint, tmp_path):
    save_extension(opened(load_model(checkpoint("llama"), device="cpu")), tmp_path, base="the/base")
    with pytest.raises(ModelMismatch, match=r'trained on another backbone \("the/base"'):
        load_extension(load_model(checkpoint("mistral"), device="cpu"), tmp_path)
    (tmp_path / "extension.safetensors").unlink()
    with pytest.raises(BadInput, match="holds no extension"):
        load_extension(load_model(checkpoint("llama"), device="cpu"), tmp_path)


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2"])
def test_ungated_blocks_become_a_wider_network_of_a_plain_checkpoint(checkpoint, tmp_path, family):
    extended = opened(load_model(checkpoint(family), device="cpu"), gate="none")
    extended = opened(extended, seed=8, gate="none")  # two extensions at once
    expected = logits(extended)
    merged = merge(extended)
    merged.save_pretrained(tmp_path)
    plain = load_model(tmp_path, device="cpu")
    with torch.no_grad():
        found = plain(torch.tensor(IDS), use_cache=False).logits
    assert torch.allclose(found, expected, atol=2e-5)
    width = json.loads((tmp_path / "config.json").read_text())["intermediate_size"]
    assert width > load_model(checkpoint(family)).config.intermediate_size


def test_what_is_not_exact_is_not_merged(checkpoint):
    with pytest.raises(ModelMismatch, match="gated block cannot be merged: its gate multiplies"):
        merge(opened(load_model(checkpoint("llama"), device="cpu")))
    with pytest.raises(ModelMismatch, match="no gated linear units"):
        merge(opened(load_model(checkpoint("gpt_neox"), device="cpu"), gate="none"))
    with pytest.raises(ModelMismatch, match="activation relu is not the model's silu"):
        merge(opened(load_model(checkpoint("llama"), device="cpu"), gate="none", act="relu"))


def test_a_torn_file_is_not_loaded(checkpoint, tmp_path):
    save_extension(opened(load_model(checkpoint("llama"), device="cpu")), tmp_path)
    tensors = load_file(tmp_path / "extension.safetensors")
    del tensors["layers.1.wo"]
    save_file(tensors, tmp_path / "extension.safetensors")
    with pytest.raises(BadInput, match=r"layers\.1\.wo"):
        load_extension(load_model(checkpoint("llama"), device="cpu"), tmp_path)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_neox"])
def test_save_pretrained_gives_a_folder_that_is_whole_and_that_plain_transformers_refuses(
    checkpoint, tmp_path, family
):
    from transformers import AutoModelForCausalLM

    extended = opened(load_model(checkpoint(family), device="cpu"))
    extended = opened(extended, seed=8, gate="none")  # the second block differs in kind
    plain_class = type(extended.model)
    extended.model.save_pretrained(tmp_path / "whole")  # what a Trainer or a user calls
    (tmp_path / "whole").rename(tmp_path / "elsewhere")  # nothing in it names another folder
    again = open_extended(tmp_path / "elsewhere")
    assert torch.equal(logits(again), logits(extended))
    with again.extension_disabled(), torch.no_grad():
        expected = load_model(checkpoint(family), device="cpu")(torch.tensor(IDS)).logits
        assert torch.equal(again(torch.tensor(IDS)).logits, expected)
    assert [block.gate is None for block in again.layers[0].stacked] == [False, True]
    for loader in (AutoModelForCausalLM, plain_class):
        with pytest.raises((ValueError, OSError), match=r"gnomon_neutral_residues|model\.safetensors"):
            loader.from_pretrained(tmp_path / "elsewhere")
    # The backbone within is an ordinary checkpoint, and the model in memory still has its blocks.
    assert type(load_model(tmp_path / "elsewhere" / "backbone", device="cpu")) is plain_class
    assert len(extended.layers[0].blocks) == 2


def test_a_saved_copy_has_its_own_blocks_and_a_merged_model_saves_plainly(checkpoint, tmp_path):
    import copy

    first = opened(load_model(checkpoint("llama"), device="cpu"), gate="none")
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.blocks[0].out.weight.mul_(2)
    second.save_pretrained(tmp_path / "copy")
    assert torch.equal(logits(open_extended(tmp_path / "copy")), logits(second))
    with pytest.raises(BadInput, match="writes its own weights"):
        second.model.save_pretrained(tmp_path / "other", state_dict=second.model.state_dict())
    expected = logits(first)
    merge(first).save_pretrained(tmp_path / "plain")
    with torch.no_grad():
        plain = load_model(tmp_path / "plain", device="cpu")(torch.tensor(IDS)).logits
    assert torch.allclose(plain, expected, atol=2e-5)


def test_a_backbone_of_the_same_config_and_other_weights_is_refused(checkpoint, tmp_path, caplog):
    def base(dtype="auto"):
        return load_model(checkpoint("llama"), device="cpu", dtype=dtype)

    save_extension(opened(base()), tmp_path, base="the/base")
    load_extension(base("bfloat16"), tmp_path)  # the same weights, rounded
    tuned = base()
    with torch.no_grad():  # one number of one matrix
        tuned.model.layers[1].mlp.down_proj.weight[3, 5] += 0.05
    with pytest.raises(ModelMismatch, match=r'"the/base".*same config and other weights'):
        load_extension(tuned, tmp_path)
    swapped = base()
    with torch.no_grad():  # every sum over a matrix stays
        weight = swapped.model.layers[0].self_attn.q_proj.weight
        weight.copy_(weight.flip(0))
    with pytest.raises(ModelMismatch, match="other weights"):
        load_extension(swapped, tmp_path)
    load_extension(swapped, tmp_path, check_weights=False)
    description = json.loads((tmp_path / "extension_config.json").read_text())
    del description["base_weights"]  # as older versions wrote it
    (tmp_path / "extension_config.json").write_text(json.dumps(description))
    load_extension(base(), tmp_path)
    assert "does not say which weights" in caplog.text
