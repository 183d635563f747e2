"""How fast prompts are measured: through the pool over HTTP, from the cache, and in batches of a model in this process.

    python benchmarks/crispo.py      writes docs/results/bench-crispo.json; with --only it prints a part

The server is a simulator in a process of its own that takes 200 ms for an answer. What it can give at concurrency 32 is
measured with bare connections and ready-made bodies, and with the openai client alone. Times are wall-clock seconds, since
waiting is what is saved.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from common.record import main

import gnomon
from gnomon.core.llm import LLM, LLMConfig, close, connect
from gnomon.core.llm.local import Local
from gnomon.core.models import new_llama, train_bpe
from gnomon.core.rng import Rng
from gnomon.methods.crispo import Decoding, Example, LLMs, evaluate, fill
from gnomon.methods.crispo.house import draw_documents
from gnomon.methods.crispo.mini import PROMPT, as_example, style_metric

PROMPTS, ROWS, CONCURRENCY, ANSWER_S = 4, 96, 32, 0.2
SIMULATOR = f"styler?slow=1&slow_s={ANSWER_S}"
LOCAL_ROWS, NEW = 64, 32


def rows_of(count: int) -> list[Example]:
    """Rows of the house-style world."""
    return [as_example(one) for one in draw_documents(count, (0, 1, 2, 3, 0, 1, 2, 3), Rng(0))]


def prompts_of(count: int) -> list[str]:
    """Different prompts."""
    return [PROMPT.replace("Summarise", f"Summarise ({i})") for i in range(count)]


@contextmanager
def served() -> Iterator[str]:
    """The endpoint of a simulator in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(gnomon.__file__).parents[1])}
    command = [sys.executable, "-m", "gnomon", "sim", "serve", SIMULATOR, "--port", "0"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    try:
        assert job.stdout is not None
        yield job.stdout.readline().strip()
    finally:
        job.terminate()
        job.wait()


def measured(llm: LLM, prompts: list[str], rows: list[Example]) -> float:
    """Seconds to measure all prompts on all rows."""
    before = time.perf_counter()
    found = evaluate(prompts, rows, llm, [style_metric()])
    assert all(len(one.predictions) == len(rows) for one in found)
    return time.perf_counter() - before


def bare(endpoint: str, bodies: list[bytes]) -> float:
    """Seconds for ready-made bodies over as many kept connections as there are requests under way."""
    parts, waiting, lock = urlsplit(endpoint), list(bodies), threading.Lock()

    def work() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        while True:
            with lock:
                if not waiting:
                    return
                body = waiting.pop()
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            json.loads(connection.getresponse().read())

    threads = [threading.Thread(target=work) for _ in range(CONCURRENCY)]
    before = time.perf_counter()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return time.perf_counter() - before


def bare_client(endpoint: str, texts: list[str]) -> float:
    """Seconds with the openai client alone, with as many requests under way."""
    import asyncio

    import openai

    url, name = endpoint.split("#", 1)

    async def work() -> float:
        gate = asyncio.Semaphore(CONCURRENCY)
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=5) as client:

            async def one(text: str) -> None:
                async with gate:
                    await client.chat.completions.create(
                        model=name, messages=[{"role": "user", "content": text}], temperature=0
                    )

            before = time.perf_counter()
            await asyncio.gather(*map(one, texts))
            return time.perf_counter() - before

    return asyncio.run(work())


def pool() -> dict[str, Any]:
    """Through the pool, one after another, and again from the cache; what the server gives at most."""
    prompts, rows = prompts_of(PROMPTS), rows_of(ROWS)
    with served() as endpoint, tempfile.TemporaryDirectory() as folder:
        name = endpoint.split("#", 1)[1]
        texts = [fill(prompt, {"input": row.input}) for prompt in prompts for row in rows]
        bodies = [
            json.dumps({"model": name, "messages": [{"role": "user", "content": text}]}).encode()
            for text in texts
        ]
        calls = len(texts)
        bare(endpoint, bodies[:CONCURRENCY])  # connections, threads, imports
        seconds = {
            "the server at most": bare(endpoint, bodies),
            "the client alone": bare_client(endpoint, texts),
        }

        def with_all(concurrency: int, at: str) -> LLM:
            return connect(endpoint, LLMConfig(concurrency=concurrency), folder=Path(folder) / at)

        warm = with_all(CONCURRENCY, "warm")
        measured(warm, prompts[:1], rows[:CONCURRENCY])
        ways: dict[str, Callable[[], tuple[LLM, list[str]]]] = {
            "pool": lambda: (with_all(CONCURRENCY, "pool"), prompts),
            "resumed": lambda: (with_all(CONCURRENCY, "pool"), prompts),
            "one after another": lambda: (with_all(1, "single"), prompts[:1]),
        }
        for way, make in ways.items():
            llm, some = make()
            seconds[way] = measured(llm, some, rows) * PROMPTS / len(some)
            close(llm)
        close(warm)
    return {
        "calls": calls,
        "concurrency": CONCURRENCY,
        "answer_s": ANSWER_S,
        "seconds": seconds,
        "calls_per_s": {name: calls / value for name, value in seconds.items()},
        "of_the_server_s_limit": seconds["the server at most"] / seconds["pool"],
        "of_the_client_s_limit": seconds["the client alone"] / seconds["pool"],
        "times_faster_than_one_after_another": seconds["one after another"] / seconds["pool"],
        "times_faster_when_resumed": seconds["pool"] / seconds["resumed"],
    }


def local() -> dict[str, Any]:
    """A checkpoint in this process: rows in left-padded batches against one by one, with the same answers."""
    rows = rows_of(LOCAL_ROWS)
    tokenizer = train_bpe([row.input for row in rows], 600)
    tokenizer.eos_token = None
    model = new_llama(tokenizer, hidden=256, layers=6, heads=8, max_length=1024, generator=Rng(0))
    model.config.eos_token_id = model.generation_config.eos_token_id = None
    seconds, said = {}, {}
    for way, size in (("one by one", 1), ("batches of 16", 16)):
        llm = Local("benchmark", model=model.eval(), tokenizer=tokenizer, batch_size=size)
        evaluate([PROMPT], rows[:2], LLMs.of(llm, Decoding(4)), [style_metric()])
        before = time.process_time()
        (found,) = evaluate([PROMPT], rows, LLMs.of(llm, Decoding(NEW)), [style_metric()])
        seconds[way], said[way] = time.process_time() - before, found.predictions
        close(llm)
    one, other = said.values()
    return {
        "rows": LOCAL_ROWS,
        "new_tokens": NEW,
        "cpu_seconds": seconds,
        "times_faster": seconds["one by one"] / seconds["batches of 16"],
        "same_answers": sum(a == b for a, b in zip(one, other, strict=True)) / LOCAL_ROWS,
    }


PARTS = {"pool": pool, "local": local}


if __name__ == "__main__":
    sys.exit(main("crispo", __doc__, PARTS))
