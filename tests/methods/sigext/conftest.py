"""One small trained extractor for all tests of the room."""

import pytest

import fixtures_sigext


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """An untrained Longformer."""
    return fixtures_sigext.save_encoder(tmp_path_factory.mktemp("sigext") / "longformer")


@pytest.fixture(scope="session")
def trained(base, tmp_path_factory):
    """The folder of a training that ran through, its extractor and what it did."""
    folder = tmp_path_factory.mktemp("sigext-trained")
    return folder, *fixtures_sigext.train(folder, base)
