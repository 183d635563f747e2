"""Files of a search, and its best prompt in the formats of other tools.

The files are written after every step, so that a search that was killed can be shown too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import write_json, write_text
from gnomon.errors import BadInput
from gnomon.methods.crispo.examples.data import MADE, SLOT, Example, slots_in
from gnomon.methods.crispo.scoring.calls import Call
from gnomon.methods.crispo.scoring.candidates import Candidate, History, Measured, Step

HISTORY, CALLS, SEARCH = "history.jsonl", "calls.jsonl", "search.json"
BEST, SUFFIX = "best_prompt.txt", "best_suffix.txt"


@dataclass
class Store:
    """The files of one search.

    `history.jsonl` has a line per prompt, `calls.jsonl` one per request, `scores/STEP-PROMPT-SPLIT.parquet` predictions and scores
    of a prompt on each row; `best_prompt.txt` holds the best prompt so far, byte for byte, and `search.json` the rest.
    """

    folder: Path
    main: str | None = None
    """The fixed prompt, where postscripts are tuned."""
    answer_tag: str | None = None
    """The answer stands inside this tag; None: it is the whole reply."""
    is_simulated: bool = False
    _calls: int = 0
    _scores: dict[tuple[int, str], Measured] = field(default_factory=dict)

    def save(self, history: History, calls: Sequence[Call], best: Candidate) -> None:
        """Write everything that is new."""
        scores = self.folder / "scores"
        for candidate in history.candidates:
            for split, measured in candidate.measured.items():
                if self._scores.get((candidate.number, split)) is not measured:
                    records.write(
                        scores / f"{candidate.step:03d}-{candidate.number:04d}-{split}.parquet",
                        score_rows(measured),
                    )
                    self._scores[candidate.number, split] = measured
        with (self.folder / CALLS).open("a" if self._calls else "w", encoding="utf-8") as file:
            file.writelines(records.to_line(call.row()) for call in calls[self._calls :])
        self._calls = len(calls)
        records.write(self.folder / HISTORY, [candidate.row() for candidate in history.candidates])
        write_text(self.folder / BEST, whole(self.main, best.text))
        if self.main is not None:
            write_text(self.folder / SUFFIX, best.text)
        write_json(self.folder / SEARCH, self._search(history, best))

    def _search(self, history: History, best: Candidate) -> dict[str, Any]:
        return {
            "metrics": [
                {
                    "name": metric.name,
                    "low": metric.low,
                    "high": metric.high,
                    "higher_is_better": metric.higher_is_better,
                }
                for metric in history.metrics
            ],
            "select": history.policy,
            "answer_tag": self.answer_tag,
            "main": self.main,
            "simulated": self.is_simulated,
            "best": best.number,
            "k": best.k,
            "front": [candidate.number for candidate in history.front("dev")],
            "steps": [_step(step) for step in history.steps],
        }


@dataclass(frozen=True)
class SavedSearch:
    """A search read back from its folder."""

    prompts: list[dict[str, Any]]
    """Lines of `history.jsonl`."""
    search: dict[str, Any]
    """`search.json`."""

    @classmethod
    def read(cls, folder: Path) -> SavedSearch:
        """The search in a run folder, finished or not.

        Raises:
            BadInput: there is none.
        """
        try:
            search: dict[str, Any] = json.loads((folder / SEARCH).read_text("utf-8"))
        except (OSError, ValueError):
            raise BadInput(
                f"{folder} holds no search ({SEARCH} is missing). Give the folder of an `optimize` or `suffix` run."
            ) from None
        prompts = [raw for _, raw in records.read_raw(folder / HISTORY)]
        if (
            len(prompts) <= search["best"]
        ):  # the two files are written one after the other; a kill may fall between
            raise BadInput(f"{folder}: {HISTORY} is older than {SEARCH}. Repeat the run's command.")
        return cls(prompts, search)

    @property
    def best(self) -> dict[str, Any]:
        """The best prompt's line."""
        row: dict[str, Any] = self.prompts[self.search["best"]]
        return row


def score_rows(measured: Measured) -> list[dict[str, Any]]:
    """One row per example: its name, the prediction, a column per metric; where there are gaps, why there is no answer."""
    rows: list[dict[str, Any]] = []
    for i, (name, text) in enumerate(zip(measured.rows, measured.predictions, strict=True)):
        scores = {metric: None if text is None else values[i] for metric, values in measured.scores.items()}
        gap = {"unanswered": measured.unanswered.get(i)} if measured.unanswered else {}
        rows.append({"id": name, "prediction": text, **scores, **gap})
    return rows


def whole(main: str | None, text: str) -> str:
    """The prompt as a file for others: with a fixed prompt, that and the postscript behind an empty line."""
    if main is None:
        return text
    return f"{main}\n\n{text}" if text else main


@dataclass(frozen=True)
class Finished:
    """A prompt from a file or from the folder of a search."""

    name: str
    """Its path."""
    text: str
    k: int | None = None
    """Number of key phrases; None where no search chose one."""


def read_prompt(path: Path) -> Finished:
    """The prompt in a text file, or the best one of a run folder; the text as it stands, byte for byte.

    Raises:
        BadInput: it cannot be read, or is empty.
    """
    file, k = path, None
    if path.is_dir():
        k = SavedSearch.read(path).search["k"]
        file = path / BEST
    try:
        text = file.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file}: the prompt cannot be read ({error}). Give a text file in UTF-8.") from None
    if not text.strip():
        raise BadInput(f"{file}: the prompt is empty. Write one with INSERT_INPUT_HERE in it.")
    return Finished(str(path), text, k)


def _step(step: Step) -> dict[str, Any]:
    return {
        "step": step.step,
        "new": step.new,
        "asked": step.proposals,
        "rejected": step.rejected,
        "best": step.best,
        "values": step.values,
        "task_calls": step.task_calls,
    }


# Formats of other tools

_MARKS = re.compile(r"\{\{|\}\}|\{%|%\}|\{#|#\}")


def promptfoo(prompt: str, rows: Sequence[Example]) -> dict[str, Any]:
    """A promptfoo configuration: the prompt with its slots as variables, and rows as test cases with their reference.

    Marks of promptfoo's template language that stand in the prompt stay what they are. Slots whose text is made here (examples, key
    phrases) are variables too, and the user's to fill.

    Args:
        prompt: the prompt.
        rows: test cases.
    """
    pieces, end = [], 0
    for match in SLOT.finditer(prompt):
        pieces += [_quoted(prompt[end : match.start()]), "{{ " + match[1].lower() + " }}"]
        end = match.end()
    pieces.append(_quoted(prompt[end:]))
    names = [name for name in slots_in(prompt) if name not in MADE]
    tests = [
        {
            "description": str(row.id),
            "vars": {name: row.value(name) for name in names},
            "metadata": {"reference": row.references[0]},
        }
        for row in rows
    ]
    return {
        "description": "A prompt found by gnomon crispo",
        "prompts": [{"id": "crispo", "label": "crispo", "raw": "".join(pieces)}],
        "tests": tests,
    }


def dspy(prompt: str, answer_tag: str | None) -> dict[str, Any]:
    """The state of a DSPy predictor, as `predictor.load` reads it: the prompt as instructions, one field per slot.

    DSPy writes the fields behind the instructions itself, so a slot becomes the field's name.

    Args:
        prompt: the prompt.
        answer_tag: name of the output field; None calls it `answer`.
    """
    names = slots_in(prompt)
    instructions = SLOT.sub(lambda match: f"[the field `{match[1].lower()}`]", prompt)
    fields = [*names, answer_tag or "answer"]
    return {
        "traces": [],
        "train": [],
        "demos": [],
        "signature": {
            "instructions": instructions,
            "fields": [
                {"prefix": f"{name.replace('_', ' ').title()}:", "description": f"${{{name}}}"}
                for name in fields
            ],
        },
        "lm": None,
    }


def _quoted(text: str) -> str:
    return f"{{% raw %}}{text}{{% endraw %}}" if _MARKS.search(text) else text
