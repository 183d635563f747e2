import json
import os
import shutil
import subprocess
import sys
import time
from itertools import chain

import numpy as np
import pytest

from fixtures_cats import CARS, CATS, card, generated, saved_model, student
from gnomon.core import records
from gnomon.core.data.documents import Row, read_rows
from gnomon.core.data.execute import map_shards, parts, rejected
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sieve import SieveModel
from gnomon.methods.sieve.fitting import KEPT, ApplyStep, outside_note, share_of


def rows_of(texts):
    return [Row(f"row {n}", {"text": text, "id": n}) for n, text in enumerate(texts)]


def content(sink):
    return [raw for _, raw in records.read_raw(sink)]


def same_files(a, b):
    assert [path.name for path in parts(a)] == [path.name for path in parts(b)]
    for path in parts(a):
        assert path.read_bytes() == (b / path.name).read_bytes()


@pytest.fixture
def step():
    return ApplyStep.of(saved_model())


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "pages.jsonl"
    records.write(path, generated(200))
    return path


def test_rows_keep_their_columns_and_gain_three(step, tmp_path):
    totals = map_shards(step, rows_of([*CATS, *CARS]), tmp_path, shard_rows=4, settings=step.settings)
    model = SieveModel.load(saved_model())
    scores = model.score([*CATS, *CARS]).tolist()
    assert content(tmp_path) == [
        {"text": text, "id": n, "sieve_score": scores[n], "sieve_pass": n < 3, "sieve_version": step.version}
        for n, text in enumerate([*CATS, *CARS])
    ]
    outside = sum(not 0.1 <= score <= 0.9 for score in scores)
    assert totals.sums == {"scored": 6, "passed": 3, "snippets": 6, "above": 3, "outside": outside}


def test_only_what_passes_is_written_when_asked(tmp_path):
    step = ApplyStep.of(saved_model(), keep="pass")
    totals = map_shards(step, rows_of([*CARS, *CATS]), tmp_path, settings=step.settings)
    assert [raw["id"] for raw in content(tmp_path)] == [3, 4, 5]
    assert totals.sums["scored"] == 6 and totals.written == 3


def test_another_threshold_or_share_needs_no_new_fit(tmp_path):
    draw, words = np.random.default_rng(0), " ".join([*CATS, *CARS]).split()
    texts = [" ".join(draw.choice(words, 7)) for _ in range(120)]
    scores = np.sort(SieveModel.load(saved_model()).score(texts))
    cuts = [float(np.quantile(scores, 1 - share)) for share in KEPT]
    SieveModel(student(), card(cuts=cuts)).save(tmp_path / "m")

    def passed(**options):
        sink = tmp_path / "-".join(map(str, options.items()))
        step = ApplyStep.of(tmp_path / "m", **options)
        totals = map_shards(step, rows_of(texts), sink, settings=step.settings)
        rows = content(sink)
        assert [row["sieve_pass"] for row in rows] == [
            row["sieve_score"] >= step.card.threshold for row in rows
        ]
        return totals.sums["passed"], step.card

    n_strict, strict = passed(threshold=float(scores[-10]))
    assert n_strict == 10
    assert strict.expected["pass rate"] == pytest.approx(10 / 120, rel=0.15)
    for share in (0.05, 0.25, 0.6):
        n_passed, other = passed(keep_share=share)
        assert n_passed == pytest.approx(120 * share, abs=2)
        assert other.expected["pass rate"] == pytest.approx(share, rel=0.05)
    assert passed()[1].threshold == 0.5
    # Work under one threshold is not continued under another.
    step = ApplyStep.of(tmp_path / "m", threshold=0.9)
    with pytest.raises(BadConfig, match="made with other settings"):
        map_shards(step, rows_of(texts), tmp_path / str(("keep_share", 0.05)), settings=step.settings)


def test_thresholds_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(BadConfig, match="Give one of them"):
        ApplyStep.of(saved_model(), threshold=0.5, keep_share=0.1)
    with pytest.raises(BadConfig, match=r"threshold must be in 0\.\.1; got 2"):
        ApplyStep.of(saved_model(), threshold=2)
    with pytest.raises(BadConfig, match=r"keep_share must be in 0\.00024\.\.1"):
        ApplyStep.of(saved_model(), keep_share=1e-5)
    with pytest.raises(BadInput, match="saved without the scores of its stream"):
        ApplyStep.of(saved_model(), keep_share=0.1)
    SieveModel.load(saved_model(), threshold=0.2)


def test_the_rule_decides_for_a_document(tmp_path):
    text = f"{CARS[0]}. {CARS[1]}. {CATS[2]}."
    found = {}
    for rule in ("any", "first", "mean", None):
        sink = tmp_path / str(rule)
        map_shards(ApplyStep.of(saved_model(), rule=rule), rows_of([text]), sink)
        found[rule] = content(sink)[0]["sieve_pass"]
    assert found == {"any": True, "first": False, "mean": False, None: True}


def test_pitfall_9_bad_rows_are_set_aside_with_the_reason_and_the_rest_goes_on(step, tmp_path):
    path = tmp_path / "pages.jsonl"
    lines = [
        json.dumps({"text": CATS[0]}).encode(), b'{"text": "\xff"}', b'{"body": "x"}', b'{"text": 5}', b"{",
        b'{"text": " "}', json.dumps({"text": CARS[0]}).encode(),
    ]  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    totals = map_shards(step, read_rows(path), tmp_path / "out", shard_rows=3, settings=step.settings)
    assert [raw["sieve_pass"] for raw in content(tmp_path / "out")] == [True, False]
    reasons = [raw["reason"] for raw in rejected(tmp_path / "out")]
    assert (totals.read, totals.written, totals.rejected) == (7, 2, 5)
    problems = [
        "not UTF-8",
        'field "text" is missing',
        "must be a string; got int",
        "not valid JSON",
        "holds no word",
    ]
    for line, (reason, problem) in enumerate(zip(reasons, problems, strict=True), 2):
        assert f"pages.jsonl, line {line}: " in reason and problem in reason


def test_another_model_does_not_continue_the_work(step, tmp_path):
    map_shards(step, rows_of(CATS), tmp_path / "out", settings=step.settings)
    SieveModel(student(), card(threshold=0.25)).save(tmp_path / "other")
    other = ApplyStep.of(tmp_path / "other")
    with pytest.raises(BadConfig, match="made with other settings"):
        map_shards(other, rows_of(CATS), tmp_path / "out", settings=other.settings)
    shutil.copytree(saved_model(), tmp_path / "moved")
    moved = ApplyStep.of(tmp_path / "moved")
    assert map_shards(moved, rows_of(CATS), tmp_path / "out", settings=moved.settings).resumed == 1


def test_a_model_that_changes_under_the_job_is_told(tmp_path):
    SieveModel(student(), card()).save(tmp_path / "m")
    step = ApplyStep.of(tmp_path / "m")
    SieveModel(student(), card(threshold=0.1)).save(tmp_path / "m")
    with pytest.raises(BadInput, match="the model has changed since this job began"):
        list(step(iter(rows_of(CATS))))


def test_each_machine_takes_its_blocks_and_none_is_lost():
    rows = list(range(1000))
    found = [list(share_of(iter(rows), shards=3, shard=n, block=64)) for n in range(3)]
    assert sorted(chain(*found)) == rows
    assert found[1][:65] == [*range(64, 128), 256]
    assert max(map(len, found)) - min(map(len, found)) <= 64
    with pytest.raises(BadConfig, match=r"shard must be in 0\.\.2; got 3"):
        list(share_of(rows, shards=3, shard=3, block=1))


def test_bad_choices(tmp_path):
    with pytest.raises(BadConfig, match="keep must be all or pass; got 'some'"):
        ApplyStep.of(saved_model(), keep="some")
    with pytest.raises(BadConfig, match='Did you mean "first"'):
        ApplyStep.of(saved_model(), rule="frist")
    with pytest.raises(BadInput, match="Name the folder that `gnomon sieve fit` left"):
        ApplyStep.of(tmp_path)


def test_pitfall_12_another_domain_is_told_by_its_scores():
    assert (
        outside_note(2, 100) == "2.0% of the snippets score outside the range seen in training (2% is usual)."
    )
    assert "40.0%" in outside_note(40, 100) and "may be of another kind" in outside_note(40, 100)
    assert outside_note(0, 0).startswith("0.0%")


@pytest.mark.slow
@pytest.mark.scale
def test_workers_change_nothing(step, corpus, tmp_path):
    for workers in (1, 2):
        map_shards(step, read_rows(corpus), tmp_path / f"local{workers}", workers=workers, shard_rows=30)
    same_files(tmp_path / "local1", tmp_path / "local2")


RAY = """
import json, sys
from pathlib import Path
import ray
from gnomon.core.data.execute import map_shards
from gnomon.methods.sieve.fitting.application import ApplyStep
from gnomon.core.data.documents import read_rows
from gnomon.methods.sieve.fitting.model import SieveModel

folder, corpus, sink, texts = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
map_shards(ApplyStep.of(folder), read_rows(corpus), sink, engine="ray", workers=2, shard_rows=30)
model = SieveModel.load(folder)
data = ray.data.from_items([{"text": text, "id": n} for n, text in enumerate(texts)])
rows = data.map_batches(model, batch_format="numpy", batch_size=4).take_all()
rows = sorted([row["id"], bool(row["sieve_pass"]), float(row["sieve_score"])] for row in rows)
print(json.dumps([rows, sorted(row["id"] for row in data.filter(model.keep).take_all())]))
"""


@pytest.mark.slow
@pytest.mark.scale
def test_ray_gives_the_same_files_and_takes_the_model_as_a_function(step, corpus, tmp_path):
    pytest.importorskip("ray")
    texts = [*CATS, *CARS]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", RAY, str(saved_model()), str(corpus), str(tmp_path / "ray"), json.dumps(texts)],
        env=environment, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    map_shards(step, read_rows(corpus), tmp_path / "local", shard_rows=30)
    same_files(tmp_path / "local", tmp_path / "ray")
    rows, kept = json.loads(done.stdout.splitlines()[-1])
    scores = SieveModel.load(saved_model()).score(texts).tolist()
    assert rows == [[n, n < 3, scores[n]] for n in range(6)] and kept == [0, 1, 2]


JOB = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
from gnomon.core.data.execute import map_shards
from gnomon.methods.sieve.fitting.application import ApplyStep
from gnomon.core.data.documents import read_rows

@dataclass(frozen=True)
class Slow:
    step: ApplyStep

    def __call__(self, rows):
        time.sleep(0.05)
        return self.step(rows)

if __name__ == "__main__":
    step = ApplyStep.of(sys.argv[1])
    map_shards(
        Slow(step), read_rows(sys.argv[2]), Path(sys.argv[3]), workers=int(sys.argv[4]), shard_rows=5, settings=step.settings
    )
"""


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_loses_and_doubles_nothing(step, corpus, tmp_path, workers):
    (tmp_path / "job.py").write_text(JOB)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    sink = tmp_path / "sink"
    job = [sys.executable, str(tmp_path / "job.py"), str(saved_model()), str(corpus), str(sink), str(workers)]
    killed = subprocess.Popen(job, env=environment)
    deadline = time.monotonic() + 60
    while len(list(sink.glob("_done/*.json"))) < 6 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert 6 <= len(list(sink.glob("_done/*.json"))) < 40
    subprocess.run(job, env=environment, check=True, timeout=200)
    map_shards(step, read_rows(corpus), tmp_path / "whole", shard_rows=5, settings=step.settings)
    same_files(tmp_path / "whole", sink)
    assert [raw["id"] for raw in content(sink)] == list(range(200))
