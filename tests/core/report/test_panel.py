"""Panels: a room's own piece of a page, as safe as the rest of it."""

import base64
import hashlib
import re

import pytest
from jinja2 import UndefinedError

from gnomon.core.report import Page

HOSTILE = "</script><script>alert(1)</script>"


@pytest.fixture
def panel(tmp_path):
    template, script = tmp_path / "one.html.j2", tmp_path / "one.js"
    template.write_text(
        '<div class="one">{{ word }}</div><script type="application/json">{{ data|tojson }}</script>'
    )
    script.write_text("document.title = 'live';\n")
    return template, script


def written(page, tmp_path):
    return page.write(tmp_path / "run").read_text("utf-8")


def test_what_a_template_prints_is_escaped(panel, tmp_path):
    page = Page("x", method="m", verb="v")
    page.panel(*panel, word=HOSTILE, data={"word": HOSTILE})
    html = written(page, tmp_path)
    assert HOSTILE not in html and html.count("alert(1)") == 2


def test_its_script_stands_in_the_page_once_and_the_policy_lets_it_run(panel, tmp_path):
    page = Page("x", method="m", verb="v")
    page.panel(*panel, word="a", data=1)
    page.panel(*panel, word="b", data=2)
    html = written(page, tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert scripts.count("document.title = 'live';") == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1].replace("&#39;", "'")
    for script in scripts:
        assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.count("sha256-") == len(scripts) == 2


def test_a_panel_needs_no_script_but_all_its_values(panel, tmp_path):
    page = Page("x", method="m", verb="v")
    page.panel(panel[0], word="a", data=1)
    assert written(page, tmp_path).count("sha256-") == 1
    with pytest.raises(UndefinedError):
        page.panel(panel[0], data=1)
