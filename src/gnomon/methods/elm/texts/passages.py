"""Texts to erase and texts to keep: read from a source, cut, as token ids."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gnomon.core import records
from gnomon.core.config import option
from gnomon.core.data.documents import read_documents
from gnomon.core.files import artifact
from gnomon.errors import BadInput
from gnomon.methods.elm.texts.personas import continuations

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

MAX_CHARS, MIN_CHARS = 700, 50
"""Texts are cut to so many characters, and shorter ones left out, as in the released code."""


@dataclass(frozen=True)
class Fluent:
    """A prompt and what the frozen model wrote behind it as a novice."""

    prompt: str
    """The beginning of a forget text and a sentence that changes the topic."""
    continuation: str
    """What is to be learned."""


def read_passages(
    source: str, *, text_field: str = "text", max_chars: int = MAX_CHARS, min_chars: int = MIN_CHARS
) -> list[str]:
    """The texts of a source, cut to `max_chars` characters; those below `min_chars` are left out.

    Args:
        source: what `gnomon.core.data.documents.read_documents` reads.
        text_field: column of the text.
        max_chars: longest text.
        min_chars: shortest text.

    Raises:
        BadInput: nothing is there, or no text is long enough.
    """
    texts = [document.text for document in read_documents(source, text_field=text_field)]
    passages = cut(texts, max_chars=max_chars, min_chars=min_chars)
    if not passages:
        raise BadInput(
            f"{source} holds {len(texts)} texts and none of at least {min_chars} characters. Lower --min-chars, or name another."
        )
    if len(passages) < len(texts):
        log.info(
            "%s: %d of %d texts are shorter than %d characters and left out.",
            source, len(texts) - len(passages), len(texts), min_chars,
        )  # fmt: skip
    return passages


def cut(texts: Iterable[str], *, max_chars: int = MAX_CHARS, min_chars: int = MIN_CHARS) -> list[str]:
    """The texts that are long enough, cut to `max_chars` characters."""
    return [text[:max_chars] for text in texts if len(text.strip()) >= max(1, min_chars)]


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], name: str, max_length: int | None = None
) -> list[list[int]]:
    """Token ids of each text without special tokens, at most `max_length`; texts without a token are left out.

    Raises:
        BadInput: no text is left.
    """
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    encoded = [list(row[:max_length]) for row in rows if row]
    if not encoded:
        raise BadInput(f"There is no {name} text. Name a source that holds some.")
    return encoded


def read_fluent(source: str | Path) -> list[Fluent]:
    """The fluent texts that `fluency-data` wrote: a JSONL file, or its run folder.

    Raises:
        BadInput: a row lacks `prompt` or `continuation`; the message names file and line.
    """
    rows = list(records.read(artifact(Path(source), "records"), Fluent))
    if not rows:
        raise BadInput(f"{source} holds no fluent texts. Make them with gnomon elm fluency-data.")
    return rows


def encode_fluent(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Fluent], max_length: int | None = None
) -> list[tuple[list[int], int]]:
    """Per fluent text its ids and how many of them are the prompt's; one without a continuation is left out.

    The ids are those of the running text; what is learned begins with the first token that holds something of the continuation.
    """
    encoded = []
    for text in texts:
        prompt, (continuation,) = continuations(tokenizer, text.prompt, [text.continuation])
        whole = [*prompt, *continuation][:max_length]
        if prompt and len(whole) > len(prompt):
            encoded.append((whole, len(prompt)))
    if texts and not encoded:
        raise BadInput(
            f"None of {len(texts)} fluent texts has a prompt and a continuation within {max_length} tokens. "
            f"Raise {option('train.max_length')}."
        )
    return encoded
