"""An audit's prompts for other harnesses, as files they read, and the scorer they need. Nothing of theirs is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.files import write_text
from gnomon.methods.calm.prompting import Prompting
from gnomon.methods.calm.replies import read_letter
from gnomon.methods.calm.trials import LETTERS, Trial

TASK = """# Run it with: lm-eval run --include_path FOLDER --tasks calm
task: calm
dataset_path: json
dataset_kwargs:
  data_files:
    test: trials.jsonl
test_split: test
output_type: multiple_choice
doc_to_text: "{{prompt}}"
doc_to_choice: letters
doc_to_target: target
target_delimiter: ""
metric_list:
  - metric: acc
metadata:
  version: 1
"""


def samples(trials: Sequence[Trial], prompting: Prompting | None = None) -> Iterator[dict[str, Any]]:
    """Samples of inspect_ai's JSON data sets: `id`, `input`, `target`, `metadata`; comparisons only.

    The target is the letter of the better answer. What a probe changed stands in `metadata`, so that the log can be counted by
    condition.
    """
    prompting = prompting or Prompting()
    for trial in _comparisons(trials):
        yield {
            "id": trial.key,
            "input": prompting.prompt(trial),
            "target": LETTERS[trial.slots.index(0)],
            "metadata": {
                "set": trial.set,
                "item": trial.item,
                "probe": trial.probe,
                "condition": trial.condition,
                "draw": trial.draw,
                "slots": list(trial.slots),
                "cued": trial.cued,
                "dose": trial.dose,
                "ratio": trial.ratio,
            },
        }


def score(completion: str, slots: Sequence[int]) -> str | None:
    """The verdict in a completion as a response (`R1`, `R2` ...), for a scorer of any harness; None where there is none.

    >>> score("Both are fine. [[B]]", [1, 0])
    'R1'
    """
    letter = read_letter(completion, tuple(LETTERS[: len(slots)]), "brackets")
    return None if letter is None else f"R{slots[LETTERS.index(letter)] + 1}"


def write_inspect(path: Path, trials: Sequence[Trial], prompting: Prompting | None = None) -> int:
    """Write `samples` as JSONL; returns how many."""
    return records.write(path, samples(trials, prompting))


def write_lm_eval(folder: Path, trials: Sequence[Trial]) -> int:
    """Write a multiple-choice task of lm-eval-harness: `calm.yaml` and `trials.jsonl`; returns the number of trials."""
    prompting = Prompting(style="token")
    rows = [
        {
            "id": trial.key,
            "prompt": prompting.prompt(trial),
            "letters": [f" {letter}" for letter in prompting.letters(trial)],
            "target": trial.slots.index(0),
            "probe": trial.probe,
            "condition": trial.condition,
        }
        for trial in _comparisons(trials)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "calm.yaml", TASK)
    return records.write(folder / "trials.jsonl", rows)


def _comparisons(trials: Sequence[Trial]) -> Iterator[Trial]:
    return (trial for trial in trials if trial.kind == "pair")
