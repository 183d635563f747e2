import json
import re

import pytest

from gnomon.core.report import Page, index_runs, write_index
from gnomon.errors import BadInput


def run(folder, env=None, report=None, page=True):
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "env.json").write_text(json.dumps(env or {}))
    if report is not None:
        (folder / "report.json").write_text(report if isinstance(report, str) else json.dumps(report))
        if page:
            (folder / "report.html").write_text("<p>")
    return folder


def verdict(outcome, required=True):
    return {"claim": "c", "source": "s", "outcome": outcome, "required": required}


def test_finds_runs_at_any_depth_newest_first(tmp_path):
    run(
        tmp_path / "a/b",
        report={"title": "Old", "started": "2026-01-01T00:00:00+00:00", "method": "m", "verb": "mini"},
    )
    run(tmp_path / "c", report={"title": "New", "started": "2026-02-01T00:00:00+00:00", "seconds": 3})
    run(tmp_path / "c/inner", env={"command": "gnomon m train", "started": "2025-01-01T00:00:00Z"})
    run(tmp_path / ".hidden/x", report={})
    (tmp_path / "no-run").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path)
    cards = index_runs(tmp_path)
    assert [(card.folder, card.title, card.status) for card in cards] == [
        ("c", "New", "done"),
        ("a/b", "Old", "done"),
        ("c/inner", "inner", "unfinished"),
    ]
    assert cards[2].command == "gnomon m train" and cards[2].link == ""
    assert (cards[1].method, cards[1].verb, cards[1].link) == ("m", "mini", "a/b/report.html")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], ""),
        ([verdict("holds"), verdict("holds")], "holds"),
        ([verdict("holds"), verdict("undecided")], "undecided"),
        ([verdict("undecided"), verdict("does not hold")], "does not hold"),
        ([verdict("holds"), verdict("does not hold", required=False)], "holds"),
        ([verdict("does not hold", required=False)], "does not hold"),
        (["rubbish", 3, None, {"outcome": 7}], ""),
    ],
)
def test_one_verdict_for_the_run(tmp_path, verdicts, expected):
    run(tmp_path / "r", report={"verdicts": verdicts})
    assert index_runs(tmp_path)[0].verdict == expected


@pytest.mark.parametrize(
    "report",
    [
        "",
        '{"title": "cut o',
        "[1, 2]",
        "null",
        "\x00\x01",
        "[" * 100_000,
        '{"title": 3, "figures": [], "started": "never"}',
    ],
)
def test_a_broken_report_costs_its_own_card_only(tmp_path, report):
    run(tmp_path / "broken", report=report)
    run(tmp_path / "good", report={"title": "Good"})
    html = write_index(tmp_path).read_text()
    assert "Good" in html and "broken" in html
    statuses = {card.folder: card.status for card in index_runs(tmp_path)}
    assert statuses["good"] == "done"
    assert statuses["broken"] == ("done" if report.startswith('{"title": 3') else "unreadable report")


def test_a_broken_env_is_no_obstacle(tmp_path):
    folder = run(tmp_path / "r")
    (folder / "env.json").write_bytes(b"\xff\xfe{")
    assert index_runs(tmp_path)[0].status == "unfinished"


def test_shows_what_a_page_wrote(tmp_path):
    folder = run(tmp_path / "runs & more/r#1")
    page = Page("A <b>bold</b> title", method="m", verb="mini", command="gnomon m mini", simulated=True)
    page.figures({f"figure {i}": i / 7 for i in range(9)})
    page.write(folder)
    (card,) = index_runs(tmp_path)
    assert card.figures == {
        f"figure {i}": text for i, text in enumerate(["0", "0.143", "0.286", "0.429", "0.571", "0.714"])
    }
    assert card.simulated and card.seconds >= 0
    html = write_index(tmp_path).read_text()
    assert 'href="runs%20%26%20more/r%231/report.html"' in html
    assert "<b>bold" not in html and "A &lt;b&gt;bold" in html and "simulated data" in html
    assert not re.search(r'(src|href)="(https?:)?//', html)


def test_an_empty_folder_and_no_folder(tmp_path):
    assert "No runs here yet" in write_index(tmp_path).read_text()
    with pytest.raises(BadInput, match="nowhere: no such folder"):
        write_index(tmp_path / "nowhere")


def test_a_run_folder_itself_can_be_indexed(tmp_path):
    folder = run(tmp_path / "r", report={"title": "T"})
    (card,) = index_runs(folder)
    assert (card.folder, card.link) == (".", "./report.html")
