import json
import os
import shutil
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


TORCHRUN = ["torch.distributed.run", "--nproc_per_node", "2", "--master_port"]
ACCELERATE = ["accelerate.commands.launch", "--num_processes", "2", "--cpu", "--main_process_port"]


def start_two(launcher, folder, *more, **settings):
    # The launcher as it is, from its first import.
    run = partial(subprocess.run, capture_output=True, text=True, timeout=300)
    return start([sys.executable, "-m", *launcher, free_port()], folder, *more, run=run, **settings)


@pytest.mark.scale
@pytest.mark.parametrize(
    ("launcher", "settings"),
    [
        (TORCHRUN, {}),
        (ACCELERATE, {}),
        (TORCHRUN, {"sharded": True}),
        (TORCHRUN, {"sharded": True, "gradient_checkpointing": True, "packing": True, "max_length": 32}),
    ],
    ids=["torchrun", "accelerate", "sharded", "sharded, packed and recomputed"],
)
def test_two_processes_give_the_curve_of_one(launcher, settings, alone, tmp_path):
    done = start_two(launcher, tmp_path, dtype="float64", **settings)
    assert done.returncode == 0, done.stderr
    weights, losses = alone
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]  # the main process alone writes
    assert [line["loss"] for line in lines] == pytest.approx(losses, rel=1e-4)
    found = load_file(tmp_path / "weights.safetensors")
    assert max((found[name] - weights[name]).abs().max() for name in weights if name in found) < 1e-9


@pytest.mark.scale
def test_sharded_training_that_was_killed_continues_to_the_same_bits_and_on_one_process_as_well(
    alone, tmp_path
):
    settings = {"sharded": True, "checkpoint_every": 2, "dtype": "float64"}
    whole = start_two(TORCHRUN, tmp_path / "whole", **settings)
    assert whole.returncode == 0, whole.stderr
    assert start_two(TORCHRUN, tmp_path / "cut", "--die-at", "5", **settings).returncode != 0
    newest = max(path for path in (tmp_path / "cut" / "checkpoints").iterdir() if path.name[0] != ".")
    assert newest.name == "step-00000004"
    shutil.copytree(tmp_path / "cut", tmp_path / "one")
    assert start_two(TORCHRUN, tmp_path / "cut", **settings).returncode == 0
    expected, resumed = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    # The optimiser's shares were put together: one process reads them, and its weights are not split.
    model, history, _ = train_small(tmp_path / "one", TrainConfig(**SETTINGS), dtype=torch.float64)
    weights, losses = alone
    assert history.curve("loss") == pytest.approx(losses, rel=1e-4)
    assert max((p - weights[name]).abs().max() for name, p in model.named_parameters()) < 1e-9


@pytest.mark.scale
def test_adapters_on_a_16_bit_base_are_trained_sharded_as_they_are_whole(tmp_path):
    both = {}
    for name, settings in ("whole", {}), ("sharded", {"sharded": True}):
        done = start_two(TORCHRUN, tmp_path / name, dtype="bfloat16", rank=2, **settings)
        assert done.returncode == 0, done.stderr
        both[name] = load_file(tmp_path / name / "weights.safetensors")
    assert both["whole"].keys() == both["sharded"].keys()
    adapters = [name for name in both["whole"] if "lora_" in name]
    assert adapters
    for name, weight in both["whole"].items():
        if name in adapters:
            torch.testing.assert_close(both["sharded"][name], weight, atol=2e-3, rtol=0)
        else:
            assert torch.equal(both["sharded"][name], weight)
