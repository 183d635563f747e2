"""Logs of other tools as verdicts: JudgeBench's output, and FastChat's pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records
from gnomon.errors import BadInput
from gnomon.methods.calm.planning import CHANGED_DRAW
from gnomon.methods.calm.trials import PLAIN, Verdict

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
        told = judgment.get("judgment")
        told = told if isinstance(told, dict) else {}
        judge = str(told.get("judge_model") or raw.get("judge_name") or "judge")
        yield _verdict(judge, item, swapped, slots, slot, str(told.get("response", "")))


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
