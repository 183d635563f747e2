"""Two processes of torchrun roll out and train what one does; a killed training goes on to the same weights."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

import fixtures_process
import gnomon
from fixtures_training import free_port
from gnomon.core import records
from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng

pytestmark = pytest.mark.scale

SCRIPT = """
import sys
from gnomon.verbs import run_verb
from gnomon.registry import method
sys.exit(run_verb(method("ma-rlhf"), "train", [*sys.argv[1:], "--quiet"]))
"""

RULE = """
import time
def letters(prompts, completions, pause):
    time.sleep(float(pause[0]))
    return [sum(c.isalpha() for c in text) / 4 for text in completions]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    words = train_bpe(["say hello"] * 3, 262)
    new_llama(words, 16, 1, 2, 64, Rng(0), intermediate=32).save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    for name, pause in (("tasks", 0), ("slow", 0.05)):
        records.write(folder / f"{name}.jsonl", [{"prompt": f"say {i}", "pause": pause} for i in range(5)])
    (folder / "train.py").write_text(SCRIPT)
    (folder / "rule.py").write_text(RULE)
    return folder


def command(world, out, *launcher, steps=4, tasks="tasks"):
    words = {
        "--model": world / "model", "--reward": f"rule:{world}/rule.py:letters", "--macro.n": 3, "--ppo.gen.max-new-tokens": 10,
        "--train.batch-size": 6, "--train.max-steps": steps, "--train.epochs": 99, "--train.max-length": 32,
        "--train.checkpoint-every": 2, "--train.lr": 3e-3, "--train.schedule": "constant", "--train.warmup-steps": 0,
        "--device": "cpu", "--out": out,
    }  # fmt: skip
    flat = [
        str(world / f"{tasks}.jsonl"),
        "--ppo.whiten",
        *(str(word) for pair in words.items() for word in pair),
    ]
    return [sys.executable, *launcher, str(world / "train.py"), *flat]


def environment():
    return {
        **os.environ,
        "PYTHONPATH": str(Path(gnomon.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }


def numbers(folder):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward" in row]


def weights(folder):
    return {
        **{f"p.{n}": t for n, t in load_file(folder / "model" / "model.safetensors").items()},
        **{f"c.{n}": t for n, t in load_file(folder / "critic" / "model.safetensors").items()},
    }


def test_two_processes_train_what_one_trains(world):
    """Five tasks and six answers: shares of unequal tasks, and a whitening over all of them."""
    one = fixtures_process.run(command(world, world / "one"), env=environment())
    assert one.returncode == 0, one.stderr
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    two = fixtures_process.run(command(world, world / "two", *launcher), env=environment())
    assert two.returncode == 0, two.stderr
    ours, theirs = weights(world / "one"), weights(world / "two")
    assert ours.keys() == theirs.keys()
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in ours) < 1e-4
    alone, together = numbers(world / "one"), numbers(world / "two")
    assert [row["step"] for row in together] == [1, 2, 3, 4]
    for a, b in zip(alone, together, strict=True):
        assert all(a[name] == pytest.approx(b[name], abs=1e-4) for name in a), (a, b)


def test_a_killed_training_goes_on_to_the_same_weights(world):
    options = {"steps": 24, "tasks": "slow"}
    whole = fixtures_process.run(command(world, world / "whole", **options), env=environment())
    assert whole.returncode == 0, whole.stderr
    process = fixtures_process.start(command(world, world / "cut", **options), env=environment())
    while not list((world / "cut" / "checkpoints").glob("step-*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (world / "cut" / "report.json").exists()
    again = fixtures_process.run(command(world, world / "cut", **options), env=environment())
    assert again.returncode == 0, again.stderr
    first, second = weights(world / "whole"), weights(world / "cut")
    assert all(bool((first[name] == second[name]).all()) for name in first)
    assert numbers(world / "cut") == numbers(world / "whole")
    answers = [sorted((world / name / "answers").iterdir()) for name in ("whole", "cut")]
    assert [[path.name for path in mine] for mine in answers] == [[f"{i:06d}.json" for i in range(24)]] * 2
    assert all(a.read_text() == b.read_text() for a, b in zip(*answers, strict=True))
