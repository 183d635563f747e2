"""Settings for every test: no network beyond loopback, one torch thread, no hub."""

import itertools
import logging
import os
import shutil
import socket
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["GNOMON_CACHE"] = tempfile.mkdtemp(
    prefix="gnomon-tests-"
)  # never the replies of whoever runs the tests

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # a busy one is slow, not wrong
settings.load_profile("any machine")

pytest_plugins = ["fixtures_models", "fixtures_truth_probes"]

_connect = socket.socket.connect


def _loopback_only(self: socket.socket, address: object) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = str(address[0])  # type: ignore[index]
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            raise OSError(f"tests may not reach the network: {address}")
    _connect(self, address)  # type: ignore[arg-type]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Trainings of minutes come first, so that no worker is left with one when the others are done."""
    items.sort(key=lambda item: "replication" not in item.keywords)


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    socket.socket.connect = _loopback_only
    yield
    socket.socket.connect = _connect


@pytest.fixture(autouse=True, scope="session")
def _caches():
    """Where tests keep replies, gone when they have run."""
    folder = os.environ["GNOMON_CACHE"]
    yield (f"{folder}/{number}" for number in itertools.count())
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_replies(_caches, monkeypatch):
    """Each test begins without replies of language models from another one."""
    monkeypatch.setenv("GNOMON_CACHE", next(_caches))


@pytest.fixture(autouse=True)
def _plain_log():
    """Each test begins with a log that nobody has set up, whatever command ran before it."""
    log = logging.getLogger("gnomon")
    log.handlers[:], log.propagate = [], True
    log.setLevel(logging.NOTSET)
