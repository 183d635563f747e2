"""What a judge has said so far, line by line, so that a killed audit asks nothing twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.methods.calm.trials import Opinion, Trial, Verdict, verdict_of


class Journal:
    """An append-only file of verdicts.

    Args:
        path: the file; made on the first verdict. A last line that a kill cut off is forgotten.
        judge: whose verdicts are kept in it.
    """

    def __init__(self, path: Path, judge: str) -> None:
        self.path, self.judge = path, judge
        self.known: dict[str, Verdict] = {}
        if path.exists():
            whole = path.read_bytes()
            kept = whole[: whole.rfind(b"\n") + 1]
            if len(kept) < len(whole):
                path.write_bytes(kept)
            for number, line in enumerate(kept.decode("utf-8").splitlines(), 1):
                raw: dict[str, Any] = json.loads(line)
                row = records.parse(raw, Verdict, f"{path}, line {number}")
                self.known[row.key] = row
        path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = path.open("a", encoding="utf-8", buffering=1)

    def add(self, trial: Trial, opinion: Opinion) -> Verdict:
        """Write down one opinion. One that failed is not kept: it is asked again."""
        row = verdict_of(self.judge, trial, opinion)
        self.known[row.key] = row
        if row.status != "failed":
            self._stream.write(records.to_line(row))
        return row

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
