"""What a fit leaves behind each round, so that a killed one goes on with the next: a small JSON file and the round's student.

rounds/03.json     where reading stopped, which scores were labelled, what the round took
rounds/03/         the student trained on all labels up to round 3
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core.files import write_json
from gnomon.methods.sieve.design import Design
from gnomon.methods.sieve.feed import Cursor
from gnomon.methods.sieve.students.base import Fitted


@dataclass
class RoundState:
    """One finished round."""

    number: int
    """0 is the seed round."""
    cursor: Cursor
    """Where the next round reads on."""
    design: Design
    """Which scores were labelled, of how many snippets."""
    fitted: Fitted | None
    """What training on all labels up to this round took. None: no student was trained at its end (async only)."""
    student: int
    """Number of the round whose student is the newest at its end."""
    base_rate: float
    """Estimate from the uniform labels up to this round."""
    labels: int
    """Labels of this round, failed ones included."""
    passes: int
    """Of those, how many the judge passed."""
    failed: int
    """Of those, how many have no verdict."""
    widths: list[float] = field(default_factory=list)
    """Rank mass of the interval after each chunk of labels."""
    read: int = 0
    """Snippets scored."""
    scoring_s: float = 0.0
    """Seconds of scoring."""
    judging_s: float = 0.0
    """Seconds of waiting for the judge."""
    scored_while_training: int = 0
    """Snippets scored while this round's student was being trained (async)."""

    @property
    def minority_share(self) -> float:
        """Share of the rarer class among the round's verdicts."""
        known = self.labels - self.failed
        return min(self.passes, known - self.passes) / known if known else 0.0

    @property
    def pass_share(self) -> float:
        """Share of passes among the round's verdicts."""
        known = self.labels - self.failed
        return self.passes / known if known else 0.0


class RoundFolder:
    """The `rounds` folder of a fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def student(self, number: int) -> Path:
        """Where the student of a round lies."""
        return self.folder / f"{number:02d}"

    def save(self, state: RoundState) -> None:
        """Mark a round as finished; its student must lie in its folder already. Students of earlier rounds are deleted."""
        raw = asdict(state) | {"design": state.design.to_plain()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / f"{state.number:02d}.json", raw)
        for number in range(state.student):
            shutil.rmtree(self.student(number), ignore_errors=True)

    def load(self) -> list[RoundState]:
        """All finished rounds in order."""
        states: list[RoundState] = []
        while (path := self.folder / f"{len(states):02d}.json").exists():
            raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
            raw["cursor"] = Cursor(**raw["cursor"])
            raw["fitted"] = Fitted(**raw["fitted"]) if raw["fitted"] else None
            raw["design"] = Design.from_plain(raw["design"])
            states.append(RoundState(**raw))
        return states
