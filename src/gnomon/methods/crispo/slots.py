"""Prompts with slots: INSERT_INPUT_HERE and the like, filled in one pass and literally.

What goes into a slot is never looked at again: a document may hold braces, tags or the names of slots.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from gnomon.errors import BadInput

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
