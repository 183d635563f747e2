"""Text completion over HTTP: any OpenAI-compatible server, written `http://host:8000/v1#name`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.llm.endpoint.client import fault_of, faults, open_client, split_endpoint, until_stop
from gnomon.core.llm.stack.many import map_async
from gnomon.core.models.sampling.config import GenConfig
from gnomon.errors import LLMFailure


@dataclass(frozen=True)
class TextReply:
    """What a server wrote after a prompt."""

    text: str
    """The completion, without the stop text."""
    finish: str
    """Why it ended: `stop` or `length`, as the server says."""
    prompt_tokens: int
    """Tokens of the prompt; 0 when the server does not tell."""
    generated_tokens: int
    """Tokens written; 0 when the server does not tell."""


async def complete_texts(
    endpoint: str,
    prompts: Sequence[str],
    gen: GenConfig,
    *,
    seeds: Sequence[int],
    concurrency: int = 8,
    retries: int = 5,
) -> list[TextReply]:
    """One completion per prompt, in the order of the prompts.

    The key comes from the environment variable OPENAI_API_KEY and goes nowhere but into the request. Rate limits, server errors and
    cut connections are tried again up to `retries` times, after the wait that the server names or a growing one.

    Args:
        endpoint: `http://host:8000/v1#name`.
        prompts: what the server continues.
        gen: sampling and stop texts; `n` and `batch_size` do not apply.
        seeds: sent with the prompts, one each, for servers that honour them.
        concurrency: requests in flight at once.
        retries: attempts after the first.

    Raises:
        LLMFailure: the server cannot be reached, refuses, or answers in another format.
    """
    url, name = split_endpoint(endpoint)
    client = open_client(url, retries=retries)

    async def one(pair: tuple[str, int]) -> TextReply:
        prompt, seed = pair
        try:
            answer = await client.completions.create(
                model=name,
                prompt=prompt,
                max_tokens=gen.max_new_tokens,
                temperature=gen.temperature,
                top_p=gen.top_p,
                seed=seed,
                stop=list(gen.stop) or None,
            )
            return _read(answer, gen.stop)
        except faults() as error:
            raise LLMFailure(fault_of(error, url, name).message) from None

    async with client:
        return await map_async(one, zip(prompts, seeds, strict=True), concurrency=concurrency)


def _read(answer: Any, stop: Sequence[str]) -> TextReply:
    choice, usage = answer.choices[0], answer.usage
    return TextReply(
        until_stop(choice.text, stop),
        choice.finish_reason or "stop",
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
    )
