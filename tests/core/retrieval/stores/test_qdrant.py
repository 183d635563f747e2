"""Qdrant's embedded twin: what is its own."""

import numpy as np
import pytest

from gnomon.core.retrieval import build_index, open_index
from gnomon.errors import BadConfig, BadInput

pytest.importorskip("qdrant_client")


def test_a_search_for_an_index_that_is_not_there_leaves_no_folder(tmp_path):
    with pytest.raises(BadInput, match="no index"):
        open_index(f"qdrant:{tmp_path / 'q'}#x")
    assert not (tmp_path / "q").exists()


def test_a_build_anew_leaves_one_collection(tmp_path):
    reference = f"qdrant:{tmp_path / 'q'}#x"
    for i in range(3):
        vectors = np.eye(4, dtype=np.float32)
        index = build_index(reference, list("abcd"), vectors, fingerprint=f"f{i}", anew=i > 0)
    build_index(f"qdrant:{tmp_path / 'q'}#other", ["z"], vectors[:1], fingerprint="g")
    assert len(index._client.get_collections().collections) == 2
    assert open_index(reference, fingerprint="f2").ids == list("abcd")


def test_a_server_that_is_not_there_and_a_key_in_a_reference_are_said():
    with pytest.raises(BadConfig, match="cannot be reached"):
        open_index("qdrant:http://127.0.0.1:9#x")
    with pytest.raises(BadConfig, match="holds a password") as caught:
        open_index("qdrant:http://127.0.0.1:9?api_key=s3cret#x")
    assert "s3cret" not in str(caught.value)


def test_whole_numbers_that_a_float_cannot_hold_are_not_compared(tmp_path):
    index = build_index(
        f"qdrant:{tmp_path / 'q'}#x", ["a"], np.eye(2, dtype=np.float32)[:1], fingerprint="f", meta=[{"n": 3}]
    )
    with pytest.raises(BadInput, match="2\\^53"):
        index.search(np.eye(2, dtype=np.float32), 1, {"n": {"gt": 2**60}})
