import pytest

import fixtures_uncertainty_rag as made
from gnomon.core.models import ModelHandle


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of a causal model and of an encoder."""
    return made.save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def lm(models):
    return ModelHandle.load(models[0], device="cpu")


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A file of documents."""
    return made.write_rows(tmp_path_factory.mktemp("corpus") / "docs.jsonl", made.made_documents())
