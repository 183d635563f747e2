import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import fixtures_process
import fixtures_training
from fixtures_training import free_port, train_small
from gnomon.core.train import TrainConfig

SCRIPT = Path(fixtures_training.__file__)
SETTINGS = {"lr": 1e-2, "batch_size": 8, "epochs": 2, "micro_batch_size": 3}


def start(launcher, folder, *more, run=fixtures_process.run, **settings):
    import gnomon

    source = str(Path(gnomon.__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    command = [*launcher, str(SCRIPT), str(folder), json.dumps({**SETTINGS, **settings}), *more]
    return run(command, env=env)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The run of one process that is not disturbed, in float64: AdamW makes steps of what rounding leaves of no gradient."""
    cfg = TrainConfig(**SETTINGS)
    model, history, _ = train_small(tmp_path_factory.mktemp("alone"), cfg, dtype=torch.float64)
    return {name: tensor.detach() for name, tensor in model.named_parameters()}, history.curve("loss")


@pytest.mark.scale
def test_a_run_that_was_killed_continues_to_the_same_bits(tmp_path):
    cfg = TrainConfig(**SETTINGS, checkpoint_every=2)
    expected, whole, _ = train_small(tmp_path / "whole", cfg, dropout=0.2)
    killed = start([sys.executable], tmp_path / "cut", "--die-at", "5", checkpoint_every=2, dropout=0.2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    assert newest.name == "step-00000004"
    model, history, _ = train_small(tmp_path / "cut", cfg, dropout=0.2)
    assert history == whole
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True))


@pytest.mark.scale
@pytest.mark.parametrize(
    "launcher",
    [
        ["torch.distributed.run", "--nproc_per_node", "2", "--master_port"],
        ["accelerate.commands.launch", "--num_processes", "2", "--cpu", "--main_process_port"],
    ],
    ids=["torchrun", "accelerate"],
)
def test_two_processes_give_the_curve_of_one(launcher, alone, tmp_path):
    # The launcher as it is, from its first import.
    run = partial(subprocess.run, capture_output=True, text=True, timeout=300)
    done = start([sys.executable, "-m", *launcher, free_port()], tmp_path, run=run, dtype="float64")
    assert done.returncode == 0, done.stderr
    weights, losses = alone
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]  # the main process alone writes
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    found = load_file(tmp_path / "weights.safetensors")
    assert max((found[name] - weights[name]).abs().max() for name in weights if name in found) < 1e-9
