"""Examples: what a model gets and what it should write. Read, checked, and kept apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.errors import BadInput, nearest
from gnomon.methods.crispo.slots import EXAMPLES, KEYPHRASES, MADE, slot


@dataclass(frozen=True)
class Example:
    """One row of the data."""

    id: str | int = ""
    """Its name in messages and files; empty: its number."""
    input: str = ""
    """What goes into INSERT_INPUT_HERE."""
    output: str | list[str] = ""
    """What should be written, or a list of texts any of which is right."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Other columns: `context` goes into INSERT_CONTEXT_HERE, and so on; `phrases` as `gnomon sigext score` writes them."""

    @property
    def references(self) -> tuple[str, ...]:
        """Every text that is right."""
        return (self.output,) if isinstance(self.output, str) else tuple(self.output)

    def value(self, name: str) -> str:
        """What goes into the slot `name`.

        Raises:
            BadInput: the row has no such text.
        """
        found = self.input if name == "input" else self.meta.get(name)
        if not isinstance(found, str) or (name == "input" and not found):
            raise BadInput(
                f'Row "{self.id}" has no text "{name}" for the slot {slot(name)}. Add the column, or take the slot away.'
            )
        return found

    def source(self, slots: Sequence[str]) -> str:
        """What the model is given of the row: the field of a single slot, or each with its name."""
        names = [name for name in slots if name not in MADE]
        if len(names) == 1:
            return self.value(names[0])
        return "\n".join(f"{name}: {self.value(name)}" for name in names)


def read_examples(
    source: str, *, columns: Mapping[str, str] | None = None, limit: int | None = None
) -> list[Example]:
    """The rows of a file, a folder or `hf://name:split`.

    Args:
        source: where they are.
        columns: column in the source -> `input` or `output`.
        limit: only so many, from the start.

    Raises:
        BadInput: it cannot be read, has no rows, or a row has no output; or two rows have one name.
    """
    rows: list[Example] = []
    seen: set[str] = set()
    for number, (where, raw) in enumerate(records.read_raw(source)):
        if limit is not None and number >= limit:
            break
        for column, field_name in (columns or {}).items():
            # Rows of other kinds have no input but other fields; a column that was named must be there.
            if column != field_name and column not in raw:
                raise BadInput(f'{where}: there is no column "{column}". {nearest(column, raw)}')
        row = records.parse(raw, Example, where, columns)
        name = str(number) if row.id == "" else str(row.id)
        if not any(text.strip() for text in row.references):
            raise BadInput(f'{source}, row "{name}": the output is empty. Every row needs a reference.')
        if name in seen:
            raise BadInput(f'{source}: two rows are called "{name}". Give each an id of its own.')
        seen.add(name)
        rows.append(replace(row, id=name))
    if not rows:
        raise BadInput(f"{source} holds no rows. Give at least one pair of input and output.")
    return rows


def check_apart(splits: Mapping[str, Sequence[Example]], slots: Sequence[str]) -> None:
    """Refuse splits that share an input: what was learned from would be measured on.

    Args:
        splits: name -> rows.
        slots: the prompt's slots; two rows are the same when all fields that go into them are.

    Raises:
        BadInput: two splits share a row; the message names it in both.
    """
    names = [name for name in slots if name not in MADE]
    keys = {
        split: {fingerprint([row.value(name) for name in names], length=32): row.id for row in rows}
        for split, rows in splits.items()
    }
    for one, other in combinations(keys, 2):
        if shared := keys[one].keys() & keys[other].keys():
            key = min(shared)
            raise BadInput(
                f'Row "{keys[one][key]}" of {one} is row "{keys[other][key]}" of {other} ({len(shared)} in all). '
                "Take the copies out of one of them."
            )


def check_slots(text: str, rows: Sequence[Example], *, has_encoder: bool) -> None:
    """Refuse a prompt that cannot be filled from every row.

    Raises:
        BadInput: it has no slot for the input, or a row, an encoder or key phrases are missing for one it has.
    """
    from gnomon.methods.crispo.keyphrases import phrases_of
    from gnomon.methods.crispo.slots import slots_in

    names = slots_in(text)
    if not [name for name in names if name not in MADE]:
        raise BadInput(
            f"The prompt has no slot for the input. Write {slot('input')} where the text of a row is to stand."
        )
    if EXAMPLES in names and not has_encoder:
        raise BadInput(
            f"The prompt has the slot {slot(EXAMPLES)}. Name the model that finds near examples with --encoder FOLDER."
        )
    for row in rows:
        for name in names:
            if name == KEYPHRASES:
                phrases_of(row)
            elif name not in MADE:
                row.value(name)


LONG_ENOUGH = 24
"""Characters from which a text within another one is a copy and no coincidence."""


def copied(text: str, rows: Sequence[Example], *, inputs: bool = False) -> list[str]:
    """Names of the rows whose reference, or input as well, stands word for word in a text.

    Args:
        text: a prompt, or what is asked.
        rows: where it may have been copied from.
        inputs: look for inputs too.
    """
    found = []
    for row in rows:
        parts = (*row.references, row.input) if inputs else row.references
        if any(len(part) >= LONG_ENOUGH and part in text for part in parts):
            found.append(str(row.id))
    return found
