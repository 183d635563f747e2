"""The pages in a real browser, where there is one: they load, run their script and ask for nothing."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gnomon.core.report import write_index

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")]

spec = importlib.util.spec_from_file_location("page_tests", Path(__file__).parent / "test_page.py")
page_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page_tests)

OPTIONS = (
    "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update "
    "disable-sync disable-extensions disable-default-apps enable-logging=stderr dump-dom"
)


def visit(page, tmp_path):
    """The page's DOM after its script ran, the console's lines, and the network log."""
    log = tmp_path / "net.json"
    options = [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}",
        *(f"--{option}" for option in OPTIONS.split()),
    ]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(
        [CHROMIUM, *options, page.as_uri()], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.stdout, done.stderr
    return (
        done.stdout,
        [line for line in done.stderr.splitlines() if "CONSOLE" in line],
        log.read_text(errors="replace"),
    )


def test_report_page(tmp_path):
    folder = tmp_path / "run"
    page_tests.full_page(" ".join(page_tests.HOSTILE[:5]), folder)
    dom, console, log = visit(folder / "report.html", tmp_path)
    assert console == []
    assert "evil.example" not in log and "report.html" in log
    assert 'class="wide edit-path live"' in dom and 'class="frame now"' in dom


def test_index_page(tmp_path):
    for name in ("a", "b"):
        folder = tmp_path / "runs" / name
        page_tests.full_page(" ".join(page_tests.HOSTILE[:5]), folder)
        (folder / "config.yaml").write_text("x: 1")
        (folder / "env.json").write_text("{}")
    dom, console, log = visit(write_index(tmp_path / "runs"), tmp_path)
    assert console == []
    assert "evil.example" not in log and "index.html" in log
    assert "<output>2 runs</output>" in dom


def test_the_policy_stops_a_script_that_slipped_in(tmp_path):
    """The second wall: were escaping ever to fail, the browser would still refuse."""
    folder = tmp_path / "run"
    page_tests.full_page("plain", folder)
    page = folder / "report.html"
    page.write_text(
        page.read_text().replace(
            "</main>",
            "<script>document.title = 'taken'</script>"
            "<img src=http://evil.example/x.png onerror=\"document.title='taken'\"></main>",
        )
    )
    dom, console, log = visit(page, tmp_path)
    assert "<title>taken" not in dom and len(console) >= 2
    assert "//evil.example" not in log.replace("http://evil.example/x.png onerror", "")
