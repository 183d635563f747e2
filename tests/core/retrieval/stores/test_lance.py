"""LanceDB: what is its own."""

from datetime import timedelta

import numpy as np
import pytest

from gnomon.core.retrieval import build_index, open_index
from gnomon.core.retrieval.stores.generations import locked
from gnomon.errors import BadConfig

lancedb = pytest.importorskip("lancedb")

EYE = np.eye(4, dtype=np.float32)


@pytest.fixture
def reference(tmp_path):
    return f"lance:{tmp_path / 'l'}#x"


def test_a_second_writer_is_refused_while_the_first_writes(reference, tmp_path):
    index = build_index(reference, list("abcd"), EYE, fingerprint="f")
    with locked(tmp_path / "l" / ".x.lock", reference), pytest.raises(BadConfig, match="is writing"):
        index.remove(["a"])
    assert len(open_index(reference)) == 4 and len(index.remove(["a"])) == 3


def test_old_versions_are_swept_away(reference, tmp_path, monkeypatch):
    from gnomon.core.retrieval.stores import lance

    monkeypatch.setattr(lance, "KEPT", timedelta(milliseconds=1))
    index = build_index(reference, list("abcd"), EYE, fingerprint="f")
    for _ in range(5):
        index = index.remove(["a"]).add(["a"], EYE[:1], fingerprint="f")
    table = lancedb.connect(str(tmp_path / "l")).open_table("x")
    assert len(table.list_versions()) <= 3 and index.search(EYE[:1], 1)[0][0].id == "a"


def test_whole_numbers_of_64_bits_are_told_apart(reference):
    meta = [{"n": 2**62 + i} for i in range(4)]
    index = build_index(reference, list("abcd"), EYE, fingerprint="f", meta=meta)
    assert index.matching({"n": {"gt": 2**62 + 1}}) == ["c", "d"] and index.matching({"n": 2**62}) == ["a"]
