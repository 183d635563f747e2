"""Services of papers against a real server on the loopback address: forms, budgets, faults, and nothing asked for twice."""

import json
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gnomon import cli
from gnomon.core import records
from gnomon.errors import BadConfig, BadInput, BudgetSpent
from gnomon.methods.smart_slic.corpus.providers import Client, OpenAlex, SemanticScholar, open_service
from gnomon.methods.smart_slic.knowledge.project import papers_at


def work(name, references=("W1",)):
    """A work as OpenAlex gives it."""
    return {
        "id": f"https://openalex.org/{name}", "doi": f"https://doi.org/10.1/{name}", "display_name": f"On {name}",
        "abstract_inverted_index": {"graphs": [0, 2], "of": [1]}, "publication_year": 2021,
        "authorships": [{"author": {"id": "https://openalex.org/A5", "display_name": "Ada Lind"}, "countries": ["NO"],
                         "institutions": [{"display_name": "Oslo Lab"}]}],
        "referenced_works": [f"https://openalex.org/{r}" for r in references],
        "primary_location": {"source": {"display_name": "Acta"}}, "keywords": [{"display_name": "graph"}],
    }  # fmt: skip


@contextmanager
def serving(answer):
    """`answer(path, query, headers, body)` gives status, headers and an object."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urllib.parse.urlsplit(self.path)
            query = dict(urllib.parse.parse_qsl(parts.query))
            server.asked.append((parts.path, query, dict(self.headers), body))
            status, headers, content = answer(parts.path, query, dict(self.headers), body)
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = respond

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def openalex(path, query, headers, body):
    names = query["filter"].removeprefix("openalex_id:").split("|")
    return 200, {}, {"results": [work(name) for name in names if name != "W404"]}


def test_a_work_becomes_a_paper_and_the_key_stays_out_of_files(tmp_path):
    with serving(openalex) as server:
        service = OpenAlex(Client(server.address, tmp_path), "secret-key")
        papers = service.papers(["W2", "W404"])
    (paper,) = papers.values()
    assert (paper.id, paper.title, paper.abstract, paper.year, paper.venue, paper.doi) == (
        "W2", "On W2", "graphs of graphs", 2021, "Acta", "10.1/W2",
    )  # fmt: skip
    assert paper.authors == ("Ada Lind",) and paper.author_ids == ("A5",) and paper.countries == ("NO",)
    assert paper.references == ("W1",) and paper.citations is None and paper.keywords == ("graph",)
    assert server.asked[0][1]["api_key"] == "secret-key"
    files = list(tmp_path.iterdir())
    assert len(files) == 1 and "secret-key" not in files[0].name + files[0].read_text()


def test_batches_are_asked_once_and_kept(tmp_path):
    names = [f"W{i}" for i in range(1, 121)]
    with serving(openalex) as server:
        for _ in range(2):
            service = OpenAlex(Client(server.address, tmp_path))
            assert set(service.papers(names)) == set(names)
        assert len(server.asked) == 3 and service.client.n_asked == 0 and service.client.n_kept == 3


def test_semantic_scholar_says_what_is_withheld():
    rows = [
        {"paperId": "a", "title": "A", "authors": [{"name": "Bo", "authorId": "7"}],
         "references": [{"paperId": "b"}, {"paperId": None}], "citations": [], "referenceCount": 2,
         "externalIds": {"DOI": "10.1/a"}},
        None,
        {"paperId": "c", "title": "C", "authors": [{"name": "Cy", "authorId": None}], "references": [], "referenceCount": 9},
        {"paperId": "d"},
    ]  # fmt: skip
    with serving(lambda path, query, headers, body: (200, {}, rows)) as server:
        service = SemanticScholar(Client(server.address, headers={"x-api-key": "k"}))
        papers = service.papers(["a", "b", "c", "d"])
        path, query, headers, body = server.asked[0]
    assert (
        path == "/paper/batch"
        and body == {"ids": ["a", "b", "c", "d"]}
        and "references.paperId" in query["fields"]
    )
    assert {name.lower(): value for name, value in headers.items()}["x-api-key"] == "k"
    assert (
        papers["a"].references == ("b",) and papers["a"].citations == () and papers["a"].author_ids == ("7",)
    )
    assert papers["c"].references is None and papers["c"].author_ids == () and service.n_failed == 1


def test_a_fault_of_a_moment_is_tried_again_and_a_refusal_is_not():
    turns = iter(
        [(503, {}, {"error": "busy"}), (429, {"Retry-After": "3"}, {}), (200, {}, {"results": [work("W2")]})]
    )
    waits = []
    with serving(lambda *_: next(turns)) as server:
        client = Client(server.address, sleep=waits.append)
        assert set(OpenAlex(client).papers(["W2"])) == {"W2"}
    assert waits == [1.0, 3.0] and client.n_asked == 3
    with serving(lambda *_: (400, {}, {"error": "Invalid filter"})) as server:
        with pytest.raises(BadInput, match=r"refused the request with status 400: .*Invalid filter"):
            OpenAlex(Client(server.address, sleep=waits.append)).papers(["W2"])
        assert len(server.asked) == 1
    with serving(lambda *_: (200, {}, b"<html>")) as server, pytest.raises(BadInput, match="no JSON"):
        OpenAlex(Client(server.address, sleep=waits.append)).papers(["W2"])


def test_a_day_s_budget_ends_the_work_and_the_next_day_goes_on(tmp_path):
    is_open = [False]

    def limited(path, query, headers, body):
        names = query["filter"].removeprefix("openalex_id:").split("|")
        if "W60" in names and not is_open[0]:
            return 429, {"Retry-After": "36000"}, {}
        return 200, {}, {"results": [work(name, ()) for name in names]}

    core = tmp_path / "core.jsonl"
    records.write(core, [{"id": "W0", "title": "Core", "references": [f"W{i}" for i in range(1, 71)]}])
    with serving(limited) as server:
        words = ["smart-slic", "expand", str(core), "--provider", f"openalex@{server.address}", "--by", "references",
                 "--out", str(tmp_path / "run"), "--quiet"]  # fmt: skip
        assert cli.main(words) == 1  # a hop is missing
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert "no more requests for 10.0 hours" in json.dumps(report["shortfalls"])
        asked = len(server.asked)
        is_open[0] = True
        assert cli.main(words) == 0
        assert len(server.asked) == asked + 1  # what came is not asked for again
    assert len(papers_at(tmp_path / "run").papers) == 71


def test_a_budget_of_one_s_own_is_kept(tmp_path):
    with serving(openalex) as server:
        client = Client(server.address, tmp_path, budget=2)
        with pytest.raises(BudgetSpent, match="2 requests were asked"):
            OpenAlex(client).papers([f"W{i}" for i in range(1, 151)])
        assert len(server.asked) == 2
        assert (
            len(OpenAlex(Client(server.address, tmp_path, budget=1)).papers([f"W{i}" for i in range(1, 151)]))
            == 150
        )


def test_services_are_opened_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("S2_API_KEY", "k")
    service = open_service("s2", tmp_path)
    assert (
        service.client.headers == {"x-api-key": "k"}
        and service.client.base == "https://api.semanticscholar.org/graph/v1"
    )
    assert open_service("openalex@http://127.0.0.1:1/", tmp_path).client.base == "http://127.0.0.1:1"
    with pytest.raises(BadConfig, match='no provider "openalx"'):
        open_service("openalx", tmp_path)
