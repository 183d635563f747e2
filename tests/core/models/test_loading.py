"""Ways of loading: what each option does to the model, and what is said where one cannot be had."""

import json
import logging
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch

from fixtures_server import LoopbackServer
from gnomon.cli import main
from gnomon.core.config import loose_names
from gnomon.core.llm import LLMConfig
from gnomon.core.llm.local import Local
from gnomon.core.models import (
    GenConfig,
    ModelHandle,
    add_lora,
    generate,
    load_model,
    load_tokenizer,
    save_lora,
)
from gnomon.core.models.load import LoadConfig, load_config
from gnomon.core.models.load.checkpoint import kind_of
from gnomon.core.models.load.placement import from_pretrained_arguments
from gnomon.core.retrieval.encoders.local import load_local
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, MissingExtra, ModelMismatch
from gnomon.registry import METHODS

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def adapter(checkpoint, tmp_path):
    """The folder of a LoRA adapter that changes what the tiny Llama says."""
    model = add_lora(load_model(checkpoint("llama"), device="cpu"), 2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    save_lora(model, load_tokenizer(checkpoint("llama")), tmp_path / "adapter")
    return tmp_path / "adapter"


IDS = torch.tensor([[5, 60, 17, 200, 9]])


def _logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_an_adapter_goes_on_top_of_a_base_that_is_named(checkpoint, adapter, tmp_path):
    expected = _logits(load_model(adapter, device="cpu"))
    elsewhere = shutil.copytree(checkpoint("llama"), tmp_path / "base")
    note = adapter / "adapter_config.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"base_model_name_or_path": "gone/away"}))
    with pytest.raises(BadInput, match="gone/away"):
        load_model(adapter, device="cpu")
    ours = load_model(elsewhere, LoadConfig(adapter=str(adapter), device="cpu"))
    assert torch.equal(_logits(ours), expected)
    assert not torch.allclose(expected, _logits(load_model(elsewhere, device="cpu")))


def test_the_tokenizer_of_an_adapter_is_its_own_or_its_bases(checkpoint, adapter):
    own = load_tokenizer(checkpoint("llama"), LoadConfig(adapter=str(adapter)))
    assert Path(own.name_or_path) == adapter
    for file in adapter.glob("*token*"):
        file.unlink()
    assert load_tokenizer(adapter).get_vocab() == load_tokenizer(checkpoint("llama")).get_vocab()


def test_what_is_no_adapter_or_does_not_fit_is_refused(checkpoint, adapter, tmp_path):
    with pytest.raises(BadInput, match=r"is no PEFT adapter"):
        load_model(checkpoint("llama"), adapter=str(tmp_path))
    with pytest.raises(ModelMismatch, match=r'Adapter ".*adapter" does not fit'):
        load_model(checkpoint("gpt2"), adapter=str(adapter), device="cpu")


def test_attention_is_the_one_that_is_named(checkpoint):
    for name in ("eager", "sdpa"):
        assert (
            load_model(checkpoint("llama"), device="cpu", attention=name).config._attn_implementation == name
        )
    with pytest.raises(BadConfig, match='Attention "no-such" cannot be had'):
        load_model(checkpoint("llama"), device="cpu", attention="no-such")


def test_layers_are_spread_by_accelerate(checkpoint):
    """On one CPU there is one place to spread to; that the model is placed by the map and works is what can be seen."""
    model = load_model(checkpoint("llama"), device_map="auto")
    assert from_pretrained_arguments(LoadConfig(device_map="auto"), "cpu")["device_map"] == "auto"
    assert torch.equal(_logits(model).cpu(), _logits(load_model(checkpoint("llama"), device="cpu")))


@pytest.mark.parametrize(
    ("field", "value"),
    [("device_map", "everywhere"), ("attention", "")],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(BadConfig, match=f"{field} must be"):
        LoadConfig(**{field: value})
    with pytest.raises(BadConfig, match="device must be auto where device_map is set"):
        LoadConfig(device="cpu", device_map="auto")


@pytest.mark.parametrize(("quantize", "package"), [("bnb-8bit", "bitsandbytes"), ("torchao-int8", "torchao")])
def test_quantisation_without_its_package_is_one_sentence(quantize, package, monkeypatch):
    monkeypatch.setattr("gnomon.core.models.load.placement.version", lambda name: None)
    with pytest.raises(MissingExtra, match=rf'{package} is not installed.*pip install "gnomon\[quant\]"'):
        from_pretrained_arguments(LoadConfig(quantize=quantize), "cpu")


def test_eight_bits_by_torchao_say_nearly_the_same(checkpoint):
    pytest.importorskip("torchao")
    plain = _logits(load_model(checkpoint("llama"), device="cpu", dtype="float32"))
    model = load_model(checkpoint("llama"), device="cpu", dtype="float32", quantize="torchao-int8")
    assert "int8" in str(model.model.layers[0].mlp.up_proj.weight).lower()
    error = (_logits(model) - plain).std() / plain.std()
    assert 0 < error < 0.05


def test_adapters_are_trained_on_a_base_in_eight_bits(checkpoint, tmp_path):
    pytest.importorskip("torchao")
    from gnomon.core.models.load import weights_key

    def base(family="llama"):
        return load_model(checkpoint(family), device="cpu", dtype="float32", quantize="torchao-int8")

    def key(model):
        named = model.state_dict().items()
        return weights_key(tensor for name, tensor in named if "lora_" not in name)

    assert key(base()) == key(base()) != key(load_model(checkpoint("llama"), device="cpu", dtype="float32"))
    adapted = add_lora(base(), 4)
    before, ids = key(adapted), torch.tensor([[5, 6, 7, 8, 9, 10]])
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(12):
        losses.append(adapted(ids, labels=ids).loss)
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0] - 0.1 and key(adapted) == before
    save_lora(adapted, load_tokenizer(checkpoint("llama")), tmp_path)
    again = load_model(
        checkpoint("llama"), device="cpu", dtype="float32", quantize="torchao-int8", adapter=str(tmp_path)
    )
    assert torch.allclose(_logits(again), _logits(adapted.eval()), atol=1e-5)


def test_three_faults_are_three_sentences(checkpoint, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(BadInput, match=r'Folder ".*empty" has no config\.json'):
        load_model(empty)
    bare = shutil.copytree(checkpoint("llama"), tmp_path / "bare")
    (bare / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r'Folder ".*bare" has no safetensors weights and no others'):
        load_model(bare)
    mute = shutil.copytree(checkpoint("llama"), tmp_path / "mute", ignore=shutil.ignore_patterns("*token*"))
    with pytest.raises(BadInput, match="No tokenizer could be loaded"):
        load_tokenizer(mute)
    load_model(mute, device="cpu")


class Hub(BaseHTTPRequestHandler):
    """A hub whose answer is in the name of the model: `tests/401`, `tests/gated`, `tests/no-revision`."""

    CODES = {
        "gated": (403, "GatedRepo"),
        "no-revision": (404, "RevisionNotFound"),
        "missing": (404, "RepoNotFound"),
    }

    def _answer(self):
        with self.server.lock:
            self.server.tokens.append(self.headers.get("Authorization"))
        name = next(part for part in self.path.split("/") if part.startswith("model-")).removeprefix("model-")
        status, code = self.CODES[name] if name in self.CODES else (int(name), None)
        self.send_response(status)
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = _answer

    def log_message(self, *_):
        """Nothing on the terminal."""


CODE = """
import sys
from gnomon.core.models import load_model, load_tokenizer
from gnomon.errors import BadInput
for name in sys.argv[1:]:
    for load in (load_tokenizer,) if name == "dead" else (load_model, load_tokenizer):
        try:
            load(f"tests/model-{name}", revision="v9" if name == "no-revision" else None)
        except BadInput as error:
            print(error)
"""


def _ask_hub(endpoint, names, tmp_path, **environment):
    env = {
        "PATH": "",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT / "src"),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE, *names], env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done


@pytest.mark.slow
def test_what_a_hub_answers_is_said(tmp_path):
    server = LoopbackServer(Hub)
    server.tokens = []
    hub = server.url.removesuffix("/v1")
    with server:
        lines, _ = _ask_hub(hub, ["gated", "403", "401", "404", "missing", "no-revision"], tmp_path)
        assert len(lines) == 12
        model_lines, tokenizer_lines = lines[::2], lines[1::2]
        assert (
            model_lines == tokenizer_lines
        )  # where there is no model, that is what is wrong with the tokenizer too
        gated, refused, unknown, absent, missing, revision = model_lines
        for line, name in ((gated, "gated"), (refused, "403")):
            assert line == (
                f'Model "tests/model-{name}" is gated and HF_TOKEN is not set. Accept its terms at {hub}/tests/model-{name}, '
                "and set HF_TOKEN to a token that may read it."
            )
        for line, name in ((unknown, "401"), (absent, "404"), (missing, "missing")):
            assert line.startswith(
                f'There is no model "tests/model-{name}": it is neither a folder here nor at {hub}'
            )
        assert revision.startswith(f'Model "tests/model-no-revision" at {hub} has no revision "v9"')
        assert set(server.tokens) == {None}
        (line, _), done = _ask_hub(hub, ["gated"], tmp_path, HF_TOKEN="hf_secret")
        assert "the token in HF_TOKEN has no access" in line
        assert "Bearer hf_secret" in server.tokens
        assert "hf_secret" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_hub_that_is_not_there_is_another_sentence(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    (line,), _ = _ask_hub(f"http://127.0.0.1:{port}", ["dead"], tmp_path)
    assert f"http://127.0.0.1:{port} cannot be reached" in line
    (offline, again), _ = _ask_hub(f"http://127.0.0.1:{port}", ["401"], tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in offline
    assert again == offline


def test_what_a_checkpoint_recommends_and_is_not_done_is_said_once(checkpoint, caplog):
    model, tokenizer = load_model(checkpoint("llama"), device="cpu"), load_tokenizer(checkpoint("llama"))
    model.generation_config.repetition_penalty = 1.3
    model.generation_config.temperature = 0.7
    model.generation_config.do_sample = True
    model.generation_config.eos_token_id = [2, 60]
    greedy, sampled = GenConfig(2, temperature=0.0), GenConfig(2, temperature=0.7)
    with caplog.at_level(logging.WARNING):
        for gen in (greedy, sampled, greedy):
            generate(model, tokenizer, [[5, 6]], gen, generator=Rng(0))
        (line,) = [record.getMessage() for record in caplog.records]
        assert "sets repetition_penalty 1.3, which is not followed" in line
        generate(model, tokenizer, [[5, 6]], GenConfig(2, temperature=1.0), generator=Rng(0))
        assert "repetition_penalty 1.3, temperature 0.7" in caplog.records[-1].getMessage()


def test_all_ends_that_a_checkpoint_names_are_followed(checkpoint):
    model, tokenizer = load_model(checkpoint("llama"), device="cpu"), load_tokenizer(checkpoint("llama"))
    gen = GenConfig(8, temperature=0.0)
    ((free,),) = generate(model, tokenizer, [[5, 6]], gen, generator=Rng(0))
    model.generation_config.eos_token_id = [299, free.token_ids[2]]
    ((ended,),) = generate(model, tokenizer, [[5, 6]], gen, generator=Rng(0))
    first = free.token_ids.index(free.token_ids[2])
    assert (ended.token_ids, ended.finish) == (free.token_ids[: first + 1], "eos")


def test_a_language_model_in_this_process_is_loaded_as_its_settings_say(checkpoint):
    folder = checkpoint("llama")
    plain, half = Local(folder), Local(folder, LoadConfig(dtype="bfloat16", device="cpu"))
    assert half.model.dtype == torch.bfloat16
    assert half.identity != plain.identity  # its answers are others
    assert Local(folder, LoadConfig(device="cpu")).identity == plain.identity
    assert "load.device" in loose_names(LLMConfig)
    assert "load.dtype" not in loose_names(LLMConfig)


def test_every_verb_that_loads_a_model_to_read_or_train_takes_the_same_options():
    from gnomon.lazy import resolve

    takes = {
        f"{method.slug} {verb}"
        for method in METHODS
        for verb in method.verbs.split()
        if issubclass(resolve(method.config(verb)), LoadConfig)
    }
    reading = "truth-probes train, markov chain, markov forget, markov icl, neutral-residues eval, elm eval, vl-lens caption"
    training = "neutral-residues train, elm train, elm baseline, lintseq train, lintseq sample"
    assert set(f"{reading}, {training}".split(", ")) <= takes
    for method in METHODS:
        for verb in method.verbs.split():
            assert "token" not in getattr(resolve(method.config(verb)), "__dataclass_fields__", {})


@pytest.mark.parametrize(
    "read",
    [
        lambda ref: load_model(ref, revision="nosuch"),
        lambda ref: load_tokenizer(ref, LoadConfig(revision="nosuch")),
        lambda ref: load_config(ref, "nosuch"),
        lambda ref: kind_of(ref, revision="nosuch"),
        lambda ref: ModelHandle.load(ref, revision="nosuch"),
        lambda ref: load_local(ref, LoadConfig(revision="nosuch")),
    ],
    ids=["model", "tokenizer", "config", "kind", "handle", "encoder"],
)
def test_a_folder_has_no_revisions(checkpoint, read):
    with pytest.raises(
        BadConfig, match=r"revision must be None .* only a hub id has revisions; got 'nosuch'"
    ):
        read(checkpoint("llama"))


def test_a_verb_refuses_a_revision_of_a_folder(checkpoint, tmp_path, capsys):
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for text in texts:
        text.write_text("one two three")
    where = ["--model", str(checkpoint("llama")), "--revision", "nosuch", "--out", str(tmp_path / "run")]
    assert main(["markov", "forget", *map(str, texts), *where]) == 2
    assert "only a hub id has revisions" in capsys.readouterr().err
