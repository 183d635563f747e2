"""How fast edit paths are sampled, and that the fast ways give the paths of the slow one.

    python benchmarks/lintseq.py [--programs 24] [--out docs/results/bench-lintseq.json]

All ways take the same functions of the standard library (9 to 11 lines, shuffled by a seed) and the same
random draws, on one core, in one run. Times are CPU seconds of this process and its children, so that other
work on the machine counts little; ratios are what to look at. The plain way is one fresh run of pylint's
entry point per state, inside this process: the command itself, also measured, is slower still, because it
starts an interpreter each time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gnomon.core.data.corpora import stdlib_functions
from gnomon.core.data.execute import map_shards, parts
from gnomon.core.rng import Rng
from gnomon.methods.lintseq import Program, sample_path
from gnomon.methods.lintseq.edits import LintSeqStep
from gnomon.methods.lintseq.linters import (
    Diagnostic,
    LinterBackend,
    open_linter,
)
from gnomon.methods.lintseq.linters.pylint import entry_point_switches, run_pylint
from gnomon.methods.lintseq.programs import SourceProgram

LineSets = list[list[list[int]]]


class PlainPylint:
    """One fresh run of pylint's entry point per text."""

    name = "pylint"
    version = "one run per state"

    def check(self, text: str) -> list[Diagnostic]:
        """The messages of a run over `text`."""
        return run_pylint(text)


@dataclass(frozen=True)
class Way:
    """One way to sample paths."""

    name: str
    linter: LinterBackend
    memoise: bool
    incremental: bool


@dataclass(frozen=True)
class Timing:
    """What one way took for the same programs."""

    way: str
    paths_per_program: int
    seconds_per_program: float
    programs_per_s: float
    lints_per_path: float
    times_plain: float


def cpu_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def functions(count: int, seed: int) -> list[str]:
    found = [function.code for function in stdlib_functions(9, 11)]
    random.Random(seed).shuffle(found)
    return found[:count]


def sample(way: Way, codes: list[str], n_paths: int) -> tuple[LineSets, float, int]:
    """The line sets of all paths, the CPU seconds, and the number of texts linted."""
    paths: LineSets = []
    n_lints = 0
    before = cpu_seconds()
    for index, code in enumerate(codes):
        program = Program(code, linter=way.linter, memoise=way.memoise, incremental=way.incremental)
        paths += [sample_path(program, Rng(0).child(index, path)).line_sets for path in range(n_paths)]
        n_lints += program.n_lint_calls
    return paths, cpu_seconds() - before, n_lints


def compare(ways: list[Way], codes: list[str], n_paths: int) -> tuple[list[Timing], dict[str, LineSets]]:
    """Time every way on the same programs; the first is the plain one. The others get several rounds."""
    timings: list[Timing] = []
    paths: dict[str, LineSets] = {}
    plain = 0.0
    for way in ways:
        sample(way, codes[:2], 1)
        rounds = 1 if way is ways[0] else 3
        results = [sample(way, codes, n_paths) for _ in range(rounds)]
        paths[way.name], _, n_lints = results[0]
        seconds = sorted(result[1] for result in results)[rounds // 2] / len(codes)
        plain = plain or seconds
        lints = n_lints / len(codes) / n_paths
        timings.append(Timing(way.name, n_paths, seconds, 1 / seconds, lints, plain / seconds))
    return timings, paths


def time_command(codes: list[str]) -> float:
    """CPU seconds of the `pylint` command for one text."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "program.py"
        before = cpu_seconds()
        for code in codes:
            file.write_text(code, encoding="utf-8")
            subprocess.run(
                [sys.executable, "-m", "pylint", *entry_point_switches(), str(file)], capture_output=True
            )
        return (cpu_seconds() - before) / len(codes)


def time_call(check: Callable[[str], Any], codes: list[str]) -> float:
    before = cpu_seconds()
    for code in codes:
        check(code)
    return (cpu_seconds() - before) / len(codes)


def measure(n_programs: int, seed: int) -> dict[str, Any]:
    """The whole benchmark as one record."""
    codes = functions(n_programs, seed)
    pylint, pyflakes, ruff = (open_linter(name) for name in ("pylint", "pyflakes", "ruff"))
    plain = Way("pylint, one run per state", PlainPylint(), memoise=False, incremental=False)
    kept = Way("pylint", pylint, memoise=True, incremental=True)
    walked = Way("pyflakes, linting every state", pyflakes, memoise=False, incremental=False)
    tables = Way("pyflakes", pyflakes, memoise=True, incremental=True)
    spawned = Way("ruff", ruff, memoise=True, incremental=True)
    timings: list[Timing] = []
    identical = {"pylint": True, "pyflakes": True}
    for n_paths in (1, 5):
        found, paths = compare([plain, kept, walked, tables, spawned], codes, n_paths)
        timings += found
        identical["pylint"] &= paths[plain.name] == paths[kept.name]
        identical["pyflakes"] &= paths[walked.name] == paths[tables.name]
    return {
        "command": "python benchmarks/lintseq.py",
        "n_programs": n_programs,
        "seed": seed,
        "lines_per_program": "9-11",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "linters": {linter.name: linter.version for linter in (pylint, pyflakes, ruff)},
        "ms_per_lint": {
            "pylint command": 1e3 * time_command(codes[:4]),
            "pylint run in this process": 1e3 * time_call(run_pylint, codes),
            "pylint": 1e3 * time_call(pylint.check, codes),
            "pyflakes": 1e3 * time_call(pyflakes.check, codes),
            "ruff": 1e3 * time_call(ruff.check, codes),
        },
        "identical_paths": identical,
        "timings": [asdict(timing) for timing in timings],
        "workers": measure_workers(seed),
    }


def measure_workers(seed: int, n_programs: int = 600, n_paths: int = 5) -> dict[str, Any]:
    """Wall-clock seconds of the whole step with one and with two worker processes, pylint, and whether the files agree."""
    rows = [SourceProgram(i, "", code, "") for i, code in enumerate(functions(n_programs, seed))]
    step = LintSeqStep(seed=seed, samples=n_paths, linter="pylint")
    seconds, outputs = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for workers in (1, 2):
            sink = Path(folder) / str(workers)
            began = time.perf_counter()
            map_shards(step, rows, sink, workers=workers, shard_rows=20)
            seconds[workers] = time.perf_counter() - began
            outputs.append([path.read_bytes() for path in parts(sink)])
    return {
        "n_programs": n_programs,
        "paths_per_program": n_paths,
        "seconds_1_worker": seconds[1],
        "seconds_2_workers": seconds[2],
        "times_faster": seconds[1] / seconds[2],
        "identical": outputs[0] == outputs[1],
    }


def table(record: dict[str, Any]) -> str:
    """The record as text for a terminal."""
    lines = [f"{'way':<32}{'paths':>6}{'ms/program':>12}{'programs/s':>12}{'lints/path':>12}{'x plain':>9}"]
    for row in record["timings"]:
        lines.append(
            f"{row['way']:<32}{row['paths_per_program']:>6}{1e3 * row['seconds_per_program']:>12.2f}"
            f"{row['programs_per_s']:>12.1f}{row['lints_per_path']:>12.2f}{row['times_plain']:>9.1f}"
        )
    lines.append("")
    lines += [f"{name:<32}{value:>10.2f} ms per text" for name, value in record["ms_per_lint"].items()]
    workers = record["workers"]
    lines.append(
        f"\n2 workers: {workers['times_faster']:.2f}x of 1, files {'identical' if workers['identical'] else 'DIFFERENT'}\n"
    )
    lines += [
        f"{name}: edit paths {'identical' if same else 'DIFFERENT'}"
        for name, same in record["identical_paths"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--programs", type=int, default=24, help="programs per way")
    parser.add_argument("--seed", type=int, default=0, help="seed that shuffles the standard library")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/bench-lintseq.json"), help="where to write"
    )
    options = parser.parse_args()
    record = measure(options.programs, options.seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(table(record))
    return 0 if all(record["identical_paths"].values()) and record["workers"]["identical"] else 1


if __name__ == "__main__":
    sys.exit(main())
