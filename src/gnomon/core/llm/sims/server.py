"""Any model of this package as an OpenAI-compatible chat server on the loopback address, simulators above all.

Client, parser, attempts and cache are then tried end to end: faults are real statuses, waits are real headers.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gnomon.core.config import check
from gnomon.core.llm.base import LLM, Message, Reply, Request
from gnomon.core.llm.sims.simulated import open_simulator
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.vision.parts import part_of_url
from gnomon.errors import BadConfig, BadInput, UserError

STATUS = {"rate_limit": 429, "quota": 429, "server": 500, "rejected": 400, "missing": 404}
"""Kind of fault -> HTTP status; 500 for others."""


class ChatServer(ThreadingHTTPServer):
    """Answers /health, /v1/models and /v1/chat/completions with what `llm` says.

    Args:
        llm: who answers; its name is the name of the model.
        port: 0 takes a free one.
    """

    daemon_threads = True
    request_queue_size = 128  # the default of 5 resets connections when more clients come at once

    def __init__(self, llm: LLM, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.llm = llm
        self._answered: Counter[Request] = Counter()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """The reply; a sampled request without a seed is another draw each time that it is answered, as any endpoint does it."""
        is_draw = request.seed is None and bool(request.temperature)
        with self._lock:
            draw = self._answered[request] if is_draw else 0
            self._answered[request] += is_draw
        reply = run_async(self.llm.acomplete(replace(request, draw=draw)))
        if is_draw and reply.error is not None:  # asked again, it is the same draw
            with self._lock:
                self._answered[request] -= 1
        return reply

    @property
    def endpoint(self) -> str:
        """The reference to open it with."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1#{self.llm.name}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no trouble of the server's."""


def serve(llm: LLM, port: int = 0) -> int:
    """Print the endpoint of `llm` on stdout as one line and answer until SIGINT or SIGTERM; returns 0.

    Raises:
        BadConfig: the port cannot be had.
    """
    check(0 <= port < 65536, "port", "between 0 and 65535", port)
    try:
        server = ChatServer(llm, port)
    except OSError as error:
        raise BadConfig(
            f"Port {port} cannot be had ({error.strerror}). Take another, or 0 for any free one."
        ) from None
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # shutdown waits for the loop below, which this thread runs
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    print(server.endpoint, flush=True)
    with server:
        server.serve_forever(poll_interval=0.1)
    return 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def do_GET(self) -> None:
        if self.path == "/health":
            self._send(200, {"status": "ok"})
        elif self.path == "/v1/models":
            model = {"id": self.server.llm.name, "object": "model", "created": 0, "owned_by": "gnomon"}
            self._send(200, {"object": "list", "data": [model]})
        else:
            self._refuse(404, f"There is nothing at {self.path}.")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/v1/chat/completions":
            return self._refuse(404, f"There is nothing at {self.path}.")
        try:
            payload = json.loads(body)
            request = _request(payload)
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
            return self._refuse(400, f"Not a chat request: {type(error).__name__} {error}.")
        name = self.server.llm.name
        if _canonical(str(payload.get("model"))) != name:
            return self._refuse(400, f"The model {payload.get('model')} is not here; {name} is.")
        reply = self.server.answer(request)
        if reply.error is not None:
            wait = {} if reply.retry_after_s is None else {"Retry-After": f"{reply.retry_after_s:g}"}
            return self._refuse(STATUS.get(reply.fault or "", 500), reply.error, wait)
        return self._send(200, _answer(reply, name))

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "gnomon", "code": None}}, headers)

    def _send(self, status: int, answer: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _request(payload: dict[str, Any]) -> Request:
    stop = payload.get("stop") or ()
    return Request(
        tuple(_message(m) for m in payload["messages"]),
        temperature=_number(payload.get("temperature")),
        top_p=_number(payload.get("top_p")),
        max_tokens=int(payload.get("max_tokens") or payload.get("max_completion_tokens") or 512),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=payload.get("seed"),
        want_logprobs=bool(payload.get("logprobs")),
    )


def _message(turn: dict[str, Any]) -> Message:
    """A turn whose content is words, or parts of words and images."""
    role, content = str(turn["role"]), turn["content"]
    if not isinstance(content, list):
        return Message(role, str(content))
    words = "".join(str(part["text"]) for part in content if part["type"] == "text")
    shown = [part_of_url(part["image_url"]["url"]) for part in content if part["type"] == "image_url"]
    return Message(role, words, tuple(shown))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _answer(reply: Reply, name: str) -> dict[str, Any]:
    refuses = reply.finish == "refusal"
    message = {
        "role": "assistant",
        "content": None if refuses else reply.text,
        "refusal": reply.text if refuses else None,
    }
    pairs: list[dict[str, Any]] = [
        {"token": t, "logprob": p, "bytes": None, "top_logprobs": []} for t, p in reply.logprobs or ()
    ]
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "length" if reply.finish == "length" else "stop",
        "logprobs": {"content": pairs} if pairs else None,
    }
    used = {"prompt_tokens": reply.usage.tokens_in, "completion_tokens": reply.usage.tokens_out}
    return {
        "id": f"chat-{time.monotonic_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [choice],
        "usage": used | {"total_tokens": sum(used.values())},
    }


@lru_cache(maxsize=64)
def _canonical(name: str) -> str:
    """A simulator's reference as its `name` has it, whatever order and defaults it was written with; others as they are."""
    try:
        return open_simulator(name).name if name.startswith("sim:") else name
    except UserError:
        return name
