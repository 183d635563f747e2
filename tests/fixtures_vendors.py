"""A real HTTP server on the loopback address that answers as a vendor does: with whatever a function of the request says.

with VendorServer(lambda request: (200, chat("fine"))) as server:
    ...
    server.bodies  # what was sent
"""

import json
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

from fixtures_server import LoopbackServer


@dataclass(frozen=True)
class Asked:
    """One request as the server saw it."""

    number: int
    path: str
    headers: dict
    body: dict

    @property
    def prompt(self):
        """The last message, or the prompt of a text completion."""
        return self.body["messages"][-1]["content"] if "messages" in self.body else self.body["prompt"]


def chat(text, *, finish="stop", usage=True, message=None, **more):
    """An answer in the format of OpenAI's chat completions; `message` adds to the message, `more` to the body."""
    counts = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **(message or {})},
        "finish_reason": finish,
    }
    return {
        "id": "1",
        "object": "chat.completion",
        "choices": [choice],
        "usage": counts if usage else None,
        **more,
    }


class VendorServer(LoopbackServer):
    """Serves at `endpoint` while its `with` block lasts; `answer` gives status and body (an object, or a text as it is)."""

    def __init__(self, answer):
        super().__init__(_Handler)
        self.answer, self.asked, self.n_answered = answer, [], 0

    @property
    def bodies(self):
        return [request.body for request in self.asked]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Asked(len(server.asked), self.path, headers, body)
            server.asked.append(request)
        status, answer = server.answer(request)
        with server.lock:
            server.n_answered += status == 200
        content = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        kind = "text/html" if isinstance(answer, str) and answer.startswith("<") else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        """Tests are quiet."""
