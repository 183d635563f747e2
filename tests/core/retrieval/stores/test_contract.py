"""What every store keeps to."""

import inspect

import numpy as np
import pytest

from gnomon.core.retrieval import Vectors, open_index
from gnomon.errors import BadConfig, BadInput, ModelMismatch

KEY = "minilm-1"
GRAPHS = ("faiss", "postgres-graph")
"""Stores that may miss rows."""
ODD = [
    "it's",
    'say "x"',
    "a b  c",
    "Bücher 書 🦔",
    "x" * 200,
    "'; DROP TABLE x; --",
    "50%_\\n",
    "a\tb\nc",
    "{curly} $1 %s",
    " lead",
    "0",
]


def unit(count, dim=8, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def named(count):
    return [f"d{i:03d}" for i in range(count)]


META = [
    {
        "year": 2000 + i % 4,
        "venue": "WWW" if i % 2 else 'it\'s "ACL"; --',
        "n": None if i == 0 else i,
        "open": i % 3 == 0,
        "share": i / 8,
        "none": None,
    }
    for i in range(20)
]


def test_hits_are_those_of_a_sum_by_hand(build):
    index = build(named(20), unit(20))
    for query, hits in zip(unit(3, seed=1), index.search(unit(3, seed=1), 5), strict=True):
        scores = [sum(float(a) * float(b) for a, b in zip(row, query, strict=True)) for row in unit(20)]
        order = sorted(range(20), key=lambda i: (-scores[i], i))[:5]
        assert [hit.id for hit in hits] == [f"d{i:03d}" for i in order]
        assert [hit.score for hit in hits] == pytest.approx([scores[i] for i in order], abs=1e-7)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5]
        assert hits[0].parts == {"dense": (1, hits[0].score)}


def test_every_store_gives_the_same_bytes_as_the_folder(build, tmp_path):
    ids, vectors, queries = named(200), unit(200, 48), unit(5, 48, seed=1)
    plain = Vectors.build(tmp_path / "plain", ids, vectors, fingerprint=KEY)
    assert build(ids, vectors).search(queries, 17) == plain.search(queries, 17)


def test_ties_stand_in_the_order_of_their_ids_every_time(store, build):
    """qdrant 6814. 300 rows with three vectors: at any k there is a tie over the end of the list."""
    vectors, ids = np.repeat(unit(3, 384), 100, axis=0), named(300)
    order = np.random.default_rng(2).permutation(300)
    index = build([ids[i] for i in order], vectors[order])
    query = unit(1, 384, seed=5)
    best = sorted(range(3), key=lambda group: -float(unit(3, 384)[group] @ query[0]))
    wanted = [name for group in best for name in ids[100 * group : 100 * group + 100]]
    for k in (1, 7, 36, 37, 100, 150, 299):
        hits = [hit.id for hit in index.search(query, k)[0]]
        if store in GRAPHS:  # rows with one vector hide each other, and some may be missed
            assert len(hits) == k and hits == sorted(hits, key=wanted.index)
        else:
            assert hits == wanted[:k]
    assert len({tuple(hit.id for hit in index.search(query, 5)[0]) for _ in range(100)}) == 1


def test_ties_of_long_vectors_are_ties_too(build):
    """Rounding grows with the length of the vectors: near ties are told apart exactly, or stand by id."""
    base = unit(1, 384)[0]
    vectors = np.stack([base * 1000] * 60 + [base * np.float32(1000 * (1 + 2e-7))])
    hits = build(named(61), vectors).search(unit(1, 384), 3)[0]
    exact = (vectors.astype(np.float64) @ unit(1, 384)[0].astype(np.float64)).astype(np.float32)
    wanted = sorted(range(61), key=lambda i: (-exact[i], i))[:3]
    assert [hit.id for hit in hits] == [f"d{i:03d}" for i in wanted]


def test_odd_ids_come_back_as_they_were(build):
    index = build(ODD, unit(len(ODD)))
    assert index.ids == sorted(ODD) and len(index) == len(ODD)
    for i, name in enumerate(ODD):
        assert index.search(unit(len(ODD))[i], 1)[0][0].id == name
    index = index.remove(ODD[:6])
    assert index.ids == sorted(ODD[6:])
    index = index.add(ODD[:6], unit(len(ODD))[:6], fingerprint=KEY)
    assert [index.search(row, 1)[0][0].id for row in unit(len(ODD))] == ODD


def test_another_encoder_is_refused_by_both_names(build):
    """mcp-vector-search 114: a model of the same width gives vectors that mean something else."""
    index = build(named(3), unit(3))
    reference = build.reference(index)
    assert open_index(reference, fingerprint=KEY).fingerprint == KEY
    for call in (
        lambda: open_index(reference, fingerprint="other-2"),
        lambda: index.add(["x"], unit(1), fingerprint="other-2"),
        lambda: index.add(["x"], unit(1, 3), fingerprint="other-2"),
    ):
        with pytest.raises(ModelMismatch, match=r"minilm-1.*other-2"):
            call()
    assert len(open_index(reference)) == 3


def test_an_index_that_another_encoder_built_anew_is_not_mixed_up(build):
    index = build(named(3), unit(3))
    build(named(3), unit(3, seed=8), reference=build.reference(index), fingerprint="other-2", anew=True)
    with pytest.raises(ModelMismatch, match=r"other-2.*minilm-1"):
        index.add(["x"], unit(1), fingerprint=KEY)
    with pytest.raises(ModelMismatch, match=r"other-2.*minilm-1"):
        open_index(build.reference(index), fingerprint=KEY)


def test_removing_shifts_no_id(build):
    """haystack 6228: after a removal in a flat index, the hit for document 7 was document 8."""
    index = build(named(20), unit(20)).remove(["d003", "d011"])
    for i in (2, 7, 12, 19):
        assert index.search(unit(20)[i], 1)[0][0].id == f"d{i:03d}"
    assert len(index) == 18 and len(index.search(unit(1, seed=3), 20)[0]) == 18
    with pytest.raises(BadInput, match='no "d003"'):
        index.remove(["d004", "d003"])
    assert "d004" in index.ids  # all or nothing


def test_what_was_removed_and_added_again_is_a_fresh_build(build):
    fresh, queries = build(named(20), unit(20), meta=META), unit(4, seed=7)
    index = build(named(12), unit(20)[:12], meta=META[:12])
    index = index.remove(named(12)[3:9])
    order = [15, 3, 19, 4, 12, 5, 13, 6, 14, 7, 16, 8, 17, 18]
    index = index.add(
        [named(20)[i] for i in order], unit(20)[order], meta=[META[i] for i in order], fingerprint=KEY
    )
    assert index.ids == fresh.ids and index.columns == fresh.columns
    for where in (None, {"year": {"gte": 2002}}, {"n": None}, {"open": True, "venue": "WWW"}):
        assert index.search(queries, 20, where) == fresh.search(queries, 20, where)


def test_adding_what_is_there_gives_it_its_new_vector_and_columns(build):
    index = build(named(5), unit(5), meta=META[:5])
    index = index.add(["d002"], unit(1, seed=9), meta=[{"year": 1999}], fingerprint=KEY)
    assert len(index) == 5
    (hit,) = index.search(unit(1, seed=9), 5, {"year": 1999})[0]
    assert hit.id == "d002" and hit.score == pytest.approx(1, abs=1e-6)
    assert "d002" not in (index.matching({"venue": ["WWW", 'it\'s "ACL"; --']}) or [])


def test_two_that_were_opened_lose_nothing_of_each_other(build):
    first = build(named(3), unit(3))
    second = open_index(build.reference(first))
    first.add(["x"], unit(1), fingerprint=KEY)
    second.add(["y"], unit(1), fingerprint=KEY)
    assert open_index(build.reference(first)).ids == ["d000", "d001", "d002", "x", "y"]


WHERES = {
    "equal": ({"year": 2001}, lambda r: r["year"] == 2001),
    "at least": ({"year": {"gte": 2002}}, lambda r: r["year"] >= 2002),
    "between": ({"year": {"gt": 2000, "lt": 2002}}, lambda r: r["year"] == 2001),
    "between whole numbers": ({"year": {"gt": 2000.5, "lte": 2002.5}}, lambda r: r["year"] in (2001, 2002)),
    "half a year": ({"year": [2000.5, 2003.0]}, lambda r: r["year"] == 2003),
    "list": ({"year": [2000, 2003]}, lambda r: r["year"] in (2000, 2003)),
    "both": ({"venue": ["WWW"], "year": 2003}, lambda r: r["venue"] == "WWW" and r["year"] == 2003),
    "quotes": ({"venue": 'it\'s "ACL"; --'}, lambda r: r["venue"] != "WWW"),
    "text bounds": ({"venue": {"gt": "WW", "lt": "X"}}, lambda r: r["venue"] == "WWW"),
    "truth": ({"open": True}, lambda r: r["open"]),
    "untruth": ({"open": [False]}, lambda r: not r["open"]),
    "fraction": ({"share": {"gte": 0.375, "lt": 1}}, lambda r: 0.375 <= r["share"] < 1),
    "fraction equal": ({"share": 0.625}, lambda r: r["share"] == 0.625),
    "nothing is not 0": ({"n": {"lte": 5}}, lambda r: r["n"] is not None and r["n"] <= 5),
    "nothing": ({"n": None}, lambda r: r["n"] is None),
    "nothing or three": ({"n": [None, 3]}, lambda r: r["n"] in (None, 3)),
    "column of nulls": ({"none": 3}, lambda r: False),
    "bounds of nulls": ({"none": {"gte": 3}}, lambda r: False),
    "nulls of nulls": ({"none": [None, "x"]}, lambda r: True),
    "none such": ({"venue": "none such"}, lambda r: False),
}


CANNOT = {"qdrant": ["text bounds"]}
"""Store -> cases of a filter that it refuses."""


def test_a_filter_acts_before_the_search(store, build):
    index = build(named(20), unit(20), meta=META)
    query = unit(1, seed=4)
    assert index.columns == ["n", "none", "open", "share", "venue", "year"]
    for case, (where, test) in WHERES.items():
        if case in CANNOT.get(store, []):
            with pytest.raises(BadInput, match="cannot be compared by bounds"):
                index.search(query, 20, where)
            continue
        wanted = {f"d{i:03d}" for i, row in enumerate(META) if test(row)}
        assert {hit.id for hit in index.search(query, 20, where)[0]} == wanted, case
        assert index.matching(where) == sorted(wanted), case
        few = index.search(query, 2, where)[0]
        assert few == index.search(query, 20, where)[0][:2], case
    assert index.matching(None) is None


def test_what_a_filter_cannot_mean_is_said(build):
    index = build(named(20), unit(20), meta=META)
    for where, error, message in (
        ({"journal": "x"}, BadInput, 'no column "journal" to filter by; there are: n, none, open'),
        ({"year": {"above": 3}}, BadConfig, "bounds are"),
        ({"year": {}}, BadConfig, "no bound"),
        ({"venue": []}, BadConfig, "names no value"),
        ({"year": {"gte": "late"}}, BadInput, "cannot be compared"),
        ({"year": "2001"}, BadInput, "cannot be compared"),
        ({"open": 1}, BadInput, "cannot be compared"),
        ({"year": True}, BadInput, "cannot be compared"),
        ({"venue": 3}, BadInput, "cannot be compared"),
        ({"year": {"gte": None}}, BadInput, "cannot be compared"),
        ({"share": float("nan")}, BadInput, "cannot be compared"),
    ):
        with pytest.raises(error, match=message):
            index.search(unit(1), 3, where)


def test_names_of_columns_are_values_too(build):
    names = ["it's", 'a "b"', "x; DROP TABLE y", "meta ->> 'z'", "two words", "ünï"]
    index = build(named(2), unit(2), meta=[dict.fromkeys(names, "yes"), dict.fromkeys(names, "no")])
    assert index.columns == sorted(names)
    for name in names:
        assert [hit.id for hit in index.search(unit(1), 5, {name: "no"})[0]] == ["d001"]


def test_whole_numbers_become_numbers_when_one_is_added(build):
    first = build(["a"], unit(1), meta=[{"n": 3}])
    index = first.add(["b"], unit(1), meta=[{"n": 3.5}], fingerprint=KEY)
    assert index.matching({"n": {"gt": 3.2}}) == ["b"] and index.matching({"n": 3}) == ["a"]
    with pytest.raises(BadInput, match="different kinds"):
        index.add(["c"], unit(1), meta=[{"n": "three"}], fingerprint=KEY)
    assert len(open_index(build.reference(first))) == 2


def test_more_than_there_is_gives_what_there_is(build):
    index = build(named(2), unit(2))
    assert len(index.search(unit(1), 10)[0]) == 2
    assert len(index.search(unit(1), 5000)[0]) == 2
    empty = index.remove(named(2))
    assert empty.search(unit(2), 3) == [[], []] and len(empty) == 0 and empty.ids == []
    assert len(empty.add(["a"], unit(1), fingerprint=KEY)) == 1


def test_what_cannot_be_indexed_is_said_and_leaves_nothing(store, new_reference, build):
    for ids, vectors, meta, message in (
        (["a", "a"], unit(2), None, "same id"),
        (["a"], unit(2), None, "1 ids and vectors of shape"),
        (["a"], np.full((1, 3), np.nan, np.float32), None, "not finite"),
        ([3], unit(1), None, "wanted a text"),
        (["a\0b"], unit(1), None, "no text"),
        (["a", "b"], unit(2), [{"x": 1}, {"x": "1"}], "different kinds"),
        (["a", "b"], unit(2), [{"x": True}, {"x": 1}], "different kinds"),
        (["a"], unit(1), [{"x": [1]}], "rows are filtered by"),
        (["a"], unit(1), [{"x": 2**70}], "64 bits"),
        (["a"], unit(1), [{"x": float("inf")}], "finite"),
        (["a"], unit(1), [], "1 ids and 0 rows"),
    ):
        reference = new_reference(store)
        with pytest.raises(BadInput, match=message):
            build(ids, vectors, meta=meta, reference=reference)
        with pytest.raises(BadInput, match="no index"):
            open_index(reference)


def test_what_cannot_be_asked_is_said(build):
    index = build(named(2), unit(2))
    for queries, k, error, message in (
        (unit(1, 3), 1, BadInput, "length 8; queries have 3"),
        (np.full((1, 8), np.inf), 1, BadInput, "not finite"),
        (unit(1), 0, BadConfig, "at least 1"),
    ):
        with pytest.raises(error, match=message):
            index.search(queries, k)
    with pytest.raises(BadInput, match="length 8; these have 3"):
        index.add(["x"], unit(1, 3), fingerprint=KEY)


def test_an_index_is_replaced_on_request_alone(build):
    index = build(named(4), unit(4))
    reference = build.reference(index)
    with pytest.raises(BadConfig, match="holds an index already"):
        build(["z"], unit(1), reference=reference)
    assert open_index(reference).ids == named(4)
    build(["z"], unit(1, 5), reference=reference, anew=True)
    assert open_index(reference).ids == ["z"] and open_index(reference).dim == 5


def test_stores_have_the_verbs_of_the_contract(build):
    from gnomon.core.retrieval import Index

    index = build(["a"], unit(1))
    for name in ("add", "remove", "search", "matching"):
        wanted, has = (inspect.signature(getattr(kind, name)) for kind in (Index, type(index)))
        assert list(wanted.parameters) == list(has.parameters), name
