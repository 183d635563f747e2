import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gnomon.core import records
from gnomon.core.data.execute import Rejected, Tally, map_shards, parts, rejected
from gnomon.errors import BadConfig, MissingExtra, UserError, WorkLost


def double(rows, factor=2):
    for row in rows:
        if row["n"] % 5 == 4:
            yield Rejected("ends in 4 or 9", row)
        else:
            yield {"n": row["n"], "value": factor * row["n"]}
            yield {"n": row["n"], "value": factor * row["n"] + 1}
            yield Tally({"seen": 1})


def die(rows):
    for row in rows:
        if row["n"] == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        yield row


def fail(rows):
    for row in rows:
        if row["n"] == 7:
            raise BadConfig("seven is not allowed")
        yield row


def source(n):
    return [{"n": i} for i in range(n)]


def content(sink):
    return [raw for _, raw in records.read_raw(sink)]


EXPECTED = [{"n": n, "value": v} for n in range(23) if n % 5 != 4 for v in (2 * n, 2 * n + 1)]


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.scale)])
def test_output_is_the_source_s_order_whatever_the_workers(tmp_path, workers):
    totals = map_shards(double, source(23), tmp_path, workers=workers, shard_rows=4)
    assert content(tmp_path) == EXPECTED
    assert (totals.read, totals.written, totals.rejected) == (23, 38, 4)
    assert totals.sums == {"seen": 19}
    assert [row["record"]["n"] for row in rejected(tmp_path)] == [4, 9, 14, 19]
    assert len(parts(tmp_path)) == 6


@pytest.mark.scale
@pytest.mark.slow
def test_ray_gives_the_same_files(tmp_path):
    pytest.importorskip("ray")
    told = with_ray(
        tmp_path / "ray", "double", "print(done.read, done.written, done.rejected, done.sums['seen'])"
    )
    assert told.stdout.split() == ["23", "38", "4", "19"], told.stderr[-2000:]
    map_shards(double, source(23), tmp_path / "local", shard_rows=4)
    for path in parts(tmp_path / "local"):
        assert path.read_bytes() == (tmp_path / "ray" / path.name).read_bytes()


@pytest.mark.scale
@pytest.mark.slow
def test_an_error_of_the_step_comes_through_ray_as_it_is(tmp_path):
    pytest.importorskip("ray")
    told = with_ray(tmp_path / "ray", "fail", "")
    assert told.returncode == 1
    assert told.stderr.splitlines()[-1] == "gnomon.errors.BadConfig: seven is not allowed"


def with_ray(sink, step, then):
    """A job of 23 rows in an interpreter of its own: Ray leaves threads behind."""
    here = str(Path(__file__).parent)
    script = f"""
import sys, pathlib
sys.path.insert(0, sys.argv[2])
from test_execute import {step}, source
from gnomon.core.data.execute import map_shards
done = map_shards({step}, source(23), pathlib.Path(sys.argv[1]), engine="ray", workers=2, shard_rows=4)
{then}
"""
    return subprocess.run(
        [sys.executable, "-c", script, str(sink), here],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), here])},
        capture_output=True, text=True, timeout=180,
    )  # fmt: skip


def test_finished_shards_are_not_done_again(tmp_path):
    map_shards(double, source(23), tmp_path, shard_rows=4)
    for name in ("part-00001", "part-00003"):
        (tmp_path / "_done" / f"{name}.json").unlink()
        (tmp_path / f"{name}.jsonl").write_text('{"half": "wri')
    before = {path: path.stat().st_mtime_ns for path in parts(tmp_path)}
    totals = map_shards(double, source(23), tmp_path, shard_rows=4)
    assert totals.resumed == 4
    assert (totals.read, totals.written) == (23, 38)
    assert content(tmp_path) == EXPECTED
    touched = [path.name for path, at in before.items() if path.stat().st_mtime_ns != at]
    assert touched == ["part-00001.jsonl", "part-00003.jsonl"]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 40), shard_rows=st.integers(1, 50), lost=st.sets(st.integers(0, 39)))
def test_nothing_lost_or_doubled_whatever_shards_are_missing(tmp_path_factory, n, shard_rows, lost):
    sink = tmp_path_factory.mktemp("sink")
    map_shards(double, source(n), sink, shard_rows=shard_rows)
    for index in lost:
        (sink / "_done" / f"part-{index:05d}.json").unlink(missing_ok=True)
    totals = map_shards(double, source(n), sink, shard_rows=shard_rows)
    kept = [] if n == 0 else content(sink)
    assert kept == [{"n": i, "value": v} for i in range(n) if i % 5 != 4 for v in (2 * i, 2 * i + 1)]
    assert totals.read == n


def test_another_source_or_other_settings_are_refused(tmp_path):
    map_shards(double, source(10), tmp_path, shard_rows=4, settings={"factor": 2})
    with pytest.raises(BadConfig, match="made with other settings"):
        map_shards(double, source(10), tmp_path, shard_rows=4, settings={"factor": 3})
    with pytest.raises(BadConfig, match="the source has changed since part-00000"):
        map_shards(double, [{"n": 99}, *source(9)], tmp_path, shard_rows=4, settings={"factor": 2})


def test_bad_arguments(tmp_path):
    with pytest.raises(BadConfig, match="workers must be >= 1; got 0"):
        map_shards(double, source(1), tmp_path, workers=0)
    with pytest.raises(BadConfig, match="engine must be one of local, ray"):
        map_shards(double, source(1), tmp_path, engine="spark")


def test_ray_missing_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r'pip install "gnomon\[ray\]"'):
        map_shards(double, source(1), tmp_path, engine="ray")


@pytest.mark.scale
def test_a_worker_that_is_killed_is_told_and_the_rest_is_kept(tmp_path):
    with pytest.raises(WorkLost, match="Finished shards are kept"):
        map_shards(die, source(20), tmp_path, workers=2, shard_rows=2)
    totals = map_shards(partial(double, factor=1), source(20), tmp_path, workers=1, shard_rows=2)
    assert totals.read == 20


@pytest.mark.scale
def test_an_error_of_the_step_crosses_processes(tmp_path):
    with pytest.raises(UserError, match="seven is not allowed"):
        map_shards(fail, source(20), tmp_path, workers=2, shard_rows=2)


SLOW_JOB = """
import sys, time, pathlib
from gnomon.core.data.execute import map_shards

def slow(rows):
    for row in rows:
        time.sleep(0.02)
        yield {"n": row["n"]}

if __name__ == "__main__":
    map_shards(slow, ({"n": i} for i in range(120)), pathlib.Path(sys.argv[1]), workers=int(sys.argv[2]), shard_rows=4)
"""


def _is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _children(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout.split()
    return [int(child) for child in found] + [c for child in found for c in _children(int(child))]


@pytest.mark.scale
@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_loses_and_doubles_nothing(tmp_path, workers):
    script, sink = tmp_path / "job.py", tmp_path / "sink"
    script.write_text(SLOW_JOB)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = [sys.executable, str(script), str(sink), str(workers)]
    for _ in range(2):
        process = subprocess.Popen(job, env=environment)
        done = len(list(sink.glob("_done/*.json"))) if sink.exists() else 0
        deadline = time.monotonic() + 60
        while len(list(sink.glob("_done/*.json"))) < done + 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        workers_of = _children(process.pid)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(map(_is_alive, workers_of)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in workers_of if _is_alive(pid)], "workers outlive their job"
    marks = len(list(sink.glob("_done/*.json")))
    assert 6 <= marks < 30
    subprocess.run(job, env=environment, check=True, timeout=60)
    assert [row["n"] for row in content(sink)] == list(range(120))
    assert sum(json.loads(p.read_text())["read"] for p in sink.glob("_done/*.json")) == 120
