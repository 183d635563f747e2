"""A real PostgreSQL with pgvector: what only a server can do wrong."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import fixtures_process
from gnomon.core.retrieval import Passage, Search, build_index, open_index
from gnomon.core.retrieval.stores import FullText
from gnomon.errors import BadConfig, BadInput, WorkLost

pytest.importorskip("psycopg")
pytest.importorskip("pgvector")

KEY = "minilm-1"


def unit(count, dim=8, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def named(count):
    return [f"d{i:04d}" for i in range(count)]


@pytest.fixture
def reference(postgres, request):
    return postgres.reference("p" + str(abs(hash(request.node.name)))[:12])


def build(reference, count=20, **more):
    return build_index(reference, named(count), unit(count), fingerprint=KEY, **more)


def name_of(reference):
    return reference.rpartition("#")[2]


def test_a_graph_finds_nearly_what_an_exact_search_finds(reference):
    vectors, queries = unit(3000, 32), unit(30, 32, seed=1)
    exact = build_index(reference, named(3000), vectors, fingerprint=KEY)
    graph = build_index(reference + "_g", named(3000), vectors, fingerprint=KEY, approximate=True)
    assert open_index(reference + "_g").approximate and not exact.approximate
    pairs = list(zip(exact.search(queries, 10), graph.search(queries, 10), strict=True))
    shared = [len({a.id for a in x} & {b.id for b in y}) / 10 for x, y in pairs]
    assert np.mean(shared) > 0.95
    scores = {(i, hit.id): hit.score for i, (x, _) in enumerate(pairs) for hit in x}
    for i, (_, hits) in enumerate(pairs):
        for hit in hits:
            assert scores.get((i, hit.id), hit.score) == hit.score  # the same bytes


def test_the_graph_is_used_and_a_filter_goes_round_it(reference, postgres):
    meta = [{"rare": i % 1000 == 0} for i in range(3000)]
    index = build_index(reference, named(3000), unit(3000), fingerprint=KEY, meta=meta, approximate=True)

    def scans():
        with postgres.connect() as connection:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            ((count,),) = connection.execute(
                "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE relname = %s AND indexrelname LIKE '%%.hnsw'",
                [f"gnomon_{name_of(reference)}"],
            ).fetchall()
            return count

    def counted():
        index.close()  # a server tells its counts when a connection ends
        for _ in range(50):
            time.sleep(0.02)
            if scans() > before:
                return True
        return False

    before = scans()
    assert [hit.id for hit in index.search(unit(3000)[7:8], 1)[0]] == ["d0007"] and counted()
    before = scans()
    hits = index.search(unit(1, seed=4), 3, {"rare": True})[0]
    assert {hit.id for hit in hits} == {"d0000", "d1000", "d2000"} and not counted()
    assert len(index.search(unit(1, seed=4), 3000)[0]) == 3000


@pytest.mark.scale
def test_a_client_that_is_killed_in_the_middle_leaves_the_old_index_whole(reference):
    index = build(reference)
    before = index.search(unit(2, seed=3), 20)
    script = (
        "import os, signal, numpy as np\n"
        "from gnomon.core.retrieval import build_index\n"
        "from gnomon.core.retrieval.stores.postgres import vectors\n"
        "copy = vectors._copy\n"
        "def die(*args):\n"
        "    copy(*args)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "vectors._copy = die\n"
        "ids = [str(i) for i in range(5000)]\n"
        f"build_index({reference!r}, ids, np.ones((5000, 16), np.float32), fingerprint='other', anew=True)\n"
    )
    source = str(Path(sys.modules["gnomon"].__file__).parents[1])
    done = fixtures_process.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == -signal.SIGKILL
    assert open_index(reference, fingerprint=KEY).search(unit(2, seed=3), 20) == before
    again = build_index(
        reference, ["x"], unit(1), fingerprint="other", anew=True
    )  # nothing waits for the dead
    assert again.ids == ["x"]


@pytest.mark.scale
def test_a_server_that_is_killed_in_the_middle_of_a_build_goes_on(reference, postgres, monkeypatch):
    import psutil

    from gnomon.core.retrieval.stores.postgres import vectors

    index, copy = build(reference), vectors._copy
    before = index.search(unit(2, seed=3), 20)

    def kill(*args):
        copy(*args)
        server = psutil.Process(postgres.pid())
        killed = [server, *server.children(recursive=True)]
        for process in killed:
            process.kill()
        psutil.wait_procs(killed, timeout=10)

    monkeypatch.setattr(vectors, "_copy", kill)
    with pytest.raises(WorkLost, match="repeat the command"):
        build(reference, 2000, anew=True)
    monkeypatch.setattr(vectors, "_copy", copy)
    with pytest.raises((WorkLost, BadConfig)):
        index.search(unit(1), 1)
    postgres.start()
    assert index.search(unit(2, seed=3), 20) == before  # the handle of before, on a new connection
    assert len(build(reference, 2000, anew=True)) == 2000 == len(index)


def test_a_second_writer_waits_for_the_first(reference, postgres):
    build(reference)
    order = []

    def second():
        open_index(reference).remove(["d0001"])
        order.append("second")

    with postgres.connect() as connection, connection.transaction():
        key = f"gnomon {name_of(reference)}"
        connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        assert len(open_index(reference)) == 20  # readers do not wait
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"] and len(open_index(reference)) == 19


def test_two_writers_at_once_lose_nothing(reference):
    build(reference)
    errors = []

    def add(writer):
        try:
            index = open_index(reference)
            for i in range(10):
                index.add([f"w{writer}-{i}"], unit(1, seed=i), meta=[{f"c{writer}": i}], fingerprint=KEY)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    index = open_index(reference)
    assert len(index) == 50 and index.columns == ["c0", "c1", "c2"]


def test_readers_see_a_whole_index_while_it_is_built_anew_again_and_again(reference):
    """A table that takes the name of another looks empty to a transaction that began before."""
    build(reference)
    stop, sizes, errors = threading.Event(), set(), []

    def read():
        index = open_index(reference)
        try:
            while not stop.is_set():
                sizes.add(len(index.search(unit(1), 500)[0]))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(20):
        build(reference, 20 + i % 2 * 100, anew=True)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors and sizes == {20, 120}


def test_a_role_that_may_only_read_searches_and_cannot_write(reference, postgres):
    build(reference)
    role = "reader_" + name_of(reference)
    with postgres.connect() as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN')
        connection.execute(f'GRANT SELECT ON gnomon_indexes, "gnomon_{name_of(reference)}" TO "{role}"')
    index = open_index(postgres.reference(name_of(reference), role), fingerprint=KEY)
    assert index.search(unit(20)[3:4], 1)[0][0].id == "d0003"
    with pytest.raises(BadConfig, match="lacks a right"):
        index.add(["x"], unit(1), fingerprint=KEY)
    with pytest.raises(BadConfig, match="lacks a right"):
        index.remove(["d0001"])
    build(reference, 30, anew=True)  # the right outlives a new build
    assert len(index.search(unit(1), 100)[0]) == 30


def test_a_password_in_a_reference_is_refused_and_not_repeated():
    for reference in (
        "postgres://ann:s3cr#t@host/db#x",
        "postgres://ann:s3cret@host/db#x",
        "postgres://host/db?user=ann&password=s3cret#x",
        "postgresql://host/db?PASSWORD=s3cret#x",
    ):
        with pytest.raises(BadConfig, match="holds a password") as caught:
            open_index(reference)
        assert "s3cr" not in str(caught.value)


def test_a_reference_that_leads_nowhere_is_said(postgres, reference):
    for at, error, message in (
        ("postgres://host/db", BadConfig, "names no index"),
        ("postgres://host/db#a b", BadConfig, "names no index"),
        ("postgres://host/db#" + "x" * 41, BadConfig, "names no index"),
        ("postgres:///db?host=/nowhere#x", BadConfig, "cannot be reached"),
        ("postgres:///db?nonsense=1#x", BadConfig, "cannot be reached"),
        ("postgras://host/db#x", BadConfig, 'Did you mean "postgres"'),
        (reference, BadInput, "no index"),
    ):
        with pytest.raises(error, match=message):
            open_index(at)


def test_vectors_beyond_the_graph_are_said(reference):
    with pytest.raises(BadConfig, match="2000 dimensions"):
        build_index(reference, ["a"], unit(1, 2001), fingerprint=KEY, approximate=True)
    assert len(build_index(reference, ["a"], unit(1, 2001), fingerprint=KEY)) == 1


TEXTS = {
    "a": "The old mill stands by the river.",
    "b": "A river runs, a river bends, and no river sleeps.",
    "c": "It's Ann's C:\\path & 'quotes' | more <-> (words)!",
    "d": "Cats sleep.",
}


def test_passages_come_back_whole_and_are_found_by_words(reference):
    passages = [passage for name, text in TEXTS.items() for passage in _passages(name, text)]
    index = FullText.build(reference, passages)
    assert dict(index) == {passage.id: passage for passage in passages} and len(index) == 4
    first, second, none, stops = index.search(["rivers", "sleeping mill", "zebra", "the of"], 10)
    assert [hit.id for hit in first] == ["b", "a"] and {hit.id for hit in second} == {"a", "b", "d"}
    assert none == stops == []
    assert [hit.id for hit in index.search(["river"], 10, np.array([0, 2]))[0]] == ["a"]
    for odd in ("'", "\\", "C:\\path", "& | ! <->", "quotes') | 'x", "", "a:b*"):
        assert {hit.id for hit in index.search([odd], 10)[0]} <= {"c"}
    assert [hit.id for hit in index.search(["quotes"], 10)[0]] == ["c"]
    with pytest.raises(KeyError):
        index["z"]
    with pytest.raises(BadConfig, match='no text search configuration "englsh"'):
        FullText.build(reference, passages, language="englsh", anew=True)
    assert [hit.id for hit in index.search(["rivers"], 1)[0]] == ["b"]


def test_texts_that_rank_alike_stand_by_id(reference):
    passages = [passage for i in range(30, 0, -1) for passage in _passages(f"p{i:02d}", "one river")]
    index = FullText.build(reference, passages)
    assert [hit.id for hit in index.search(["river"], 4)[0]] == ["p01", "p02", "p03", "p04"]


def test_one_database_answers_by_vectors_and_by_words(reference):
    class Encoder:
        fingerprint = KEY

        def encode(self, texts, role="passage"):
            return np.array([[1, 0] for _ in texts], np.float32)

    vectors = build_index(
        reference,
        list("abcd"),
        np.array([[0, 1], [0.6, 0.8], [1, 0], [0.8, 0.6]], np.float32),
        fingerprint=KEY,
        meta=[{"year": year} for year in (2000, 2001, 2002, 2003)],
    )
    text = FullText.build(reference, [p for name, t in TEXTS.items() for p in _passages(name, t)])
    search = Search(text, Encoder(), vectors, text)
    hits = search.search("river", 4)
    assert hits[0].id == "b" and set(hits[0].parts) == {"dense", "terms"}
    assert {hit.id for hit in search.search("river", 4, {"year": {"lt": 2002}})} == {"a", "b"}


def _passages(name, text):
    return [Passage(name, name, 0, len(text), text, headings=("H", "h2"), meta={"year": 2000})]
