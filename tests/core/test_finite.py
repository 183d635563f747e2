"""Weights and activations that are not finite end in one sentence, and never in a result."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from gnomon.core.finite import check_weights, is_finite
from gnomon.core.models import GenConfig, ModelHandle, generate, load_model, load_tokenizer
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, ModelMismatch
from gnomon.registry import method
from gnomon.verbs import run_verb


def broken(folder, copy_to, change):
    """A checkpoint whose weights were changed."""
    copy_to.mkdir()
    for path in folder.iterdir():
        if path.name != "model.safetensors":
            (copy_to / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, copy_to / "model.safetensors", metadata={"format": "pt"})
    return copy_to


def named(weights, ending):
    return next(name for name in sorted(weights) if name.endswith(ending))


@pytest.fixture
def saved(truth_model):
    return truth_model


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_checkpoint_with_one_such_weight_is_not_loaded(number, saved, tmp_path):
    def change(weights):
        weights[named(weights, "down_proj.weight")][3, 2] = number

    folder = broken(saved, tmp_path / "m", change)
    with pytest.raises(
        BadInput, match=r"weights that are not finite numbers \(model\.layers\.0\.mlp\.down_proj\.weight\)"
    ):
        load_model(folder)


def overflowing(saved, tmp_path):
    """Finite weights whose product in the first block is too large for float32."""

    def change(weights):
        for ending in ("0.mlp.down_proj.weight", "0.mlp.up_proj.weight", "0.mlp.gate_proj.weight"):
            weights[named(weights, ending)].mul_(1e30)

    return broken(saved, tmp_path / "m", change)


def test_numbers_that_overflow_are_named_by_model_and_place(saved, tmp_path):
    folder = overflowing(saved, tmp_path)
    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    with pytest.raises(
        ModelMismatch, match=rf'Model "{folder}" computes numbers that are not finite \(logits\)'
    ):
        generate(
            model, tokenizer, ["what is 1?"], GenConfig(max_new_tokens=3, temperature=0.0), generator=Rng(0)
        )
    handle = ModelHandle(load_model(folder, device="cpu"), tokenizer)
    for (
        block
    ) in handle.model.modules():  # the check of the whole model's output taken away, that of a site stays
        block._forward_hooks.clear()
        block._forward_hooks_with_kwargs.clear()
    with pytest.raises(ModelMismatch, match=r"not finite \(0\.mlp_out\)"):
        handle.capture(handle.encode(["what is 1?"]), ["0.mlp_out"])
    assert handle.capture(handle.encode(["what is 1?"]), ["embed"])["embed"].isfinite().all()


def test_padding_and_what_may_not_be_said_are_no_fault():
    """What a model computes at padding means nothing, and minus infinity is a logit; NaN at a real token is a fault."""
    from gnomon.core.finite import _check_output

    class Model:
        training = False

    class Output:
        logits = torch.zeros(2, 3, 4)

    output = Output()
    output.logits[0, 0] = float("nan")
    output.logits[1, 2, 1] = float("-inf")
    mask = torch.tensor([[0, 1, 1], [1, 1, 1]])
    _check_output("m", Model(), (), {"attention_mask": mask}, output)
    output.logits[0, 1, 0] = float("nan")
    with pytest.raises(ModelMismatch):
        _check_output("m", Model(), (), {"attention_mask": mask}, output)


def test_a_sum_that_overflows_is_no_fault():
    assert is_finite(torch.full((4,), 3e38)) and is_finite(torch.full((9,), 6e4, dtype=torch.float16))
    check_weights([("steps", torch.tensor([2**40])), ("far", torch.empty(3, device="meta"))], "m")


@pytest.mark.parametrize("verb", ["answer", "train"])
def test_a_verb_ends_with_one_sentence_and_no_result(verb, saved, truth_questions, tmp_path):
    folder = overflowing(saved, tmp_path)
    words = [verb, str(truth_questions), "--model", str(folder), "--out", str(tmp_path / "run"), "--quiet"]
    with pytest.raises(ModelMismatch, match="numbers that are not finite"):
        run_verb(method("truth-probes"), words[0], words[1:])
    rows = [path for path in (tmp_path / "run").rglob("*.jsonl") if path.read_text().strip()]
    assert not any("NaN" in path.read_text() or "null" in path.read_text() for path in rows)
    assert not (tmp_path / "run" / "answers.jsonl").exists(), json.dumps([str(path) for path in rows])
