import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.models import train_bpe
from gnomon.errors import BadInput
from gnomon.methods.neutral_residues.training import pack

TOKENIZER = train_bpe(["some words of a text"], 259)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=600))
def test_every_text_comes_back_behind_its_separator(texts):
    stream = pack(texts, TOKENIZER)
    assert stream.ids.dtype == np.uint16
    assert (stream.n_texts, stream.n_bytes) == (len(texts), sum(len(t.encode()) for t in texts))
    starts = np.flatnonzero(stream.ids == TOKENIZER.bos_token_id)
    parts = np.split(stream.ids, starts[1:])
    assert [TOKENIZER.decode(part[1:].tolist()) for part in parts] == texts


def test_rows_leave_out_the_rest_only():
    stream = pack(["abcdefg"], TOKENIZER)
    assert stream.rows(3).shape == (2, 3)
    assert stream.rows(3).ravel().tolist() == stream.ids[:6].tolist()
    with pytest.raises(BadInput, match="8 tokens in all, fewer than a row of 9"):
        stream.rows(9)


def test_a_file_is_written_once_and_mapped(tmp_path):
    def never():
        raise AssertionError("read again")
        yield

    first = pack(["one", "", "two"], TOKENIZER, tmp_path / "data" / "x.npy")
    again = pack(never(), TOKENIZER, tmp_path / "data" / "x.npy")
    assert isinstance(again.ids, np.memmap)
    assert again.ids.tolist() == first.ids.tolist() == pack(["one", "two"], TOKENIZER).ids.tolist()
    assert (again.n_texts, again.n_bytes) == (2, 6)


def test_no_text_is_said(tmp_path):
    with pytest.raises(BadInput, match="no poems: every text is empty"):
        pack(["", ""], TOKENIZER, name="poems")
