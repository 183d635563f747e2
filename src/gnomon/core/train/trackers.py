"""Trackers: TensorBoard, Trackio and Weights & Biases are shown the numbers of every step, through accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gnomon.core.config import flatten
from gnomon.core.env import version
from gnomon.core.plain import to_plain
from gnomon.errors import MissingExtra


class Track(Protocol):
    """Shows one row."""

    def __call__(self, step: int, numbers: Mapping[str, float]) -> None:
        """The numbers of a step."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers whose package is missing.

    Raises:
        MissingExtra: one is.
    """
    for name in names:
        if version(name) is None:
            raise MissingExtra.of(name, "track")


@contextmanager
def tracking(names: Sequence[str], folder: Path, settings: Mapping[str, Any]) -> Iterator[Track]:
    """A function that shows trackers the numbers of a step, until the `with` block is left.

    Args:
        names: of the trackers.
        folder: of the training; they keep their files in `track` there, and call the run by its last two names.
        settings: of the training.
    """
    if not names:
        yield _nothing
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    own = folder / "track"
    own.mkdir(parents=True, exist_ok=True)
    run_name = "/".join(folder.resolve().parts[-2:])
    options: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": "tensorboard", "logging_dir": str(own)},
        "wandb": {"run_name": "gnomon", "name": run_name, "dir": str(own)},
        "trackio": {"run_name": "gnomon", "name": run_name},
    }
    trackers = [LOGGER_TYPE_TO_CLASS[name](**options[name]) for name in names]
    flat = {
        name: value if isinstance(value, int | float | str | bool) else str(value)
        for name, value in flatten(to_plain(settings)).items()
    }
    for tracker in trackers:
        tracker.start()
        tracker.store_init_configuration(flat)

    def show(step: int, numbers: Mapping[str, float]) -> None:
        for tracker in trackers:
            tracker.log(dict(numbers), step=step)

    try:
        yield show
    finally:
        for tracker in trackers:
            tracker.finish()


def _nothing(step: int, numbers: Mapping[str, float]) -> None:
    """No tracker is asked for."""
