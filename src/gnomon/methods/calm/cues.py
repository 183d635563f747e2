"""The stimuli of the probes, read from one data file that a user may replace."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import room_file
from gnomon.errors import BadConfig, BadInput


@dataclass(frozen=True)
class Cues:
    """Sentences and names that probes put before a judge; `{cued}` is the letter of the answer a cue speaks for."""

    majority: str
    """Says that `{percent}`% of people prefer an answer."""
    percents: list[int]
    """The doses of `majority`."""
    group: str
    """Says that the author of an answer is `{group}`."""
    groups: dict[str, str]
    """Name of a group -> how it is put."""
    asides: list[str]
    """Remarks beside the point."""
    names: list[list[str]]
    """Pairs of model names, the well-known one first."""
    citations: dict[str, str]
    """Kind of source -> the sentence that names it; `{page}` is a number."""
    tones: dict[str, list[str]]
    """Tone -> how an answer begins and ends in it."""
    fallacies: dict[str, str]
    """Kind of fallacy -> a sentence that commits it."""
    ratios: list[float]
    """How many times as long a padded answer is."""
    padding: list[str]
    """Sentences that say nothing new."""


def load_cues(path: Path | None = None) -> Cues:
    """The cues of a YAML file; those of the room by default.

    Raises:
        BadInput: the file cannot be read, or a field is missing or of another type.
        BadConfig: a sentence lacks its placeholder, or a list is empty.
    """
    import yaml

    where = "cues.yaml" if path is None else str(path)
    try:
        text = (
            room_file(__name__, "prompts/cues.yaml").read_text("utf-8")
            if path is None
            else path.read_text("utf-8")
        )
        raw: Any = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(f"{where}: cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise BadInput(f"{where}: not a YAML file of cues. Compare the room's prompts/cues.yaml.") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{where}: cues are a mapping of names to values.")
    cues = records.parse(raw, Cues, where)
    for field in fields(Cues):
        if not getattr(cues, field.name):
            raise BadConfig(f"{where}: {field.name} must not be empty.")
    needed = [
        (cues.majority, "{cued}"),
        (cues.majority, "{percent}"),
        (cues.group, "{cued}"),
        (cues.group, "{group}"),
    ]
    needed += [(aside, "{cued}") for aside in cues.asides]
    for sentence, placeholder in needed:
        if placeholder not in sentence:
            raise BadConfig(f'{where}: "{sentence}" must hold {placeholder}.')
    for pair in cues.names:
        if len(pair) != 2 or pair[0] == pair[1]:
            raise BadConfig(f"{where}: names are pairs of two different names; got {pair}.")
    return cues
