"""Formats of other tools: logs of JudgeBench and FastChat as verdicts, and prompts for inspect_ai and lm-eval-harness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records
from gnomon.core.files import write_text
from gnomon.errors import BadInput
from gnomon.methods.calm.judging.plan import CHANGED_DRAW
from gnomon.methods.calm.judging.prompts import Prompting, read_letter
from gnomon.methods.calm.judging.trials import LETTERS, PLAIN, Trial, Verdict

Format = Literal["judgebench", "mtbench-pair", "calm"]

SET = "alignment"
POSITION = "position"
CONDITION = "2 candidates"

_DECISIONS = {"A>B": 0, "B>A": 1, "A=B": -1, "B=A": -1}


def import_log(source: str | Path, format: Format) -> list[Verdict]:
    """The verdicts of a log, as those of a probe of position: every pair was judged in both orders.

    Args:
        source: the file.
        format: `judgebench` (rows with `label` and two `judgments`, the second in swapped order) or `mtbench-pair` (rows with
            `g1_winner` and `g2_winner`).

    Raises:
        BadInput: a row is of another format; the message names file, line and field.
    """
    if format not in _READERS:
        raise BadInput(f'"{format}" is no format of verdicts. Known: {", ".join(_READERS)}.')
    rows: list[Verdict] = []
    for where, raw in records.read_raw(source):
        rows += _READERS[format](raw, where)
    if not rows:
        raise BadInput(f"{source} holds no verdicts.")
    return rows


def _judgebench(raw: Mapping[str, Any], where: str) -> Iterator[Verdict]:
    label = _need(raw, "label", str, where)
    if label not in ("A>B", "B>A"):
        raise BadInput(f'{where}: field "label" must be A>B or B>A; got {label!r}.')
    judgments = _need(raw, "judgments", list, where)
    if len(judgments) != 2:
        raise BadInput(
            f'{where}: field "judgments" must hold two, the second in swapped order; got {len(judgments)}.'
        )
    item = str(raw.get("pair_id", raw.get("original_id", where)))
    better = 0 if label == "A>B" else 1
    for swapped, judgment in enumerate(judgments):
        if not isinstance(judgment, dict):
            raise BadInput(f'{where}: field "judgments" must hold objects with "decision".')
        decision = judgment.get("decision")
        if decision is not None and decision not in _DECISIONS:
            raise BadInput(f"{where}: a decision must be A>B, B>A, A=B or null; got {decision!r}.")
        # Slot 0 shows response_A first, and response_B when swapped; response 0 is the better one.
        first = better if not swapped else 1 - better
        slots = [first, 1 - first]
        slot = None if decision is None else _DECISIONS[decision]
        reply = judgment.get("judgment")
        reply = reply if isinstance(reply, dict) else {}
        judge = str(reply.get("judge_model") or raw.get("judge_name") or "judge")
        yield _verdict(judge, item, swapped, slots, slot, str(reply.get("response", "")))


def _mtbench(raw: Mapping[str, Any], where: str) -> Iterator[Verdict]:
    names = [_need(raw, name, str, where) for name in ("model_1", "model_2")]
    judge = raw.get("judge", "judge")
    judge = judge[0] if isinstance(judge, list) and judge else judge
    item = "|".join(str(raw.get(name, "")) for name in ("question_id", "turn")) + "|" + "|".join(names)
    for swapped, field in enumerate(("g1_winner", "g2_winner")):
        winner = _need(raw, field, str, where)
        if winner not in ("model_1", "model_2", "tie", "error"):
            raise BadInput(
                f'{where}: field "{field}" must be model_1, model_2, tie or error; got {winner!r}.'
            )
        slots = [0, 1] if not swapped else [1, 0]
        response = {"model_1": 0, "model_2": 1}.get(winner)
        slot = slots.index(response) if response is not None else (-1 if winner == "tie" else None)
        yield _verdict(str(judge), item, swapped, slots, slot, str(raw.get(f"g{swapped + 1}_judgment", "")))


def _verdict(judge: str, item: str, swapped: int, slots: list[int], slot: int | None, text: str) -> Verdict:
    choice = None if slot is None else "tie" if slot == -1 else f"R{slots[slot] + 1}"
    return Verdict(
        judge=judge,
        set=SET,
        item=item,
        probe=POSITION if swapped else PLAIN,
        condition=CONDITION if swapped else "",
        draw=CHANGED_DRAW if swapped else 0,
        slots=slots,
        choice=choice,
        status="unparsed" if slot is None else "ok",
        text=text,
    )


def _need(raw: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in raw:
        raise BadInput(f'{where}: field "{name}" is missing. Is the file of this format?')
    if not isinstance(raw[name], kind):
        raise BadInput(f'{where}: field "{name}" must be a {kind.__name__}; got {type(raw[name]).__name__}.')
    return raw[name]


_READERS = {"judgebench": _judgebench, "mtbench-pair": _mtbench}


# An audit's prompts for other harnesses, as files they read, and the scorer they need. Nothing of theirs is imported.

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
