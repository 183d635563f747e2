import gzip
import json
import os
from pathlib import Path

import pytest

from gnomon.core.data.corpora import PythonSource, stdlib_functions


@pytest.fixture(scope="session")
def functions() -> list[PythonSource]:
    """Every second function of the standard library with 5 to 40 lines."""
    return list(stdlib_functions(5, 40))[::2]


@pytest.fixture(scope="session")
def humaneval() -> list[str]:
    """The 164 reference programs of HumanEval, where the file is at hand."""
    root = Path(os.environ.get("GNOMON_DATA", Path(__file__).resolve().parents[3].parent / "shared" / "data"))
    path = root / "code" / "HumanEval.jsonl.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand; set GNOMON_DATA to the folder that holds code/{path.name}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["prompt"] + row["canonical_solution"] for row in rows]
