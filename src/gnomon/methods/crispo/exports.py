"""A found prompt in the forms that other tools read: plain text, promptfoo's and DSPy's JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gnomon.methods.crispo.rows import Example
from gnomon.methods.crispo.slots import MADE, SLOT, slots_in

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
