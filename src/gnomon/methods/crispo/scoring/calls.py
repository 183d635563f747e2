"""Requests to the three models of a search, and the record of every call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.llm.base import LLM, Reply, Request, ask
from gnomon.core.llm.stack.stored import estimated_tokens, request_key
from gnomon.errors import BudgetSpent, LLMFailure

Role = Literal["task", "critic", "optimizer"]


@dataclass(frozen=True)
class Decoding:
    """Lengths and temperature of what the models of a search write."""

    max_tokens: int = 512
    """Longest answer to the task, in tokens."""
    meta_tokens: int = 1024
    """Longest critique or proposal, in tokens."""
    temperature: float = 1.0
    """Of critic and optimiser; the task is done at 0."""


@dataclass(frozen=True)
class LLMs:
    """The models of a search; one may play all parts."""

    task: LLM
    """Does the task, at temperature 0."""
    critic: LLM
    """Compares predictions with references."""
    optimizer: LLM
    """Writes new prompts."""
    decoding: Decoding = Decoding()
    """Lengths and temperature, for all of them."""

    @classmethod
    def of(cls, llm: LLM, decoding: Decoding | None = None) -> LLMs:
        """One model in all parts, the paper's setting."""
        return cls(llm, llm, llm, decoding or Decoding())


@dataclass(frozen=True)
class Call:
    """One request that was answered."""

    role: Role
    """The model's role."""
    what: str
    """Purpose: prompt and row, or step and attempt."""
    request: Request
    tokens_in: int
    """Tokens of the request."""
    tokens_out: int
    """Tokens of the answer."""
    latency_s: float
    """Seconds to the answer; of a cached one, when it was first given."""
    finish: str
    """Why it ended: stop, length or refusal."""

    def row(self) -> dict[str, Any]:
        """The call as a line of `calls.jsonl`: the request by a short hash of all its fields."""
        columns = {name: value for name, value in vars(self).items() if name != "request"}
        return columns | {"hash": request_key(self.request)[:12]}


class Asker:
    """Requests to the models of a search, and the list of those that were answered.

    A search stops where an answer is missing: a missing answer must not pass for a bad one.

    Args:
        llms: the models.
        seed: of the run, for endpoints that take seeds.
    """

    def __init__(self, llms: LLMs, *, seed: int = 0) -> None:
        self.llms, self.seed = llms, seed
        self.calls: list[Call] = []
        """Calls of finished steps."""
        self.counts: Counter[str] = Counter()
        """Role -> calls so far."""
        self._open: list[Call] = []

    async def ask(self, role: Role, text: str, what: str, *, draw: int = 0) -> Reply:
        """Ask one model.

        Args:
            role: the model's role.
            text: the request.
            what: its purpose, for messages and `calls.jsonl`.
            draw: number of the repeat; each is a request of its own.

        Raises:
            LLMFailure: there is no answer; the message names the purpose.
            BudgetSpent: the budget has no room for it.
        """
        is_task, decoding = role == "task", self.llms.decoding
        request = ask(
            text,
            temperature=0.0 if is_task else decoding.temperature,
            max_tokens=decoding.max_tokens if is_task else decoding.meta_tokens,
            seed=self.seed,
            draw=draw,
        )
        llm: LLM = getattr(self.llms, role)
        reply = await llm.acomplete(request)
        if reply.finish == "budget":
            raise BudgetSpent(str(reply.error))
        if reply.error is not None:
            raise LLMFailure(
                f"{what}: {llm.name} gave no answer. {reply.error} What was answered is kept; repeat the command to go on."
            )
        call = Call(
            role,
            what if not draw else f"{what}, draw {draw}",
            request,
            reply.usage.tokens_in,
            reply.usage.tokens_out,
            round(reply.latency_s, 4),
            reply.finish,
        )
        self._open.append(call)
        self.counts[role] += 1
        return reply

    def close_step(self) -> list[Call]:
        """Append the calls since the last step to `calls` and return them.

        They are sorted by purpose, so that `calls.jsonl` is the same in whatever order answers arrive.
        """
        new = sorted(self._open, key=lambda call: (call.role, _natural(call.what)))
        self._open.clear()
        self.calls += new
        return new


def _natural(text: str) -> list[tuple[int, str]]:
    """Sort key by which 2 comes before 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text)]


def token_counter(llm: LLM) -> tuple[Callable[[str], int], int | None]:
    """A function that counts a text's tokens for a model, and the model's positions where they are known.

    A model in this process counts with its own tokenizer; for others the count is an estimate, rather high than low.
    """
    inner: Any = llm
    while hasattr(inner, "llm"):
        inner = inner.llm
    tokenizer = getattr(inner, "tokenizer", None)
    if tokenizer is None:
        return estimated_tokens, None
    config = inner.model.config.get_text_config()
    return lambda text: len(tokenizer(text)["input_ids"]), getattr(config, "max_position_embeddings", None)
