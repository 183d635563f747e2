"""A real HTTP server on the loopback address that completes text and chats as an OpenAI-compatible one would, from a script.

    with CompletionServer(["fine", 429, "cut"]) as server:
        ...  # the second request meets a rate limit, the third a cut connection, all others are answered

What it answers is a function of prompt (or messages) and seed alone; every request is kept in `server.requests`.
"""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROGRAM = "def solve(xs):\n    return [x + {} for x in xs]"


def answer_to(prompt, seed):
    """The completion of a prompt: edits where the prompt asks for edits, a program elsewhere."""
    number = int(hashlib.blake2b(f"{prompt}|{seed}".encode(), digest_size=2).hexdigest(), 16)
    first, second = PROGRAM.format(number).split("\n")
    if prompt.endswith("<|diff|>"):
        return f"@@ -0,0 +1 @@\n+{first}\n<|diff|>@@ -1,0 +2 @@\n+{second}"
    return f"{first}\n{second}"


def chat_answer_to(messages, seed=None):
    """The answer to a conversation."""
    asked = json.dumps([[message["role"], message["content"]] for message in messages])
    return f"It is {hashlib.blake2b(f'{asked}|{seed}'.encode(), digest_size=4).hexdigest()}. Verdict: PASS"


class LoopbackServer(ThreadingHTTPServer):
    """Answers on a free port of the loopback address while its `with` block lasts."""

    daemon_threads = True
    request_queue_size = 128  # the default of 5 resets connections when more clients come at once

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.is_over, self.lock = threading.Event(), threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.endpoint = f"{self.url}#tiny"

    def __enter__(self):
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that went away is no trouble of the server's."""


class CompletionServer(LoopbackServer):
    """Serves the model `tiny` at `endpoint` while its `with` block lasts.

    Args:
        script: what happens to the first requests, one entry each: "fine"; a status to refuse with, at length; "cut" (the
            connection ends without an answer); "garbled" (JSON that breaks off); "other" (JSON of another format); "proxy" (a
            web page with status 502); "refusal" and "filtered" (a chat model declines); "long" (it meets the token limit);
            "endless" (an answer that trickles on and on); a text to refuse with, status 400. Later requests are answered.
            Or a function of the number of the request and of what is asked.
        headers: what every answer says in its head.
        leave_stop: keep the stop text, and words behind it, at the end of the completion.
        delay_s: time to answer; a function of the number of the request when callable.
        tell_usage: count tokens in the answer.
        chat_answer: gives the answer to a conversation from its messages and seed.
    """

    def __init__(
        self,
        script=(),
        *,
        leave_stop=False,
        delay_s=0.0,
        tell_usage=True,
        chat_answer=chat_answer_to,
        headers=(("retry-after-ms", "10"),),
    ):
        super().__init__(_Handler)
        self.script = script if callable(script) else list(script)
        self.leave_stop, self.delay_s, self.tell_usage = leave_stop, delay_s, tell_usage
        self.chat_answer = chat_answer
        self.sent_headers = headers
        self.requests, self.headers, self.busy, self.most_busy = [], [], 0, 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            number = len(server.requests)
            server.requests.append(asked)
            server.headers.append({name.lower(): value for name, value in self.headers.items()})
            server.busy += 1
            server.most_busy = max(server.busy, server.most_busy)
            if callable(server.script):
                happens = server.script(number, asked)
            else:
                happens = server.script[number] if number < len(server.script) else "fine"
        try:
            time.sleep(server.delay_s(number) if callable(server.delay_s) else server.delay_s)
            self._answer(asked, happens)
        finally:
            with server.lock:
                server.busy -= 1

    def _answer(self, asked, happens):
        if happens == "cut":
            self.close_connection = True
        elif happens == "garbled":
            self._send(200, b'{"choices": [{"te')
        elif happens == "proxy":
            self._send(502, b"<html>\n<body>\n<h1>Bad gateway</h1>\n" + b"<p>padding</p>\n" * 99)
        elif happens == "other":
            self._send(200, b'{"content": "hello"}')
        elif isinstance(happens, int):
            self._refuse(happens, "as the script says" + ", which says much" * 99)
        elif happens == "endless":
            self._trickle()
        elif self.path not in ("/v1/completions", "/v1/chat/completions"):
            self._refuse(404, f"nothing at {self.path}")
        elif asked["model"] != "tiny":
            self._refuse(404, f"The model {asked['model']} does not exist.")
        elif happens not in ("fine", "refusal", "filtered", "long"):
            self._refuse(400, happens)
        elif self.path == "/v1/chat/completions":
            self._send(200, json.dumps(self._chat(asked, happens)).encode())
        else:
            self._send(200, json.dumps(self._completion(asked)).encode())

    def _completion(self, asked):
        text = answer_to(asked["prompt"], asked.get("seed") or 0)
        usage = {"prompt_tokens": len(asked["prompt"]), "completion_tokens": len(text)}
        usage["total_tokens"] = sum(usage.values())
        if self.server.leave_stop:
            text += asked["stop"][0] + "and more"
        choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
        answer = {"id": "1", "object": "text_completion", "created": 0, "model": "tiny", "choices": [choice]}
        return answer | ({"usage": usage} if self.server.tell_usage else {})

    def _chat(self, asked, happens):
        text = self.server.chat_answer(asked["messages"], asked.get("seed"))
        usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
        if self.server.leave_stop:
            text += asked["stop"][0] + "and more"
        message = {"role": "assistant", "content": text, "refusal": None}
        if happens == "refusal":
            message |= {"content": None, "refusal": "I would rather not."}
        finish = {"filtered": "content_filter", "long": "length"}.get(happens, "stop")
        told = [{"token": "It", "logprob": -0.5, "bytes": None, "top_logprobs": []}]
        logprobs = {"content": told} if asked.get("logprobs") else None
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "choices": [choice]}
        return answer | ({"usage": usage} if self.server.tell_usage else {})

    def _trickle(self):
        """A body that goes on until the client has had enough."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.close_connection = True
        while not self.server.is_over.wait(0.02):
            self.wfile.write(b" ")
            self.wfile.flush()

    def _refuse(self, status, message):
        self._send(status, json.dumps({"error": {"message": message}}).encode())

    def _send(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in self.server.sent_headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Tests are quiet."""
