"""Helpers for tests that ask a language model."""

import json
from pathlib import Path

from gnomon.core.llm import Retried
from gnomon.core.llm.books import CAPTION


def hurry(llm):
    """Make the attempts of a connected model follow each other at once; returns the model."""
    inner = llm
    while not isinstance(inner, Retried):
        inner = inner.llm
    inner.first_s = 0.001
    return llm


def calls_of(folder):
    """The table of what was asked of language models in a run: role -> row, with the faults as counts by kind."""
    tables = json.loads((Path(folder) / "report.json").read_text())["tables"]
    (rows,) = [one["rows"] for one in tables if one["caption"] == CAPTION]
    return {row["role"]: {**row, "faults": _counts(row["faults"])} for row in rows}


def _counts(text):
    if text in (None, "none"):
        return {}
    return {kind: int(count) for kind, count in (part.split() for part in text.split(", "))}
