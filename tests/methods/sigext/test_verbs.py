"""Every verb as typed, from raw rows to measured summaries; pipes, bad input, other languages."""

import io
import json
import sys
from contextlib import redirect_stdout

import pytest

import fixtures_sigext
from fixtures_llm import calls_of
from gnomon.core import records
from gnomon.errors import BadInput, UserError
from gnomon.methods.sigext import SigExtModel
from gnomon.methods.sigext.phrases import ranking
from gnomon.registry import method
from gnomon.verbs import parse_verb, run_verb

METHOD = method("sigext")
SIM = "sim:summariser?uptake=0.9&base=0.2"


def gnomon(*words):
    """Run a verb quietly; its report."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert run_verb(METHOD, words[0], [*map(str, words[1:]), "--json"]) == 0
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "rows.jsonl"
    records.write(file, fixtures_sigext.raw_rows(24, 3))
    return file


@pytest.fixture(scope="module")
def model(trained):
    return trained[0] / "model"


def read(folder, name):
    return [raw for _, raw in records.read_raw(folder / name)]


def page(folder):
    return (folder / "report.html").read_text("utf-8")


@pytest.mark.parametrize("verb", METHOD.verbs.split())
def test_settings_need_only_what_is_required(verb):
    words = {"prepare": ["x"], "train": ["x", "--model", "m"], "score": ["x"], "prompt": ["x"],
             "summarize": ["x", "--writer", "l"], "evaluate": ["x"], "tune-k": ["x", "--extractor", "e"],
             "labels": ["x"], "mini": []}[verb]  # fmt: skip
    parse_verb(METHOD, verb, words)


def test_prepare_labels_rows_and_rejects_those_it_cannot_use(data, tmp_path):
    broken = [{"id": "z", "document": "", "summary": "x"}, {"id": "y", "document": "x", "summary": 3}]
    file = tmp_path / "some.jsonl"
    records.write(file, [*read(data.parent, data.name)[:5], *broken])
    report = gnomon("prepare", file, "--out", tmp_path / "run")
    rows = [raw for _, raw in records.read_raw(tmp_path / "run")]
    assert report["figures"]["documents"] == len(rows) == 5 and report["figures"]["rejected"] == 2
    for raw, row in zip(rows, fixtures_sigext.rows(24, 3), strict=False):
        assert [(p["text"], p["label"]) for p in raw["phrases"]] == [
            (p.text, int(said)) for p, said in zip(row.phrases, row.labels, strict=True)
        ]
    reasons = [raw["reason"] for raw in read(tmp_path / "run", "rejected.jsonl")]
    assert (
        'field "document" is empty' in reasons[0]
        and 'field "summary" must be a string; got int' in reasons[1]
    )


def test_labels_shows_both_rules_and_coloured_examples(data, tmp_path):
    report = gnomon("labels", data, "--show", 2, "--out", tmp_path / "run")
    assert report["figures"]["positive, rule code"] == pytest.approx(
        report["figures"]["positive, rule paper"], abs=0.1
    )
    assert 0.9 < report["figures"]["the rules agree on"] <= 1
    assert page(tmp_path / "run").count('<mark class="said">') > 4


@pytest.mark.slow
def test_train_leaves_an_extractor_that_scores(data, base, tmp_path):
    words = [
        "--model",
        base,
        "--n-train",
        12,
        "--n-validation",
        6,
        "--device",
        "cpu",
        "--train.warmup-steps",
        2,
    ]
    words += ["--train.epochs", 2, "--train.batch-size", 4, "--train.lr", 3e-3, "--train.grad-clip", 1.0]
    gnomon("train", data, *words, "--more", data.parent / "rows.jsonl", "--out", tmp_path / "run")
    made = SigExtModel.from_pretrained(tmp_path / "run", device="cpu")
    assert made.settings.trained_on == (str(data), str(data)) and made.settings.k == 20
    assert made.settings.tau > -100
    gnomon("score", tmp_path / "run", data, "--out", tmp_path / "scored")  # a run is a model
    dry = run_dry("train", data, *words)
    assert dry["plan"]["documents"] == 12 and dry["plan"]["optimiser_steps"] == 6


def run_dry(*words):
    return gnomon(*words, "--dry-run")


def test_validation_rows_must_not_be_trained_on(data, base, tmp_path):
    with pytest.raises(BadInput, match="validation documents are trained on as well"):
        gnomon("train", data, "--model", base, "--validation", data, "--out", tmp_path / "run")


def test_score_adds_phrases_in_the_order_of_the_rows(data, model, tmp_path):
    gnomon("score", model, data, "-k", 3, "--shard-rows", 5, "--out", tmp_path / "run")
    rows, made = fixtures_sigext.rows(24, 3), SigExtModel.from_pretrained(model, device="cpu")
    scored = [raw for _, raw in records.read_raw(tmp_path / "run")]
    assert [raw["id"] for raw in scored] == [row.id for row in rows]
    for raw, values in zip(scored, made.score_rows(rows), strict=True):
        assert [p["score"] for p in raw["phrases"]] == pytest.approx(values, abs=1e-4)
        best = raw["phrases"][ranking(values)[0]]
        assert best["rank"] == 1 and sum(p["kept"] for p in raw["phrases"]) <= 3
        assert all(raw["document"][p["start"] : p["end"]] == p["text"] for p in raw["phrases"])
    assert '<mark class="unsaid">' in page(tmp_path / "run")


@pytest.mark.scale
def test_several_processes_score_the_same(data, model, tmp_path):
    for workers in (1, 2):
        words = ["--shard-rows", 5, "--workers", workers, "--device", "cpu"]
        gnomon("score", model, data, *words, "--out", tmp_path / str(workers))
    one, two = ([raw for _, raw in records.read_raw(tmp_path / name)] for name in "12")
    assert one == two


def test_score_works_in_a_pipe(model, tmp_path, monkeypatch, capsys):
    raws = fixtures_sigext.raw_rows(3, 3)
    lines = [json.dumps({"document": raw["document"], "kind": 7}) + "\n" for raw in raws]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join([*lines[:2], "\n", lines[2]])))
    assert (
        run_verb(METHOD, "score", [str(model), "-k", "2", "--device", "cpu", "--out", str(tmp_path / "run")])
        == 0
    )
    out = capsys.readouterr()
    rows = [json.loads(line) for line in out.out.splitlines()]
    assert [row["document"] for row in rows] == [raw["document"] for raw in raws]
    assert all(row["kind"] == 7 and row["phrases"] and row["id"] for row in rows)
    assert read(tmp_path / "run", "scored.jsonl") == rows
    assert "documents" in out.err


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "stdin, line 2: not valid JSON"), ("[1]", "stdin, line 2: a record is a JSON object"),
     ('{"text": "x"}', 'stdin, line 2: field "document" is missing; the row has "text"')],
)  # fmt: skip
def test_a_bad_line_in_a_pipe_is_named_and_the_ones_before_are_out(
    line, message, model, tmp_path, monkeypatch, capsys
):
    good = json.dumps(fixtures_sigext.raw_rows(1)[0])
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{good}\n{line}\n"))
    with pytest.raises(BadInput, match=message):
        run_verb(METHOD, "score", [str(model), "--device", "cpu", "--out", str(tmp_path / "run")])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_prompts_of_scored_rows(data, model, tmp_path):
    gnomon("score", model, data, "-k", 2, "--out", tmp_path / "scored")
    gnomon("prompt", tmp_path / "scored", "--template", "samsum", "--out", tmp_path / "run")
    for raw in read(tmp_path / "run", "prompts.jsonl"):
        kept = sorted((p for p in raw["phrases"] if p["kept"]), key=lambda p: p["rank"])
        assert raw["prompt"].startswith(
            raw["document"] + "\n\nSummarize the conversation above in 1 sentence."
        )
        if kept:
            assert raw["prompt"].endswith(f"information: {'; '.join(p['text'] for p in kept)}.")
    with pytest.raises(
        BadInput, match=r'field "phrases" is missing\. Make scored rows with `gnomon sigext score`'
    ):
        run_verb(METHOD, "prompt", [str(data), "--quiet", "--out", str(tmp_path / "bad")])


@pytest.mark.slow
def test_summarize_measures_both_ways_and_evaluate_says_the_same(data, model, tmp_path):
    words = [
        "--extractor",
        model,
        "--writer",
        SIM,
        "-k",
        4,
        "--curve",
        1,
        2,
        "--arms",
        "none",
        "first",
        "words",
        "sigext",
    ]
    report = gnomon("summarize", data, *words, "--out", tmp_path / "run")
    assert report["simulated"] and report["title"].startswith("SIMULATED: ")
    assert "SIMULATED" in page(tmp_path / "run").split("</title>")[0]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["SIMULATED"] and metrics["documents"] == 24
    names = ["none"] + [f"{arm}, K={k}" for arm in ("first", "words", "sigext") for k in (1, 2, 4)]
    assert list(metrics["arms"]) == names
    assert all(metrics["arms"][name]["hint in source"] == 100 for name in names[1:])
    rows = read(tmp_path / "run", "predictions.jsonl")
    assert len(rows) == 24 * len(names)
    assert all(row["document"][p["start"] : p["end"]] == p["text"] for row in rows for p in row["phrases"])
    text = page(tmp_path / "run")
    assert all(f'<mark class="{kind}">' in text for kind in ("said", "unsaid"))
    gnomon("evaluate", tmp_path / "run", "--out", tmp_path / "again")
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert again == metrics  # simulated stays simulated


def test_a_document_full_of_markup_is_escaped(model, tmp_path):
    file = tmp_path / "rows.jsonl"
    bad = "<script>alert(1)</script> the <text> bridge <phrases> and <|im_end|> the mayor"
    records.write(file, [{"id": "<b>x</b>", "document": bad, "summary": "The bridge."}])
    gnomon("summarize", file, "--extractor", model, "--writer", "script:fixtures_sigext:echo", "--arms", "none", "oracle",
           "--out", tmp_path / "run")  # fmt: skip
    assert "<script>alert" not in page(tmp_path / "run") and "<b>x</b>" not in page(tmp_path / "run")
    plain, hinted = read(tmp_path / "run", "predictions.jsonl")
    assert plain["prediction"].startswith(bad) and "Consider" not in plain["prediction"]
    assert hinted["prediction"].endswith("Consider including the following information: bridge.")


def test_long_documents_are_cut_and_counted(data, model, tmp_path):
    words = ["--limit", 3, "--extractor", model, "--writer", SIM, "--context-tokens", 90]
    gnomon("summarize", data, *words, "--out", tmp_path / "run")
    rows = read(tmp_path / "run", "predictions.jsonl")
    assert all(row["document_cut"] for row in rows)
    assert "prompts with a cut document" in page(tmp_path / "run")


@pytest.mark.slow
def test_tune_k_by_proxy_and_by_summaries(data, trained, tmp_path):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(trained[0] / "model", copy)
    words = [data, "--extractor", copy, "--ks", 1, 3, "--percentiles", 0, 50]
    proxy = gnomon("tune-k", *words, "--save", "--out", tmp_path / "proxy")
    tuned = json.loads((tmp_path / "proxy" / "tuned.json").read_text())
    assert len(tuned["tried"]) == 4
    best = max(tuned["tried"], key=lambda row: (row["F"], -row["K"], row["percentile"]))
    assert (tuned["k"], tuned["percentile"]) == (best["K"], best["percentile"]) == (
        proxy["figures"]["K"], proxy["figures"]["percentile"],
    )  # fmt: skip
    saved = SigExtModel.from_pretrained(copy, device="cpu").settings
    assert (saved.k, saved.percentile) == (tuned["k"], tuned["percentile"])
    report = gnomon("tune-k", *words, "--writer", SIM, "--out", tmp_path / "llm")
    asked = calls_of(tmp_path / "llm")["writer"]
    assert report["simulated"] and asked["SIMULATED"] and asked["calls"] + asked["cached"] == 4 * 24
    assert asked["cached"] > 0  # the same phrases under two thresholds are asked about once


def test_other_columns_parquet_and_languages(tmp_path):
    file = tmp_path / "rows.parquet"
    records.write(
        file, [{"artikel": "Die neue Brücke ist teuer. Der Park ist alt.", "kurz": "Teure Brücken."}]
    )
    words = [file, "--document-field", "artikel", "--summary-field", "kurz", "--language", "german"]
    gnomon("prepare", *words, "--out", tmp_path / "run")
    (row,) = [raw for _, raw in records.read_raw(tmp_path / "run")]
    assert {p["text"]: p["label"] for p in row["phrases"]} == {"Brücke": 1, "teuer": 0, "Park": 0, "alt": 0}


@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        ([{"document": "a b", "text": "c"}], [], 'line 1: field "summary" is missing; the row has "document", "text". Name'),
        ([{"document": "a b", "summary": " "}], [], 'line 1: field "summary" is empty'),
        ([{"document": ["a"], "summary": "b"}], [], 'line 1: field "document" must be a string; got list'),
        ([{"id": i, "document": "a", "summary": "b"} for i in (1, "1")], [], 'line 2: id "1" is that of'),
        ([{"document": "a", "summary": "b"}], ["-k", "0"], "k must be >= 1"),
        ([{"document": "a", "summary": "b"}], ["--arms", "sigext"], "need an extractor. Name one with --extractor"),
        ([{"document": "a", "summary": "b"}], ["--arms", "keybert"], "Name one with --encoder"),
        ([{"document": "a", "summary": "b"}], ["--arms", "lead"], 'no arm "lead"'),
        ([{"document": "a", "summary": "b"}], ["--language", "thai"], "without spaces"),
        ([{"document": "a", "summary": "b"}], ["--template", "cn"], 'no prompt template or file "cn"'),
        ([], [], "holds no rows"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(rows, words, message, tmp_path):
    file = tmp_path / "rows.jsonl"
    records.write(file, rows)
    arms = [] if "--arms" in words else ["--arms", "none"]
    with pytest.raises(UserError) as raised:
        run_verb(
            METHOD,
            "summarize",
            [str(file), "--writer", SIM, *arms, *words, "--quiet", "--out", str(tmp_path / "run")],
        )
    assert message in str(raised.value) and "\n" not in str(raised.value)
