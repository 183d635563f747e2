"""Put the tour on one page: what the data is, how both models learned, what both write: tour_page.py TOUR."""

import ast
import json
import sys
import warnings
from collections import Counter
from pathlib import Path

from gnomon.core import records
from gnomon.core.report import Page
from gnomon.methods.lintseq.diffs import line_sets_of, states_of
from gnomon.methods.lintseq.linters import open_linter

tour = Path(sys.argv[1])
MODES = {"editseq": "edit sequences", "program": "whole programs"}


def figures(run: str) -> dict:
    """The key figures of one of the tour's runs."""
    return json.loads((tour / run / "report.json").read_text("utf-8"))["figures"]


def parses(code: str) -> bool:
    """Whether a text is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return bool(code.strip())


page = Page("A tour of gnomon", method="lintseq", verb="tour", command="make demo")
audit = figures("audit")
page.figures(
    {
        "functions": figures("edits")["programs"],
        **{k: audit[k] for k in ("resolve exactly", "lint-clean states")},
    }
)
page.text(
    "Functions of this machine's own standard library were taken apart into edits, each state of which passes the linter. "
    "Then one small untrained model learned from the edits, and its twin from the whole functions."
)

page.section("The data")
page.table([audit], caption="the audit")
shown = 0
for row in (raw for _, raw in records.read_raw(tour / "edits")):
    if 4 <= row["n_edits"] <= 8 and shown < 2:
        page.edit_path(states_of(*line_sets_of(row["edit_path"])), caption=row["source_file"])
        shown += 1

page.section("Learning")
curves = {}
for mode, arm in MODES.items():
    rows = [
        json.loads(line)
        for line in (tour / f"trained-{mode}" / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    curves[arm] = [(row["step"], row["loss"]) for row in rows if "loss" in row]
page.lines(curves, x_label="optimiser step", y_label="loss per target token (nats)")
page.text(
    "Both see each function equally often. The losses are not comparable with each other: an edit sequence also spells out "
    "where its lines go, which is easy to predict."
)

page.section("What they write")
linter = open_linter("pyflakes")
table, samples = [], {}
for mode, arm in MODES.items():
    samples[arm] = [raw for _, raw in records.read_raw(tour / f"samples-{mode}")]
    programs = [row["program"] or "" for row in samples[arm]]
    ends = Counter(row["finish"] for row in samples[arm])
    table.append(
        {
            "trained on": arm,
            "samples": len(programs),
            "are Python": sum(map(parses, programs)) / len(programs),
            "pass the linter": sum(bool(p.strip()) and not linter.check(p) for p in programs) / len(programs),
            "ended by themselves": 1 - ends["length"] / len(programs),
            "tokens per sample": sum(row["generated_tokens"] for row in samples[arm]) / len(programs),
        }
    )
page.table(
    table, caption="a model this small, trained for a minute: a demonstration of the machinery, not a result"
)
for task in list(dict.fromkeys(row["task_id"] for row in samples["edit sequences"]))[:3]:
    for arm, rows in samples.items():
        row = next(row for row in rows if row["task_id"] == task)
        page.diff("", row["program"] or row["completion"], caption=f"{arm}: {row['prompt'].strip()}")

page.section("Where to go from here")
page.text(
    "- `gnomon lintseq generate my_project/ --linter pyflakes -s 5` on your own code\n"
    "- `gnomon lintseq mini` is the replication with its baselines\n"
    "- `gnomon list` shows the other methods"
)
folder = tour / "page"
folder.mkdir(exist_ok=True)
print(page.write(folder))
