"""Answers as rooms may read them: without thoughts, and with everything that is no answer marked as a fault."""

from __future__ import annotations

import dataclasses

from gnomon.core.llm.base import LLM, Reply, Request, aclose
from gnomon.core.llm.parse import without_thoughts


class Answers:
    """`llm` with its replies made ready: the one place where thoughts are taken off.

    An answer that is empty, that refuses, or whose token limit came before it began, is a failed reply with its reason. What a
    model thought is kept in `Reply.thoughts`.

    Args:
        llm: who is asked.
    """

    def __init__(self, llm: LLM):
        self.llm, self.name = llm, llm.name

    async def acomplete(self, request: Request) -> Reply:
        """The reply of the model, ready to be read."""
        return ready(await self.llm.acomplete(request), self.name)

    async def aclose(self) -> None:
        """Close what is behind."""
        await aclose(self.llm)


def ready(reply: Reply, name: str) -> Reply:
    """`reply` of the model `name`, without thoughts, and failed where there is no answer in it."""
    if reply.error is not None or reply.finish == "budget":
        return reply
    text = without_thoughts(reply.text)
    if text != reply.text:
        at = reply.text.rfind(text) if text else len(reply.text)
        reply = dataclasses.replace(reply, text=text, thoughts=reply.thoughts or reply.text[:at].strip())
    if reply.finish == "refusal":
        said = " ".join(text.split())[:300]
        return _failed(reply, "refusal", f"{name} refused to answer{f': {said}' if said else '.'}")
    if text.strip():
        return reply
    if reply.finish == "length":
        reason = f"{name} used up its {reply.usage.tokens_out} tokens before an answer began. Raise llm.thinking_tokens."
        return _failed(reply, "length", reason)
    return _failed(reply, "empty", f"{name} answered with an empty text.")


def _failed(reply: Reply, fault: str, error: str) -> Reply:
    finish = "refusal" if fault == "refusal" else "error"
    return dataclasses.replace(reply, text="", finish=finish, error=error, fault=fault)
