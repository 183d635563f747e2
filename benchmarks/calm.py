"""How fast an audit asks, against the server's own limit, and how fast verdicts become measures, against one audit after another.

python benchmarks/calm.py      writes docs/results/bench-calm.json; with --only it prints a part
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common.record import main

import gnomon
from gnomon.core.llm import LLMConfig, close, connect
from gnomon.core.rng import Rng
from gnomon.methods.calm import PairwiseJudge, Verdict, chosen_probes, load_cues, write
from gnomon.methods.calm.judging import plan_audit, run_plan
from gnomon.methods.calm.measures import measure
from gnomon.methods.calm.planted import judged, world_items

CONCURRENCY, DELAY_S, ITEMS = 32, 0.5, 24

SERVER = """
import asyncio, json, sys

DELAY = float(sys.argv[1])
BODY = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "[[A]]"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}).encode()
HEAD = f"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: {len(BODY)}\\r\\n\\r\\n".encode()

async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
            length = next(int(line.split(b":")[1]) for line in head.split(b"\\r\\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(length)
            await asyncio.sleep(DELAY)
            writer.write(HEAD + BODY)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def run():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(run())
"""
"""An endpoint that takes its time over every request and does nothing else: 32 at once are 64 requests a second at most."""


def served() -> tuple[subprocess.Popen[str], int]:
    """The server in a process of its own, and its port."""
    job = subprocess.Popen([sys.executable, "-c", SERVER, str(DELAY_S)], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    return job, int(job.stdout.readline())


async def bare(port: int, bodies: list[bytes]) -> None:
    """The same requests over bare sockets, one connection for each of 32 workers: what the server can give."""
    waiting = iter(bodies)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for body in waiting:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in answer.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
        writer.close()

    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))


async def client_alone(port: int, prompts: list[str]) -> float:
    """CPU milliseconds a request of the openai client with nothing around it."""
    import openai

    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    waiting = iter(prompts)

    async def work() -> None:
        for prompt in waiting:
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": prompt}])

    before = time.process_time()
    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    took = time.process_time() - before
    await client.close()
    return 1000 * took / len(prompts)


def asking() -> dict[str, Any]:
    """Requests a second at concurrency 32: bare sockets, the judge with all that is around it, and one at a time."""
    cues, probes = load_cues(), chosen_probes(["position", "bandwagon", "authority", "diversity"])
    items = write(world_items(ITEMS, Rng(0), sets=("alignment",)), probes, cues, Rng(0)).items
    plan = plan_audit(items, probes, cues, Rng(0))
    job, port = served()
    try:
        endpoint = f"http://127.0.0.1:{port}/v1#m"
        found, cpu_ms = {}, {}
        for name, concurrency, part in (("gnomon", CONCURRENCY, None), ("one at a time", 1, 10)):
            judge = PairwiseJudge(
                connect(endpoint, LLMConfig(concurrency=concurrency)), concurrency=concurrency
            )
            judge.judge(plan.trials[:CONCURRENCY])  # connections are open and the client is imported
            trials = plan.trials[:part]
            before, cpu = time.perf_counter(), time.process_time()
            if part is None:
                run_plan(judge, plan)
            else:
                judge.judge(trials)
            found[name] = len(trials) / (time.perf_counter() - before)
            if part is None:
                cpu_ms["gnomon"] = 1000 * (time.process_time() - cpu) / len(trials)
            close(judge.llm)
        prompts = [judge.prompting.prompt(trial) for trial in plan.trials]
        bodies = [
            json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}]}).encode()
            for prompt in prompts
        ]
        before = time.perf_counter()
        asyncio.run(bare(port, bodies))
        found["bare sockets"] = len(bodies) / (time.perf_counter() - before)
        cpu_ms["openai client alone"] = asyncio.run(client_alone(port, prompts))
    finally:
        job.kill()
        job.wait()
    return {
        "requests": len(plan.trials),
        "concurrency": CONCURRENCY,
        "server_seconds_per_request": DELAY_S,
        "requests_per_second": found | {"limit of the server": CONCURRENCY / DELAY_S},
        "cpu_ms_per_request": cpu_ms,
        "share_of_limit": found["gnomon"] / (CONCURRENCY / DELAY_S),
        "share_of_bare_sockets": found["gnomon"] / found["bare sockets"],
    }


def plain(row: tuple[np.ndarray, np.ndarray, np.ndarray], resamples: int) -> tuple[float, float, float]:
    """BIS with its interval by a loop over resamples and items."""
    y, again, changed = (part.tolist() for part in row)
    n, draw, values = len(y), Rng(0).python(), []
    for i in range(resamples + 1):
        chosen = range(n) if i == 0 else [draw.randrange(n) for _ in range(n)]
        values.append(sum((y[j] == again[j]) - (y[j] == changed[j]) for j in chosen) / n)
    first, ordered = values[0], sorted(values[1:])
    return first, ordered[round(0.025 * resamples)], ordered[round(0.975 * resamples) - 1]


def analysis() -> dict[str, Any]:
    """Many audits measured at once, against a plain loop over a few of them."""
    audits, n, few, resamples = 1000, 439, 3, 1000
    draw = Rng(0).numpy()
    margins = draw.normal(1, 1, (audits, n))
    rows = judged(margins, draw), judged(margins, draw), judged(margins, draw, -1.0)
    seconds = {}
    ours = timed(lambda: measure(rows[0], [rows[1]], rows[2], 1))
    seconds["gnomon"], found = ours[0] / audits, ours[1]
    took, slow = timed(lambda: [plain(tuple(part[i] for part in rows), resamples) for i in range(few)])
    seconds["plain loop, BIS alone"] = took / few
    for i in range(few):
        assert abs(slow[i][0] - float(found.bis.value[i])) < 1e-6
        assert abs(slow[i][1] - float(found.bis.low[i])) < 0.02
    return {
        "audits": audits,
        "items": n,
        "resamples": resamples,
        "cpu_seconds_per_audit": seconds,
        "times_faster": seconds["plain loop, BIS alone"] / seconds["gnomon"],
    }


def rows_to_profile() -> dict[str, Any]:
    """A whole log of verdicts to a profile."""
    from gnomon.methods.calm import FunctionJudge, analyze, audit

    cues, probes = load_cues(), chosen_probes(["all"])
    items = write(world_items(439, Rng(0)), probes, cues, Rng(0)).items
    verdicts: list[Verdict] = audit(
        FunctionJudge(lambda trial: len(trial.question) % 2, "fixed"), items, probes
    )
    took, _ = timed(lambda: analyze(verdicts))
    return {"verdicts": len(verdicts), "cpu_seconds": took, "verdicts_per_second": len(verdicts) / took}


def scores() -> dict[str, Any]:
    """A local judge's probabilities of ten scores: every prompt read once, against one pass for each prompt and score."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from gnomon.core.models import train_bpe
    from gnomon.core.models.sampling.likelihood import score_choices
    from gnomon.core.rng import seeded

    draw, count, length = Rng(0).python(), 16, 400
    words = train_bpe(["Score: 1 2 3 4 5 6 7 8 9 10 abc"] * 4, 260)
    sizes = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4}
    with seeded(Rng(0)):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **sizes)).eval()
    prompts = [[draw.randrange(4, len(words)) for _ in range(length + i)] for i in range(count)]
    choices = [str(n) for n in range(1, 11)]

    @torch.no_grad()
    def one_by_one() -> list[list[float]]:
        rows = []
        for prompt in prompts:
            row = []
            for choice in choices:
                answer = words(choice, add_special_tokens=False)["input_ids"]
                logits = model(torch.tensor([prompt + answer]), use_cache=False).logits[0]
                logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1], -1)
                row.append(float(logprobs[range(len(answer)), answer].sum()))
            rows.append(row)
        return rows

    score_choices(model, words, prompts[:1], choices)
    took, found = timed(lambda: score_choices(model, words, prompts, choices)[0])
    plain_took, expected = timed(one_by_one)
    assert np.allclose(found, expected, atol=1e-3)
    return {
        "prompts": count,
        "tokens": length,
        "choices": len(choices),
        "cpu_seconds": {"gnomon": took, "a pass per prompt and choice": plain_took},
        "times_faster": plain_took / took,
    }


def timed(way: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds and the result."""
    before = time.process_time()
    found = way()
    return time.process_time() - before, found


PARTS = {"asking": asking, "analysis": analysis, "rows_to_profile": rows_to_profile, "scores": scores}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(gnomon.__file__).parents[1]))
    sys.exit(main("calm", __doc__, PARTS))
