"""A checkpoint in a server of its own: `transformers serve` on a free loopback port, started, watched and ended from here."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

from gnomon.core.env import device_for
from gnomon.core.llm.base import Reply, Request
from gnomon.core.llm.endpoint.chat import Chat
from gnomon.core.llm.endpoint.client import Manner
from gnomon.core.llm.endpoint.keys import Keys
from gnomon.core.llm.stack.stored import folder_state
from gnomon.core.models.load import model_at
from gnomon.errors import BadInput, LLMFailure, MissingExtra, ModelMismatch

STARTS_IN_S = 180.0
"""Longest wait for the server to be ready: it imports torch and loads the model first."""

PORT_TRIES = 3
"""Another program may take the free port before the server does."""


class Served:
    """The checkpoint in `folder`, asked over HTTP; its server starts with the first request.

    The server listens on the loopback address alone, works offline, and ends with `aclose`, with this process, and also when this
    process is killed: it watches a pipe that only this process holds open.

    Args:
        folder: a model folder whose tokenizer has a chat template.
        device: `"auto"` takes a GPU when there is one.
        log_folder: where `serve.log` is written; None takes a temporary folder.
        manner: how it is asked; no key goes to it.
        starts_in_s: longest wait for the server to be ready.

    Raises:
        MissingExtra: the packages of the server are not installed.
        BadInput: the folder is not a model folder.
        ModelMismatch: it has no chat template.
    """

    is_simulated = False

    def __init__(
        self,
        folder: str | Path,
        *,
        device: str = "auto",
        log_folder: Path | None = None,
        manner: Manner | None = None,
        starts_in_s: float = STARTS_IN_S,
    ):
        self.folder, self.device = Path(model_at(folder)), device
        self.manner, self.starts_in_s = replace(manner or Manner(), keys=Keys()), starts_in_s
        self.name = f"serve:{folder}"
        if any(importlib.util.find_spec(module) is None for module in ("fastapi", "uvicorn")):
            raise MissingExtra.of("transformers[serving]", "serve")
        _check_folder(self.folder)
        self.identity = f"{self.name} {folder_state(self.folder)}"
        self._log_folder = log_folder
        self._lock = threading.Lock()
        self._server: subprocess.Popen[bytes] | None = None
        self._chat: Chat | None = None
        self._failure: str | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the server while it runs."""
        return None if self._server is None else self._server.pid

    async def acomplete(self, request: Request) -> Reply:
        """The reply to one request; one with `error` set, which names the log, when the server could not be started."""
        if self._chat is None:
            try:
                await asyncio.to_thread(self.start)
            except LLMFailure as error:
                return Reply("", "error", error=str(error), fault="unknown")
        assert self._chat is not None
        return await self._chat.acomplete(request)

    def start(self) -> str:
        """Start the server unless it runs, wait until it is ready, and return its endpoint.

        Raises:
            LLMFailure: it ended, or was not ready in time.
        """
        with self._lock:
            if self._chat is None:
                if self._failure is not None:
                    raise LLMFailure(self._failure)
                self._chat = self._started()
            return f"{self._chat.url}#{self._chat.model}"

    async def aclose(self) -> None:
        """End the server; a later request starts it again."""
        chat, self._chat = self._chat, None
        if chat is not None:
            await chat.aclose()
        await asyncio.to_thread(self._end)

    def _started(self) -> Chat:
        folder = self._log_folder or Path(tempfile.mkdtemp(prefix="gnomon-serve-"))
        hub = folder / "serve-hub"  # the server's list of models fails without one
        hub.mkdir(parents=True, exist_ok=True)
        log = folder / "serve.log"
        env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(hub.resolve())}
        model = str(self.folder.resolve())
        words = [sys.executable, "-m", "gnomon.core.llm.endpoint.serve_child", "serve", model]
        words += ["--device", device_for(self.device), "--host", "127.0.0.1", "--port"]
        for _ in range(PORT_TRIES):
            port = _free_port()
            with log.open("ab") as out:
                began = out.tell()
                # Reading from the pipe ends when the last process that could write into it is gone: this one.
                server = self._server = subprocess.Popen(
                    [*words, str(port)], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, env=env
                )
            atexit.register(self._end)
            if self._is_ready(port):
                url = f"http://127.0.0.1:{port}/v1"
                return Chat(url, model, name=self.name, manner=self.manner)
            code = server.poll()
            self._end()
            if code is None or b"address already in use" not in log.read_bytes()[began:]:
                break
        reason = f"was not ready within {self.starts_in_s:g} s" if code is None else f"ended with code {code}"
        self._failure = f"The server of {self.name} {reason}. Read {log}."
        raise LLMFailure(self._failure)

    def _is_ready(self, port: int) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until = time.monotonic() + self.starts_in_s
        while time.monotonic() < until and self._server is not None and self._server.poll() is None:
            try:
                with opener.open(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    return bool(answer.status == 200)
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        return False

    def _end(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        atexit.unregister(self._end)
        if server.stdin is not None:
            server.stdin.close()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise BadInput(
            f'Folder "{folder}" has no config.json. A model folder is what save_pretrained writes.'
        )
    if (folder / "chat_template.jinja").is_file():
        return
    try:
        named = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        raise BadInput(f'Folder "{folder}" has no tokenizer. Save one there with save_pretrained.') from None
    if not named.get("chat_template"):
        raise ModelMismatch(
            f'The tokenizer in "{folder}" has no chat template, so no conversation can be served. '
            "Set tokenizer.chat_template and save it again, or use hf: in the place of serve:."
        )


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
