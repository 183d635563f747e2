"""Tiny checkpoints of real classes, made and saved once a session, and shape checks while the tests run."""

import os
from pathlib import Path

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a fine float
install_import_hook(["gnomon.core.models", "gnomon.core.train"], "fixtures_models.checked")

# A name and, after a dash, what its checkpoint does differently.
CAUSAL = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neox",
    "gpt_neox-serial",
    "llama",
    "mistral",
    "olmo",
    "opt",
    "opt-350m",
    "phi3",
    "qwen2",
    "qwen3",
)
SEQ2SEQ = ("t5", "t5-gated")
VARIANTS = {
    "gpt_neox-serial": {"use_parallel_residual": False},
    "opt-350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
    "t5-gated": {
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        "scale_decoder_outputs": False,
        "num_decoder_layers": 3,
        "initializer_factor": 0.2,  # at 1 an untied T5 is sure of every token
    },
}
FAMILIES = (
    "llama",
    "gpt2",
    "olmo",
    "gemma2",
    "phi3",
)  # a few that differ most, for what depends little on the rest
TEXT = [
    'def add(a, b):\n    """Add two numbers."""\n    return a + b\n',
    "for i in range(10):\n    print(i, i * i)\n",
    "Write a function that keeps the even numbers of a list.\n",
    "if x > 0:\n    y = [z for z in xs if z]\nelse:\n    y = []\n",
]


@pytest.fixture(scope="session")
def shared_data():
    """Data beside the repository; a clone elsewhere does without."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no shared data beside the repository")
    return folder


@pytest.fixture(scope="session")
def converted_models(tmp_path_factory):
    """Where embedded models are converted to, once for all processes of the session."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "converted"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def embedded(converted_models):
    """`embedded("smollm2")`: the reference of a real pretrained model; the test is skipped where its package is missing."""
    from gnomon.core.env import version
    from gnomon.core.models.load.embedded import EMBEDDED, READER, install_command

    def reference(name):
        model = EMBEDDED[name]
        if not model.is_installed or (model.format == "gguf" and version(READER[0]) is None):
            pytest.skip(f"a real model: {install_command()}")
        cache = Path(os.environ["GNOMON_CACHE"])
        cache.mkdir(parents=True, exist_ok=True)
        if not (cache / "models").is_symlink():
            (cache / "models").symlink_to(converted_models)
        return model.ref

    return reference


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from gnomon.core.models import train_bpe

    return train_bpe(TEXT, 300)


@pytest.fixture(scope="session")
def checkpoint(tiny_tokenizer, tmp_path_factory):
    """`checkpoint("llama")`: the folder of a saved tiny model of that name; further sizes as keywords."""
    import transformers

    from gnomon.core.models import tiny_causal

    transformers.utils.logging.disable_progress_bar()
    made = {}

    def make(name, **size):
        key = (name, *sorted(size.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp(name)
            tiny_causal(name.split("-")[0], tiny_tokenizer, made[key], **{**VARIANTS.get(name, {}), **size})
        return made[key]

    return make


@pytest.fixture(scope="session")
def handle_of(checkpoint):
    """`handle_of("llama")`: a loaded handle, shared; leave it as it is."""
    from gnomon.core.models import ModelHandle

    loaded = {}

    def load(family):
        if family not in loaded:
            loaded[family] = ModelHandle.load(checkpoint(family), device="cpu")
        return loaded[family]

    return load


def logprobs_alone(handle, prompt, token_ids):
    """Log-probabilities of a completion from one forward pass over the whole text: no cache, no padding."""
    import torch

    ids = handle.processor(prompt, return_tensors="pt").input_ids
    written = torch.tensor([token_ids])
    with torch.no_grad():
        if handle.kind == "seq2seq":
            start = torch.tensor([[handle.model.config.decoder_start_token_id]])
            read = torch.cat([start, written], 1)
            logits = handle.model(input_ids=ids, decoder_input_ids=read, use_cache=False).logits[0, :-1]
        else:
            read = torch.cat([ids, written], 1)
            logits = handle.model(input_ids=read, use_cache=False).logits[0, ids.shape[1] - 1 : -1]
    return logits.log_softmax(-1).gather(-1, written[0][:, None]).squeeze(-1)
