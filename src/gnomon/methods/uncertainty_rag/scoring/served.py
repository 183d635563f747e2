"""Pairs read by a server that returns the log-probabilities of a given prompt, such as vLLM.

Start vLLM with `--no-enable-prefix-caching`: what it took from that cache it can return no log-probabilities of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gnomon.core.config import fingerprint
from gnomon.core.llm import LLMConfig, complete, manner
from gnomon.core.llm.endpoint.client import split_endpoint
from gnomon.core.llm.endpoint.given import GivenLogprobs, request_of
from gnomon.errors import BadInput, LLMFailure
from gnomon.methods.uncertainty_rag.options import Layout
from gnomon.methods.uncertainty_rag.scoring.reading import (
    Floats,
    Ids,
    Information,
    Reader,
    encode,
    frame,
    unreadable,
)
from gnomon.methods.uncertainty_rag.scoring.table import Source

TOGETHER = 4
"""Prompts under way at once: a server keeps the logits of all of them."""
AGREE = 0.02
"""By how much, relative, two answers about one pair may differ: servers compute in 16 bits and in changing batches."""


class ServedReader:
    """A served model. Every pair is sent whole, as token ids.

    Args:
        llm: a `GivenLogprobs`, with whatever stands around it.
        tokenizer: of the served model; its ids are what is sent.
        layout: how pairs are put.
        max_tokens: tokens that the server reads; None: it will say.
        together: requests under way at once.
    """

    def __init__(
        self,
        llm: Any,
        tokenizer: Any,
        layout: Layout | None = None,
        *,
        max_tokens: int | None = None,
        together: int = TOGETHER,
    ):
        self.llm, self.tokenizer, self.layout = llm, tokenizer, layout or Layout()
        self.start, self.separator = frame(tokenizer, self.layout)
        self.max_tokens, self.together = max_tokens, together

    @property
    def identity(self) -> str:
        """The model's name, tokenizer and layout: a server shows nothing else of itself."""
        layout = (self.layout.order, self.start, self.separator)
        return fingerprint(self.llm.name, sorted(self.tokenizer.get_vocab().items()), layout, length=24)

    def encode(self, text: str) -> list[int]:
        """The token ids of a chunk."""
        return encode(self.tokenizer, text)

    def decode(self, ids: Ids) -> str:
        """The text of a chunk."""
        return str(self.tokenizer.decode(list(ids)))

    def check(self, first: Ids, second: Ids) -> None:
        """Ask about one pair twice, before anything else is spent.

        Raises:
            LLMFailure: the server gives no such numbers, or other ones the second time.
        """
        before, after = (
            float(self._ask([[*self.start, *first, *self.separator, *second]], anew=anew)[0].sum())
            for anew in (False, True)
        )
        if abs(before - after) > AGREE * max(1.0, abs(before)):
            raise LLMFailure(
                f"{self.llm.name} gave one pair {before:.3f} nats and, asked again, {after:.3f}. Its log-probabilities cannot be "
                "used; with vLLM, start the server with --no-enable-prefix-caching."
            )

    def read(self, pairs: Sequence[tuple[Ids, Ids]]) -> list[Information]:
        """Of each pair.

        Raises:
            BadInput: a pair is longer than the server reads, or a chunk is empty.
            LLMFailure: the server gave no log-probabilities.
        """
        for number, pair in enumerate(pairs):
            if reason := unreadable(self, *pair):
                raise BadInput(f"Pair {number}: {reason}")
        rows = self._ask([[*self.start, *a, *self.separator, *b] for a, b in pairs])
        results = []
        front = max(1, len(self.start))
        for row, (first, _) in zip(rows, pairs, strict=True):
            end = len(self.start) + len(first)
            results.append(Information(row[front:end], row[end + len(self.separator) :]))
        return results

    def alone(self, chunks: Sequence[Ids]) -> list[Floats]:
        """-ln p of each chunk's tokens behind the start token."""
        front = max(1, len(self.start))
        return [row[front:] for row in self._ask([[*self.start, *chunk] for chunk in chunks])]

    def _ask(self, rows: Sequence[Ids], *, anew: bool = False) -> list[Floats]:
        """-ln p of the tokens of each row, 0 at its first."""
        requests = [replace(request_of(row), anew=anew) for row in rows]
        replies = complete(self.llm, requests, concurrency=self.together)
        for reply in replies:
            if reply.error is not None:
                raise LLMFailure(reply.error)
        return [np.array([0.0, *(-v for v in json.loads(reply.text)[1:])]) for reply in replies]


@contextmanager
def open_reader(source: Source, tokenizer: Any, cfg: LLMConfig, run: Any) -> Iterator[Reader]:
    """What reads pairs: a model of this process, or a served one, which is asked about one pair first.

    Args:
        source: a model of this process, or one whose `ref` is `http://host:8000/v1#NAME`.
        tokenizer: of a served model.
        cfg: how that is asked.
        run: records what is asked.

    Raises:
        LLMFailure: a server returns no log-probabilities of a given prompt, or other ones each time.
    """
    if not source.ref.startswith(("http://", "https://")):
        yield source.open()
        return
    url, name = split_endpoint(source.ref)
    opener = partial(GivenLogprobs, url, name, manner=manner(cfg))  # what is opened here is closed at the end
    with run.asking({"scorer": opener}, cfg) as models:
        together = min(TOGETHER, cfg.concurrency)
        reader = ServedReader(models["scorer"], tokenizer, source.layout, together=together)
        reader.check(reader.encode("The first of two short texts."), reader.encode("And the second one."))
        yield reader
