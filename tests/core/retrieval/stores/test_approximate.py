"""The graph of FAISS in a folder."""

import sys

import numpy as np
import pytest

from gnomon.core.retrieval import Vectors, build_index, open_index
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.errors import BadConfig, BadInput, MissingExtra

KEY = "minilm-1"


def unit(count, dim=32, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def named(count):
    return [f"d{i:05d}" for i in range(count)]


def size(folder):
    return sum(path.stat().st_size for path in Generations(folder).current().iterdir())


@pytest.fixture
def graph(tmp_path):
    pytest.importorskip("faiss")
    return build_index(f"faiss:{tmp_path / 'g'}", named(3000), unit(3000), fingerprint=KEY)


def test_a_graph_finds_nearly_what_an_exact_search_finds(graph, tmp_path):
    plain = Vectors.build(tmp_path / "v", named(3000), unit(3000), fingerprint=KEY)
    queries = unit(50, seed=1)
    pairs = list(zip(plain.search(queries, 10), graph.search(queries, 10), strict=True))
    shared = [{hit.id: hit.score for hit in a}.items() & {h.id: h.score for h in b}.items() for a, b in pairs]
    assert np.mean([len(x) / 10 for x in shared]) > 0.95


def test_the_graph_is_asked_and_not_the_whole_index(graph, monkeypatch):
    monkeypatch.setattr(graph, "_exact", None)
    assert [hits[0].id for hits in graph.search(unit(3000)[5:9], 3)] == named(3000)[5:9]


def test_the_dead_are_not_found_and_compact_shrinks_the_files(graph, tmp_path):
    queries, before = unit(20, seed=2), size(tmp_path / "g")
    gone = named(3000)[::2]
    left = graph.remove(gone)
    assert size(tmp_path / "g") > before * 0.95  # marked alone
    hits = left.search(queries, 20)
    assert all(int(hit.id[1:]) % 2 for row in hits for hit in row) and all(len(row) == 20 for row in hits)
    small = left.compact()
    assert size(tmp_path / "g") < before * 0.6
    plain = Vectors.build(tmp_path / "v", named(3000)[1::2], unit(3000)[1::2], fingerprint=KEY)
    for index in (left, small, open_index(f"faiss:{tmp_path / 'g'}", fingerprint=KEY)):
        pairs = zip(plain.search(queries, 10), index.search(queries, 10), strict=True)
        assert np.mean([len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in pairs]) > 0.95
    assert small.ids == named(3000)[1::2] and len(list((tmp_path / "g").glob("generation-*"))) == 1


def test_one_kind_of_index_is_not_taken_for_another(graph, tmp_path):
    Vectors.build(tmp_path / "v", ["a"], unit(1), fingerprint=KEY)
    with pytest.raises(BadInput, match='holds faiss, and no index of the kind "vectors"'):
        open_index(tmp_path / "g")
    with pytest.raises(BadInput, match='holds vectors, and no index of the kind "faiss"'):
        open_index(f"faiss:{tmp_path / 'v'}")


def test_a_folder_has_one_way_to_search(tmp_path):
    with pytest.raises(BadConfig, match="Leave out approximate"):
        build_index(tmp_path / "v", ["a"], unit(1), fingerprint=KEY, approximate=True)


@pytest.mark.parametrize(
    ("reference", "package", "extra"),
    [
        ("faiss:x", "faiss", "faiss"),
        ("postgres:///db#x", "psycopg", "postgres"),
        ("qdrant:x#y", "qdrant_client", "qdrant"),
        ("lance:x#y", "lancedb", "lance"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_extra(reference, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=rf"gnomon\[{extra}\]"):
        build_index(reference, ["a"], unit(1), fingerprint=KEY)
