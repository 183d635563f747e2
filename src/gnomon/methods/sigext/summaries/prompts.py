"""Prompts: the document, the plain request of a data set, and the phrases to consider; filled literally, in one pass."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gnomon.core.files import room_file
from gnomon.errors import BadConfig, nearest
from gnomon.methods.sigext.phrases.phrases import Phrase, tokens

TEXT, PHRASES = "<text>", "<phrases>"
SETS = ("general", "samsum", "cnn", "meetingbank", "arxiv", "arxiv-short")
"""Templates that are here: files in `prompts/`."""

_CONTROL = re.compile(r"<\|[^|<>]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>", re.IGNORECASE)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Template:
    """A prompt with slots.

    Raises:
        BadConfig: it lacks `<text>` or `<phrases>`, or both stand in one line.
    """

    text: str
    """`<text>` stands for the document. The line with `<phrases>` is left out when there are no phrases."""

    def __post_init__(self) -> None:
        for slot in (TEXT, PHRASES):
            if self.text.count(slot) != 1:
                raise BadConfig(
                    f'A prompt template holds "{slot}" exactly once; this one does {self.text.count(slot)} times.'
                )
        if any(TEXT in line and PHRASES in line for line in self.text.splitlines()):
            raise BadConfig(
                f"{TEXT} and {PHRASES} must stand in different lines: without phrases their line is left out."
            )

    @property
    def plain(self) -> str:
        """The template without the line about phrases."""
        return "\n".join(line for line in self.text.splitlines() if PHRASES not in line)


@cache
def load_template(name: str) -> Template:
    """The template called `name`, or the one in the file at that path.

    Raises:
        BadConfig: there is no such template and no such file.
    """
    if name in SETS:
        return Template(room_file(__name__, f"prompts/{name}.txt").read_text("utf-8").strip())
    path = Path(name)
    if not path.is_file():
        raise BadConfig(f'There is no prompt template or file "{name}". {nearest(name, SETS)}')
    return Template(path.read_text("utf-8").strip())


def build_prompt(document: str, phrases: Sequence[Phrase | str], template: Template | str = "general") -> str:
    """The prompt for a document: with its phrases joined by "; ", or the plain one when there are none.

    Args:
        document: taken as it is, whatever it contains.
        phrases: what to consider, in order; control tokens and line breaks are taken out of them.
        template: one of `SETS`, a file, or a template.

    >>> print(build_prompt("The <text> of Ann.", ["Ann", "a\\nletter"], Template("<text>\\nSummarise.\\nConsider <phrases>.")))
    The <text> of Ann.
    Summarise.
    Consider Ann; a letter.
    """
    template = template if isinstance(template, Template) else load_template(template)
    listed = [
        shown for phrase in phrases if (shown := shown_as(phrase if isinstance(phrase, str) else phrase.text))
    ]
    filled = {TEXT: document, PHRASES: "; ".join(listed)}
    text = template.text if listed else template.plain
    return re.sub(f"{TEXT}|{PHRASES}", lambda slot: filled[slot[0]], text)


def shown_as(phrase: str) -> str:
    """A phrase as a prompt may show it: in one line, without control characters and the control tokens of chat models.

    >>> shown_as("the <|im_end|>\\nbridge")
    'the bridge'
    """
    kept = "".join(c for c in _CONTROL.sub(" ", phrase) if c.isspace() or unicodedata.category(c)[0] != "C")
    return _SPACE.sub(" ", kept).strip(" ;")


def fitted_prompt(
    document: str,
    phrases: Sequence[Phrase | str],
    template: Template,
    *,
    limit: int | None,
    count: Callable[[str], int],
) -> tuple[str, bool]:
    """The prompt within `limit` tokens, and whether the document had to be cut for it; the phrases never are.

    Args:
        document: its end is cut off, between two words.
        phrases: as for `build_prompt`.
        template: as for `build_prompt`.
        limit: most tokens; None: no limit.
        count: tokens of a text, by the language model's own tokenizer where it is at hand.

    Raises:
        BadConfig: not even an empty document fits.
    """
    whole = build_prompt(document, phrases, template)
    if limit is None or count(whole) <= limit:
        return whole, False
    ends = [0, *(token.end for token in tokens(document))]
    low, high = 0, len(ends) - 1  # the longest beginning that fits, by bisection
    while low < high:
        middle = (low + high + 1) // 2
        if count(build_prompt(document[: ends[middle]], phrases, template)) <= limit:
            low = middle
        else:
            high = middle - 1
    prompt = build_prompt(document[: ends[low]], phrases, template)
    if count(prompt) > limit:
        raise BadConfig(
            f"context_tokens {limit} has no room for the request and its phrases. Raise it, or lower k."
        )
    return prompt, True
