"""A page on the loopback address: a question, its answer, the sources, and the graph around them. Nothing comes from outside."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gnomon.core.retrieval.graph.contract import Node
from gnomon.errors import UserError
from gnomon.methods.smart_slic.knowledge.agent import Agent

SOURCES, SOURCE_CHARS, AROUND, LONGEST = 5, 600, 14, 2000
"""Sources shown, characters of each, nodes drawn around one, and characters of a question."""
HOSTS = ("127.0.0.1", "localhost")


def answer_of(agent: Agent, question: str) -> dict[str, Any]:
    """An answer as the page takes it."""
    answer = agent.ask(question)
    papers = list(dict.fromkeys(name.partition("#")[0] for name in answer.cited))
    counted = answer.trace.get("counted")
    sources = []
    for paper in papers[:SOURCES]:
        names = [name for name in answer.cited if name.partition("#")[0] == paper and name in agent.passages]
        name = names[0] if names else f"{paper}#0"
        text = agent.passages[name].text if name in agent.passages else ""
        title = agent.planner.graph.attrs(Node("Document", paper)).get("title", paper)
        sources.append({"id": name, "title": str(title), "text": text[:SOURCE_CHARS]})
    return {
        "sentences": [[text, list(names)] for text, names in answer.sentences], "abstained": answer.abstained,
        "route": str(answer.trace.get("route")), "counted": [str(name) for name in counted] if isinstance(counted, list) else [],
        "sources": sources, "graph": drawing(agent, papers[0]) if papers else "",
    }  # fmt: skip


def drawing(agent: Agent, paper: str) -> str:
    """A paper and its neighbours as SVG, every label escaped; how many are not shown is written below."""
    around = agent.planner.graph.neighbours(Node("Document", paper))
    shown = around[:AROUND]
    width, height, radius = 860, 460, 170
    x0, y0 = width / 2, height / 2 - 10
    lines, labels = [], []
    for i, neighbour in enumerate(shown):
        angle = 2 * math.pi * i / max(1, len(shown))
        x, y = x0 + 1.6 * radius * math.cos(angle), y0 + radius * math.sin(angle)
        lines.append(f'<line x1="{x0:.0f}" y1="{y0:.0f}" x2="{x:.0f}" y2="{y:.0f}" stroke="#8a929b"/>')
        title = agent.planner.graph.attrs(neighbour.node).get("title") or neighbour.node.id
        label = f"{neighbour.node.type}: {str(title)[:34]}"
        labels.append(
            f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="middle">{escape(label)}<title>{escape(neighbour.relation)}</title></text>'
        )
    rest = f"; {len(around) - len(shown)} more are not drawn" if len(around) > len(shown) else ""
    name = escape(f"{paper} and {len(around)} neighbours{rest}")
    labels.append(
        f'<text x="{x0:.0f}" y="{y0:.0f}" text-anchor="middle" font-weight="bold">{escape(paper)}</text>'
    )
    labels.append(f'<text x="8" y="{height - 8}">{name}</text>')
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{name}">{"".join(lines)}{"".join(labels)}</svg>'


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        if self.path.partition("?")[0] in ("/", "/index.html"):
            page = (Path(__file__).parent / "page.html").read_bytes()
            self._send(200, page, "text/html; charset=utf-8")
        elif self.path == "/about":
            types = self.server.agent.planner.graph.types()
            text = ", ".join(f"{count:,} {name}" for name, count in types.items())
            self._json(
                200,
                {"text": f"In the graph: {text}. Every number lists what was counted, every sentence cites."},
            )
        else:
            self._json(404, {"error": "There is nothing here."})

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        length = int(self.headers.get("Content-Length") or 0)
        if (
            self.path != "/ask"
            or length > 4 * LONGEST
            or self.headers.get_content_type() != "application/json"
        ):
            self._json(
                400, {"error": f"POST /ask takes JSON with a question of at most {LONGEST} characters."}
            )
            return
        try:
            question = json.loads(self.rfile.read(length))["question"]
            assert isinstance(question, str)
        except (ValueError, KeyError, TypeError, AssertionError):
            self._json(400, {"error": "The body needs a question, a text."})
            return
        if not question.strip():
            self._json(400, {"error": "There is no question."})
            return
        try:
            with self.server.lock:  # encoders and graphs are asked by one thread at a time
                result = answer_of(self.server.agent, question[:LONGEST])
        except UserError as error:
            self._json(500, {"error": str(error)})
            return
        self._json(200, result)

    def _is_ours(self) -> bool:
        """Refuse requests that a page of another name sent here (DNS rebinding)."""
        host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
        if host in HOSTS:
            return True
        self._json(403, {"error": "This page answers on the loopback address alone."})
        return False

    def _json(self, status: int, content: Any) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
        )
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """No line a request."""


@contextmanager
def serving(agent: Agent, port: int = 0) -> Iterator[str]:
    """The page while a `with` lasts; its address.

    Args:
        agent: answers.
        port: 0: any that is free.
    """
    server: Any = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.agent, server.lock = agent, threading.Lock()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
