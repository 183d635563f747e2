import json
import logging
import shutil

import pytest
import torch

from gnomon.core.models import ModelHandle, load_model, load_tokenizer, tiny_causal
from gnomon.core.models.load import kind_of
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.errors import BadInput, ModelMismatch


def test_a_saved_model_comes_back_with_equal_weights(checkpoint):
    from transformers import AutoModelForCausalLM

    folder = checkpoint("llama")
    model = load_model(folder, device="cpu")
    ours, theirs = model.state_dict(), AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert not model.training
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_type_of_the_weights_can_be_chosen(checkpoint):
    assert load_model(checkpoint("llama"), dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(BadInput, match='dtype "float99" is none of torch'):
        load_model(checkpoint("llama"), dtype="float99")


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"has no config.json"):
        load_model(tmp_path)


def test_a_file_is_refused(checkpoint):
    with pytest.raises(BadInput, match="is a file"):
        load_model(checkpoint("llama") / "config.json")


def test_pickled_weights_are_never_opened(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint("llama"), tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no safetensors weights"):
        load_model(folder)


@pytest.mark.parametrize("architecture", ["LlavaForConditionalGeneration", "LlamaForSequenceClassification"])
def test_another_kind_of_model_is_named(checkpoint, tmp_path, architecture):
    folder = _with_config(checkpoint("llama"), tmp_path, architectures=[architecture])
    with pytest.raises(ModelMismatch, match=f'is {architecture}; "lintseq train" needs a causal text model'):
        load_model(folder, asked_by='"lintseq train"')


@pytest.mark.parametrize(
    ("name", "kind", "loaded"),
    [
        ("llama", "causal", "LlamaForCausalLM"),
        ("t5", "seq2seq", "T5ForConditionalGeneration"),
        ("t5", "encoder", "T5EncoderModel"),
    ],
)
def test_a_model_is_loaded_as_the_kind_that_it_is_or_is_asked_to_be(checkpoint, tmp_path, name, kind, loaded):
    model = load_model(checkpoint(name), kind=kind)
    assert type(model).__name__ == loaded
    assert ModelHandle.load(checkpoint(name), kind=kind, device="cpu").kind == kind
    # Saved again, it says itself what it is.
    model.save_pretrained(tmp_path)
    load_tokenizer(checkpoint(name)).save_pretrained(tmp_path)
    assert kind_of(tmp_path) == kind
    assert ModelHandle.load(tmp_path, device="cpu").kind == kind


def test_a_kind_that_does_not_fit_or_does_not_exist_is_named(checkpoint):
    with pytest.raises(ModelMismatch, match="T5ForConditionalGeneration; this needs a causal text model"):
        load_model(checkpoint("t5"))
    with pytest.raises(ModelMismatch, match="LlamaForCausalLM; this needs a sequence-to-sequence text model"):
        load_model(checkpoint("llama"), kind="seq2seq")
    with pytest.raises(ModelMismatch, match="LlamaForCausalLM; this needs a text encoder"):
        load_model(checkpoint("llama"), kind="encoder")
    with pytest.raises(BadInput, match=r'No kind of model is called "seqtoseq". Did you mean "seq2seq"'):
        load_model(checkpoint("t5"), kind="seqtoseq")


def test_code_in_a_checkpoint_is_never_run(checkpoint, tmp_path):
    folder = _with_config(
        checkpoint("llama"),
        tmp_path,
        model_type="evil",
        auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
    )
    (folder / "evil.py").write_text("raise SystemExit('code from the checkpoint ran')")
    with pytest.raises(ModelMismatch, match="never run"):
        load_model(folder)


def test_a_hub_model_that_cannot_be_reached_is_named():
    with pytest.raises(BadInput, match='"nobody/nothing" is neither a folder here nor a hub model'):
        load_model("nobody/nothing")
    with pytest.raises(BadInput, match='"nobody/nothing" is neither a folder here nor a hub model'):
        load_tokenizer("nobody/nothing")


def test_a_missing_padding_token_becomes_the_end_of_text(tiny_tokenizer, tmp_path, caplog):
    bare = _without(tiny_tokenizer, "pad_token")
    bare.save_pretrained(tmp_path)
    with caplog.at_level(logging.INFO):
        tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert "padding with '</s>'" in caplog.text


def test_a_tokenizer_that_cannot_pad_is_refused(tiny_tokenizer, tmp_path):
    _without(tiny_tokenizer, "pad_token", "eos_token").save_pretrained(tmp_path)
    with pytest.raises(ModelMismatch, match="neither a padding nor an end-of-text token"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_folder_without_tokenizer_files_is_refused(family, tmp_path):
    """Also where transformers would make up an empty tokenizer, as for T5."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family, "vocab_size": 300}))
    with pytest.raises(BadInput, match=r"No tokenizer could be loaded .* Save one there"):
        load_tokenizer(tmp_path)


def _with_config(folder, tmp_path, **fields):
    copy = shutil.copytree(folder, tmp_path / "changed")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **fields}))
    return copy


def _without(tokenizer, *names):
    from transformers import PreTrainedTokenizerFast

    tokens = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    kept = {name: token for name, token in tokens.items() if name not in names}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, **kept)


def test_a_run_that_made_a_model_stands_for_it(tmp_path, tiny_tokenizer):
    run = Run(tmp_path / "run", method="x", verb="train", quiet=True)
    folder = run.artifact("model", run.folder / "model")
    tiny_causal("llama", tiny_tokenizer, folder, generator=Rng(1))
    with pytest.raises(BadInput, match="has not finished"):
        load_model(run.folder)
    run.finish()
    assert kind_of(run.folder) == "causal"
    assert load_tokenizer(run.folder).get_vocab() == tiny_tokenizer.get_vocab()
    ours, plain = load_model(run.folder).state_dict(), load_model(folder).state_dict()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)
