import base64
import hashlib
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gnomon.core.claims import Claim, decide
from gnomon.core.report import Page
from gnomon.errors import BadInput

HOSTILE = [
    '<script>alert("x")</script>',
    "\"><img src=x onerror='alert(1)'>",
    "</style><link rel=stylesheet href=http://evil.example/a.css>",
    "</svg></pre></td><iframe src=http://evil.example/>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "\x00\x08\ud800",
    "]]><!-- -->",
    "$\\alpha$ %s {}",
]

PROSE = {"br", "ul", "li", "em", "strong", "code"}
"""Tags that line ends and marks in a text may add."""


class Tags(HTMLParser):
    """What a parser finds: tags, attributes, the text of scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def verdict(compare="m: a > b", text="a beats b"):
    return decide({"a": {"m": [3, 4, 5]}, "b": {"m": [1, 2, 4]}}, Claim(text, "table 1", compare))


def full_page(s: str, folder) -> Page:
    """A page on which `s` stands wherever text may stand."""
    page = Page(s, method=s, verb=s, command=s, simulated=True)
    page.figures({s: s, "n": 3})
    page.verdicts([{"claim": s, "source": s, "outcome": s, "sentence": s}, verdict(text=s)])
    page.section(s)
    page.section("b")
    page.section("c")
    page.section("d")
    page.text(f"{s} **{s}** `{s}` [{s}](https://e.org/{s})")
    page.table([{s: s, "x": 1.5}, {s: None, "x": (1, 0, 2)}], caption=s)
    page.lines({s: [(1, 1), (2, 2)]}, x_label=s, y_label=s, caption=s)
    page.bars({s: {s: 1}, "b": {s: (1, 0.5, 2)}}, y_label=s, caption=s)
    page.heatmap([[1, 2], [3, None]], x=[s, s], y=[s, s], caption=s)
    page.image(Image.new("RGB", (4, 4)), caption=s, alt=s)
    page.tokens([(s, 1.0), (s, -1.0), (s, None)], caption=s, label=s)
    page.diff(s, s + "\n" + s, caption=s)
    page.edit_path(["", s, s + "\n" + s], caption=s, notes=[s, s])
    page.command(s, s, {s: s})
    page.artifact(s, "a&b <c>.jsonl")
    page.write(folder)
    return page


def test_report_json_has_the_agreed_form(tmp_path):
    page = Page("Title", method="m", verb="mini", started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    page.figures({"pass@1": 0.5, "missing": float("nan")})
    page.verdicts([verdict()])
    page.table([{"arm": "a", "x": (1.0, 0.5, 2.0)}], caption="T")
    page.command("gnomon m mini", "seed: 0")
    page.artifact("samples", "samples/a.jsonl")
    assert page.write(tmp_path / "run") == tmp_path / "run/report.html"
    report = json.loads((tmp_path / "run/report.json").read_text())
    finished, seconds = report.pop("finished"), report.pop("seconds")
    assert datetime.fromisoformat(finished) > page.started and seconds > 0
    row = report["verdicts"].pop()
    assert {k: row[k] for k in ("claim", "source", "outcome", "estimate", "low", "high", "required")} == {
        "claim": "a beats b",
        "source": "table 1",
        "outcome": "holds",
        "estimate": pytest.approx(5 / 3),
        "low": 1.0,
        "high": 2.0,
        "required": True,
    }
    assert report == {
        "schema": 1,
        "method": "m",
        "verb": "mini",
        "title": "Title",
        "shortfalls": [],
        "status": "done",
        "started": "2026-01-02T03:04:05+00:00",
        "command": "gnomon m mini",
        "simulated": False,
        "figures": {"pass@1": 0.5, "missing": None},
        "verdicts": [],
        "tables": [{"caption": "T", "rows": [{"arm": "a", "x": [1.0, 0.5, 2.0]}]}],
        "artifacts": {"samples": "samples/a.jsonl"},
    }
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "report.json"]


@pytest.fixture(scope="module")
def plain_tags(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    full_page("plain", folder)
    return Tags((folder / "report.html").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_tag_and_no_attribute(text, tmp_path, plain_tags):
    full_page(text, tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags(html)
    assert set(tags.tags) <= set(plain_tags.tags) | PROSE
    assert tags.tags.count("script") == tags.tags.count("style") == 1
    assert "iframe" not in tags.tags and "link" in tags.tags and tags.tags.count("link") == 1
    assert not [a for a in tags.attributes if a[1].startswith("on")]
    assert {name for _, name, _ in tags.attributes} <= {name for _, name, _ in plain_tags.attributes}
    json.loads((tmp_path / "report.json").read_text())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=40))
@pytest.mark.slow
def test_any_text_can_stand_anywhere(text, tmp_path, plain_tags):
    full_page(text, tmp_path)
    tags = Tags((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert set(tags.tags) <= set(plain_tags.tags) | PROSE


def test_asks_nobody_for_anything(plain_tags):
    """Whatever a browser would load is inside; links lead out only when clicked."""
    for tag, name, value in plain_tags.attributes:
        if name in ("src", "srcset", "poster", "data", "action", "background"):
            assert value.startswith("data:"), (tag, name, value)
        if name == "href" and tag == "link":
            assert value.startswith("data:image/svg+xml,")
        if name == "style":
            assert "url(" not in value.replace("url(#", "")


def test_security_policy_admits_its_own_script_only(tmp_path):
    page = Page("t", method="m", verb="v")
    html = page.write(tmp_path).read_text()
    script = re.search(r"<script>(.*?)</script>", html, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in html and "default-src &#39;none&#39;" in html


def test_an_arm_keeps_its_colour_over_the_page(tmp_path):
    page = Page("t", method="m", verb="v")
    page.lines({"edits": [(1, 1)], "whole": [(1, 2)]})
    page.bars({"whole": {"x": 1.0}, "random": {"x": 2.0}})
    html = page.write(tmp_path).read_text()
    legends = re.findall(r'<p class="legend">(.*?)</p>', html, re.S)
    assert re.findall(r"--arm-(\d)\)\">.</i>(\w+)", legends[0]) == [("0", "edits"), ("1", "whole")]
    assert re.findall(r"--arm-(\d)\)\">.</i>(\w+)", legends[1]) == [("1", "whole"), ("2", "random")]


def test_charts_of_one_page_share_no_id(tmp_path):
    page = Page("t", method="m", verb="v")
    for _ in range(2):
        page.lines({"a": [(1, 1), (2, 2)]})
    ids = re.findall(r'\bid="([^"]+)"', page.write(tmp_path).read_text())
    assert len(ids) == len(set(ids)) > 2


def test_knows_nothing_of_this_machine(tmp_path):
    page = full_page("plain", tmp_path)
    for name in ("report.html", "report.json"):
        text = (tmp_path / name).read_text()
        assert str(tmp_path) not in text and "/home" not in text and page.title in text


def test_wrong_calls_are_explained(tmp_path):
    page = Page("t", method="m", verb="v")
    with pytest.raises(BadInput, match="at least two states; got 1"):
        page.edit_path(["x"])
    with pytest.raises(BadInput, match="2 edits needs as many notes; got 1"):
        page.edit_path(["", "x", "y"], notes=["a"])
    for path in ("/etc/passwd", "../x", "a/../../x", "C:\\x", "https://e.org"):
        with pytest.raises(BadInput, match="inside the run folder"):
            page.artifact("a", path)


def test_a_failed_write_leaves_the_old_page(tmp_path):
    page = Page("old", method="m", verb="v")
    page.write(tmp_path)
    page = Page("new", method="m", verb="v")
    page._blocks.append(type("Bad", (), {"kind": "text", "data": {}})())
    with pytest.raises(Exception, match="html"):
        page.write(tmp_path)
    assert "old" in (tmp_path / "report.html").read_text() and len(list(tmp_path.iterdir())) == 2
