import json
import logging
from pathlib import Path

import numpy as np
import pytest

from gnomon.core import env, log
from gnomon.core.claims import Claim
from gnomon.core.files import write_json, write_text
from gnomon.core.plain import to_plain


def test_plain_values():
    made = to_plain(
        {1: (np.float32(0.5), float("inf"), None), "p": Path("a/b"), "s": {2, 1}, "n": np.int64(3)}
    )
    assert made == {"1": [0.5, None, None], "p": "a/b", "s": [1, 2], "n": 3}
    assert to_plain(Claim("t", "s", "m: a > b"))["compare"] == "m: a > b"
    assert json.dumps(made)


def test_files_appear_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": float("nan")})
    assert json.loads(path.read_text()) == {"x": None}
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"x": None}
    assert list(tmp_path.iterdir()) == [path]


def test_environment_names_versions_and_hardware():
    told = env.describe()
    assert told["cores"] >= 1
    assert all(told["packages"].values())
    assert env.version("no-such-package") is None


def test_progress_lines_tell_count_total_and_numbers(capsys, monkeypatch):
    monkeypatch.setattr(log, "LINE_EVERY_S", 0.0)
    with log.progress(2, "rows") as bar:
        bar.advance(loss=0.123456)
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rows: 1/2 in 0 s loss 0.1235"
    assert lines[-1].startswith("rows: 2/2 in 0 s")


def test_progress_says_nothing_when_silent(capsys):
    with log.progress(None, "rows", silent=True) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with log.progress(3, "rows") as bar:
        bar.advance(loss=1.0)


def test_quiet_leaves_warnings(capsys):
    logger = logging.getLogger("gnomon.test")
    log.set_up(quiet=True)
    logger.info("chatter")
    logger.warning("careful")
    assert capsys.readouterr().err == "careful\n"
