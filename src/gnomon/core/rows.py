"""The rows of `metrics.jsonl`: numbers of a run, appended as they come and taken back where work is done anew."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from gnomon.core.files import write_text
from gnomon.core.plain import to_plain


class MetricRows:
    """Rows of numbers in a file of JSON lines, each written at once.

    Args:
        path: the file; made by the first row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def append(self, numbers: Mapping[str, Any]) -> None:
        """Write one row."""
        if self._file is None:
            self._file = self.path.open("a", encoding="utf-8", buffering=1)
        self._file.write(json.dumps(to_plain(numbers)) + "\n")

    def rewind(self, where: Mapping[str, Any]) -> None:
        """Take back the rows that are at or behind `where`.

        Args:
            where: a number drops the rows whose value is above it; a text must be equal.
        """
        if not self.path.exists():
            return
        self.close()
        rows = [json.loads(line) for line in self.path.read_text("utf-8").splitlines()]
        kept = [row for row in rows if not _is_behind(row, where)]
        if len(kept) < len(rows):
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def close(self) -> None:
        """Close the file; a later row opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _is_behind(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(
        row.get(name) == limit if isinstance(limit, str) else name in row and row[name] > limit
        for name, limit in where.items()
    )
