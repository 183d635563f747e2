"""Vectors of a corpus are those of its texts, whatever the shards and processes, and also after kill -9."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fixtures_process
from gnomon.core.data.execute import rejected
from gnomon.core.retrieval import Passage, TextEncoder, encode_corpus
from gnomon.core.retrieval.encoders import read_vectors
from gnomon.errors import BadConfig

TEXTS = [f"{'very ' * (i % 7)}long text number {i}" for i in range(25)]


def passages():
    texts = [*TEXTS[:10], "  ", *TEXTS[10:]]
    return [Passage(f"d{i}", "d", 0, len(text), text) for i, text in enumerate(texts)]


class Mortal:
    """Ends its process in the middle of a shard."""

    def __init__(self, encoder, texts):
        self.inner, self.left = encoder, texts
        self.fingerprint, self.too_long = encoder.fingerprint, encoder.too_long

    def encode(self, texts):
        self.left -= len(texts)
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.encode(texts)


def test_a_killed_job_goes_on_and_has_every_vector_once(checkpoint, tmp_path):
    folder, sink = checkpoint("llama"), tmp_path / "vectors"
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[3]); import test_encode_corpus as t\n"
        "t.encode_corpus(t.Mortal(t.TextEncoder.load(sys.argv[1]), 12), t.passages(), Path(sys.argv[2]), shard_rows=4)"
    )
    here = str(Path(__file__).parent)
    done = fixtures_process.run([sys.executable, "-c", code, str(folder), str(sink), here])
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(sink.glob("part-*.parquet"))) == 3
    encoder = TextEncoder.load(folder)
    totals = encode_corpus(encoder, passages(), sink, shard_rows=4)
    assert (totals.read, totals.written, totals.rejected, totals.resumed) == (26, 25, 1, 3)
    ids, vectors = read_vectors(sink)
    assert ids == [f"d{i}" for i in range(26) if i != 10]
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS), atol=1e-6)
    assert vectors.dtype == np.float32
    assert [row["record"] for row in rejected(sink)] == [{"id": "d10"}]
    assert sum(pq.read_table(path).num_rows for path in sink.glob("part-*.parquet")) == 25


def test_several_processes_give_the_same_files(checkpoint, tmp_path):
    encoder = TextEncoder.load(checkpoint("llama"), prefixes={"passage": "a: "})
    encode_corpus(encoder, passages(), tmp_path / "one", shard_rows=8)
    encode_corpus(encoder, passages(), tmp_path / "two", shard_rows=8, workers=2)
    assert read_vectors(tmp_path / "one")[0] == read_vectors(tmp_path / "two")[0]
    np.testing.assert_allclose(
        read_vectors(tmp_path / "one")[1], read_vectors(tmp_path / "two")[1], atol=1e-6
    )


def test_another_encoder_is_refused(checkpoint, tmp_path):
    encode_corpus(TextEncoder.load(checkpoint("llama")), passages(), tmp_path / "vectors")
    with pytest.raises(BadConfig, match="other settings"):
        encode_corpus(TextEncoder.load(checkpoint("llama"), pooling="max"), passages(), tmp_path / "vectors")


WITH_RAY = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
import test_encode_corpus as t
folder, sink, die_after = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
class Progress:
    def advance(self, done):
        if die_after and len(list(sink.glob("_done/*.json"))) >= die_after:
            os.kill(os.getpid(), signal.SIGKILL)
encoder = t.TextEncoder.load(folder, prefixes={"passage": "a: "})
totals = t.encode_corpus(encoder, t.passages(), sink, engine="ray", workers=2, shard_rows=2, progress=Progress())
print(totals.read, totals.written, totals.rejected, totals.resumed)
"""


@pytest.mark.slow
@pytest.mark.scale
def test_ray_gives_the_vectors_of_one_process_and_goes_on_after_kill_9(checkpoint, tmp_path):
    """A real Ray on this machine. The job is killed when three shards of thirteen are done, and repeated."""
    pytest.importorskip("ray")
    folder, here = checkpoint("llama"), str(Path(__file__).parent)

    def job(sink, die_after):
        paths = os.pathsep.join([*filter(None, sys.path), here])
        command = [sys.executable, "-c", WITH_RAY, str(folder), str(sink), str(die_after), here]
        return fixtures_process.run(command, env=os.environ | {"PYTHONPATH": paths})

    done = job(tmp_path / "ray", 3)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "ray" / "_done").glob("*.json")}
    assert 3 <= len(finished) < 13
    done = job(tmp_path / "ray", 0)
    assert done.returncode == 0, done.stderr[-2000:]
    read, written, left_out, resumed = map(int, done.stdout.split())
    assert (read, written, left_out) == (26, 25, 1)
    assert len(finished) <= resumed < 13  # a worker may have ended its shard after the job was gone
    assert all(path.stat().st_mtime_ns == at for path, at in finished.items())
    encoder = TextEncoder.load(folder, prefixes={"passage": "a: "})
    encode_corpus(encoder, passages(), tmp_path / "one", shard_rows=2)
    ids, vectors = read_vectors(tmp_path / "ray")
    assert ids == read_vectors(tmp_path / "one")[0] == [f"d{i}" for i in range(26) if i != 10]
    np.testing.assert_array_equal(vectors, read_vectors(tmp_path / "one")[1])
    assert [row["record"] for row in rejected(tmp_path / "ray")] == [{"id": "d10"}]
