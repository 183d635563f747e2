import dataclasses
import subprocess
import sys

import pytest

from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("lr", -1.0, "train.lr must be > 0; got -1.0."),
        ("lr", float("nan"), "train.lr must be > 0; got nan."),
        ("batch_size", 0, "train.batch_size must be >= 1; got 0."),
        ("epochs", 0, "train.epochs must be >= 1; got 0."),
        ("micro_batch_size", 0, "train.micro_batch_size must be >= 1 or None; got 0."),
        ("max_steps", -3, "train.max_steps must be >= 1 or None; got -3."),
        ("lora_rank", 0, "train.lora_rank must be >= 1 or None; got 0."),
        ("max_length", 1, "train.max_length must be >= 2; got 1."),
        ("weight_decay", -0.1, "train.weight_decay must be >= 0; got -0.1."),
        ("warmup_ratio", 1.5, "train.warmup_ratio must be in 0..1; got 1.5."),
        ("grad_clip", 0.0, "train.grad_clip must be > 0 or None; got 0.0."),
        ("checkpoint_every", -1, "train.checkpoint_every must be >= 0; got -1."),
    ],
)
def test_bad_settings_are_named(field, value, said):
    with pytest.raises(BadConfig) as error:
        TrainConfig(**{field: value})
    assert str(error.value) == said


def test_words_are_checked_where_no_type_checker_runs():
    code = """
from gnomon.core.train.config import TrainConfig
from gnomon.errors import BadConfig
import sys
for field in ("schedule", "reduction", "precision"):
    try:
        TrainConfig(**{field: "nonsense"})
    except BadConfig as error:
        print(error)
from gnomon.core.models.sampling.config import GenConfig
heavy = {"torch", "transformers", "accelerate", "numpy", "jaxtyping"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_with_src())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        'train.schedule must be "linear" or "cosine" or "constant"; got "nonsense".',
        'train.reduction must be "sum" or "token_mean"; got "nonsense".',
        'train.precision must be "no" or "bf16"; got "nonsense".',
    ]


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0


def _with_src():
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
