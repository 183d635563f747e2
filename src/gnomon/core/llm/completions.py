"""Text completion over HTTP: any OpenAI-compatible server, written `http://host:8000/v1#name`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.errors import BadConfig, LLMFailure

LONGEST_REASON = 300
"""Characters of a server's answer that an error message repeats."""


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


def split_endpoint(endpoint: str) -> tuple[str, str]:
    """URL and model name of `http://host:8000/v1#name`.

    Raises:
        BadConfig: it is not written like that.

    >>> split_endpoint("http://localhost:8000/v1#tiny")
    ('http://localhost:8000/v1', 'tiny')
    """
    url, _, name = endpoint.partition("#")
    if not url.startswith(("http://", "https://")) or not name:
        raise BadConfig(f'Endpoint "{endpoint}" must be written http://host:8000/v1#name.')
    return url, name


async def complete_texts(
    endpoint: str,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    max_tokens: int,
    temperature: float,
    top_p: float,
    stop: Sequence[str] = (),
    concurrency: int = 8,
    retries: int = 5,
) -> list[TextReply]:
    """One completion per prompt, in the order of the prompts.

    The key comes from the environment variable OPENAI_API_KEY and goes nowhere but into the request. Rate limits, server errors and
    cut connections are tried again up to `retries` times, after the wait that the server names or a growing one.

    Raises:
        LLMFailure: the server cannot be reached, refuses, or answers in another format.
    """
    import openai

    url, name = split_endpoint(endpoint)
    key = os.environ.get("OPENAI_API_KEY") or "none"
    client = openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=retries)
    gate = asyncio.Semaphore(concurrency)

    async def one(prompt: str, seed: int) -> TextReply:
        async with gate:
            try:
                answer = await client.completions.create(
                    model=name,
                    prompt=prompt,
                    max_tokens=max_tokens,
                    temperature=temperature,
                    top_p=top_p,
                    seed=seed,
                    stop=list(stop) or None,
                )
                return _read(answer, stop)
            except openai.APIConnectionError as error:
                raise LLMFailure(f"{url} cannot be reached ({error}). Is the server running?") from None
            except openai.APIStatusError as error:
                said = " ".join(error.message.split())[:LONGEST_REASON]
                raise LLMFailure(f'{url} refused a completion of "{name}": {said}') from None
            except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
                raise LLMFailure(f"{url} answered in an unknown format ({type(error).__name__}).") from None

    async with client:
        tasks = [asyncio.create_task(one(prompt, seed)) for prompt, seed in zip(prompts, seeds, strict=True)]
        try:
            return await asyncio.gather(*tasks)
        finally:  # after a failure nothing more is asked, and nothing more is paid
            for task in tasks:
                task.cancel()


def _read(answer: Any, stop: Sequence[str]) -> TextReply:
    choice, usage = answer.choices[0], answer.usage
    text: str = choice.text
    for word in stop:  # some servers leave the stop text at the end
        text = text.split(word, 1)[0]
    return TextReply(
        text,
        choice.finish_reason or "stop",
        usage.prompt_tokens if usage else 0,
        usage.completion_tokens if usage else 0,
    )
