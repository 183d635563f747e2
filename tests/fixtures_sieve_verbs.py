"""What the verbs of sieve are fed with: documents, a filter, a rule, and a small fit on the command line."""

import json

from fixtures_sieve import SEA, documents, is_about_the_sea
from gnomon import cli
from gnomon.core.llm.parse import tagged

TEXTS = [document.text for document in documents()]
"""600 texts, about a tenth of them about the sea."""

RULE = f"""
SEA = {SEA!r}

def about_the_sea(text):
    return sum(word in SEA for word in text.split()) >= 4

def never(text):
    return False

def sometimes(text):
    return None if "n7" in text else about_the_sea(text)
"""

FILTER = """
name: the sea
description: texts about the sea
pass: it is mostly about ships and the sea
fail: it is mostly about the land
"""

STUDENT = ["--model", "hashed-linear", "--student.hash-bits", 12, "--student.ngrams", 1]
SELECTION = {"budget": 120, "batch": 30, "window": 300, "max-seed-labels": 90, "folds": 3}


def world(folder):
    """Writes docs.jsonl, sea.yaml and rule.py into `folder`; returns it."""
    write_rows(folder / "docs.jsonl", [{"id": f"d{n}", "text": text} for n, text in enumerate(TEXTS)])
    (folder / "rule.py").write_text(RULE)
    (folder / "sea.yaml").write_text(FILTER)
    return folder


def judged_by(folder, judge="about_the_sea"):
    """The words that name filter and judge: a function of rule.py, or a reference."""
    ref = judge if ":" in judge else f"rule:{folder / 'rule.py'}:{judge}"
    return ["--filter", folder / "sea.yaml", "--judge", ref]


def fit_words(folder, judge="about_the_sea", **selection):
    """The words of a small fit."""
    chosen = SELECTION | {name.replace("_", "-"): value for name, value in selection.items()}
    given = [word for name, value in chosen.items() for word in (f"--selection.{name}", value)]
    return ["fit", folder / "docs.jsonl", *judged_by(folder, judge), *STUDENT, *given, "--id-field", "id"]


def sieve(*words):
    """Runs a verb in this process; returns its exit code."""
    return cli.main(["sieve", *map(str, words), "--quiet"])


def answer_as_the_rule(messages, seed=None):
    """What a model answers that judges as the rule does."""
    passes = is_about_the_sea(tagged(messages[-1]["content"], "text"))
    return f"I have read it. Verdict: {'PASS' if passes else 'FAIL'}"


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(path):
    """The records of a file, or of the parts in a folder."""
    files = sorted(path.glob("part-*.jsonl")) if path.is_dir() else [path]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def report(folder):
    return json.loads((folder / "report.json").read_text())


def table(folder, column):
    """The rows of the first table of a report that has such a column."""
    return next(t["rows"] for t in report(folder)["tables"] if t["rows"] and column in t["rows"][0])


def labels_of(folder):
    """What was labelled, when and how, without times and the judge's name."""
    names = ("snippet_id", "text", "label", "round", "reason", "score_at_query", "rank_at_query", "interval")
    return [{name: row[name] for name in names} for row in read_rows(folder / "labels.jsonl")]
