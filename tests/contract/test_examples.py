"""Every method has a short example of its Python API, and it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gnomon import registry

ROOT = Path(__file__).resolve().parents[2]
WORKING = [method.slug for method in registry.METHODS if method.verbs]


@pytest.mark.slow
@pytest.mark.parametrize("slug", WORKING)
def test_the_example_is_short_and_runs(slug, tmp_path):
    script = ROOT / "examples" / f"{slug}.py"
    lines = [line for line in script.read_text("utf-8").splitlines() if line.strip()]
    assert 10 <= len(lines) <= 25
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
