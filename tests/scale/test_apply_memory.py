import importlib.util
from pathlib import Path

import pytest

from fixtures_cats import generated, saved_model

_path = Path(__file__).parents[2] / "benchmarks" / "common" / "apply_memory.py"
_spec = importlib.util.spec_from_file_location("apply_memory", _path)
apply_memory = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(apply_memory)


@pytest.mark.slow
@pytest.mark.scale
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_rows():
    few, many = (apply_memory.measure(saved_model(), generated(n)) for n in (5_000, 50_000))
    assert (few["rows"], many["rows"]) == (5_000, 50_000)
    # 45,000 more rows are 9 MiB of text alone, and several times that as objects
    assert many["driver_mib"] < few["driver_mib"] + 6
