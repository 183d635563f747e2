"""Rows with inputs and references, prompts with slots, and the number of key phrases.

Slots such as INSERT_INPUT_HERE are filled in one pass and literally: a document may hold braces, tags or the names of slots, and
none of them is filled in its turn. Train, dev and test may not share an input.
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
from gnomon.core.llm.parse import opens_tag, tagged
from gnomon.core.text import distinct
from gnomon.errors import BadInput, nearest

# Slots

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
    """Add missing slots, and the request for the answer inside its tag, to a prompt.

    Args:
        text: the prompt.
        needed: slots without which the model would not see the input.
        answer_tag: the tag; None asks for none.

    Returns:
        The prompt, and what was added, as `history.jsonl` lists it.
    """
    repairs = []
    have = slots_in(text)
    for name in reversed([name for name in needed if name not in have]):
        text = f"{slot(name)}\n{text}"
        repairs.append(f"slot {name} prepended")
    if answer_tag is not None and not opens_tag(text, answer_tag):
        text = f"{text.rstrip()}\n{tag_request(answer_tag)}"
        repairs.append("tag request appended")
    return text, tuple(repairs)


def tag_request(answer_tag: str) -> str:
    """The sentence that asks for the answer inside a tag."""
    return f"Write the answer inside <{answer_tag}> and </{answer_tag}>."


def answer_in(text: str, tag: str | None) -> str:
    """The prediction in a reply: what the tag holds, or the whole reply where there is no such pair of tags."""
    answer = None if tag is None else tagged(text, tag)
    return text.strip() if answer is None else answer


# Rows


@dataclass(frozen=True)
class Example:
    """One row of the data."""

    id: str | int = ""
    """Its name in messages and files; empty: its number."""
    input: str = ""
    """Text for INSERT_INPUT_HERE."""
    output: str | list[str] = ""
    """The reference, or a list of texts any of which is right."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Other columns: `context` goes into INSERT_CONTEXT_HERE, and so on; `phrases` as `gnomon sigext score` writes them."""

    @property
    def references(self) -> tuple[str, ...]:
        """Every text that is right."""
        return (self.output,) if isinstance(self.output, str) else tuple(self.output)

    def value(self, name: str) -> str:
        """The row's text for the slot `name`.

        Raises:
            BadInput: the row has no such text.
        """
        text = self.input if name == "input" else self.meta.get(name)
        if not isinstance(text, str) or (name == "input" and not text):
            raise BadInput(
                f'Row "{self.id}" has no text "{name}" for the slot {slot(name)}. Add the column, or take the slot away.'
            )
        return text

    def source(self, slots: Sequence[str]) -> str:
        """The row as the model reads it: the field of a single slot, or each with its name."""
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
    """Refuse splits that share an input, because scores on dev and test would then be too good.

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
    for first, second in combinations(keys, 2):
        if shared := keys[first].keys() & keys[second].keys():
            key = min(shared)
            raise BadInput(
                f'Row "{keys[first][key]}" of {first} is row "{keys[second][key]}" of {second} ({len(shared)} in all). '
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
"""Characters from which a text within another one counts as a copy and not as a coincidence."""


def copied(text: str, rows: Sequence[Example], *, inputs: bool = False) -> list[str]:
    """Names of the rows whose reference, or input as well, stands word for word in a text.

    Args:
        text: a prompt, or what is asked.
        rows: where it may have been copied from.
        inputs: look for inputs too.
    """
    names = []
    for row in rows:
        parts = (*row.references, row.input) if inputs else row.references
        if any(len(part) >= LONG_ENOUGH and part in text for part in parts):
            names.append(str(row.id))
    return names


# Key phrases

FEWEST, MOST = 3, 60
"""K stays between these."""
FACTOR = 1.5
"""Factor by which K is made larger or smaller."""


def phrases_of(row: Example) -> tuple[str, ...]:
    """The phrases of a row, the best first; those beyond the extractor's reach have no rank and are left out.

    Raises:
        BadInput: the row has none, or in another form than `gnomon sigext score` writes.
    """
    phrases: Any = row.meta.get("phrases")
    how = "Write them with: gnomon sigext score EXTRACTOR ROWS --document-field input"
    if phrases is None:
        raise BadInput(f'Row "{row.id}" has no key phrases for the slot INSERT_KEYPHRASES_HERE. {how}')
    try:
        with_rank = (phrase for phrase in phrases if phrase["rank"] is not None)
        ranked = sorted(with_rank, key=lambda phrase: phrase["rank"])
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
