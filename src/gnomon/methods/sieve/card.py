"""The card of a saved model: what a score of it means, and where it came from. It travels with the weights (pitfall 12)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.core.files import write_json
from gnomon.core.run import artifact
from gnomon.errors import BadConfig, BadInput, nearest

CARD = "sieve.json"
"""Its file, beside the student's."""

RULES = ("any", "mean", "first")
"""How the snippets of a document decide for it: the best one, their mean, or the first one."""


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights."""

    filter: dict[str, Any]
    """The filter in words, with the keys of its file."""
    student: str
    """What the student was opened with."""
    snippet_tokens: int
    """Longest snippet in training, in tokens of the student; applying cuts by the same rule."""
    threshold: float
    """What scores this or more passes."""
    objective: str
    """What the threshold was chosen for."""
    base_rate: float
    """Share of passes in the training stream, from uniformly drawn labels."""
    score_range: list[float]
    """1% and 99% quantile of the scores of the training stream."""
    judge: str
    """Who gave the labels."""
    is_simulated: bool
    """True when the judge was a simulator."""
    labels: dict[str, int] = field(default_factory=dict)
    """How many labels of each kind it was trained on."""
    rule: str = "any"
    """One of `RULES`."""
    version: str = ""
    """A hash of the weights and of this card; empty until saved."""

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if len(self.score_range) != 2:
            raise BadInput(f"score_range must be two numbers, low and high; got {self.score_range!r}.")

    def save(self, folder: Path) -> Card:
        """Write the card into the folder of a saved student; returns it with its version."""
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CARD)
        contents = [(str(p.relative_to(folder)), _digest(p)) for p in files]
        card = replace(self, version=fingerprint(asdict(replace(self, version="")), contents))
        write_json(folder / CARD, card)
        return card


def check_rule(rule: str) -> None:
    """Raise unless `rule` is one of `RULES`.

    Raises:
        BadConfig: it is not.
    """
    if rule not in RULES:
        raise BadConfig(f'There is no document rule "{rule}". {nearest(rule, RULES)}')


def model_folder(ref: str | Path) -> Path:
    """The folder of a saved model: `ref` itself, or what a run of `fit` left in it.

    Raises:
        BadInput: no model is there.
    """
    folder = artifact(Path(ref), "model")
    if not (folder / CARD).is_file():
        what = "does not exist" if not folder.exists() else f"holds no {CARD}"
        raise BadInput(f"{folder} {what}. Name the folder that `gnomon sieve fit` left, or the model in it.")
    return folder


def read_card(ref: str | Path) -> Card:
    """The card of a saved model.

    Raises:
        BadInput: no model is there, or its card cannot be read.
    """
    path = model_folder(ref) / CARD
    try:
        raw = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error}). Copy the whole folder of the model.") from None
    return records.parse(raw, Card, str(path))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
