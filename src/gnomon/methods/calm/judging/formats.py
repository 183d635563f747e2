"""Formats of other tools: logs of JudgeBench, FastChat and AlpacaEval and tables of winners; prompts for other harnesses."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records
from gnomon.core.files import write_text
from gnomon.errors import BadInput
from gnomon.methods.calm.judging.plan import CHANGED_DRAW
from gnomon.methods.calm.judging.prompts import Prompting, read_letter
from gnomon.methods.calm.judging.trials import LETTERS, PLAIN, Trial, Verdict
from gnomon.methods.calm.stimuli.collection import Skipped, digest
from gnomon.methods.calm.stimuli.layouts import (
    Layout,
    data_files,
    layout_of,
    question_of,
    read_decision,
    rows_of,
    text_of,
)

Format = Literal["auto", "judgebench", "mtbench-pair", "alpacaeval", "csv", "calm"]

SET = "alignment"
POSITION = "position"
CONDITION = "2 candidates"

_NUMBERED = re.compile(r"(?:^|[_ ])id$", re.IGNORECASE)
_ASKED = re.compile(r"question|prompt|instruction|item|task", re.IGNORECASE)


@dataclass(frozen=True)
class Sighting:
    """A verdict of a log: a judge saw two answers in one order."""

    judge: str
    item: str
    """Name of the pair, the same in both orders."""
    order: tuple[int, ...]
    """Slot -> response; empty where the log does not say in which order the answers were shown."""
    response: int | None
    """The preferred response; -1 for a tie, None where nothing was read."""
    text: str = ""
    """What the judge wrote."""
    answers: tuple[str, ...] = ()
    """The answers by slot, where the log has them."""


def import_log(source: str | Path, format: Format = "auto") -> tuple[list[Verdict], list[Skipped]]:
    """The verdicts of a log, and the rows that could not be used.

    Verdicts on a pair in one order are plain ones, further ones in the same order further draws, and the first in the other order
    is one of a probe of position.

    Args:
        source: a file, or a folder with sub-folders.
        format: `judgebench` (rows with `label` and two `judgments`, the second in swapped order), `mtbench-pair` (rows with
            `g1_winner` and `g2_winner`), `alpacaeval` (annotations with `output_1`, `output_2` and `preference`), `csv` (a table
            of pairs with a column for the winner); `auto`: each row tells.

    Raises:
        BadInput: no row can be used; the message has the first reason, with file, line and field.
    """
    if format not in ("auto", *_READERS, *_TABLES):
        raise BadInput(
            f'"{format}" is no format of verdicts. Known: {", ".join(("auto", *_READERS, *_TABLES))}.'
        )
    sightings: list[Sighting] = []
    skipped: list[Skipped] = []
    for file in data_files(source):
        try:
            rows = list(rows_of(file))
        except BadInput as error:
            skipped.append(Skipped(str(file), "", str(error)))
            continue
        tables = [raw for _, raw in rows if not isinstance(raw, BadInput) and _reader_of(raw, format) is None]
        layout = layout_of(tables, needs_texts=False) if tables else None
        for where, raw in rows:
            try:
                if isinstance(raw, BadInput):
                    raise raw
                reader = _reader_of(raw, format)
                # A row is used whole or not at all.
                sightings += list(reader(raw, where) if reader else _of_table(raw, layout, format, where))
            except BadInput as error:
                name = "" if isinstance(raw, BadInput) else str(raw.get("pair_id", raw.get("id", "")))
                skipped.append(Skipped(where, name, str(error)))
    if not sightings:
        raise BadInput(skipped[0].reason if skipped else f"{source} holds no verdicts.")
    return list(_as_verdicts(sightings)), skipped


def _reader_of(
    raw: Mapping[str, Any], format: Format
) -> Callable[[Mapping[str, Any], str], Iterator[Sighting]] | None:
    """The reader of a row with both orders in it; None for a row of a table."""
    if format in _READERS:
        return _READERS[format]
    if format == "auto":
        return _judgebench if "judgments" in raw else _mtbench if "g1_winner" in raw else None
    return None


def _judgebench(raw: Mapping[str, Any], where: str) -> Iterator[Sighting]:
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
    texts = [raw.get(f"response_{letter}") for letter in "AB"]
    for swapped, judgment in enumerate(judgments):
        if not isinstance(judgment, dict):
            raise BadInput(f'{where}: field "judgments" must hold objects with "decision".')
        decision = judgment.get("decision")
        slot = read_decision(decision, ("A", "B"))
        if decision is not None and slot is None:
            raise BadInput(f"{where}: a decision must be A>B, B>A, A=B or null; got {decision!r}.")
        # Slot 0 shows response_A first, and response_B when swapped; response 0 is the better one.
        first = better if not swapped else 1 - better
        order = (first, 1 - first)
        reply = judgment.get("judgment")
        reply = reply if isinstance(reply, dict) else {}
        judge = str(reply.get("judge_model") or raw.get("judge_name") or "judge")
        response = slot if slot is None or slot < 0 else order[slot]
        shown = [text for text in (texts if not swapped else texts[::-1]) if isinstance(text, str)]
        yield Sighting(judge, item, order, response, str(reply.get("response", "")), tuple(shown))


def _mtbench(raw: Mapping[str, Any], where: str) -> Iterator[Sighting]:
    names = [_need(raw, name, str, where) for name in ("model_1", "model_2")]
    item = "|".join(str(raw.get(name, "")) for name in ("question_id", "turn")) + "|" + "|".join(names)
    for swapped, field in enumerate(("g1_winner", "g2_winner")):
        winner = _need(raw, field, str, where)
        if winner not in ("model_1", "model_2", "tie", "error"):
            raise BadInput(
                f'{where}: field "{field}" must be model_1, model_2, tie or error; got {winner!r}.'
            )
        order = (0, 1) if not swapped else (1, 0)
        response = {"model_1": 0, "model_2": 1, "tie": -1}.get(winner)
        yield Sighting(
            _judge_of(raw, "judge"), item, order, response, str(raw.get(f"g{swapped + 1}_judgment", ""))
        )


def _of_table(
    raw: Mapping[str, Any], layout: Layout | None, format: Format, where: str
) -> Iterator[Sighting]:
    """The verdict of a row of pairs: two answers or authors, and a column that says who won."""
    if layout is None or len(layout.answers) != 2:
        raise BadInput(
            f"{where}: no two columns hold answers or their authors, such as answer_a and answer_b."
        )
    if layout.decision is None:
        raise BadInput(f"{where}: no column says which of {layout.answers[0]} and {layout.answers[1]} won.")
    texts = [text_of(raw.get(name)) for name in layout.answers]
    if None in texts:
        raise BadInput(
            f'{where}: field "{layout.answers[texts.index(None)]}" must hold an answer or its author.'
        )
    names = [str(raw.get(name) or "") for name in layout.authors]
    rivals = names if len({*names}) == 2 else [str(text) for text in texts]
    if rivals[0] == rivals[1]:
        raise BadInput(f"{where}: both answers are the same.")
    question = question_of(raw.get(layout.question or layout.answers[0])) or ""
    # Responses in the order of their names, so that both orders of a pair are about the same two.
    responses = tuple(sorted(rivals).index(rival) for rival in rivals)
    at = layout.decided(raw)
    is_shuffled = format == "alpacaeval" or _is_alpacaeval(layout)
    yield Sighting(
        _judge_of(raw, layout.judge),
        "|".join(
            [
                *_topic(raw, question),
                *(sorted(rivals) if max(map(len, rivals)) < 60 else [digest(*sorted(rivals))]),
            ]
        ),
        () if is_shuffled else responses,
        at if at is None or at < 0 else responses[at],
        answers=() if is_shuffled else tuple(str(text) for text in texts),
    )


def _topic(raw: Mapping[str, Any], question: str) -> list[str]:
    """What a row of a table is about: the number of its question, its text, or else any number; and the turn."""
    numbers = [name for name in raw if _NUMBERED.search(name)]
    of_question = [name for name in numbers if _ASKED.match(name)]
    topic = [str(raw[name]) for name in of_question] or ([digest(question)] if question else [])
    return [*(topic or [str(raw[name]) for name in numbers]), *([str(raw["turn"])] if "turn" in raw else [])]


def _is_alpacaeval(layout: Layout) -> bool:
    """AlpacaEval shuffles the order that it shows, and its annotations do not say how."""
    return layout.answers == ("output_1", "output_2") and (layout.judge or "") == "annotator"


def _judge_of(raw: Mapping[str, Any], name: str | None) -> str:
    judge = raw.get(name) if name else None
    judge = judge[0] if isinstance(judge, list) and judge else judge
    return str(judge) if judge else "judge"


def _as_verdicts(sightings: Sequence[Sighting]) -> Iterator[Verdict]:
    """Sightings as plain verdicts and, where a pair was seen in the other order too, as those of a probe of position."""
    first: dict[tuple[str, str], tuple[int, ...]] = {}
    draws: Counter[tuple[str, str]] = Counter()
    turned: set[tuple[str, str]] = set()
    for sighting in sightings:
        pair = sighting.judge, sighting.item
        order = first.setdefault(pair, sighting.order)
        is_turned = sighting.order != order
        if is_turned and pair in turned:
            continue  # one verdict a rotation, as in an audit
        if is_turned:
            turned.add(pair)
        draw = CHANGED_DRAW if is_turned else draws[pair]
        draws[pair] += not is_turned
        response = sighting.response
        yield Verdict(
            judge=sighting.judge,
            set=SET,
            item=sighting.item,
            probe=POSITION if is_turned else PLAIN,
            condition=CONDITION if is_turned else "",
            draw=draw,
            slots=list(sighting.order),
            choice=None if response is None else "tie" if response == -1 else f"R{response + 1}",
            status="unparsed" if response is None else "ok",
            text=sighting.text,
            words=[len(text.split()) for text in sighting.answers],
            characters=[len(text) for text in sighting.answers],
        )


def _need(raw: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    if name not in raw:
        raise BadInput(f'{where}: field "{name}" is missing. Is the file of this format?')
    if not isinstance(raw[name], kind):
        raise BadInput(f'{where}: field "{name}" must be a {kind.__name__}; got {type(raw[name]).__name__}.')
    return raw[name]


_READERS = {"judgebench": _judgebench, "mtbench-pair": _mtbench}
_TABLES = ("alpacaeval", "csv")


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
