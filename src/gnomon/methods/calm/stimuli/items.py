"""Items (a question with answers, the better one first), their rewrites, and cues from a file that a user may replace."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import room_file
from gnomon.errors import BadConfig, BadInput

SETS = ("fact", "alignment", "refinement")
"""The three base sets: answers to factual questions, preferences, and answers with a refined version."""

SIDES = ("better", "worse")
"""What the first two answers are called."""


@dataclass(frozen=True)
class Rewrite:
    """An answer rewritten for a probe."""

    probe: str
    condition: str
    """Condition of the probe, such as `book, worse`."""
    response: int
    """Index of the answer, 0 is the better one."""
    text: str
    """The rewritten answer."""
    dose: float | None = None
    """Strength of the change, where the probe has doses."""
    tries: int = 1
    """Attempts until the check passed."""
    writer: str = "given"
    """A model's name, `rule`, or `given` when it came with the data."""


@dataclass(frozen=True)
class Item:
    """A question with its answers."""

    id: str
    """Its name; unique within a set."""
    question: str
    answers: tuple[str, ...]
    """The better answer, the worse one, and further ones where there are any; one alone in the refinement set."""
    set: str = "alignment"
    """`fact`, `alignment` or `refinement`."""
    source: str = ""
    """Name of its origin."""
    rewrites: tuple[Rewrite, ...] = ()
    """Rewritten answers."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Other columns of its record."""

    @property
    def authors(self) -> list[str]:
        """Models that are said to have written the answers, in columns such as `model1` or `chosen_model`."""
        return [
            value for name, value in self.meta.items() if "model" in name.lower() and isinstance(value, str)
        ]

    def rewritten(self, probe: str) -> list[Rewrite]:
        """The rewrites for one probe."""
        return [rewrite for rewrite in self.rewrites if rewrite.probe == probe]

    def adding(self, rewrites: list[Rewrite]) -> Item:
        """The item with further rewrites; one for the same probe and condition takes the place of the old one."""
        new = {(rewrite.probe, rewrite.condition) for rewrite in rewrites}
        kept = [rewrite for rewrite in self.rewrites if (rewrite.probe, rewrite.condition) not in new]
        return replace(self, rewrites=(*kept, *rewrites))


def check_item(item: Item, where: str) -> Item:
    """`item`, when a judge can be asked about it.

    Raises:
        BadInput: a text is empty, two answers are the same, there are too few, or the set has no such name; the message says where.
    """
    if not item.question.strip():
        raise BadInput(f'{where}: item "{item.id}" has an empty question.')
    if item.set not in SETS:
        raise BadInput(f'{where}: item "{item.id}" is of the set "{item.set}". Known: {", ".join(SETS)}.')
    least = 1 if item.set == "refinement" else 2
    if len(item.answers) < least:
        raise BadInput(
            f'{where}: item "{item.id}" has {len(item.answers)} answers; at least {least} are needed.'
        )
    for number, text in enumerate(item.answers, 1):
        if not text.strip():
            raise BadInput(f'{where}: item "{item.id}": answer {number} is empty.')
    if len({text.strip() for text in item.answers}) < len(item.answers):
        raise BadInput(
            f'{where}: item "{item.id}": two of its answers are the same. Drop the item: nothing can tell them apart.'
        )
    return item


def length_ratio(before: str, after: str) -> float:
    """Length of the second text over the first, in words.

    >>> length_ratio("one two", "one two three")
    1.5
    """
    return len(after.split()) / max(1, len(before.split()))


# The stimuli of the probes, read from one data file that a user may replace.


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
    """Length ratios of padded answers."""
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
    for cue in fields(Cues):
        if not getattr(cues, cue.name):
            raise BadConfig(f"{where}: {cue.name} must not be empty.")
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
