"""An encoder on a server with an endpoint for embeddings, in the format of OpenAI's, asked with all that `core.llm` asks with."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.config import fingerprint
from gnomon.core.llm.base import TOO_LONG, Message, Reply, Request, Usage
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.endpoint.client import Client, Manner, split_endpoint
from gnomon.core.llm.endpoint.faults import Refused
from gnomon.core.llm.stack.connect import connect, manner
from gnomon.core.llm.stack.many import close, complete
from gnomon.core.llm.stack.stored import tokens_asked
from gnomon.errors import BadInput, BudgetSpent, LLMFailure

Floats = NDArray[np.float32]

BATCH_TEXTS = 32
"""Texts a request."""


class Embeddings:
    """The model `model` of a server as an `LLM`, so that retries, limits, budget and cache are those of every other request.

    The messages of a request are the texts; the reply's text is the vectors, float32 in base64.

    Args:
        url: the server, up to and with `/v1`.
        model: the name that the server knows the model by.
        manner: how it is asked.
    """

    is_remote = True
    """Answers come over the network and may be paid for."""

    def __init__(self, url: str, model: str, *, manner: Manner | None = None):
        self.name = f"{url}#{model}"
        self.client = Client(url, model, name=self.name, manner=manner)
        self.model = model
        self.identity = f"{self.name} {self.client.manner.identity} embeddings"

    async def acomplete(self, request: Request) -> Reply:
        """The vectors of the texts; a fault becomes a reply with `error` and `fault` set."""
        texts = [message.content for message in request.messages]
        try:
            answer = await self.client.send("/embeddings", {"model": self.model, "input": texts})
        except Refused as refused:
            fault = refused.fault
            return Reply(
                "", "error", error=fault.message, fault=fault.kind, retry_after_s=fault.retry_after_s
            )
        usage = _usage(answer.content, request)
        vectors = _vectors(answer.content, len(texts))
        if isinstance(vectors, str):
            error = f"{self.client.url} gave no embeddings for {len(texts)} texts: {vectors}."
            return Reply("", "error", usage, latency_s=answer.latency_s, error=error, fault="malformed")
        return Reply(_written(vectors), "stop", usage, latency_s=answer.latency_s)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()


class EndpointEncoder:
    """Texts to vectors by a server.

    How long a text may be it does not say. One that it refuses as too long is halved at a space, and the vectors of the halves are
    averaged (`windows`), or the first half alone is taken (`cut`).

    Args:
        ref: `http://host/v1#name`.
        cfg: how it is asked; None: the defaults.
    """

    def __init__(self, ref: str, cfg: LLMConfig | None = None):
        self.cfg = cfg or LLMConfig()
        url, model = split_endpoint(ref)
        self.name = f"{url}#{model}"
        self.prefixes: Mapping[str, str] = {}
        self.max_tokens: int | None = None
        self._llm = connect(Embeddings(url, model, manner=manner(self.cfg)), self.cfg)

    @cached_property
    def dim(self) -> int:
        """Length of a vector: the server is asked for one."""
        return int(self._ask(["a"])[0].shape[0])

    def identity(self, prefixes: Mapping[str, str]) -> str:
        """The model's name, and what stands in front of texts."""
        wanted = {role: prefix for role, prefix in sorted(prefixes.items()) if prefix}
        more = [part for part in (self.cfg.body, wanted) if part]
        return f"{self.name} {fingerprint(more)}" if more else self.name

    def embed(self, texts: Sequence[str], prefix: str, too_long: str) -> tuple[Floats, list[int]]:
        """Vectors [N, D], and the numbers of texts that were too long.

        Raises:
            BadInput: a text is too long, and that is an error.
            LLMFailure: no vectors came, or they are not all of one length.
            BudgetSpent: the budget does not reach.
        """
        vectors = self._ask([prefix + text for text in texts])
        long = [i for i, vector in enumerate(vectors) if vector is None]
        if long and too_long == "error":
            raise BadInput(
                f'Text {long[0]} is longer than {self.name} reads. Shorten it, or set too_long to "windows" or "cut".'
            )
        for i in long:
            vectors[i] = self._halved(texts[i], prefix, too_long, i)
        if len({len(vector) for vector in vectors}) > 1:
            raise LLMFailure(f"{self.name} gave vectors of different lengths.")
        return np.stack(vectors).astype(np.float32), long

    def close(self) -> None:
        """Close the connections and the cache."""
        close(self._llm)

    def _halved(self, text: str, prefix: str, too_long: str, number: int) -> Floats:
        middle = text.find(" ", len(text) // 2)
        middle = middle if middle > 0 else len(text) // 2
        halves = [half for half in (text[:middle].strip(), text[middle:].strip()) if half]
        if len(halves) < 2:
            raise BadInput(f"Text {number} is longer than {self.name} reads, and cannot be halved.")
        vectors = []
        for half in halves[: 1 if too_long == "cut" else 2]:
            (vector,) = self._ask([prefix + half])
            vector = self._halved(half, prefix, too_long, number) if vector is None else vector
            vectors.append(vector / np.linalg.norm(vector))
        mean: Floats = np.mean(vectors, axis=0)
        return mean

    def _ask(self, texts: Sequence[str]) -> list[Any]:
        """The vector of each text; None where it is too long."""
        batches = [list(texts[i : i + BATCH_TEXTS]) for i in range(0, len(texts), BATCH_TEXTS)]
        requests = [
            Request(tuple(Message("user", text) for text in batch), max_tokens=0) for batch in batches
        ]
        vectors: list[Any] = []
        replies = complete(self._llm, requests, concurrency=self.cfg.concurrency)
        for batch, reply in zip(batches, replies, strict=True):
            if reply.fault == TOO_LONG:
                # A server says of no single text that it is the one which is too long.
                vectors += [None] if len(batch) == 1 else [v for text in batch for v in self._ask([text])]
            elif reply.finish == "budget":
                raise BudgetSpent(str(reply.error))
            elif reply.error is not None:
                raise LLMFailure(reply.error)
            else:
                vectors += list(np.frombuffer(base64.b64decode(reply.text), "<f4").reshape(len(batch), -1))
        return vectors


def _written(vectors: Floats) -> str:
    return base64.b64encode(vectors.astype("<f4").tobytes()).decode()


def _vectors(content: Any, count: int) -> Floats | str:
    """The vectors in the order of the texts, or what is wrong with them."""
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return "no list of data"
    if len(rows) != count:
        return f"{len(rows)} came"
    places = [row.get("index", i) for i, row in enumerate(rows)]
    if sorted(places) != list(range(count)):
        return "their numbers are not those of the texts"
    ordered = [row.get("embedding") for _, row in sorted(zip(places, rows, strict=True), key=lambda p: p[0])]
    if not all(isinstance(vector, list) and vector for vector in ordered):
        return "one of them is no list of numbers"
    if len({len(vector) for vector in ordered}) > 1:
        return "they are of different lengths"
    try:
        vectors = np.array(ordered, np.float32)
    except (TypeError, ValueError):
        return "one of them is no list of numbers"
    return vectors if np.isfinite(vectors).all() else "one of them is not finite"


def _usage(content: Any, request: Request) -> Usage:
    usage = content.get("usage") if isinstance(content, dict) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(tokens, int):
        return Usage(tokens, 0)
    return Usage(tokens_asked(request), 0, is_estimate=True)
