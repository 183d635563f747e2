"""Tiny checkpoints of real classes, made and saved once a session, and shape checks while the tests run."""

from pathlib import Path

import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a fine float
install_import_hook(["gnomon.core.models", "gnomon.core.train"], "fixtures_models.checked")

FAMILIES = ("llama", "gpt2", "olmo", "gemma2", "phi3")
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
def tiny_tokenizer():
    from gnomon.core.models import train_bpe

    return train_bpe(TEXT, 300)


@pytest.fixture(scope="session")
def checkpoint(tiny_tokenizer, tmp_path_factory):
    """`checkpoint("llama")`: the folder of a saved tiny model of that family; further sizes as keywords."""
    import transformers

    from gnomon.core.models import tiny_causal

    transformers.utils.logging.disable_progress_bar()
    made = {}

    def make(family, **size):
        key = (family, *sorted(size.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp(family)
            tiny_causal(family, tiny_tokenizer, made[key], **size)
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
