"""Milvus: its embedded twin, a stand-in for a server that takes values beside a filter, and filters of hostile texts."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gnomon.core.retrieval import build_index, open_index
from gnomon.core.retrieval.hits import conditions
from gnomon.errors import BadConfig, BadInput

pytest.importorskip("milvus_lite")

from gnomon.core.retrieval.stores.milvus import vectors as milvus
from gnomon.core.retrieval.stores.milvus.filters import Filter, encoded

EYE = np.eye(4, dtype=np.float32)
HOSTILE = [
    '" or key != "',
    "' or 1 == 1 or '",
    '\\" or true or meta["c0"] == \\"',
    "x\\",
    '\\\\"',
    "a\nb\r\tc",
    "{v0}",
    "{v1} or {v0}",
    '") or ("" == "',
    "] or [",
    "not exists",
    "é 書 🦔 \u202e\u2028",
    "%_\\u0041",
    "",
    "$meta",
    "null",
    "true",
    "3",
]


@pytest.fixture
def reference(tmp_path):
    return f"milvus:{tmp_path / 'm'}#x-1_y"


texts = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.text(alphabet="\"'\\{}v01()[] or&|=!<>\n", max_size=12),
)


@given(first=texts, second=texts, bound=texts)
def test_a_text_never_changes_what_a_filter_is_made_of(first, second, bound):
    """By the words of Milvus's own reader: they are those of a harmless filter, and the texts come out of it as they went in."""
    from milvus_lite.search.filter.tokens import TokenKind, tokenize

    def words(a, b, c):
        where = {"t": [a, b], "u": {"gte": c}}
        return tokenize(Filter.of(conditions(where, {"t": "str", "u": "str"}), {"t": "c0", "u": "c1"}).filled)

    hostile, harmless = words(first, second, bound), words("a", "b", "c")
    assert [word.kind for word in hostile] == [word.kind for word in harmless]
    strings = [word.value for word in hostile if word.kind is TokenKind.STRING]
    assert [bytes.fromhex(strings[i]).decode() for i in (1, 3, 5)] == [first, second, bound]
    assert [strings[i] for i in (0, 2, 4)] == ["c0", "c0", "c1"]


@given(values=st.lists(texts, max_size=3), number=st.integers(-(2**63) + 1, 2**63 - 1), share=st.floats())
def test_what_is_written_into_a_filter_has_no_letter_of_a_value(values, number, share):
    share = 0.5 if share != share or share in (float("inf"), -float("inf")) else share
    where = {"t": [*values, None], "n": number, "f": {"lt": share}, "b": [True, False]}
    kinds = {"t": "str", "n": "int", "f": "float", "b": "bool"}
    chosen = Filter.of(conditions(where, kinds), {"t": "c0", "n": "c1", "f": "c2", "b": "c3"})
    assert re.fullmatch(r'(meta\["c[0-9]"\]|\{v[0-9]+\}|not exists|and|or|==|<|[() ])+', chosen.text)
    literals = re.sub(r'meta\["c[0-9]"\]|not exists|and|or|==|<', "", chosen.filled)
    assert re.fullmatch(r'("[0-9a-f]*"|true|false|-?[0-9]+(\.[0-9]+)?(e[+-][0-9]+)?|[() ])*', literals)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    ids = [f"r{i:02d}" for i in range(len(HOSTILE))]
    meta = [{"t": text, "n": i} for i, text in enumerate(HOSTILE)]
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4)).astype(np.float32)
    at = f"milvus:{tmp_path_factory.mktemp('h') / 'm'}#x"
    return build_index(at, ids, vectors, fingerprint="f", meta=meta)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, low=texts, high=texts)
def test_hostile_texts_match_themselves_and_are_ordered_as_texts(hostile, text, low, high):
    def rows(test):
        return [f"r{i:02d}" for i, other in enumerate(HOSTILE) if test(other)]

    assert hostile.matching({"t": text}) == rows(lambda other: other == text)
    assert hostile.matching({"t": {"gte": low, "lt": high}}) == rows(lambda other: low <= other < high)
    assert hostile.matching({"t": [text, None], "n": {"lt": 9}}) == rows(
        lambda other: other == text and HOSTILE.index(other) < 9
    )
    hits = hostile.search(EYE[:1], 30, {"t": text})[0]
    assert [hit.id for hit in hits] == rows(lambda other: other == text)


def test_names_of_columns_are_no_part_of_a_filter(reference):
    meta = [dict.fromkeys(HOSTILE, "yes"), dict.fromkeys(HOSTILE, "no")]
    index = build_index(reference, ["a", "b"], EYE[:2], fingerprint="f", meta=meta)
    for name in HOSTILE:
        assert index.matching({name: "no"}) == ["b"], name


def test_numbers_at_the_ends_of_their_kinds_are_told_apart(reference):
    whole = [2**63 - 1, 2**63 - 2, -(2**63) + 1, -(2**63) + 2]
    broken = [5e-324, 1.7e308, -1e-7, 1e16]
    meta = [{"n": n, "f": f} for n, f in zip(whole, broken, strict=True)]
    index = build_index(reference, list("abcd"), EYE, fingerprint="f", meta=meta)
    for i, name in enumerate("abcd"):
        assert index.matching({"n": whole[i]}) == [name] and index.matching({"f": broken[i]}) == [name]
    assert index.matching({"n": {"gt": -(2**63) + 1}}) == ["a", "b", "d"]
    assert index.matching({"f": {"gte": 1e16}}) == ["b", "d"]


def test_a_search_for_an_index_that_is_not_there_leaves_no_folder(tmp_path, reference):
    with pytest.raises(BadInput, match="no index"):
        open_index(reference)
    assert not (tmp_path / "m").exists()


def test_names_that_milvus_writes_alike_are_not_mixed(tmp_path):
    names = ["a-b", "a_mb", "a__b", "a_b", "a", "a_v1", "9"]
    for name in names:
        build_index(f"milvus:{tmp_path / 'm'}#{name}", [name], EYE[:1], fingerprint="f")
    for name in names:
        assert open_index(f"milvus:{tmp_path / 'm'}#{name}").ids == [name]


def test_a_server_that_is_not_there_and_a_token_in_a_reference_are_said():
    with pytest.raises(BadConfig, match="cannot be reached"):
        open_index("milvus:http://127.0.0.1:9#x")
    with pytest.raises(BadConfig, match="holds a password") as caught:
        open_index("milvus:http://127.0.0.1:9?token=s3cret#x")
    assert "s3cret" not in str(caught.value)


def test_an_id_that_milvus_cannot_hold_is_said(reference):
    build_index(reference, ["é" * 32_767], EYE[:1], fingerprint="f")
    with pytest.raises(BadInput, match="65,535 bytes"):
        build_index(reference, ["é" * 32_768], EYE[:1], fingerprint="f", anew=True)
    assert open_index(reference).ids == ["é" * 32_767]


def test_more_hits_than_a_server_returns_at_once_are_all_there(reference, monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    index = build_index(reference, [f"d{i:03d}" for i in range(300)], vectors, fingerprint="f")
    whole = index.search(vectors[:2], 250)
    monkeypatch.setattr(milvus, "WINDOW", 200)
    assert index.search(vectors[:2], 250) == whole and index.search(vectors[:2], 7)[0] == whole[0][:7]


def test_a_graph_is_built_where_it_is_wanted(reference):
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"d{i:03d}" for i in range(300)]
    index = build_index(reference, ids, vectors, fingerprint="f", approximate=True)
    name, about = index._current()
    assert index._at.client.describe_index(name, "vector")["index_type"] == "HNSW" and about["approximate"]
    plain = build_index(reference, ids, vectors, fingerprint="f", anew=True)
    name, _ = plain._current()
    assert plain._at.client.describe_index(name, "vector")["index_type"] == "FLAT"
    assert index.search(vectors[:5], 3)[2][0].id == "d002"


DYING = """
import os, signal, sys
import numpy as np
from gnomon.core.retrieval import build_index, open_index
from gnomon.core.retrieval.stores.milvus import server
server.BATCH = 10
name, reference, ids = sys.argv[1], sys.argv[2], [f"d{i:03d}" for i in range(40)]
vectors = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
upsert, calls = server.Server.upsert, []
def dying(self, *rows):
    plain = self.client.upsert
    def one(*args):
        calls.append(args)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(*args)
    self.client.upsert = one
    upsert(self, *rows)
server.Server.upsert = dying
if name == "build":
    build_index(reference, ids, vectors, fingerprint="f", anew=True)
else:
    open_index(reference).add(ids, vectors, fingerprint="f", meta=[{"late": 1}] * 40)
"""


@pytest.mark.parametrize("verb", ["build", "add"])
def test_what_was_there_is_there_after_kill_9_and_the_work_can_be_done_again(reference, verb):
    """A client that is killed after two of four batches."""
    old = ["a", "b"]
    build_index(reference, old, EYE[:2], fingerprint="f")  # no handle is left: the folder is free
    child = [sys.executable, "-c", DYING, verb, reference]
    done = subprocess.run(child, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=120)
    assert done.returncode == -signal.SIGKILL
    index = open_index(reference)
    ids = [f"d{i:03d}" for i in range(40)]
    assert index.ids == (old if verb == "build" else [*old, *ids[:20]])
    assert [hit.id for hit in index.search(EYE[:1], 1)[0]] == ["a"] or verb == "add"
    vectors = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
    if verb == "build":
        index = build_index(reference, ids, vectors, fingerprint="f", anew=True)
        assert (
            index.ids == ids and len(index._at.client.list_collections()) == 1
        )  # what was half filled is gone
    else:
        index.add(ids, vectors, fingerprint="f", meta=[{"late": 1}] * 40)
        assert index.ids == [*old, *ids] and index.matching({"late": 1}) == ids
    fresh = build_index(reference.replace("#x", "#z"), ids, vectors, fingerprint="f")
    assert [h.score for h in fresh.search(vectors[:1], 5)[0]] == [
        h.score for h in index.search(vectors[:1], 42)[0] if h.id.startswith("d")
    ][:5]


def test_a_folder_that_another_process_has_open_is_said(reference):
    index = build_index(reference, ["a"], EYE[:1], fingerprint="f")
    code = f"from gnomon.core.retrieval import open_index\nopen_index({reference!r})"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "open in another process" in done.stderr
    assert index.ids == ["a"]


@pytest.fixture
def server(tmp_path):
    """A stand-in for a server: the twin behind its wire, which fills the values that come beside a filter into it, as one does."""
    from concurrent import futures

    import grpc
    from milvus_lite import MilvusLite
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from pymilvus.grpc_gen import milvus_pb2_grpc

    requests = []

    class Filling(MilvusServicer):
        def Search(self, request, context):
            return super().Search(fill(request, "dsl"), context)

        def Query(self, request, context):
            return super().Query(fill(request, "expr"), context)

    def fill(request, where):
        text, values = getattr(request, where), request.expr_template_values
        requests.append((text, dict(values)))
        for name, value in values.items():
            literal = json.dumps(getattr(value, value.WhichOneof("val")))
            text = text.replace("{" + name + "}", literal)
        setattr(request, where, text)
        return request

    database = MilvusLite(str(tmp_path / "server"))
    listener = grpc.server(futures.ThreadPoolExecutor(4))
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Filling(database), listener)
    port = listener.add_insecure_port("127.0.0.1:0")
    listener.start()
    yield f"milvus:http://127.0.0.1:{port}", requests
    listener.stop(grace=0.5).wait()
    database.close()


def test_a_server_gets_values_beside_the_filter(server):
    address, requests = server
    meta = [{"t": text, "n": i, "f": i / 8, "b": i % 2 == 0} for i, text in enumerate(HOSTILE)]
    ids = [f"r{i:02d}" for i in range(len(HOSTILE))]
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4)).astype(np.float32)
    index = build_index(f"{address}#x", ids, vectors, fingerprint="f", meta=meta)
    for i, text in enumerate(HOSTILE):
        assert index.matching({"t": text}) == [ids[i]]
        assert [hit.id for hit in index.search(EYE[:1], 5, {"t": text, "n": i})[0]] == [ids[i]]
    assert index.matching({"f": {"gte": 1.5}, "b": True}) == [ids[i] for i in range(12, 18, 2)]
    filters = [re.sub('key > "[0-9a-f]{32}"', "", text) for text, _ in requests if "meta" in text]
    assert len(filters) >= 2 * len(HOSTILE)
    for text in filters:
        assert re.fullmatch(r'(meta\["c[0-3]"\]|\{v[0-9]\}|and|==|>=|[() ])+', text), text
    values = [value.string_val for _, values in requests for value in values.values()]
    assert {encoded(text) for text in HOSTILE} <= set(values)


def test_a_server_has_all_rows_in_pages_and_rows_that_were_removed_and_added(server, monkeypatch):
    from gnomon.core.retrieval.stores.milvus import server as asks

    monkeypatch.setattr(asks, "BATCH", 7)
    monkeypatch.setattr(milvus, "BATCH", 7)
    address, _ = server
    vectors = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    ids = [f"d{i:03d}" for i in range(40)]
    index = build_index(f"{address}#x", ids, vectors, fingerprint="f")
    fresh = index.search(vectors[:3], 40)
    assert index.ids == ids and len(index) == 40
    index.remove(ids[5:25])
    assert index.ids == ids[:5] + ids[25:]
    assert index.add(ids[5:25], vectors[5:25], fingerprint="f").search(vectors[:3], 40) == fresh
    build_index(f"{address}#x", ["z"], EYE[:1], fingerprint="g", anew=True)
    assert open_index(f"{address}#x", fingerprint="g").ids == ["z"]
