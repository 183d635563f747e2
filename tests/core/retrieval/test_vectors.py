import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fixtures_process
from gnomon.core.retrieval import Vectors
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.errors import BadConfig, BadInput, ModelMismatch

KEY = "minilm-1"


def unit(count, dim=8, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def named(count):
    return [f"d{i:03d}" for i in range(count)]


def build(folder, count=20, **more):
    return Vectors.build(folder, named(count), unit(count), fingerprint=KEY, **more)


def contents(folder):
    at = Generations(folder).current()
    return {path.name: path.read_bytes() for path in sorted(at.iterdir())}


def test_the_nearest_come_first_as_a_plain_sum_says(tmp_path):
    index, queries = build(tmp_path / "i"), unit(3, seed=1)
    for query, hits in zip(queries, index.search(queries, 5), strict=True):
        scores = (unit(20).astype(np.float64) @ query).astype(np.float32)
        order = sorted(range(20), key=lambda i: (-scores[i], i))[:5]
        assert [hit.id for hit in hits] == [f"d{i:03d}" for i in order]
        assert [hit.score for hit in hits] == [float(scores[i]) for i in order]
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        assert hits[0].parts == {"dense": (1, hits[0].score)}


def test_equal_vectors_stand_in_the_order_of_their_ids_every_time(tmp_path):
    """qdrant 6814: tied documents change places between calls."""
    vectors = np.repeat(unit(3, 384), 100, axis=0)
    ids = named(300)
    shuffled = np.random.default_rng(2).permutation(300)
    index = Vectors.build(tmp_path / "i", [ids[i] for i in shuffled], vectors[shuffled], fingerprint=KEY)
    query = unit(1, 384, seed=5)
    first = index.search(query, 150)[0]
    for group in range(3):
        found = [hit.id for hit in first if int(hit.id[1:]) // 100 == group]
        assert (
            found == sorted(found) == found[: len(found)]
            and found[: len(found)] == ids[100 * group :][: len(found)]
        )
    many = np.concatenate([query, unit(40, 384, seed=6)])
    for _ in range(100):
        assert index.search(query, 150)[0] == first
    assert index.search(many, 150)[0] == first  # whatever else is asked


def test_more_than_there_is_gives_what_there_is(tmp_path):
    index = build(tmp_path / "i", 2)
    assert len(index.search(unit(1), 10)[0]) == 2
    empty = index.remove(named(2))
    assert empty.search(unit(2), 3) == [[], []]


def test_another_encoder_is_refused_by_both_names(tmp_path):
    """mcp-vector-search 114: a model of the same width gives vectors that mean something else."""
    build(tmp_path / "i")
    for call in (
        lambda: Vectors.open(tmp_path / "i", fingerprint="other-2"),
        lambda: Vectors.open(tmp_path / "i").add(["x"], unit(1), fingerprint="other-2"),
    ):
        with pytest.raises(ModelMismatch, match=r"minilm-1.*other-2"):
            call()


def test_removing_shifts_no_id(tmp_path):
    """haystack 6228: after a removal in a flat index, the hit for document 7 was document 8."""
    index = build(tmp_path / "i").remove(["d003", "d011"])
    for i in (2, 7, 12, 19):
        assert index.search(unit(20)[i], 1)[0][0].id == f"d{i:03d}"
    assert all(hit.id not in ("d003", "d011") for hit in index.search(unit(1, seed=3), 20)[0])
    with pytest.raises(BadInput, match='no "d003"'):
        index.remove(["d003"])


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(12)), cut=st.integers(1, 11), gone=st.sets(st.integers(0, 11), max_size=5))
def test_what_was_removed_and_added_again_is_a_fresh_build(order, cut, gone, tmp_path_factory):
    folder, ids, vectors = tmp_path_factory.mktemp("v"), named(12), unit(12)
    meta = [{"year": 2000 + i} for i in range(12)]

    def rows(places):
        return [ids[i] for i in places], vectors[list(places)], [meta[i] for i in places]

    a, v, m = rows(order[:cut])
    index = Vectors.build(folder / "a", a, v, fingerprint=KEY, meta=m)
    a, v, m = rows(order[cut:])
    index = index.add(a, v, fingerprint=KEY, meta=m)
    if gone:
        a, v, m = rows(sorted(gone))
        index = index.remove(a).add(a, v, fingerprint=KEY, meta=m)
    Vectors.build(folder / "b", ids, vectors, fingerprint=KEY, meta=meta)
    assert contents(folder / "a") == contents(folder / "b")


def test_a_filter_acts_before_the_search(tmp_path):
    meta = [
        {"year": 2000 + i % 4, "venue": "WWW" if i % 2 else "ACL", "n": None if i == 0 else i}
        for i in range(20)
    ]
    index = build(tmp_path / "i", meta=meta)
    query = unit(1, seed=4)

    def found(**where):
        return {hit.id for hit in index.search(query, 20, where)[0]}

    def wanted(test):
        return {f"d{i:03d}" for i, row in enumerate(meta) if test(row)}

    assert found(year={"gte": 2002}) == wanted(lambda r: r["year"] >= 2002)
    assert found(year={"gt": 2000, "lt": 2002}) == wanted(lambda r: r["year"] == 2001)
    assert found(venue=["WWW"], year=2003) == wanted(lambda r: r["venue"] == "WWW" and r["year"] == 2003)
    assert found(n={"lte": 5}) == wanted(lambda r: r["n"] is not None and r["n"] <= 5)  # nothing is not 0
    assert found(venue=["none such"]) == set()
    few = index.search(query, 3, {"year": 2001})[0]
    assert len(few) == 3 and [hit.rank for hit in few] == [1, 2, 3]
    with pytest.raises(BadInput, match='no column "journal" to filter by; there are: n, venue, year'):
        found(journal="x")
    with pytest.raises(BadConfig, match="bounds are"):
        found(year={"above": 3})
    with pytest.raises(BadConfig, match="names no value"):
        found(venue=[])
    with pytest.raises(BadInput, match="cannot be compared"):
        found(year={"gte": "late"})


def test_what_cannot_be_indexed_is_said(tmp_path):
    for ids, vectors, message in (
        (["a", "a"], unit(2), "same id"),
        (["a"], unit(2), "1 ids and vectors of shape"),
        (["a"], np.full((1, 3), np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(BadInput, match=message):
            Vectors.build(tmp_path / "i", ids, vectors, fingerprint=KEY)
    index = build(tmp_path / "j", 2)
    with pytest.raises(BadInput, match="length 8; queries have 3"):
        index.search(unit(1, 3), 1)
    with pytest.raises(BadInput, match="length 8; these have 3"):
        index.add(["x"], unit(1, 3), fingerprint=KEY)
    with pytest.raises(BadConfig, match="holds an index already"):
        build(tmp_path / "j")
    assert len(build(tmp_path / "j", 3, anew=True)) == 3
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(BadConfig, match="holds other files"):
        build(tmp_path / "full")
    with pytest.raises(BadInput, match="no index"):
        Vectors.open(tmp_path / "nothing")


def test_one_writes_and_a_second_is_told(tmp_path):
    index = build(tmp_path / "i")
    with (
        Generations(tmp_path / "i").writing(anew=True),
        pytest.raises(BadConfig, match="Another process is writing"),
    ):
        index.remove(["d000"])


def test_readers_go_on_with_what_they_opened(tmp_path):
    index = build(tmp_path / "i")
    before = index.search(unit(1, seed=9), 20)
    index.remove(named(10))
    assert index.search(unit(1, seed=9), 20) == before
    assert len(Vectors.open(tmp_path / "i")) == 10
    assert len(list((tmp_path / "i").glob("generation-*"))) == 1


@pytest.mark.scale
def test_a_writer_that_is_killed_leaves_the_index_as_it_was(tmp_path):
    build(tmp_path / "i")
    before = contents(tmp_path / "i")
    script = (
        "import os, signal, sys, numpy as np\n"
        "from gnomon.core.retrieval.stores import folder as vectors\n"
        "vectors.write_json = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"index = vectors.Vectors.open({str(tmp_path / 'i')!r})\n"
        "index.add(['x'], np.ones((1, 8), np.float32), fingerprint='minilm-1')\n"
    )
    source = str(Path(sys.modules["gnomon"].__file__).parents[1])
    done = fixtures_process.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": source})
    assert done.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "i").glob("generation-*"))) == 2 and contents(tmp_path / "i") == before
    assert len(Vectors.open(tmp_path / "i").add(["x"], unit(1), fingerprint=KEY)) == 21
    assert len(list((tmp_path / "i").glob("generation-*"))) == 1
