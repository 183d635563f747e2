"""Put the tour on one page: what a filter learned and kept, how two models learned, what both write: tour_page.py TOUR."""

import ast
import json
import sys
import warnings
from collections import Counter
from itertools import accumulate
from pathlib import Path
from textwrap import shorten

from gnomon.core import records
from gnomon.core.report import Page
from gnomon.methods.lintseq.diffs import line_sets_of, states_of
from gnomon.methods.lintseq.linters import open_linter

tour = Path(sys.argv[1])
MODES = {"editseq": "edit sequences", "program": "whole programs"}


def figures(run: str) -> dict:
    """The key figures of one of the tour's runs."""
    return json.loads((tour / run / "report.json").read_text("utf-8"))["figures"]


def last_logged(run: str) -> dict:
    """The numbers that one of the tour's runs logged last."""
    return json.loads((tour / run / "metrics.jsonl").read_text("utf-8").splitlines()[-1])


def rows_of(run: str) -> list[dict]:
    """The records of one of the tour's runs."""
    return [raw for _, raw in records.read_raw(tour / run)]


def parses(code: str) -> bool:
    """Whether a text is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return bool(code.strip())


def spread(rows: list[dict], count: int = 5) -> list[dict]:
    """So many of the scored documents, from the highest score to the lowest in even steps, as rows of a table."""
    ranked = sorted(rows, key=lambda row: row["sieve_score"], reverse=True)
    picked = [ranked[i * len(ranked) // count] for i in range(count)] if ranked else []
    return [
        {
            "from": row["group"],
            "score": row["sieve_score"],
            "it says": shorten(row["text"], 160, placeholder="..."),
        }
        for row in picked
    ]


page = Page(
    "A tour of gnomon",
    method="sieve, lintseq, truth-probes, markov, vl-lens, neutral-residues, elm",
    verb="tour",
    command="make demo",
)
audit, agreement, applied = figures("audit"), last_logged("agreement"), last_logged("filtered")
page.figures(
    {
        "labels": figures("filter")["labels"],
        "snippets filtered": applied["snippets"],
        "balanced accuracy": agreement["balanced_accuracy"],
        "functions": figures("edits")["programs"],
        "lint-clean states": audit["lint-clean states"],
    }
)
page.text(
    "**sieve** learned from a few hundred verdicts which documentation of this machine's own Python is about files, and filtered "
    "all of it. **lintseq** took functions of the standard library apart into edits, each state of which passes the linter; then "
    "one small untrained model learned from the edits, and its twin from the whole functions. **truth-probes** and **markov** look "
    "inside that twin, and **vl-lens** into a model that reads images. **neutral-residues** teaches the twin what the filter kept, "
    "and **elm** takes a part of what it knows out of it."
)

page.section("A filter from a few hundred verdicts")
labels = rows_of("filter/labels.jsonl")
page.text(
    f"A judge, here a rule with words in it, said of {len(labels):,} snippets whether they are about files. A linear model that "
    f"learned from them then scored all {applied['snippets']:,}: **{len(labels) / applied['snippets']:.1%} of what the judge would "
    f"have had to read**. With a language model as the judge that share is the bill; {agreement['n']} more verdicts, which are "
    "no part of the learning, tell below how good the filter is."
)
page.table(
    [
        {
            "snippets set aside": agreement["n"],
            "the judge passes": agreement["base_rate"],
            **{
                name.replace("_", " "): (agreement[name], *agreement["intervals"][name])
                for name in ("balanced_accuracy", "agreement", "average_precision")
            },
        }
    ],
    caption="filter and judge on documents that nobody learned from, with 95% bootstrap intervals over documents",
)
rounds = [[row["label"] for row in labels if row["round"] == n] for n in sorted({r["round"] for r in labels})]
spent = list(accumulate(map(len, rounds)))
page.lines(
    {
        "labels of each round": [
            (x, sum(found) / len(found)) for x, found in zip(spent, rounds, strict=True)
        ],
        "documents set aside": [(x, agreement["base_rate"]) for x in spent],
    },
    x_label="labels spent",
    y_label="share that the judge passes",
    caption="The first round is drawn uniformly. Later ones are drawn near the threshold, where passes are no longer rare.",
)
filtered = rows_of("filtered")
kept = [row for row in filtered if row["sieve_pass"]]
page.table(
    spread(kept), caption=f"{len(kept):,} documents passed; five of them, beginning with the highest score"
)
dropped = [row for row in filtered if not row["sieve_pass"]]
page.table(
    spread(dropped),
    caption=f"{len(dropped):,} documents were dropped; five of them, beginning with the nearest miss",
)
page.text(
    "The threshold aims at balanced accuracy, which would rather keep a wrong document than lose a right one. "
    "`--selection.objective precision` asks for clean results instead."
)

page.section("Edits")
page.table([audit], caption="the audit")
shown = 0
for row in rows_of("edits"):
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
    samples[arm] = rows_of(f"samples-{mode}")
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

page.section("Does the model know when it is wrong?")
detectors = {row["detector"]: row for row in json.loads((tour / "errors/detectors.json").read_text("utf-8"))}
asked = rows_of("errors/usable.jsonl")
ours = next(row for name, row in detectors.items() if name.startswith("probe"))
theirs = max((row for row in detectors.values() if row is not ours), key=lambda row: row["AUC"][0])
page.text(
    f"The model that learned whole programs was asked what {len(asked)} functions return, and names it in "
    f"{sum(row['correct'] for row in asked) / len(asked):.0%} of them. A linear probe then reads, from the hidden state at the "
    f"name that it wrote, whether that is right; beside it stands the best of the model's own probabilities, on questions that the "
    f"probe has not seen. In a model this small its probability tells as much."
)
page.table(
    [{"detector": row["detector"], "AUC": row["AUC"], "questions": row["n"]} for row in (ours, theirs)],
    caption="telling right answers from wrong ones, with 95% bootstrap intervals",
)
for row in [*[r for r in asked if r["correct"]][:2], *[r for r in asked if not r["correct"]][:2]]:
    said = row["answer"].strip().splitlines()
    page.text(
        f"`{row['question'].splitlines()[0]}` returns `{row['gold'][0]}`; the model says `{said[0] if said else ''}`"
    )

page.section("Where does it end?")
chain = json.loads((tour / "chain/chain/analysis.json").read_text("utf-8"))
page.text(
    "Allowed to write eight tokens of code and nothing else, and to see the last four, the same model is a Markov chain of 4,680 "
    "states, computed exactly. Decoded greedily it always ends in one of these loops; the hotter it is sampled, the sooner it "
    "forgets where it began."
)
page.table(
    [
        {
            "loop": " > ".join(cycle["states"][:4]),
            "tokens": cycle["period"],
            "of all beginnings": cycle["basin"],
        }
        for cycle in chain["greedy cycles"][:5]
    ],
    caption="repetition loops of greedy decoding",
)
page.table(
    [
        {name: row[name] for name in ("temperature", "|lambda_2|", "relaxation time", "entropy of pi")}
        for row in chain["temperatures"]
    ],
    caption="temperature, second eigenvalue, tokens until it forgets, and bits of the stationary distribution",
)

page.section("What does a vision-language model see?")
page.text(
    "**A demonstration of the machinery and not a result:** this model has looked at a few coloured patterns for seconds and knows "
    "neither dogs nor photographs. The same command reads a model of yours; its report lets you click through patches and layers."
)
for word in ("dog", "laptop"):
    page.image(
        tour / f"seen/maps/china.{word}.png", caption=f"where its image tokens lean to '{word}'", width=420
    )

page.section("Learning something new without loss")
extended = json.loads((tour / "extended/summary.json").read_text("utf-8"))
page.text(
    "The model has read code only. Gated blocks beside its feed-forward networks learned the documentation that the filter kept, "
    f"{extended['trained weights']:,} weights; the model itself stayed as it was. Gates open more on the new text than on the old."
)
page.table(
    [
        {
            "text": shown,
            "bits per byte before": extended[f"{name} before"],
            "after": extended[name],
            "blocks add": extended[f"residual, {name}"],
            "gates open": extended[f"open, {name}"],
        }
        for shown, name in (("documentation, new", "new"), ("code, which it knew", "original"))
    ],
    caption="on texts set aside",
)

page.section("Taking something out")
erasure = json.loads((tour / "erasure/erasure_report.json").read_text("utf-8"))
before, after = (
    {**erasure[side]["specificity"], **erasure[side]["seamlessness"]} for side in ("before", "after")
)
page.text(
    "Methods were taken out of the model, functions were to stay: negative preference optimisation, one of the rivals that "
    "**elm** brings. Where a method begins, both models go on; what is left of `self` is counted. So small a model, trained for "
    "a minute, pays for it with some of its functions too."
)
page.table(
    [
        {"measure": shown, "before": before[name], "after": after[name]}
        for shown, name in (
            ("perplexity of methods", "perplexity, generic"),
            ("perplexity of functions", "perplexity, retain"),
            ("texts that say self", "names the concept"),
        )
    ],
    caption="one line to erase and one to keep",
)

page.section("Where to go from here")
page.text(
    "- `gnomon sieve fit my_texts/ --filter my_filter.yaml --judge openai:MODEL --model hashed-linear` on texts of your own\n"
    "- `gnomon lintseq generate my_project/ --linter pyflakes -s 5` on your own code\n"
    "- `gnomon lintseq mini` and `gnomon sieve mini` are the replications with their baselines\n"
    "- `gnomon list` shows the other methods"
)
folder = tour / "page"
folder.mkdir(exist_ok=True)
print(page.write(folder))
