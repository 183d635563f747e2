"""Labels that people gave, as a judge."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.errors import BadInput
from gnomon.methods.sieve.judges import Verdict
from gnomon.methods.sieve.labels import read_label
from gnomon.methods.sieve.snippets import Snippet
from gnomon.methods.sieve.stream import same_words


class HumanLabels:
    """A file of labels as a judge: what is not in it has no verdict.

    Args:
        path: CSV or records with a column `label` (pass or fail, 1 or 0, true or false; empty: not labelled) and a column
            `snippet_id`, or `text`, which may differ from the snippet's in white space.
        name: what it is called in reports.

    Raises:
        BadInput: the file cannot be read, a column is missing, a label is no label, or two rows contradict each other.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or f"labels:{path}"
        self.is_simulated = False
        self._known: dict[str | int, tuple[int, str]] = {}
        for where, raw in read_table(path):
            if "label" not in raw or ("snippet_id" not in raw and "text" not in raw):
                has = ", ".join(f'"{name}"' for name in raw)
                raise BadInput(
                    f'{where}: labels need a column "label" and a column "snippet_id" or "text"; the row has {has}.'
                )
            label = read_label(raw["label"], where)
            if label is not None:
                self._take(raw, label, where)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """The label of each snippet, in order."""
        return [self._judge(snippet) for snippet in snippets]

    def _take(self, raw: dict[str, Any], label: int, where: str) -> None:
        keys = [raw["snippet_id"]] if raw.get("snippet_id") else []
        keys += [same_words(raw["text"])] if isinstance(raw.get("text"), str) else []
        for key in keys:
            before, place = self._known.setdefault(key, (label, where))
            if before != label:
                raise BadInput(
                    f"{where}: the label contradicts that of the same text at {place}. Keep one of them."
                )

    def _judge(self, snippet: Snippet) -> Verdict:
        found = self._known.get(snippet.snippet_id) or self._known.get(same_words(snippet.text))
        if found is None:
            return Verdict(None, model=self.name, problem="the file has no label for this snippet")
        return Verdict(found[0], "PASS" if found[0] else "FAIL", model=self.name)


def read_table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file or of records, each with the place it came from.

    Raises:
        BadInput: the file cannot be read; the message names file and row.
    """
    if path.suffix != ".csv":
        yield from records.read_raw(path)
        return
    row = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row, raw in enumerate(csv.DictReader(file), 2):  # the first row holds the names
                yield f"{path}, row {row}", {k: v for k, v in raw.items() if k is not None}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}, after row {row}: not UTF-8. Save the table as CSV in UTF-8.") from None
    except csv.Error as error:
        raise BadInput(f"{path}, after row {row}: not CSV ({error}).") from None
