"""The optimisation tree: every prompt at its step, below the one it was made from, to be clicked through."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.files import room_file
from gnomon.core.report import Page
from gnomon.core.report.markup import printable
from gnomon.methods.crispo.search.store import SavedSearch

COLUMN, ROW, MARGIN = 34, 30, 26
"""Pixels from step to step, from prompt to prompt, and around the drawing."""
FEW_STEPS = 25
"""With more steps than this, every fifth one is named."""


def draw_tree(page: Page, saved: SavedSearch, metric: Mapping[str, Any]) -> None:
    """Add the tree of a search to a page; without its script every prompt stands folded below the drawing.

    Args:
        page: where to.
        saved: the search.
        metric: a row of `search.json`'s metrics, whose score on train colours the prompts.
    """
    prompts = saved.prompts
    positions = layout(prompts)
    values = [_value(prompt, metric) for prompt in prompts]
    scores = [value for value in values if value is not None]
    low, span = min(scores), (max(scores) - min(scores)) or 1.0
    path = lineage(prompts, saved.search["best"])
    nodes = [
        {
            "number": prompt["number"],
            "x": positions[i][0],
            "y": positions[i][1],
            "heat": None if (value := values[i]) is None else round(100 * (value - low) / span),
            "label": _label(prompt, metric),
            "is_best": prompt["number"] == saved.search["best"],
            "is_dropped": "train" not in prompt["scores"],
        }
        for i, prompt in enumerate(prompts)
    ]
    edges = [
        {
            "child": prompt["number"],
            "d": _curve(positions[prompt["parent"]], positions[i]),
            "is_path": prompt["number"] in path,
        }
        for i, prompt in enumerate(prompts)
        if prompt["parent"] is not None
    ]
    page.panel(
        room_file(__name__, "report/tree.html.j2"),
        room_file(__name__, "report/tree.js"),
        nodes=nodes,
        edges=edges,
        steps=_steps(prompts, positions),
        width=max(x for x, _ in positions) + MARGIN,
        height=max(y for _, y in positions) + MARGIN,
        cards=[_card(prompts, i, saved) for i in range(len(prompts))],
        metric=metric["name"],
        best=saved.search["best"],
    )


def layout(prompts: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Positions of the prompts: a column per step, sorted by the parent's position, so that few lines cross."""
    columns: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        columns.setdefault(prompt["step"], []).append(i)
    tallest = max(map(len, columns.values()))
    positions: dict[int, tuple[int, int]] = {}
    for column, step in enumerate(sorted(columns)):
        members = sorted(
            columns[step], key=lambda i: (positions.get(prompts[i]["parent"] or 0, (0, 0))[1], i)
        )
        top = MARGIN + ROW * (tallest - len(members)) // 2
        for row, i in enumerate(members):
            positions[i] = (MARGIN + COLUMN * column, top + ROW * row)
    return [positions[i] for i in range(len(prompts))]


def lineage(prompts: Sequence[Mapping[str, Any]], number: int) -> list[int]:
    """Numbers of a prompt and its ancestors, the youngest first."""
    numbers = [number]
    while (parent := prompts[numbers[-1]]["parent"]) is not None:
        numbers.append(parent)
    return numbers


def word_diff(before: str, after: str) -> list[tuple[str, str]]:
    """The pieces of two texts in their order, each `same`, `del` or `add`.

    >>> word_diff("be brief now", "be quick now")
    [('same', 'be '), ('del', 'brief'), ('add', 'quick'), ('same', ' now')]
    """
    old, new = (re.findall(r"\s+|\S+", text) for text in (before, after))
    pieces: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(new[c:d])))
            continue
        if a < b:
            pieces.append(("del", "".join(old[a:b])))
        if c < d:
            pieces.append(("add", "".join(new[c:d])))
    return [(kind, printable(text)) for kind, text in pieces]


def _card(prompts: Sequence[Mapping[str, Any]], i: int, saved: SavedSearch) -> dict[str, Any]:
    """The card of one prompt: text, difference from its parent, scores and critique."""
    prompt = prompts[i]
    parent = prompt["parent"]
    before = prompts[parent]["prompt"] if parent is not None else prompt["prompt"]
    return {
        "number": prompt["number"],
        "step": prompt["step"],
        "parent": parent,
        "is_best": prompt["number"] == saved.search["best"],
        "scores": [
            f"{split} {name} {_percent(value, saved, name):.2f}"
            for split, values in prompt["scores"].items()
            for name, value in values.items()
        ],
        "k": prompt["k"],
        "pieces": word_diff(before, prompt["prompt"]),
        "critique": printable(prompt["critique"]) if prompt["critique"] else None,
        "repairs": prompt["repairs"],
        "copies": prompt["copies"],
        "dropped": prompt["dropped"],
        "gaps": [
            f"{count} rows of {split} without an answer ({reason})"
            for split, reasons in prompt.get("unanswered", {}).items()
            for reason, count in reasons.items()
        ],
    }


def _label(prompt: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    value = _value(prompt, metric)
    score = "dropped" if value is None else f"{value:.4g} on train"
    return f"prompt {prompt['number']}, step {prompt['step']}: {score}"


def _value(prompt: Mapping[str, Any], metric: Mapping[str, Any]) -> float | None:
    value = prompt["scores"].get("train", {}).get(metric["name"])
    return None if value is None else float(value)


def _percent(value: float, saved: SavedSearch, name: str) -> float:
    metric = next(row for row in saved.search["metrics"] if row["name"] == name)
    return 100 * value if (metric["low"], metric["high"]) == (0.0, 1.0) else value


def _curve(parent: tuple[int, int], child: tuple[int, int]) -> str:
    (x, y), (u, v) = parent, child
    middle = (x + u) / 2
    return f"M{x} {y}C{middle:g} {y} {middle:g} {v} {u} {v}"


def _steps(
    prompts: Sequence[Mapping[str, Any]], positions: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Step and x position of the labelled columns."""
    columns = {prompt["step"]: x for prompt, (x, _) in zip(prompts, positions, strict=True)}
    return [(step, x) for step, x in sorted(columns.items()) if len(columns) <= FEW_STEPS or step % 5 == 0]
