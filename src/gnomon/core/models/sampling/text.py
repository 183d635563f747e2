"""Between text and token ids while sampling: prompts in, completions and stop texts out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNKNOWN, NO, MAYBE = -1, 0, 1


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str | Sequence[int]], positions: int | None
) -> list[list[int]]:
    """Token ids of each prompt; an empty one becomes the begin-of-text token.

    Args:
        tokenizer: encodes the prompts that are text.
        prompts: texts or token ids.
        positions: what the model can hold, or `None` without a limit.

    Raises:
        BadInput: a prompt leaves no position for a new token, or is empty where no token begins a text.
    """
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    from_text = iter(tokenizer(texts)["input_ids"] if texts else [])
    encoded = [next(from_text) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    for i, ids in enumerate(encoded):
        if not ids:
            if tokenizer.bos_token_id is None:
                raise BadInput(
                    f"Prompt {i} is empty and the tokenizer has no begin-of-text token. Give it a text."
                )
            ids.append(tokenizer.bos_token_id)
        if positions is not None and len(ids) >= positions:
            raise BadInput(
                f"Prompt {i} has {len(ids)} tokens and the model {positions} positions. "
                "Shorten it to leave room."
            )
    return encoded


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """An id to fill masked places with, also where the tokenizer names none."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(i for i in ids if i is not None)


def completion_text(
    tokenizer: PreTrainedTokenizerBase, prompt: Sequence[int], token_ids: Sequence[int]
) -> str:
    """The text that `token_ids` add after `prompt`, special tokens left out.

    Some tokenizers drop the space before the first word they decode; the last prompt token in front keeps it.
    """
    anchor, whole = decode(tokenizer, prompt[-1:]), decode(tokenizer, [*prompt[-1:], *token_ids])
    return whole[len(anchor) :] if whole.startswith(anchor) else decode(tokenizer, token_ids)


def decode(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> str:
    """The text of `token_ids`, special tokens left out."""
    return str(tokenizer.decode(list(token_ids), skip_special_tokens=True))


def token_texts(tokenizer: PreTrainedTokenizerBase, token_ids: Sequence[int]) -> list[str]:
    """What each token adds to the text that all of them are: joined, the decoded text, special tokens and spaces included.

    A token decoded alone loses the space in front of a word (SentencePiece), or is a part of a character: that counts for its last
    token, and the tokens before it add nothing.
    """
    texts, done = [], ""
    for end in range(1, len(token_ids) + 1):
        whole = str(tokenizer.decode(list(token_ids[:end]), clean_up_tokenization_spaces=False))
        if whole.endswith("\ufffd") and end < len(token_ids):
            texts.append("")
            continue
        is_longer = whole.startswith(done)
        texts.append(whole[len(done) :] if is_longer else str(tokenizer.decode([token_ids[end - 1]])))
        done = whole
    return texts


class StopFinder:
    """Finds stop texts in growing completions, decoding only after a token that could end one."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str], vocabulary: int):
        self.tokenizer = tokenizer
        self.stop = tuple(stop)
        # A token holds at least a byte of text: a stop text and what surrounds it lie within so many tokens.
        self._tail = max((len(text.encode()) for text in self.stop), default=0) + 4
        self._may_end = torch.full((vocabulary,), UNKNOWN, dtype=torch.int8)

    def may_end(self, tokens: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
        """True where a stop text may end in the given token; on the CPU."""
        tokens = tokens.cpu()
        state = self._may_end[tokens]
        if (state == UNKNOWN).any():
            for token in tokens[state == UNKNOWN].unique().tolist():
                self._may_end[token] = MAYBE if self._could_end_in(token) else NO
            state = self._may_end[tokens]
        return state == MAYBE

    def is_at_end(self, token_ids: Int[Tensor, " t"]) -> bool:
        """Whether a stop text lies in the last tokens of a completion."""
        # A tail that begins within a character can spoil all of it: a run of byte tokens decodes to replacement characters as a
        # whole. A character has at most four bytes, so one of four tails begins with a whole one.
        tails = (token_ids[-(self._tail + more) :].tolist() for more in range(4))
        return any(
            stop in text for tail in tails for text in [decode(self.tokenizer, tail)] for stop in self.stop
        )

    def strip(self, text: str) -> str:
        """`text` up to the first stop text in it."""
        ends = [text.find(stop) for stop in self.stop if stop in text]
        return text[: min(ends)] if ends else text

    def _could_end_in(self, token: int) -> bool:
        piece = decode(self.tokenizer, [token])
        if "\ufffd" in piece:  # part of a character: the text depends on the tokens before it
            return True
        # Alone, a word may have lost the space in front that it has within a text.
        return any(_could_end(stop, text) for stop in self.stop for text in (piece, " " + piece))


def _could_end(stop: str, piece: str) -> bool:
    """Whether `stop` can end inside `piece` when other text may come before it."""
    return stop in piece or any(piece.startswith(stop[-k:]) for k in range(1, len(stop)))
