"""Public data sets by name, through the `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gnomon.errors import BadInput
from gnomon.methods.truth_probes.tasks import Task


def open_hub(
    task: Task, split: str = "", *, repo: str | Path | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a task's data set, streamed, each with the place it came from.

    Args:
        task: which one.
        split: empty for the one that the task is usually read from.
        repo: another place that holds the same data, such as a local copy; None: the hub.

    Raises:
        BadInput: the task has no data set on the hub, or it cannot be opened.
    """
    if task.loader is None or not (repo or task.loader.repo):
        raise BadInput(
            f'The task "{task.name}" has no data set on the hub. Give a file with the columns "question" and "answer"'
            f"{' or those of a table of roles: movie, character, actor' if task.name == 'movies' else ''}."
        )
    import datasets

    place, split = str(repo or task.loader.repo), split or task.loader.split
    config = None if repo else task.loader.config
    try:
        stream = datasets.load_dataset(place, config, split=split, streaming=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f'{place}, split "{split}": the data set could not be opened ({first}). Download it, and name the file.'
        ) from None
    return ((f"{place}:{split}, row {number}", dict(raw)) for number, raw in enumerate(stream, 1))
