"""The page on the loopback address: answers with sources and graph, nothing from outside, and nobody else's pages."""

import json
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from gnomon import cli
from gnomon.core import records
from gnomon.methods.smart_slic.knowledge.project import open_agent
from gnomon.methods.smart_slic.knowledge.serving import drawing, serving


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    records.write(folder / "papers.jsonl", [
        {"id": f"p{i}", "title": f"On <b>bread</b> {i}", "abstract": "An oven bakes.", "authors": ["Ada Lind"], "year": 2020,
         "references": ["p0"] if i else []}
        for i in range(3)
    ])  # fmt: skip
    words = [
        "smart-slic",
        "build",
        str(folder / "papers.jsonl"),
        "--encoder",
        "None",
        "--out",
        str(folder / "run"),
        "--quiet",
    ]
    assert cli.main(words) == 0
    return folder / "run"


def ask(address, question, **headers):
    request = urllib.request.Request(
        f"{address}ask",
        json.dumps({"question": question}).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.load(reply)


def test_an_answer_comes_with_its_sources_and_the_graph_around_them(built):
    with open_agent(built) as agent, serving(agent) as address:
        answer = ask(address, "How many papers by Ada Lind are there?")
        assert answer["sentences"][0][0].startswith("3 papers") and answer["counted"] == ["p0", "p1", "p2"]
        assert answer["sources"][0]["id"] == "p0#0" and "oven bakes" in answer["sources"][0]["text"]
        assert answer["graph"].startswith("<svg") and "Author: Ada Lind" in answer["graph"]
        refused = ask(address, "How many patents are there?")
        assert refused["abstained"] and refused["sources"] == [] and refused["graph"] == ""
        about = json.load(urllib.request.urlopen(f"{address}about", timeout=20))
        assert "3 Document" in about["text"]


def test_nothing_comes_from_outside_and_labels_are_escaped(built):
    with open_agent(built) as agent, serving(agent) as address:
        reply = urllib.request.urlopen(address, timeout=20)
        page = reply.read().decode()
        assert (
            "http://" not in page
            and "https://" not in page
            and "default-src 'none'" in reply.headers["Content-Security-Policy"]
        )
        picture = drawing(agent, "p0")
        assert "&lt;b&gt;bread&lt;/b&gt; 1" in picture and "<b>" not in picture


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("ask", b"{}", {}, 400),
        ("ask", b'{"question": " "}', {}, 400),
        ("ask", b"no", {}, 400),
        ("ask", b'{"question": "x"}', {"Content-Type": "text/plain"}, 400),
        ("other", b'{"question": "x"}', {}, 400),
        ("ask", b'{"question": "x"}', {"Host": "evil.example"}, 403),
        ("nothing", None, {}, 404),
    ],
)
def test_other_requests_are_refused_with_a_reason(built, path, body, headers, status):
    with open_agent(built) as agent, serving(agent) as address:
        request = urllib.request.Request(
            f"{address}{path}", body, {"Content-Type": "application/json", **headers}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=20)
        assert caught.value.code == status and json.load(caught.value)["error"]


def test_the_verb_ends_by_itself_where_it_is_told_to(built, tmp_path, capsys):
    words = ["smart-slic", "serve", str(built), "--port", "0", "--minutes", "0", "--out", str(tmp_path / "s")]
    assert cli.main(words) == 0
    assert "http://127.0.0.1:" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_shows_the_page_without_a_word_to_anybody_else(built, tmp_path):
    with open_agent(built) as agent, serving(agent) as address:
        done = subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000",
             "--dump-dom", f"{address}?q=How+many+papers+by+Ada+Lind+are+there%3F"],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert "3 Document" in done.stdout, done.stderr[-2000:]
    answered = done.stdout.partition("<body")[2]
    assert "3 papers by authors called Ada Lind" in answered and "An oven bakes." in answered
    assert "<svg" in answered and "Author: Ada Lind" in answered
    assert "On &lt;b&gt;bread&lt;/b&gt; 0" in answered  # a title is text, whatever it holds
