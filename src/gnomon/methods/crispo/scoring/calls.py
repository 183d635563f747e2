"""Requests to the three models of a search, and the record of every call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.llm.base import LLM, Reply, Request, ask, seed_for
from gnomon.core.llm.stack.stored import estimated_tokens, request_key
from gnomon.errors import BudgetSpent, LLMFailure

Role = Literal["task", "critic", "optimizer"]

SAMPLED = 1.0
"""Temperature of critiques and proposals in this process where none is named: the paper's, and an endpoint's own."""

ENDS = ("missing", "stopped")
"""Faults after which a search ends: a request that is not on the tape, and one not made because too much had failed before."""


@dataclass(frozen=True)
class Decoding:
    """Lengths and temperatures of what the models of a search write."""

    max_tokens: int = 512
    """Longest answer to the task, in tokens."""
    meta_tokens: int = 1024
    """Longest critique or proposal, in tokens."""
    task_temperature: float | None = None
    """Of the task model; 0 asks for the likeliest answer. None: not sent, the endpoint takes its own."""
    critic_temperature: float | None = None
    """Of the critic. None: not sent; a model in this process, which has none of its own, takes `SAMPLED`."""
    optimizer_temperature: float | None = None
    """Of the optimiser; None as for the critic. At 0 repeated requests would give the same prompt."""


@dataclass(frozen=True)
class LLMs:
    """The models of a search; one may play all parts."""

    task: LLM
    """Does the task."""
    critic: LLM
    """Compares predictions with references."""
    optimizer: LLM
    """Writes new prompts."""
    decoding: Decoding = Decoding()
    """Lengths and temperatures."""

    @classmethod
    def of(cls, llm: LLM, decoding: Decoding | None = None) -> LLMs:
        """One model in all parts, the paper's setting."""
        return cls(llm, llm, llm, decoding or Decoding())


def failure_of(reply: Reply) -> str | None:
    """Why a reply is no answer: `refusal`, or the kind of its fault; None when it is one."""
    if reply.error is not None:
        return str(reply.fault or "failed")
    return "refusal" if reply.finish == "refusal" else None


@dataclass(frozen=True)
class Call:
    """One request and how it ended."""

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
    """Why it ended: stop, length, or the reason why there is no answer."""

    def row(self) -> dict[str, Any]:
        """The call as a line of `calls.jsonl`: the request by a short hash of all its fields."""
        columns = {name: value for name, value in vars(self).items() if name != "request"}
        return columns | {"hash": request_key(self.request)[:12]}


class Asker:
    """Requests to the models of a search, and the list of them.

    A reply that failed is given back and no answer (see `failure_of`): a missing answer must not pass for a bad one. Where too much
    has failed, the search stops.

    Args:
        llms: the models.
        seed: of the run; see `seed_for` of `gnomon.core.llm.base`.
    """

    def __init__(self, llms: LLMs, *, seed: int = 0) -> None:
        self.llms, self.seed = llms, seed
        self.calls: list[Call] = []
        """Calls of finished steps."""
        self.counts: Counter[str] = Counter()
        """Role -> calls so far."""
        self._open: list[Call] = []

    async def ask(self, role: Role, text: str, what: str, *, draw: int = 0) -> Reply:
        """The reply of one model, which may have failed.

        Args:
            role: the model's role.
            text: the request.
            what: its purpose, for messages and `calls.jsonl`.
            draw: number of the repeat; each is a request of its own.

        Raises:
            LLMFailure: the endpoint answers nothing any more; the message names the purpose.
            BudgetSpent: the budget has no room for it.
        """
        llm: LLM = getattr(self.llms, role)
        decoding, temperature = self.llms.decoding, self._temperature(role, llm)
        named: dict[str, Any] = {} if temperature is None else {"temperature": temperature}
        request = ask(
            text,
            max_tokens=decoding.max_tokens if role == "task" else decoding.meta_tokens,
            seed=seed_for(llm, self.seed),
            draw=draw,
            **named,
        )
        reply = await llm.acomplete(request)
        if reply.finish == "budget":
            raise BudgetSpent(str(reply.error))
        if reply.fault in ENDS:
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
            failure_of(reply) or reply.finish,
        )
        self._open.append(call)
        self.counts[role] += 1
        return reply

    def _temperature(self, role: Role, llm: LLM) -> float | None:
        named: float | None = getattr(self.llms.decoding, f"{role}_temperature")
        if named is None and role != "task" and _in_process(llm) is not None:
            return SAMPLED
        return named

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
    inner = _in_process(llm)
    if inner is None:
        return estimated_tokens, None
    tokenizer = inner.tokenizer
    config = inner.model.config.get_text_config()
    return lambda text: len(tokenizer(text)["input_ids"]), getattr(config, "max_position_embeddings", None)


def _in_process(llm: Any) -> Any | None:
    """The model behind all wrappers when it is one in this process, which has a tokenizer; else None."""
    while hasattr(llm, "llm"):
        llm = llm.llm
    return llm if getattr(llm, "tokenizer", None) is not None else None
