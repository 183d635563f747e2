"""Documents as tokens, the tokens of each phrase, and phrase scores from token scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.config import check
from gnomon.errors import BadConfig, ModelMismatch
from gnomon.methods.sigext.phrases.phrases import Phrase

Tokenisation = Literal["offsets", "pieces"]

TokenSpan = tuple[int, int]
"""First token of a phrase and the one behind its last; both 0 where no token is left of it."""


@dataclass(frozen=True)
class Encoded:
    """One window of a document."""

    input_ids: list[int]
    """Beginning, text, end."""
    spans: list[TokenSpan]
    """Tokens of each phrase of the document in this window, [N]."""

    def labels(self, positive: Sequence[bool]) -> list[int]:
        """1 or 0 for the tokens of phrases, 1 where two phrases share a token and one is positive; -100 for all others, [T]."""
        marks = [-100] * len(self.input_ids)
        for (start, end), is_positive in zip(self.spans, positive, strict=True):
            for at in range(start, end):
                marks[at] = max(marks[at], int(is_positive))
        return marks

    @property
    def n_missing(self) -> int:
        """Phrases without a token."""
        return sum(start == end for start, end in self.spans)


class DocumentEncoder:
    """Turns documents and phrases into tokens.

    Args:
        tokenizer: the encoder's; `offsets` needs a fast one.
        mode: `offsets` tokenises the document once and finds phrases by their characters; `pieces` tokenises phrases and what
            stands between them apart, as the released code does.
        max_length: longest window, in tokens, with its beginning and end; the rest is cut off.
        stride: tokens from the start of one window to that of the next, for `windows`; None: one window.

    Raises:
        ModelMismatch: the tokenizer cannot say which characters a token covers.
        BadConfig: a setting is out of range.
    """

    def __init__(
        self,
        tokenizer: Any,
        mode: Tokenisation = "offsets",
        max_length: int = 4096,
        stride: int | None = None,
    ):
        if mode not in ("offsets", "pieces"):
            raise BadConfig(f'tokenisation must be "offsets" or "pieces"; got {mode!r}.')
        if mode == "offsets" and not getattr(tokenizer, "is_fast", False):
            raise ModelMismatch(
                "This tokenizer does not say which characters a token covers. Use --tokenisation pieces."
            )
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        self.begin = [] if begin is None else [begin]
        self.end = [] if end is None else [end]
        body = max_length - len(self.begin) - len(self.end)
        check(body >= 1, "max_length", "above the number of special tokens", max_length)
        check(stride is None or 1 <= stride <= body, "stride", f"between 1 and {body}", stride)
        self.tokenizer, self.mode, self.body, self.stride = tokenizer, mode, body, stride

    def encode(self, document: str, phrases: Sequence[Phrase]) -> Encoded:
        """The first window."""
        ids, spans = self._whole(document, phrases)
        return self._window(ids, spans, 0)

    def windows(self, document: str, phrases: Sequence[Phrase]) -> Iterator[Encoded]:
        """All windows that `stride` asks for; each holds the phrases that are in it as a whole."""
        ids, spans = self._whole(document, phrases)
        start = 0
        while True:
            yield self._window(ids, spans, start)
            if self.stride is None or start + self.body >= len(ids):
                return
            start += self.stride

    def _window(self, ids: Sequence[int], spans: Sequence[TokenSpan], start: int) -> Encoded:
        stop = min(start + self.body, len(ids))
        shift = len(self.begin) - start
        # A phrase that the window cuts has no score here: half of it may not mean what the whole does.
        inside = [(a + shift, b + shift) if start <= a < b <= stop else (0, 0) for a, b in spans]
        return Encoded([*self.begin, *ids[start:stop], *self.end], inside)

    def _whole(self, document: str, phrases: Sequence[Phrase]) -> tuple[list[int], list[TokenSpan]]:
        """Tokens of the whole document, without beginning and end, and those of each phrase."""
        if self.mode == "pieces":
            return self._by_pieces(document, phrases)
        encoded = self.tokenizer(
            document, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        offsets = encoded["offset_mapping"]
        spans: list[TokenSpan] = []
        at = 0
        for phrase in phrases:
            while at < len(offsets) and offsets[at][1] <= phrase.start:
                at += 1
            end = at
            while end < len(offsets) and offsets[end][0] < phrase.end:
                end += 1
            spans.append((at, end) if end > at else (0, 0))
        return list(encoded["input_ids"]), spans

    def _by_pieces(self, document: str, phrases: Sequence[Phrase]) -> tuple[list[int], list[TokenSpan]]:
        ids: list[int] = []
        spans: list[TokenSpan] = []
        at = 0
        for number, phrase in enumerate(phrases):
            between = document[at : phrase.start]
            # Phrases that touch are kept apart by a token of white space.
            ids += self._ids(" " if number and not between.strip() else between)
            start = len(ids)
            ids += self._ids(phrase.text)
            spans.append((start, len(ids)) if len(ids) > start else (0, 0))
            at = phrase.end
        return ids + self._ids(document[at:]), spans

    def _ids(self, text: str) -> list[int]:
        return (
            list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]) if text else []
        )


def longest_input(config: Any) -> int:
    """Tokens that a model reads at most, those that begin and end a text included.

    RoBERTa's and Longformer's positions begin behind the padding id; models without a table of positions have no limit here.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return 1_000_000
    begins_late = config.model_type in ("roberta", "xlm-roberta", "longformer", "camembert")
    return int(positions) - (config.pad_token_id + 1 if begins_late else 0)


# Phrase scores


def phrase_scores(logits: Float[Tensor, "B T 2"], spans: Sequence[Sequence[TokenSpan]]) -> list[list[float]]:
    """Mean log-probability of class 1 over the tokens of each phrase; NaN for phrases without a token.

    Sums of neighbours are differences of running sums, so the cost does not grow with the length of the phrases.

    Args:
        logits: of the token classifier.
        spans: first token and the one behind the last of each phrase, one list per row.

    Source: the paper's phrase score, the mean of log p(salient) over the phrase's tokens.
    """
    marks = logits.float().log_softmax(-1)[..., 1].double()
    running = torch.nn.functional.pad(marks.cumsum(1), (1, 0)).cpu()  # [B, T + 1]
    rows = torch.tensor([b for b, row in enumerate(spans) for _ in row], dtype=torch.long)
    if not len(rows):
        return [[] for _ in spans]
    starts, ends = torch.tensor([span for row in spans for span in row], dtype=torch.long).T
    lengths = ends - starts
    means = (running[rows, ends] - running[rows, starts]) / lengths.clamp(min=1)
    means[lengths <= 0] = math.nan
    values = means.tolist()
    by_row, at = [], 0
    for row in spans:
        by_row.append(values[at : at + len(row)])
        at += len(row)
    return by_row
