"""The miniature of lintseq, small: its data part whole, and of its learning part whether the machinery can learn at all.

What the paper claims about learning is not asserted here; it needs the size of `gnomon lintseq mini`.
"""

import json
import random
from dataclasses import replace

import pytest

from fixtures_training import SmallRun
from gnomon import cli
from gnomon.core.models import GenConfig, new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.core.train import TrainConfig
from gnomon.methods.lintseq import (
    Prompt,
    edit_pair,
    evaluate,
    program_pair,
    sample_edits,
    sample_local,
    train_edit_lm,
)
from gnomon.methods.lintseq.mini import ARMS, FUNCTION, SCALES, make_tasks, split_pairs
from gnomon.methods.lintseq.models import Problem

pytestmark = [pytest.mark.replication, pytest.mark.slow]


def mini(folder, *words):
    return cli.main(["lintseq", "mini", "--seeds", "1", "--out", str(folder), "--quiet", *words])


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_edits_under_a_linter_are_clean_and_exact_and_random_ones_are_not(tmp_path, monkeypatch):
    monkeypatch.setitem(SCALES, "mini", replace(SCALES["mini"], functions=60))
    assert mini(tmp_path / "run", "--parts", "data") == 0
    rows = {row["arm"]: row for row in summary(tmp_path / "run")["data"]}
    assert rows["lintseq"]["n_paths"] == rows["randseq"]["n_paths"] == 60
    assert (rows["lintseq"]["share_clean"], rows["lintseq"]["share_exact"]) == (1.0, 1.0)
    assert rows["randseq"]["share_exact"] == 1.0
    assert rows["randseq"]["share_clean"] < 0.5
    verdicts = json.loads((tmp_path / "run" / "report.json").read_text())["verdicts"]
    assert [verdict["outcome"] for verdict in verdicts] == ["holds", "holds"]


def test_the_learning_part_gives_the_same_again_and_keeps_finished_arms(tmp_path):
    assert mini(tmp_path / "run", "--scale", "smoke", "--parts", "learning") == 0
    first = summary(tmp_path / "run")["learning"]
    assert set(first) == set(ARMS)
    arms = {path.parent.name: path for path in tmp_path.glob("run/seed-0/*/samples.json")}
    assert len(arms) == 4
    kept = {name: path.stat().st_mtime_ns for name, path in arms.items() if name != "lintseq"}
    arms["lintseq"].unlink()  # as if the run had been killed in this arm
    (tmp_path / "run" / "report.json").unlink()
    assert mini(tmp_path / "run", "--scale", "smoke", "--parts", "learning") == 0
    assert summary(tmp_path / "run")["learning"] == first
    assert {name: arms[name].stat().st_mtime_ns for name in kept} == kept


@pytest.fixture(scope="module")
def tasks():
    """40 tasks, each with one program of its own."""
    train_pairs, _ = split_pairs(random.Random(0))
    return make_tasks(train_pairs, 40, random.Random(1))


@pytest.mark.parametrize("mode", ["editseq", "program"])
def test_a_model_can_learn_programs_by_heart(mode, tasks, tmp_path):
    """Training text, loss, mask, sampling, resolving and tests agree, or nothing would pass."""
    if mode == "editseq":
        paths = [
            sample_edits(t.programs[0], linter="pyflakes", rng=random.Random(i)) for i, t in enumerate(tasks)
        ]
        pairs = [
            edit_pair(task.instruction, path.diffs, i)
            for i, (task, path) in enumerate(zip(tasks, paths, strict=True))
        ]
    else:
        pairs = [program_pair(task.instruction, task.programs[0], i) for i, task in enumerate(tasks)]
    tokenizer = train_bpe([pair.instruction + pair.target for pair in pairs], 400)
    model = new_llama(tokenizer, 64, 2, 4, 320, Rng(0).child("model"))
    cfg = TrainConfig(lr=5e-3, batch_size=8, max_length=320, warmup_ratio=0.02, checkpoint_every=0)
    _, history, examples = train_edit_lm(
        model, tokenizer, pairs, mode, run=SmallRun(tmp_path), cfg=cfg, passes=60
    )
    assert examples.n_truncated == 0
    assert history.curve("loss")[-1] < 0.05
    prompts = [Prompt(task.task_id, task.instruction) for task in tasks]
    gen = GenConfig(max_new_tokens=280, temperature=0)
    samples = sample_local(model, tokenizer, prompts, mode, gen, rng=Rng(1), strict=True)
    problems = [
        Problem(t.task_id, t.instruction, "", "", FUNCTION, t.test_code, t.programs[0]) for t in tasks
    ]
    with SandboxPool(1, limits=Limits(timeout_s=5.0)) as pool:
        found = evaluate(problems, samples, pool=pool, ks=(1,))
    assert found.pass_at(1).mean() >= 0.95
    exact = sum(s.program == task.programs[0] for s, task in zip(samples, tasks, strict=True))
    assert exact >= 0.95 * len(tasks)
