"""The T5 encoder with one logit: pooling against a plain computation, loading, saving."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import T5EncoderModel, T5ForConditionalGeneration

from fixtures_sieve_students import corpus, save_t5
from gnomon.core.files import room_file
from gnomon.errors import BadInput
from gnomon.methods.sieve.students import (
    HEAD,
    StudentConfig,
    T5EncoderClassifier,
    load_classifier,
    open_student,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def model(folder):
    found = load_classifier(folder, "t5-encoder", dropout=0.1)
    torch.nn.init.normal_(found.head.weight, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(found.head.bias, 0.3)
    return found


ROWS = [[5, 6, 7, 1], [8, 1], [9, 10, 11, 12, 13, 14, 1]]


def padded(rows, side, extra=2):
    width = max(map(len, rows)) + extra
    fill = [[0] * (width - len(row)) for row in rows]
    put = (lambda a, b: a + b) if side == "right" else (lambda a, b: b + a)
    ids = [put(row, pad) for row, pad in zip(rows, fill, strict=True)]
    mask = [put([1] * len(row), pad) for row, pad in zip(rows, fill, strict=True)]
    return torch.tensor(ids), torch.tensor(mask)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_logit_is_the_head_on_the_mean_of_the_real_tokens(model, folder, side):
    encoder = T5EncoderModel.from_pretrained(folder)
    ids, mask = padded(ROWS, side)
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask).logits
        for row, logit in zip(ROWS, found, strict=True):
            states = encoder(input_ids=torch.tensor([row])).last_hidden_state[0]
            wanted = states.mean(0) @ model.head.weight[0] + model.head.bias
            torch.testing.assert_close(logit, wanted, atol=1e-5, rtol=0)


def test_a_row_without_a_real_token_is_the_bias(model):
    logits = model(input_ids=torch.zeros(1, 3, dtype=torch.long), attention_mask=torch.zeros(1, 3)).logits
    torch.testing.assert_close(logits, torch.tensor([[0.3]]))


def test_the_weights_are_the_checkpoints(folder):
    wanted = T5ForConditionalGeneration.from_pretrained(folder).encoder.state_dict()
    found = load_classifier(folder, "t5-encoder", 0.1)
    assert all(
        torch.equal(wanted[name], value) for name, value in found.transformer.encoder.state_dict().items()
    )
    assert found.transformer.shared.weight is found.transformer.encoder.embed_tokens.weight
    assert not any("decoder" in name for name, _ in found.named_parameters())
    assert not found.head.weight.any() and not found.head.bias.any()


def test_an_encoder_alone_is_a_start_too(folder, tmp_path):
    T5EncoderModel.from_pretrained(folder).save_pretrained(tmp_path)
    alone, whole = (load_classifier(at, "t5-encoder", 0.1).state_dict() for at in (tmp_path, folder))
    assert alone.keys() == whole.keys()
    assert all(torch.equal(alone[name], whole[name]) for name in whole)


def test_loading_draws_nothing_from_the_global_stream(folder):
    before = torch.random.get_rng_state()
    load_classifier(folder, "t5-encoder", 0.1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dropout_works_in_training_only(model):
    ids, mask = padded(ROWS, "right")
    model.train()
    assert not torch.equal(model(ids, mask).logits, model(ids, mask).logits)
    model.eval()
    assert torch.equal(model(ids, mask).logits, model(ids, mask).logits)


@pytest.mark.slow
def test_a_saved_student_is_used_without_this_library_as_the_readme_says(folder, tmp_path):
    """The README's own snippet, in a process that does not import gnomon, on texts of several lengths."""
    from gnomon.core.rng import Rng

    texts, labels = corpus(60, seed=1)
    student = open_student(
        f"t5-encoder:{folder}", StudentConfig(max_steps=5, max_tokens=64, held_out=0.0, device="cpu")
    )
    student.fit(texts, labels, [1.0] * 60, Rng(0))
    student.save(tmp_path)
    readme = room_file("gnomon.methods.sieve.config", "README.md").read_text()
    snippet = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if HEAD in code)
    assert "gnomon" not in snippet
    script = (
        "import json, sys\nfolder, texts = sys.argv[1], json.loads(sys.argv[2])\n"
        + snippet.replace('folder = "runs/climate/model"', "")
        + "\nassert 'gnomon' not in sys.modules\nprint(json.dumps(scores.tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, json.dumps(texts)],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), student.predict(texts), atol=1e-5)
    # Plain transformers reads every weight of the encoder, bit by bit, and nothing is missing or left over.
    plain, info = T5EncoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    own = student.model.transformer.state_dict()
    assert plain.state_dict().keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in plain.state_dict().items())
    assert not torch.equal(
        plain.shared.weight, T5EncoderModel.from_pretrained(folder).shared.weight
    )  # it was trained
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["T5EncoderModel"]


def test_a_folder_without_its_head_says_so(model, tmp_path):
    model.save_pretrained(tmp_path)
    (tmp_path / HEAD).unlink()
    with pytest.raises(BadInput, match=r"holds no head\.safetensors"):
        T5EncoderClassifier.from_pretrained(tmp_path)
