"""The chapters of the tour's page, one after another."""

import ast
import json
import warnings
from collections import Counter
from itertools import accumulate
from pathlib import Path
from textwrap import shorten
from typing import Any

from gnomon.core import records
from gnomon.core.report import Page
from gnomon.methods.calm import load_profile
from gnomon.methods.lintseq.edits import line_sets_of, states_of
from gnomon.methods.lintseq.linters import open_linter

MODES = {"editseq": "edit sequences", "program": "whole programs"}


class Tour:
    """The folder of the tour, and what its runs left in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def json(self, path: str) -> Any:
        """A file of one of the runs."""
        return json.loads((self.folder / path).read_text("utf-8"))

    def figures(self, run: str) -> dict:
        """The key figures of a run."""
        return self.json(f"{run}/report.json")["figures"]

    def logged(self, run: str) -> list[dict]:
        """All numbers that a run logged."""
        lines = (self.folder / run / "metrics.jsonl").read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def rows(self, run: str) -> list[dict]:
        """The records of a run."""
        return [raw for _, raw in records.read_raw(self.folder / run)]


def curate(page: Page, tour: Tour) -> None:
    """A filter from a few hundred verdicts, and what it kept."""
    agreement, applied = tour.logged("agreement")[-1], tour.logged("filtered")[-1]
    page.section("1. Curate: a filter from a few hundred verdicts")
    labels = tour.rows("filter/labels.jsonl")
    page.text(
        f"**sieve**: a judge, here a rule with words in it, said of {len(labels):,} snippets whether they are about files. A "
        f"linear model that learned from them then scored all {applied['snippets']:,}: **{len(labels) / applied['snippets']:.1%} "
        f"of what the judge would have had to read**. With a language model as the judge that share is the bill; {agreement['n']} "
        "more verdicts, which are no part of the learning, tell below how good the filter is."
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
    rounds = [
        [row["label"] for row in labels if row["round"] == n] for n in sorted({r["round"] for r in labels})
    ]
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
    filtered = tour.rows("filtered")
    kept = [row for row in filtered if row["sieve_pass"]]
    page.table(
        spread(kept),
        caption=f"{len(kept):,} documents passed; five of them, beginning with the highest score",
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


def train(page: Page, tour: Tour) -> None:
    """Functions as edits, two models, and what both write."""
    page.section("2. Train: on edits, and on whole programs")
    page.text(
        "**lintseq** took functions of the standard library apart into edits, each state of which passes the linter. One small "
        "untrained model then learned from the edits, and its twin from the whole functions; the twin is the model of all that "
        "follows."
    )
    page.table([tour.figures("audit")], caption="the audit")
    shown = 0
    for row in tour.rows("edits"):
        if 4 <= row["n_edits"] <= 8 and shown < 2:
            page.edit_path(states_of(*line_sets_of(row["edit_path"])), caption=row["source_file"])
            shown += 1

    curves = {
        arm: [(row["step"], row["loss"]) for row in tour.logged(f"trained-{mode}") if "loss" in row]
        for mode, arm in MODES.items()
    }
    page.lines(curves, x_label="optimiser step", y_label="loss per target token (nats)")
    page.text(
        "Both see each function equally often. The losses are not comparable with each other: an edit sequence also spells out "
        "where its lines go, which is easy to predict."
    )

    linter = open_linter("pyflakes")
    table, samples = [], {}
    for mode, arm in MODES.items():
        samples[arm] = tour.rows(f"samples-{mode}")
        programs = [row["program"] or "" for row in samples[arm]]
        ends = Counter(row["finish"] for row in samples[arm])
        table.append(
            {
                "trained on": arm,
                "samples": len(programs),
                "are Python": sum(map(parses, programs)) / len(programs),
                "pass the linter": sum(bool(p.strip()) and not linter.check(p) for p in programs)
                / len(programs),
                "ended by themselves": 1 - ends["length"] / len(programs),
                "tokens per sample": sum(row["generated_tokens"] for row in samples[arm]) / len(programs),
            }
        )
    page.table(
        table,
        caption="a model this small, trained for a minute: a demonstration of the machinery, not a result",
    )
    for task in list(dict.fromkeys(row["task_id"] for row in samples["edit sequences"]))[:3]:
        for arm, rows in samples.items():
            row = next(row for row in rows if row["task_id"] == task)
            page.diff("", row["program"] or row["completion"], caption=f"{arm}: {row['prompt'].strip()}")


def parses(code: str) -> bool:
    """Whether a text is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    return bool(code.strip())


def look_inside(page: Page, tour: Tour) -> None:
    """Whether the model knows when it is wrong, where it ends, and what another one sees."""
    page.section("3. Look inside: does it know when it is wrong, where does it end, what does it see?")
    detectors = {row["detector"]: row for row in tour.json("errors/detectors.json")}
    asked = tour.rows("errors/usable.jsonl")
    ours = next(row for name, row in detectors.items() if name.startswith("probe"))
    theirs = max((row for row in detectors.values() if row is not ours), key=lambda row: row["AUC"][0])
    page.text(
        f"**truth-probes**: the model was asked what {len(asked)} functions return, and names it in "
        f"{sum(row['correct'] for row in asked) / len(asked):.0%} of them. A linear probe then reads, from the hidden state at the "
        "name that it wrote, whether that is right; beside it stands the best of the model's own probabilities, on questions that "
        "the probe has not seen. In a model this small its probability tells as much."
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

    chain = tour.json("chain/chain/analysis.json")
    page.text(
        "**markov**: allowed to write eight tokens of code and nothing else, and to see the last four, the same model is a Markov "
        "chain of 4,680 states, computed exactly. Decoded greedily it always ends in one of these loops; the hotter it is sampled, "
        "the sooner it forgets where it began."
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

    page.text(
        "**vl-lens** reads what a vision-language model sees in each patch of an image. A demonstration of the machinery and not a "
        "result: this model has looked at a few coloured patterns for seconds and knows neither dogs nor photographs. The same "
        "command reads a model of yours; its report lets you click through patches and layers."
    )
    page.image(tour / "seen/maps/china.dog.png", caption="where its image tokens lean to 'dog'", width=420)


def extend(page: Page, tour: Tour) -> None:
    """Something new without loss."""
    page.section("4. Extend: the documentation that the filter kept")
    extended = tour.json("extended/summary.json")
    page.text(
        "**neutral-residues**: the model has read code only. Gated blocks beside its feed-forward networks learned the "
        f"documentation that the filter kept, {extended['trained weights']:,} weights; the model itself stayed as it was. Gates "
        "open more on the new text than on the old."
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


def erase(page: Page, tour: Tour) -> None:
    """Something taken out."""
    page.section("5. Erase: methods out, functions in")
    erasure = tour.json("erasure/erasure_report.json")
    before, after = (
        {**erasure[side]["specificity"], **erasure[side]["seamlessness"]} for side in ("before", "after")
    )
    page.text(
        "**elm**: methods were taken out of the model, functions were to stay, here by negative preference optimisation, one of "
        "the rivals that the method brings. Where a method begins, both models go on; what is left of `self` is counted. So small "
        "a model, trained for a minute, pays for it with some of its functions too."
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


def steer(page: Page, tour: Tour) -> None:
    """Summaries of what a reader cares about, and a prompt that asks for them."""
    page.section("6. Steer: digests for a reader who cares about files")
    arms = tour.json("steered/metrics.json")["arms"]
    page.text(
        "Eight entries of the documentation stand in a digest, two or three of which the filter kept; the reader wants to hear of "
        "those. Nobody tells the summariser so. **sigext** learned from 480 digests with their summaries which phrases such "
        "summaries speak of, and shows them to the summariser of 200 others, none of whose entries it has seen. The summariser is "
        "a rule, in the place of a language model: it takes the sentences in which most of the phrases stand."
    )
    page.table(
        [
            {
                "phrases shown": arm,
                **{shown: found[f"ROUGE-1 {shown}"] for shown in ("recall", "precision", "F")},
                "words": found["words"],
            }
            for arm, found in arms.items()
        ],
        columns=["phrases shown", "recall", "precision", "F", "words"],
        best={"F": "max"},
        caption="ROUGE-1 of summaries in two sentences; oracle: the phrases that the reader's summary says",
    )
    written = tour.rows("steered")
    rows = [row for row in written if row["id"] == written[0]["id"]]
    page.table(
        [
            {"one of them": "the digest", "it says": rows[0]["document"]},
            {"one of them": "the reader's", "it says": rows[0]["summary"]},
            *(
                {"one of them": f"phrases: {row['arm']}", "it says": row["prediction"]}
                for row in rows
                if row["arm"] in ("none", "sigext")
            ),
        ],
        caption="a digest and what became of it",
    )
    search = tour.json("prompt/search.json")
    tried = tour.rows("prompt/history.jsonl")
    first, best = tried[0], tried[search["best"]]
    page.text(
        "Then **crispo** looked for a better prompt: a critic compares summaries with the reader's, and a writer of prompts "
        f"applies what it suggests (both are rules here too). In {len(search['steps']) - 1} rounds {len(tried)} prompts were "
        f"tried; on digests that nobody was shown ROUGE-1 went from {first['scores']['test']['rouge1']:.2f} to "
        f"**{best['scores']['test']['rouge1']:.2f}**, with {best['k'] or 'no'} phrases in the slot."
    )
    page.lines(
        {
            split: [
                (step["step"], step["values"][split]["rouge1"])
                for step in search["steps"]
                if split in step["values"]
            ]
            for split in ("train", "dev")
        },
        x_label="round",
        y_label="ROUGE-1 F of the best prompt so far",
    )
    page.diff(first["prompt"], best["prompt"], caption="the first prompt and the best one")


def audit(page: Page, tour: Tour) -> None:
    """Whether two judges of such summaries can be trusted."""
    page.section("7. Audit: can the judge be trusted?")
    profiles = [load_profile(tour / f"judges/{name}.json") for name in ("profile", "profile-2")]
    page.text(
        "Before a judge may say which summary is better, **calm** asks whether it is swayed by what must not matter. Two rules "
        "judge 200 pairs of summaries, as they are and with something changed: the order, a made-up source, a majority's opinion, "
        "a longer answer, another tone. One counts words about files, and of equal answers takes the first; the other takes "
        "their share, so that whatever is added to an answer counts against it. Neither sees that a reason is "
        "false (fallacy-oversight)."
    )
    page.dots(
        {
            one.judge.partition(":")[2]: {name: cell.bis for name, cell in one.headline().items() if cell.bis}
            for one in profiles
        },
        x_label="BIS: consistency lost beyond noise",
        caption="how much each bias sways the judge, with 95% intervals",
    )
    page.table(
        [{"judge": one.judge.partition(":")[2], **one.words()} for one in profiles],
        caption="what may be said, each bias by itself",
    )


def ground(page: Page, tour: Tour) -> None:
    """What a retriever for this documentation could be trained by, without a label."""
    page.section("8. Ground: what belongs together?")
    check = tour.json("certainty/table.json")["self_check"]
    page.text(
        "A retriever can be trained without labels by a language model's certainty about two chunks. Before anything is "
        f"spent, **uncertainty-rag** tried every score on {check['n_pairs']} pairs of pieces of this documentation: two of one "
        "entry with a gap between them, against pieces of others. A model that was trained for a minute on programs knows "
        "little of it; the table says so beforehand, and what to choose instead."
    )
    page.table(
        check["rows"],
        caption="how well each score tells pieces of one entry from pieces of others",
        best={"AUC": "max"},
    )
