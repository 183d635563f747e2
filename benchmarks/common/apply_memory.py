"""Speed and memory of applying a model of the room `sieve`: a job in a process of its own, watched from outside (Linux)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_JOB = """
import sys, time
from pathlib import Path
from gnomon.core.data.execute import map_shards
from gnomon.methods.sieve.fitting.application import ApplyStep
from gnomon.core.data.documents import read_rows

if __name__ == "__main__":
    model, source, sink, workers, engine = sys.argv[1:]
    began = time.perf_counter()
    totals = map_shards(
        ApplyStep.of(model), read_rows(source), Path(sink), workers=int(workers), engine=engine, shard_rows=2048
    )
    # Not getrusage: its peak counts what the parent held before this program began.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    own = int(peak.split()[1]) / 1024
    print(totals.written, int(totals.sums["snippets"]), own, time.perf_counter() - began)
"""


def measure(
    model: Path, rows: Iterable[dict[str, Any]], *, workers: int = 1, engine: str = "local"
) -> dict[str, Any]:
    """Peak memory of applying `model` to as many rows, in MiB, and the speed.

    Args:
        model: folder of a saved model.
        rows: records, an iterable of dicts; written to a file first, so that the job reads as it would.
        workers: processes.
        engine: `local` or `ray`.

    Returns:
        `rows`, `snippets`, `workers`, `engine`, `driver_mib` (peak of the process that reads), `peak_mib` (peak of all processes
        together, shared pages counted once), `seconds` from file to file (wall clock; the start of workers counts, that of the job
        itself does not), and `snippets_per_s`.

    Raises:
        RuntimeError: the job failed; its messages stand above.
    """
    from gnomon.core import records

    with tempfile.TemporaryDirectory() as folder:
        source, job = Path(folder) / "rows.jsonl", Path(folder) / "job.py"
        records.write(source, rows)
        job.write_text(_JOB)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [
            sys.executable,
            str(job),
            str(model),
            str(source),
            str(Path(folder) / "out"),
            str(workers),
            engine,
        ]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        seen = _Watch(process.pid)
        told = process.communicate()[0].split()
        peak = seen.stop()
    if process.returncode:
        raise RuntimeError(f"the job ended with {process.returncode}")
    written, snippets, driver, seconds = int(told[-4]), int(told[-3]), float(told[-2]), float(told[-1])
    return {
        "rows": written,
        "snippets": snippets,
        "workers": workers,
        "engine": engine,
        "driver_mib": round(driver, 1),
        "peak_mib": round(max(peak, driver), 1),
        "seconds": round(seconds, 2),
        "snippets_per_s": round(snippets / seconds),
    }


class _Watch:
    """Samples the memory of a process and all that it started, as their proportional share of pages."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """End the watch; the peak in MiB."""
        self._over.set()
        self._thread.join()
        return self._peak

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._peak = max(self._peak, sum(map(_share_mib, _family(self._pid))))


def _family(pid: int) -> list[int]:
    try:
        children = [
            int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(one for child in children for one in _family(child))]


def _share_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except OSError:  # it has just ended
        pass
    return 0.0
