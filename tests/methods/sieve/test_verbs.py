"""The verbs as a user types them, each fed with the run folder of the one before."""

import csv
import json
import math

import numpy as np
import pytest

from fixtures_sieve import is_about_the_sea
from fixtures_sieve_verbs import (
    TEXTS,
    fit_words,
    judged_by,
    labels_of,
    read_rows,
    report,
    sieve,
    table,
    world,
    write_rows,
)

RUN_FILES = {"config.yaml", "env.json", "report.html", "report.json"}
IS_SEA = np.array([is_about_the_sea(text) for text in TEXTS])


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """Every verb after the other; the folder that holds a run folder for each."""
    root = world(tmp_path_factory.mktemp("chain"))
    docs = root / "docs.jsonl"
    for words in (
        ["label", docs, *judged_by(root), "-n", 200, "--repeat", 2],
        [*fit_words(root), "--test", 40],
        ["apply", docs, "--model", root / "fit", "--shard-rows", 100],
        ["eval", root / "label", "--model", root / "fit"],
        ["cost", 1_000_000, "--run", root / "fit"],
    ):
        assert sieve(*words, "--out", root / str(words[0])) == 0, words
    return root


@pytest.mark.parametrize("verb", ["label", "fit", "apply", "eval", "cost"])
def test_every_verb_leaves_a_whole_run(chain, verb):
    folder = chain / verb
    assert RUN_FILES.issubset(path.name for path in folder.iterdir())
    told = report(folder)
    assert (told["status"], told["method"], told["verb"]) == ("done", "sieve", verb)
    assert told["figures"]
    assert not told["simulated"]
    assert "SIMULATED" not in told["title"]
    assert all((folder / path).exists() for path in told["artifacts"].values())


def test_label_draws_uniformly_and_judges(chain):
    rows = read_rows(chain / "label" / "labels.jsonl")
    assert len({row["snippet_id"] for row in rows}) == 200
    assert {row["text"] for row in rows} <= set(TEXTS)
    assert [row["text"] for row in rows] != TEXTS[:200]
    assert [row["label"] for row in rows] == [is_about_the_sea(row["text"]) for row in rows]
    passes = sum(row["label"] for row in rows)
    figures = report(chain / "label")["figures"]
    assert figures == {"labels": 200, "passes": passes, "base rate": passes / 200, "without verdict": 0}
    # 200 drawn without return from 600: within four standard errors of the share among all.
    share = IS_SEA.mean()
    assert abs(passes / 200 - share) < 4 * math.sqrt(share * (1 - share) / 200 * (400 / 599))


def test_label_twice_shows_how_far_the_judge_agrees_with_itself(chain):
    first, second = (read_rows(chain / "label" / f"labels{part}.jsonl") for part in ("", "-2"))
    assert [row["snippet_id"] for row in first] == [row["snippet_id"] for row in second]
    ((row,),) = [table(chain / "label", "draws")]
    assert (row["snippets"], row["agreement"], row["kappa"]) == (200, 1, 1)


def test_a_judge_that_cannot_say_is_counted_and_no_fail(chain, tmp_path):
    words = ["label", chain / "docs.jsonl", *judged_by(chain, "sometimes"), "-n", 600]
    assert sieve(*words, "--out", tmp_path / "run") == 0
    figures = report(tmp_path / "run")["figures"]
    assert (figures["labels"], figures["without verdict"]) == (589, 11)  # without n7, n70 to n79
    spoken = [is_about_the_sea(text) for text in TEXTS if "n7" not in text]
    assert figures["base rate"] == np.mean(spoken)


def test_fit_leaves_labels_model_and_test(chain):
    folder = chain / "fit"
    rows = read_rows(folder / "labels.jsonl")
    assert len(rows) == 120
    assert [row["label"] for row in rows] == [is_about_the_sea(row["text"]) for row in rows]
    assert [sum(row["round"] == number for row in rows) for number in range(4)] == [30] * 4
    card = json.loads((folder / "model" / "sieve.json").read_text())
    assert card["labels"]["pass"] == sum(row["label"] for row in rows)
    assert (card["filter"]["name"], card["is_simulated"], card["rule"]) == ("the sea", False, "any")
    figures = report(folder)["figures"]
    assert figures["labels"] == 120
    assert figures["base rate"] == card["base_rate"] == pytest.approx(IS_SEA.mean(), rel=0.3)
    assert figures["expected pass rate"] == card["expected"]["pass rate"]
    (seen,) = table(folder, "the judge's")
    assert seen["expected"] == card["expected"]["pass rate"]
    assert seen["seen"] == figures["pass rate on the test"]
    tested_rows = read_rows(folder / "test.jsonl")
    assert seen["the judge's"] == np.mean([row["label"] for row in tested_rows])
    assert figures["threshold"] == card["threshold"]
    assert figures["passes among labels"] == card["labels"]["pass"] / 120
    assert [row["labels"] for row in table(folder, "snippets scored")] == [30] * 4
    logged = read_rows(folder / "metrics.jsonl")
    assert [row["round"] for row in logged] == [0, 1, 2, 3]
    tested = read_rows(folder / "test.jsonl")
    assert len(tested) == 40
    assert not {row["doc_id"] for row in tested} & {row["doc_id"] for row in rows}


def test_fit_labels_more_passes_than_the_stream_holds(chain):
    later = [row for row in read_rows(chain / "fit" / "labels.jsonl") if row["reason"] == "interval"]
    assert np.mean([row["label"] for row in later]) > 1.5 * IS_SEA.mean()


def test_apply_adds_score_verdict_and_version(chain):
    rows = read_rows(chain / "apply" / "filtered")
    card = json.loads((chain / "fit" / "model" / "sieve.json").read_text())
    assert [(row["id"], row["text"]) for row in rows] == [(f"d{n}", text) for n, text in enumerate(TEXTS)]
    assert set(rows[0]) == {"id", "text", "sieve_score", "sieve_pass", "sieve_version"}
    assert {row["sieve_version"] for row in rows} == {card["version"]}
    assert [row["sieve_pass"] for row in rows] == [row["sieve_score"] >= card["threshold"] for row in rows]
    passes = np.array([row["sieve_pass"] for row in rows])
    assert report(chain / "apply")["figures"] == {
        "documents": 600, "passed": passes.sum(), "pass rate": passes.mean(), "refused": 0,
        "expected pass rate, snippets": card["expected"]["pass rate"], "pass rate, snippets": passes.mean(),
    }  # fmt: skip
    assert (passes[IS_SEA].mean() + (~passes[~IS_SEA]).mean()) / 2 > 0.85  # balanced accuracy
    scores = np.array([row["sieve_score"] for row in rows])
    above = scores[IS_SEA][:, None] > scores[~IS_SEA][None]
    assert above.mean() > 0.97  # area under the ROC curve


def test_apply_keeps_what_passes(chain, tmp_path):
    words = ["apply", chain / "docs.jsonl", "--model", chain / "fit" / "model", "--keep", "pass"]
    assert sieve(*words, "--out", tmp_path / "run") == 0
    every = read_rows(chain / "apply" / "filtered")
    assert read_rows(tmp_path / "run" / "filtered") == [row for row in every if row["sieve_pass"]]
    assert report(tmp_path / "run")["figures"] == report(chain / "apply")["figures"]


def test_apply_with_another_share_or_threshold_and_no_new_fit(chain, tmp_path):
    scores = np.array([row["sieve_score"] for row in read_rows(chain / "apply" / "filtered")])
    for option, value, n_wanted in (
        ("--threshold", np.sort(scores)[-30], 30),
        ("--keep-share", 0.05, 30),
        ("--keep-share", 0.4, 240),
    ):
        out = tmp_path / f"{option}{value}"
        assert (
            sieve("apply", chain / "docs.jsonl", "--model", chain / "fit", option, value, "--out", out) == 0
        )
        rows = read_rows(out / "filtered")
        assert [row["sieve_score"] for row in rows] == scores.tolist()
        # A fifth of this stream was learned from, so that those scores are a little too sure.
        assert sum(row["sieve_pass"] for row in rows) == pytest.approx(n_wanted, rel=0.25)
        ((row,),) = [table(out, "seen")]
        assert row["seen"] == np.mean([row["sieve_pass"] for row in rows])
        assert row["expected"] == pytest.approx(n_wanted / 600, rel=0.25)


def test_more_labels_in_the_folder_of_a_finished_run(chain, tmp_path):
    """`-n` and the budget of a fit may grow: only what is missing is judged, and the result is that of a run at once."""
    words = ["label", chain / "docs.jsonl", *judged_by(chain), "--out", tmp_path / "label"]
    for n in (50, 200):
        assert sieve(*words, "-n", n, "--repeat", 2) == 0
        assert report(tmp_path / "label")["figures"]["labels"] == n
    first, whole = (read_rows(root / "label" / "labels.jsonl") for root in (tmp_path, chain))
    assert [row["snippet_id"] for row in first] == [row["snippet_id"] for row in whole]
    assert len({row["time"] for row in first}) <= 200
    for budget in (60, 120):
        assert sieve(*fit_words(chain, budget=budget), "--test", 40, "--out", tmp_path / "fit") == 0
        assert report(tmp_path / "fit")["figures"]["labels"] == budget
    assert labels_of(tmp_path / "fit") == labels_of(chain / "fit")
    student = ("model", "student.safetensors")
    assert (tmp_path / "fit").joinpath(*student).read_bytes() == (chain / "fit").joinpath(
        *student
    ).read_bytes()


def test_apply_on_two_machines_makes_the_whole(chain, tmp_path):
    found = []
    for shard in range(2):
        words = ["--shard-rows", 100, "--shards", 2, "--shard", shard, "--out", tmp_path / str(shard)]
        assert sieve("apply", chain / "docs.jsonl", "--model", chain / "fit", *words) == 0
        found.append(read_rows(tmp_path / str(shard) / "filtered"))
    assert [len(rows) for rows in found] == [300, 300]
    every = read_rows(chain / "apply" / "filtered")
    assert sorted(found[0] + found[1], key=lambda row: int(row["id"][1:])) == every
    assert found[1][:100] == every[100:200]


@pytest.mark.slow
@pytest.mark.scale
def test_apply_with_two_workers_writes_the_same_files(chain, tmp_path):
    words = ["--shard-rows", 100, "--workers", 2, "--out", tmp_path / "run"]
    assert sieve("apply", chain / "docs.jsonl", "--model", chain / "fit", *words) == 0
    one, two = (sorted((run / "filtered").glob("part-*")) for run in (chain / "apply", tmp_path / "run"))
    assert [path.name for path in two] == [f"part-{n:05d}.jsonl" for n in range(6)]
    assert [path.read_bytes() for path in two] == [path.read_bytes() for path in one]


def test_apply_refuses_single_rows_with_the_reason(chain, tmp_path):
    source = write_rows(
        tmp_path / "mixed.jsonl", [{"text": TEXTS[0]}, {"txt": "x"}, {"text": " "}, {"text": 3}]
    )
    assert sieve("apply", source, "--model", chain / "fit", "--out", tmp_path / "run") == 0
    figures = report(tmp_path / "run")["figures"]
    assert (figures["documents"], figures["refused"]) == (4, 3)
    reasons = [row["reason"] for row in read_rows(tmp_path / "run" / "rejected.jsonl")]
    for said, why in zip(reasons, ('"text" is missing', "holds no word", "must be a string"), strict=True):
        assert why in said


def test_eval_against_judge_and_truth(chain, tmp_path):
    """A judge that passes each tenth text of the land: numbers worked out from the written scores."""
    wrong = {n for n in range(0, 600, 10) if not IS_SEA[n]}
    source = write_rows(
        tmp_path / "truth.jsonl",
        [{"text": text, "label": int(IS_SEA[n] or n in wrong), "real": bool(IS_SEA[n])} for n, text in enumerate(TEXTS)],
    )  # fmt: skip
    words = ["eval", source, "--model", chain / "fit", "--truth-field", "real", "--out", tmp_path / "run"]
    assert sieve(*words) == 0
    rows = read_rows(tmp_path / "run" / "scored.jsonl")
    passes, judge = (np.array([row[name] for row in rows], bool) for name in ("pass", "label"))
    assert [row["score"] for row in rows] == [
        row["sieve_score"] for row in read_rows(chain / "apply" / "filtered")
    ]
    figures = report(tmp_path / "run")["figures"]
    assert figures["snippets"] == 600
    assert figures["agreement"] == pytest.approx((passes == judge).mean())
    recall = passes[judge].mean(), (~passes[~judge]).mean()
    assert figures["balanced accuracy"] == pytest.approx(sum(recall) / 2)
    compared = {row["measure"]: row for row in table(tmp_path / "run", "measure")}["agreement"]
    assert compared["student against truth"][0] == pytest.approx((passes == IS_SEA).mean())
    assert compared["judge against truth"][0] == pytest.approx(1 - len(wrong) / 600)
    low, high = compared["judge against truth"][1:]
    assert low < 1 - len(wrong) / 600 < high
    passed, failed = table(tmp_path / "run", "student keeps")
    assert (passed["student keeps"], passed["student drops"]) == (
        (passes & judge).sum(),
        (~passes & judge).sum(),
    )
    assert (failed["student keeps"], failed["student drops"]) == (
        (passes & ~judge).sum(),
        (~passes & ~judge).sum(),
    )
    agreed = passes == judge
    said = f"both are wrong on {(passes != IS_SEA)[agreed].mean():.2%}"
    assert said in (tmp_path / "run" / "report.html").read_text()


def test_eval_sends_disagreements_to_people_and_counts_whom_they_side_with(chain, tmp_path):
    words = ["eval", chain / "label", "--model", chain / "fit"]
    assert sieve(*words, "--disagreements", 6, "--out", tmp_path / "asked") == 0
    sheet = tmp_path / "asked" / "rating" / "rating.csv"
    scored = {row["text"]: row for row in read_rows(tmp_path / "asked" / "scored.jsonl")}
    with sheet.open(newline="") as file:
        items = list(csv.DictReader(file))
    assert len(items) == 6
    assert all(scored[item["text"]]["label"] != scored[item["text"]]["pass"] for item in items)
    # People side with the student on the first two, with the judge on the next three, and leave one out.
    for place, item in enumerate(items[:5]):
        row = scored[item["text"]]
        item["human"] = row["pass"] if place < 2 else ("fail", "pass")[row["label"]]
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, items[0])
        writer.writeheader()
        writer.writerows(items)
    assert sieve(*words, "--ratings", sheet, "--out", tmp_path / "rated") == 0
    assert (
        "Of 5 disagreements that were rated, people said what the student says in 40%"
        in (tmp_path / "rated" / "report.html").read_text()
    )


def test_eval_where_nothing_differs_has_nothing_to_rate(chain, tmp_path):
    passed = [
        {"text": row["text"], "label": row["sieve_pass"]} for row in read_rows(chain / "apply" / "filtered")
    ]
    source = write_rows(tmp_path / "agreed.jsonl", passed)
    words = ["eval", source, "--model", chain / "fit", "--disagreements", 5, "--out", tmp_path / "run"]
    assert sieve(*words) == 0
    assert report(tmp_path / "run")["figures"]["agreement"] == 1
    assert "they agree on every snippet" in (tmp_path / "run" / "report.html").read_text()
    assert not (tmp_path / "run" / "rating").exists()


def test_cost_by_hand(tmp_path):
    assert sieve("cost", 1_000_000, "--out", tmp_path / "run") == 0
    # A call: 700 tokens at 2.5 and 150 at 10 USD per million. 6,000 of them, an hour of training at 2 USD, and
    # a million snippets at 500 a second.
    call, machine = 0.00175 + 0.0015, 2 / 3600 / 500
    fixed = 6000 * call + 2
    figures = report(tmp_path / "run")["figures"]
    assert figures["total, USD"] == pytest.approx(fixed + 1e6 * machine)
    assert figures["judge on everything, USD"] == pytest.approx(3250)
    assert figures["ratio"] == pytest.approx((fixed + 1e6 * machine) / 3250)
    assert figures["break-even, snippets"] == math.ceil(fixed / (call - machine))
    assert "All numbers are assumptions" in (tmp_path / "run" / "report.html").read_text()


def test_cost_of_what_a_fit_measured(chain):
    rounds = [json.loads(path.read_text()) for path in sorted((chain / "fit" / "rounds").glob("*.json"))]
    read, scoring_s = (sum(state[name] for state in rounds) for name in ("read", "scoring_s"))
    training_s = sum(row["training_s"] for row in read_rows(chain / "fit" / "metrics.jsonl"))
    assert read > 120
    machine = 2 / 3600 * scoring_s / read  # USD a snippet
    total = 120 * 0.00325 + training_s * 2 / 3600 + (read + 1e6) * machine
    assert report(chain / "cost")["figures"]["total, USD"] == pytest.approx(total)
    page = (chain / "cost" / "report.html").read_text()
    assert "Measured by the fit: labels, snippets_per_s, stream_scored, training_s." in page


@pytest.mark.slow
def test_the_same_fit_gives_the_same_bytes(chain, tmp_path):
    assert sieve(*fit_words(chain), "--test", 40, "--out", tmp_path / "again") == 0
    assert labels_of(tmp_path / "again") == labels_of(chain / "fit")
    for name in ("sieve.json", "student.json", "student.safetensors"):
        assert (tmp_path / "again" / "model" / name).read_bytes() == (
            chain / "fit" / "model" / name
        ).read_bytes()


def test_another_seed_gives_other_labels(chain, tmp_path):
    assert sieve(*fit_words(chain, budget=30), "--seed", 1, "--out", tmp_path / "run") == 0
    first = {row["snippet_id"] for row in labels_of(chain / "fit") if row["round"] == 0}
    assert {row["snippet_id"] for row in labels_of(tmp_path / "run")} != first


@pytest.mark.slow
@pytest.mark.scale
def test_a_fit_in_the_background(chain, tmp_path):
    assert sieve(*fit_words(chain), "--mode", "async", "--out", tmp_path / "run") == 0
    assert len(read_rows(tmp_path / "run" / "labels.jsonl")) == 120
    words = ["apply", chain / "docs.jsonl", "--model", tmp_path / "run", "--out", tmp_path / "applied"]
    assert sieve(*words) == 0
    passes = np.array([row["sieve_pass"] for row in read_rows(tmp_path / "applied" / "filtered")])
    assert (passes[IS_SEA].mean() + (~passes[~IS_SEA]).mean()) / 2 > 0.85


def test_a_dry_run_spends_and_writes_nothing(chain, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    docs = chain / "docs.jsonl"
    for words, cost in (
        (["label", docs, *judged_by(chain), "-n", 50, "--repeat", 3], {"judge_calls": 150, "snippets": 50}),
        ([*fit_words(chain), "--test", 40], {"judge_calls": 160, "rounds": 4, "trainings": 7}),
        (["apply", docs, "--model", chain / "fit"], {"records": 600, "judge_calls": 0}),
        (["apply", docs, "--model", chain / "fit", "--shards", 2, "--shard-rows", 500], {"records": 500}),
        (["eval", chain / "label", "--model", chain / "fit"], {"snippets": 200, "judge_calls": 0}),
        (["cost", 1000], {"judge_all_usd": 3.25}),
        (["mini", "--scale", "smoke"], {}),
    ):
        assert sieve(*words, "--dry-run", "--json") == 0, words
        plan = json.loads(capsys.readouterr().out)["plan"]
        assert {name: plan[name] for name in cost} == pytest.approx(cost)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("student", "says"),
    [("hashed-liner", 'Did you mean "hashed-linear"?'), ("t6:x", '"t6"'), ("t5-encoder:", "needs a T5")],
)
def test_a_dry_run_refuses_an_unknown_student(student, says, chain, capsys):
    words = ["fit", chain / "docs.jsonl", *judged_by(chain), "--model", student, "--dry-run"]
    assert sieve(*words) == 2
    assert says in capsys.readouterr().err


BAD = [
    (["fit", "none.jsonl", "JUDGE", "MODEL"], 2, "none.jsonl does not exist"),
    (["fit", "DOCS", "JUDGE", "MODEL", "--text-field", "body"], 2, 'line 1: field "body" is missing'),
    (["fit", "DOCS", "JUDGE", "MODEL", "--id-field", "key"], 2, 'line 1: field "key" is missing or no name'),
    (["fit", "DOCS", "--filter", "politic", "--judge", "rule:a:b", "MODEL"], 2, 'Did you mean "politics"?'),
    (["fit", "DOCS", "--filter", "politics", "--judge", "ruel:a:b", "MODEL"], 2, 'Did you mean "rule"?'),
    (["fit", "DOCS", "--filter", "politics", "--judge", "rule:a", "MODEL"], 2, "names no function"),
    (["fit", "DOCS", "--filter", "politics", "--judge", "sim:verdikt?words=a", "MODEL"], 2, 'Did you mean "verdict"?'),
    (["fit", "DOCS", "JUDGE", "--model", "t6:x"], 2, 'No kind of student is called "t6"'),
    (["fit", "DOCS", "JUDGE", "MODEL", "--selection.batch", "601", "--selection.max-seed-labels", "601"], 2,
     "The stream holds 600 snippets and a round labels 601"),
    (["fit", "DOCS", "JUDGE", "MODEL", "--selection.batch", "7000"], 2,
     "selection.batch must be <= selection.budget (6000); got 7000"),
    (["fit", "FEW", "JUDGE", "MODEL", "--test", "5"], 2, "too few documents to set one in 10 aside"),
    (["fit", "DOCS", "NEVER", "MODEL", "--selection.batch", "20", "--selection.max-seed-labels", "60"], 2,
     "passes less than 1 in 60 snippets"),
    (["label", "none.jsonl", "JUDGE"], 2, "none.jsonl does not exist"),
    (["label", "DOCS", "JUDGE", "-n", "0"], 2, "n must be >= 1; got 0"),
    (["apply", "DOCS", "--model", "EMPTY"], 2, "holds no sieve.json"),
    (["apply", "DOCS", "--model", "CHAIN/label"], 2, 'is a run without "model"'),
    (["apply", "DOCS", "--model", "CHAIN/fit", "--threshold", "2"], 2, "threshold must be in 0..1; got 2"),
    (["apply", "DOCS", "--model", "CHAIN/fit", "--threshold", "0.5", "--keep-share", "0.5"], 2, "Give one of them"),
    (["apply", "DOCS", "--model", "CHAIN/fit", "--shards", "2", "--shard", "2"], 2, "shard must be in 0..1; got 2"),
    (["apply", "none.jsonl", "--model", "CHAIN/fit"], 2, "none.jsonl does not exist"),
    (["eval", "DOCS", "--model", "CHAIN/fit"], 2, 'field "label" is missing. Name the column with --label-field.'),
    (["eval", "CHAIN/label", "--model", "CHAIN/fit", "--truth-field", "real"], 2,
     'field "real" is missing. Name the column with --truth-field.'),
    (["eval", "CHAIN/label", "--model", "CHAIN/fit", "--label-field", "text"], 2, "is no label"),
    (["eval", "CHAIN/label", "--model", "CHAIN/fit", "--ratings", "CHAIN/docs.jsonl"], 2, "the key cannot be read"),
    (["cost", "0"], 2, "snippets must be >= 1; got 0"),
    (["cost", "5", "--run", "EMPTY"], 2, "is not the folder of a run"),
    (["cost", "5", "--run", "CHAIN/label"], 2, 'is a run without "labels"'),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "says"), BAD)
def test_what_cannot_work_is_said_in_one_line(words, code, says, chain, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    few = write_rows(tmp_path / "few.jsonl", [{"text": "one"}])
    named = {
        "DOCS": [chain / "docs.jsonl"], "FEW": [few], "EMPTY": [tmp_path / "empty"], "JUDGE": judged_by(chain),
        "NEVER": judged_by(chain, "never"), "MODEL": ["--model", "hashed-linear"],
    }  # fmt: skip
    typed = [w for word in words for w in named.get(word, [word.replace("CHAIN", str(chain))])]
    capsys.readouterr()
    assert sieve(*typed, "--out", tmp_path / "run") == code
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.startswith("gnomon: ")
    assert (said.err.count("\n"), said.out) == (1, "")
