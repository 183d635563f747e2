"""A metric in a program of the user's own: a row per line as JSON in, a number per line out."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Sequence

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.crispo.rows import Example

TIMEOUT_S = 600.0
"""Longest time for one prompt's predictions."""


def run_command(
    command: str, predictions: Sequence[str], rows: Sequence[Example], sources: Sequence[str]
) -> list[float]:
    """The numbers that a program gives for predictions. It is run without a shell.

    Args:
        command: the program and its arguments, quoted as in a shell.
        predictions: what was written.
        rows: what should have been.
        sources: what the model was given.

    Raises:
        BadConfig: there is no such program.
        BadInput: it fails, takes too long, or does not write one number per row.
    """
    lines = "".join(
        json.dumps({"id": row.id, "prediction": text, "reference": row.output, "input": source}) + "\n"
        for text, row, source in zip(predictions, rows, sources, strict=True)
    )
    words = shlex.split(command)
    try:
        done = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, IndexError) as error:
        raise BadConfig(
            f'Metric "command:{command}" cannot be run ({error}). Give a program and its arguments.'
        ) from None
    except subprocess.TimeoutExpired:
        raise BadInput(f'Metric "command:{command}" took longer than {TIMEOUT_S:g} s.') from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BadInput(f'Metric "command:{command}" ended with code {done.returncode}: {last}')
    said = done.stdout.split()
    if len(said) != len(rows):
        raise BadInput(
            f'Metric "command:{command}" wrote {len(said)} numbers for {len(rows)} rows. It must write one each.'
        )
    return [_number(command, word, row) for word, row in zip(said, rows, strict=True)]


def _number(command: str, word: str, row: Example) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadInput(
            f'Metric "command:{command}" wrote "{word}" for row "{row.id}"; it must write a number.'
        ) from None
