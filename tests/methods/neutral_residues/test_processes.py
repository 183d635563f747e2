"""Two processes of torchrun train what one trains; a killed training goes on to the same weights."""

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
from gnomon.core.models import tiny_causal, train_bpe
from gnomon.core.rng import Rng

pytestmark = pytest.mark.scale

SCRIPT = """
import sys
from gnomon.verbs import run_verb
from gnomon.registry import method
sys.exit(run_verb(method("neutral-residues"), "train", [*sys.argv[1:], "--quiet"]))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    tiny_causal("llama", train_bpe(["Words."], 259), folder / "model", generator=Rng(1))
    records.write(folder / "old.jsonl", [{"text": f"Words of the old domain, {i}."} for i in range(40)])
    records.write(folder / "new.jsonl", [{"text": f"x_{i} = [{i}, {i + 1}]"} for i in range(40)])
    (folder / "train.py").write_text(SCRIPT)
    return folder


def command(world, out, *launcher, steps=6):
    words = {
        "--model": world / "model", "--new": world / "new.jsonl", "--original": world / "old.jsonl", "--extra": 1, "--p": 0.4,
        "--alpha": 1.0, "--train.max-length": 12, "--train.batch-size": 6, "--train.max-steps": steps, "--train.epochs": 999,
        "--train.checkpoint-every": 2, "--train.lr": 3e-3, "--held-out": 0.3, "--device": "cpu", "--out": out,
    }  # fmt: skip
    flat = [str(word) for pair in words.items() for word in pair]
    return [sys.executable, *launcher, str(world / "train.py"), *flat]


def environment():
    return {
        **os.environ,
        "PYTHONPATH": str(Path(gnomon.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }


@pytest.fixture(scope="module")
def alone(world):
    done = fixtures_process.run(command(world, world / "one"), env=environment())
    assert done.returncode == 0, done.stderr
    return load_file(world / "one" / "model" / "extension.safetensors")


def test_two_processes_train_what_one_trains(world, alone):
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", free_port()]
    done = fixtures_process.run(command(world, world / "two", *launcher), env=environment())
    assert done.returncode == 0, done.stderr
    found = load_file(world / "two" / "model" / "extension.safetensors")
    assert found.keys() == alone.keys()
    assert max(float((found[name] - alone[name]).abs().max()) for name in alone) < 1e-4
    rows = [json.loads(line) for line in (world / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "grad_norm" in row] == [1, 2, 3, 4, 5, 6]


def test_a_killed_training_goes_on_to_the_same_weights(world):
    whole = fixtures_process.run(command(world, world / "whole", steps=200), env=environment())
    assert whole.returncode == 0
    process = fixtures_process.start(command(world, world / "cut", steps=200), env=environment())
    checkpoints = world / "cut" / "checkpoints"
    while not list(checkpoints.glob("step-*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (world / "cut" / "report.json").exists()
    again = fixtures_process.run(command(world, world / "cut", steps=200), env=environment())
    assert again.returncode == 0
    first, second = (load_file(world / name / "model" / "extension.safetensors") for name in ("whole", "cut"))
    assert all(bool((first[name] == second[name]).all()) for name in first)
    rows = [json.loads(line) for line in (world / "cut" / "metrics.jsonl").read_text().splitlines()]
    steps = [row["step"] for row in rows if "grad_norm" in row]
    assert steps == list(range(1, 201))
