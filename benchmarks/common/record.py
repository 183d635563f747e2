"""What all benchmarks share: sections that run one by one, and a record in which those that did not run keep their numbers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from gnomon.core.env import describe

Sections = Mapping[str, Callable[[], Any]]
"""Name -> what measures it."""


def main(name: str, about: str | None, sections: Sections, **more: Any) -> int:
    """Run sections on one thread and write `docs/results/bench-NAME.json`.

    Args:
        name: of the benchmark; its file has `_` for `-`.
        about: what `--help` says first.
        sections: what there is to run.
        more: what else the record tells.
    """
    parser = argparse.ArgumentParser(description=(about or "").split("\n", 1)[0])
    parser.add_argument("--only", nargs="*", choices=sections, default=list(sections), help="sections to run")
    parser.add_argument(
        "--out", type=Path, default=Path(f"docs/results/bench-{name}.json"), help="where to write"
    )
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    before = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    kept = {section: before[section] for section in sections if section in before}
    measured = {section: sections[section]() for section in options.only}
    command = f"python benchmarks/{name.replace('-', '_')}.py"
    record = {"command": command, **describe(), **more, **kept, **measured}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    json.dump({section: record[section] for section in sections if section in record}, sys.stdout, indent=2)
    print()
    return 0
