"""Examples: what a model gets and what it should write. Read, checked, and kept apart.

The key-phrase slot: the best K phrases of a row, near-duplicates left out, and K itself as something to be searched.

Prompts with slots: INSERT_INPUT_HERE and the like, filled in one pass and literally.

What goes into a slot is never looked at again: a document may hold braces, tags or the names of slots.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import combinations
from typing import Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.errors import BadInput, nearest

# Prompts with slots: INSERT_INPUT_HERE and the like, filled in one pass and literally.

SLOT = re.compile(r"INSERT_([A-Z]+(?:_[A-Z]+)*)_HERE")
EXAMPLES, KEYPHRASES = "examples", "keyphrases"
MADE = (EXAMPLES, KEYPHRASES)
"""Slots whose text is made; every other one holds a field of the row."""


def slot(name: str) -> str:
    """The text that stands for a slot.

    >>> slot("input")
    'INSERT_INPUT_HERE'
    """
    return f"INSERT_{name.upper()}_HERE"


def slots_in(text: str) -> list[str]:
    """Names of the slots in a prompt, in their order, each once.

    >>> slots_in("INSERT_CONTEXT_HERE INSERT_INPUT_HERE INSERT_INPUT_HERE {input}")
    ['context', 'input']
    """
    return list(dict.fromkeys(name.lower() for name in SLOT.findall(text)))


def fill(text: str, values: Mapping[str, str]) -> str:
    """A prompt with its slots filled.

    Args:
        text: the prompt.
        values: name of a slot -> what goes there.

    Raises:
        BadInput: a slot has no value.

    >>> fill("<a>INSERT_INPUT_HERE</a>", {"input": "{0} INSERT_INPUT_HERE"})
    '<a>{0} INSERT_INPUT_HERE</a>'
    """

    def value(match: re.Match[str]) -> str:
        name = match[1].lower()
        if name not in values:
            raise BadInput(f"The prompt has the slot {match[0]} and nothing to put there.")
        return values[name]

    return SLOT.sub(value, text)


def repair(text: str, needed: Collection[str], answer_tag: str | None) -> tuple[str, tuple[str, ...]]:
    """A prompt that has every slot it needs and asks for the answer inside its tag, and what had to be added.

    Args:
        text: the prompt.
        needed: slots without which the model would not see the input.
        answer_tag: the tag; None asks for none.
    """
    made = []
    have = slots_in(text)
    for name in reversed([name for name in needed if name not in have]):
        text = f"{slot(name)}\n{text}"
        made.append(f"slot {name} prepended")
    if answer_tag is not None and f"<{answer_tag}>" not in text:
        text = f"{text.rstrip()}\n{tag_request(answer_tag)}"
        made.append("tag request appended")
    return text, tuple(made)


def tag_request(answer_tag: str) -> str:
    """The sentence that asks for the answer inside a tag."""
    return f"Write the answer inside <{answer_tag}> and </{answer_tag}>."


def last_tagged(text: str, tag: str) -> str | None:
    """What stands between the last `<tag>` and the `</tag>` behind it, without space around; None without such a pair.

    >>> last_tagged("<a>1</a> no, <a>2</a>", "a"), last_tagged("<a>1</a> no, <a>2", "a")
    ('2', None)
    """
    start = text.rfind(f"<{tag}>")
    end = text.find(f"</{tag}>", start)
    return text[start + len(tag) + 2 : end].strip() if start >= 0 and end >= 0 else None


def answer_in(text: str, tag: str | None) -> str:
    """The prediction in a reply: what the tag holds, or the whole reply where there is no such pair of tags."""
    found = None if tag is None else last_tagged(text, tag)
    return text.strip() if found is None else found


# Examples: what a model gets and what it should write. Read, checked, and kept apart.


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


# The key-phrase slot: the best K phrases of a row, near-duplicates left out, and K itself as something to be searched.

FEWEST, MOST = 3, 60
"""K stays between these."""
FACTOR = 1.5
"""K is tried this much larger and smaller."""


def phrases_of(row: Example) -> tuple[str, ...]:
    """The phrases of a row, the best first; those beyond the extractor's reach have no rank and are left out.

    Raises:
        BadInput: the row has none, or in another form than `gnomon sigext score` writes.
    """
    found: Any = row.meta.get("phrases")
    how = "Write them with: gnomon sigext score EXTRACTOR ROWS --document-field input"
    if found is None:
        raise BadInput(f'Row "{row.id}" has no key phrases for the slot INSERT_KEYPHRASES_HERE. {how}')
    try:
        known = (phrase for phrase in found if phrase["rank"] is not None)
        ranked = sorted(known, key=lambda phrase: phrase["rank"])
        return tuple(str(phrase["text"]) for phrase in ranked)
    except (TypeError, KeyError):
        raise BadInput(
            f'Row "{row.id}": "phrases" must be a list of objects with "text" and "rank". {how}'
        ) from None


def key_phrases(row: Example, k: int) -> str:
    """The best `k` phrases that differ from each other, joined by "; "."""
    return _joined(phrases_of(row), k)


@lru_cache(maxsize=10_000)
def _joined(ranked: tuple[str, ...], k: int) -> str:
    from gnomon.core.text import distinct

    return "; ".join(ranked[i] for i in distinct(ranked, k))


def next_k(k: int, draw: random.Random) -> int:
    """Another K: half as large again or that much smaller, within 3..60.

    >>> {next_k(10, random.Random(i)) for i in range(20)} == {7, 15}
    True
    """
    larger, smaller = max(k + 1, round(k * FACTOR)), min(k - 1, round(k / FACTOR))
    return min(MOST, max(FEWEST, larger if draw.random() < 0.5 else smaller))


def stated_k(text: str | None) -> int | None:
    """The K that a reply states, when it is a number within 3..60."""
    stripped = (text or "").strip()
    return int(stripped) if stripped.isdecimal() and FEWEST <= int(stripped) <= MOST else None
