"""Requests and replies as JSON, the keys that caches and tapes hold them under, and how long a prompt is and may be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gnomon.core.config import fingerprint
from gnomon.core.files import state_of
from gnomon.core.llm.base import Reply, Request, Usage, ask

_PASSING_FIELDS = ("cached", "fault", "retry_after_s")
"""What belongs to one asking only."""


def request_key(request: Request, *more: str) -> str:
    """A key that two requests share only if they are equal in every field (but for `anew`), and equal in `more`."""
    fields = dataclasses.asdict(request)
    del fields["anew"]
    for message, whole in zip(fields["messages"], request.messages, strict=True):
        # The key of a request without images is what it always was; images stand in it by their digests.
        del message["images"]
        if whole.images:
            message["images"] = [part.digest for part in whole.images]
    return fingerprint(fields, more, length=32)


def reply_to_json(reply: Reply) -> str:
    """One line that `reply_from_json` reads back; what belongs to one asking only (`cached`) is left out."""
    fields = dataclasses.asdict(reply)
    kept = {name: value for name, value in fields.items() if name not in _PASSING_FIELDS}
    return json.dumps(kept, ensure_ascii=False)


def reply_from_json(line: str) -> Reply:
    """The reply in a line of `reply_to_json`, marked as cached."""
    fields: dict[str, Any] = json.loads(line)
    pairs = fields["logprobs"]
    fields["logprobs"] = None if pairs is None else tuple((token, value) for token, value in pairs)
    fields["left_out"] = tuple(fields.get("left_out", ()))
    fields["usage"] = Usage(**fields["usage"])
    return Reply(**fields, cached=True)


def estimated_tokens(text: str) -> int:
    """A guess at the tokens of `text`, rather high than low: one for every three bytes.

    >>> estimated_tokens("Keep or drop?")
    5
    """
    return -(-len(text.encode("utf-8", "replace")) // 3)


def tokens_asked(request: Request) -> int:
    """A guess at the tokens of the prompt, its images among them."""
    words = sum(estimated_tokens(message.content) + 4 for message in request.messages)
    return words + sum(image_tokens(part.size) for message in request.messages for part in message.images)


def image_tokens(size: tuple[int, int]) -> int:
    """A guess at the tokens of an image: one for every 750 pixels, as one vendor counts them, and 85 at least.

    >>> image_tokens((1000, 750)), image_tokens((10, 10))
    (1000, 85)
    """
    return max(85, -(-size[0] * size[1] // 750))


def folder_state(folder: Path) -> str:
    """A short hash of the names, sizes and times of the files in a model folder; empty for a hub id."""
    return fingerprint(state_of(str(folder))) if folder.is_dir() else ""


def room_of(llm: Any, max_tokens: int) -> tuple[int | None, Callable[[str], int]]:
    """The longest prompt that a local model has room for, and how its tokens are counted; no limit and a guess for others.

    Args:
        llm: any model, in whatever wrappers.
        max_tokens: longest answer, which takes room too in a decoder-only model.
    """
    while hasattr(llm, "llm"):
        llm = llm.llm
    tokenizer, model = getattr(llm, "tokenizer", None), getattr(llm, "model", None)
    if tokenizer is None or model is None:
        return None, estimated_tokens
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def count(text: str) -> int:
        return len(llm.template.encode(ask(text)))

    if positions is None:
        return None, count
    shared = 0 if model.config.is_encoder_decoder else min(max_tokens, positions // 2)
    return positions - 1 - shared, count
