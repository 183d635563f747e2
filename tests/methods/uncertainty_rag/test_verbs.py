"""The verbs from files to files: tables that go on after a kill and refuse to mix, a retriever, an index, answers, pages."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

import fixtures_process
import fixtures_uncertainty_rag as made
from gnomon import cli, registry
from gnomon.core import records
from gnomon.core.data.execute import parts
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.uncertainty_rag.scoring.scores import read_pairs, score_information
from gnomon.methods.uncertainty_rag.scoring.table import join, read_table
from gnomon.verbs import run_verb

ROOM = registry.method("uncertainty-rag")


def gnomon(verb, *words):
    return run_verb(ROOM, verb, [*map(str, words), "--quiet"])


def report(folder):
    return json.loads((folder / "report.json").read_text())


def score_words(corpus, models, *more):
    pool = ["--pool.n-anchors", 6, "--pool.m", 5, "--pool.n-random", 3]
    return [
        corpus,
        "--id-field",
        "id",
        "--model",
        models[0],
        "--cut.size",
        30,
        *pool,
        "--shard-rows",
        4,
        *more,
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory, corpus, models):
    """A run of score with an encoder."""
    folder = tmp_path_factory.mktemp("runs") / "scored"
    assert gnomon("score", *score_words(corpus, models, "--encoder", models[1]), "--out", folder) == 0
    return folder


def rows_of(folder):
    return [row for path in parts(folder / "pairs", ".parquet") for row in pq.read_table(path).to_pylist()]


def test_a_table_holds_every_score_of_every_pair(run, lm, models):
    rows, table = rows_of(run), read_table(run)
    assert len(rows) == 48 == len(table) and len({(r["anchor"], r["candidate"]) for r in rows}) == 48
    texts = {raw["id"]: raw["text"] for _, raw in records.read_raw(run / "chunks.jsonl")}
    from gnomon.core.retrieval import TextEncoder
    from gnomon.methods.uncertainty_rag import LocalReader, Span

    reader, span = LocalReader(lm, grouped=False), Span(**table.about["settings"]["span"])
    some = rows[::7]
    ids = [(reader.encode(texts[r["candidate"]]), reader.encode(texts[r["anchor"]])) for r in some]
    wanted = score_information(*read_pairs(reader, ids), span).columns()
    for name in ("U", "U_other", "nll_all", "nll_cond", "gain"):
        assert [r[name] for r in some] == pytest.approx(wanted[name], abs=1e-4), name
    vectors = TextEncoder.load(models[1])
    for r in some:
        a, c = vectors.encode([texts[r["anchor"]], texts[r["candidate"]]])
        assert r["cosine"] == pytest.approx(float(a @ c), abs=1e-5)
        assert r["same_document"] == (r["anchor"].split("#")[0] == r["candidate"].split("#")[0])
    assert span.sigma == json.loads((run / "calibration.json").read_text())["sigma"]


def test_the_self_check_stands_on_the_page_with_every_score_and_what_to_change(
    run, tmp_path, corpus, models, capsys
):
    page = report(run)
    (table,) = [t for t in page["tables"] if t["rows"] and "AUC" in t["rows"][0]]
    assert {row["score"] for row in table["rows"]} >= {
        "span",
        "span_other",
        "nll_all",
        "nll_cond",
        "gain",
        "gain_centred",
        "bm25",
        "cosine",
    }
    check = read_table(run).about["self_check"]
    assert check["n_pairs"] == 96 and check["n_documents"] == 12 and check["chosen"] == "span"
    words = [str(w) for w in (*score_words(corpus, models), "--out", tmp_path / "loud")]
    assert cli.main(["uncertainty-rag", "score", *words]) == 0
    said = capsys.readouterr().err
    assert "Self-check on 96 pairs" in said and "gain_centred" in said
    # The tiny model knows nothing and words tell topics apart, so there is a better score than span, and its flag is named.
    assert "Warning: On pieces of your own documents span" in said and "--by bm25" in said
    assert "removed as copies" in said


def test_a_job_that_is_killed_goes_on_and_loses_and_doubles_nothing(tmp_path, corpus, models, run):
    words = [
        str(w)
        for w in score_words(corpus, models, "--encoder", models[1], "--shard-rows", 1, "--no-self-check")
    ]
    slow = (
        "import sys, time\n"
        "from gnomon.methods.uncertainty_rag.scoring import table\n"
        "plain = table.ScoreStep.__call__\n"
        "def slow(self, groups):\n    time.sleep(0.15)\n    yield from plain(self, groups)\n"
        "table.ScoreStep.__call__ = slow\n"
        "from gnomon import cli\nsys.exit(cli.main(sys.argv[1:]))"
    )
    command = [
        sys.executable,
        "-c",
        slow,
        "uncertainty-rag",
        "score",
        *words,
        "--quiet",
        "--out",
        str(tmp_path / "killed"),
    ]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    job = fixtures_process.start(command, env=env)
    done = tmp_path / "killed" / "pairs" / "_done"
    for _ in range(600):
        if len(list(done.glob("part-*.json"))) >= 3:
            break
        time.sleep(0.05)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    finished = len(list(done.glob("part-*.json")))
    assert 3 <= finished < 20 and not (tmp_path / "killed" / "report.json").exists()
    assert gnomon("score", *words, "--out", tmp_path / "killed") == 0
    key = lambda row: (row["anchor"], row["candidate"])  # noqa: E731
    again, wanted = (sorted(rows_of(f), key=key) for f in (tmp_path / "killed", run))
    assert [key(r) for r in again] == [key(r) for r in wanted]
    assert [r["gain"] for r in again] == pytest.approx([r["gain"] for r in wanted], abs=1e-5)


@pytest.mark.scale
@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_change_nothing(tmp_path, corpus, models, run, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    words = score_words(corpus, models, "--encoder", models[1], "--engine", engine, "--workers", 2)
    command = [sys.executable, "-m", "gnomon", "uncertainty-rag", "score", *map(str, words), "--quiet"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, "--out", tmp_path / "two"], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    for a, b in zip(rows_of(tmp_path / "two"), rows_of(run), strict=True):
        assert (a["anchor"], a["candidate"]) == (b["anchor"], b["candidate"])
        assert [a[n] for n in ("U", "gain", "nll_all")] == pytest.approx(
            [b[n] for n in ("U", "gain", "nll_all")], abs=1e-5
        )


@pytest.mark.parametrize(
    "changed",
    [("--layout.start", "eos"), ("--layout.order", "anchor"), ("--layout.separator", " "), ("--span.window", 9),
     ("--span.sigma", 2.5), ("--dtype", "bfloat16"), ("--cut.size", 25)],
    ids=lambda c: c[0],
)  # fmt: skip
def test_tables_of_two_scales_refuse_to_mix(tmp_path, corpus, models, run, changed):
    assert (
        gnomon(
            "score", *score_words(corpus, models, "--no-self-check"), *changed, "--out", tmp_path / "other"
        )
        == 0
    )
    with pytest.raises(ModelMismatch, match="cannot be mixed"):
        gnomon("mine", run, "--more", tmp_path / "other", "--out", tmp_path / "mined")


def test_tables_of_one_scale_are_joined_and_a_pair_counts_once(run):
    table = read_table(run)
    assert len(join([table, table])) == len(table)


def test_anchor_first_predicts_the_candidate(tmp_path, corpus, models, lm):
    words = score_words(corpus, models, "--no-self-check", "--layout.order", "anchor")
    assert gnomon("score", *words, "--out", tmp_path / "anchor") == 0
    from gnomon.methods.uncertainty_rag import LocalReader

    texts = {raw["id"]: raw["text"] for _, raw in records.read_raw(tmp_path / "anchor" / "chunks.jsonl")}
    reader = LocalReader(lm, grouped=False)
    for row in rows_of(tmp_path / "anchor")[:3]:
        (information,) = reader.read(
            [(reader.encode(texts[row["anchor"]]), reader.encode(texts[row["candidate"]]))]
        )
        assert row["nll_cond"] == pytest.approx(information.second.mean(), abs=1e-4)


def test_documents_set_aside_are_never_anchors_or_candidates(tmp_path, corpus, models):
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tbread-0\t1\n")
    words = score_words(
        corpus, models, "--no-self-check", "--held-out", 0.3, "--qrels", tmp_path / "qrels.tsv"
    )
    assert gnomon("score", *words, "--out", tmp_path / "split") == 0
    aside = {raw["doc_id"] for _, raw in records.read_raw(tmp_path / "split" / "set_aside.jsonl")}
    used = {row[n].split("#")[0] for row in rows_of(tmp_path / "split") for n in ("anchor", "candidate")}
    assert "bread-0" in aside and not aside & used


def test_what_cannot_work_is_said_before_anything_is_spent(tmp_path, corpus, models):
    with pytest.raises(
        BadConfig, match=r"Two chunks of 100 tokens.* the model reads 160\. Set --cut.size to"
    ):
        gnomon("score", *score_words(corpus, models, "--cut.size", 100), "--out", tmp_path / "long")
    (tmp_path / "one.jsonl").write_text(json.dumps({"id": "a", "text": "bread " * 200}) + "\n")
    with pytest.raises(BadInput, match="1 of 1 documents are left to mine from"):
        gnomon("score", *score_words(tmp_path / "one.jsonl", models), "--out", tmp_path / "one")
    same = [{"id": str(i), "text": "one and the same text"} for i in range(5)]
    with pytest.raises(BadInput, match="All 5 chunks say the same"):
        gnomon(
            "score",
            *score_words(made.write_rows(tmp_path / "same.jsonl", same), models),
            "--out",
            tmp_path / "same",
        )
    with pytest.raises(BadInput, match="no document that can be used"):
        gnomon(
            "score",
            *score_words(made.write_rows(tmp_path / "no.jsonl", [{"id": "a", "text": " "}]), models),
            "--out",
            tmp_path / "no",
        )
    with pytest.raises(BadInput, match="holds no table"):
        gnomon("mine", tmp_path, "--out", tmp_path / "m")
    with pytest.raises(BadInput, match="no run of score, index or ask"):
        gnomon("eval", tmp_path, "--out", tmp_path / "e")


def test_a_corpus_that_is_mostly_broken_is_a_failure(tmp_path, corpus, models, capsys):
    good = made.made_documents(6)
    rows = [*good, *({"id": f"bad{i}"} for i in range(5))]
    words = [
        str(w)
        for w in score_words(
            made.write_rows(tmp_path / "bad.jsonl", rows),
            models,
            "--no-self-check",
            "--out",
            tmp_path / "bad",
        )
    ]
    assert cli.main(["uncertainty-rag", "score", *words]) == 1
    assert "5 of 11 rows were left out" in capsys.readouterr().err + json.dumps(report(tmp_path / "bad"))
    assert len(list(records.read_raw(tmp_path / "bad" / "refused.jsonl"))) == 5


@pytest.fixture(scope="module")
def chain(run, corpus, models, tmp_path_factory):
    """Runs of mine, train and index behind that of score."""
    at = tmp_path_factory.mktemp("chain")
    assert gnomon("mine", run, "--by", "gain", "--k-p", 2, "--k-n", 2, "--out", at / "mined") == 0
    train = ["--train.batch-size", 4, "--train.lr", 1e-3, "--train.max-length", 64]
    assert gnomon("train", at / "mined", "--model", models[1], *train, "--out", at / "trained") == 0
    assert (
        gnomon(
            "index",
            corpus,
            "--id-field",
            "id",
            "--retriever",
            at / "trained",
            "--cut.size",
            30,
            "--out",
            at / "index",
        )
        == 0
    )
    queries = []
    for d in made.made_documents():
        start, answer = d["text"][:60], d["text"].split()[1]
        queries.append({"_id": d["id"], "id": d["id"], "text": start, "question": start, "answers": [answer]})
    made.write_rows(at / "queries.jsonl", queries)
    lines = [f"{q['_id']}\t{q['_id']}\t1" for q in queries]
    (at / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(lines) + "\n")
    (at / "writer.py").write_text(
        "def write(request):\n    question = request.messages[-1].content.rsplit('Question: ', 1)[1]\n"
        "    return question.split()[1] + ' [1].'\n"
    )
    return at


def test_mined_rows_say_by_what_and_how_many_were_removed(chain, run):
    rows = [raw for _, raw in records.read_raw(chain / "mined")]
    assert len(rows) == 6 and all(
        len(r["positives"]) == 2 and r["anchor"] not in r["negatives"] for r in rows
    )
    mined = json.loads((chain / "mined" / "mined.json").read_text())
    assert (
        mined["by"] == "gain"
        and "negatives removed, equal or near to a positive" in report(chain / "mined")["figures"]
    )
    table = read_table(run).columns
    first = rows[0]
    gains = {
        c: g
        for a, c, g in zip(table["anchor"], table["candidate"], table["gain"], strict=True)
        if a == first["anchor"]
    }
    best = sorted(gains, key=lambda name: (-gains[name], name))
    assert first["positives"] == best[:2] and first["negatives"] == best[:-3:-1]
    hubs = [t for t in report(chain / "mined")["tables"] if t["rows"] and "top 1%" in t["rows"][0]]
    assert {(r["score"], r["centre"]) for r in hubs[0]["rows"]} >= {
        ("span", "none"),
        ("span", "candidate"),
        ("gain_centred", "none"),
    }


def test_training_says_how_many_negatives_a_row_saw(chain):
    figures = report(chain / "trained")["figures"]
    assert figures["rows"] == 6 and 3 < figures["negatives each row saw, hard"] <= 7
    assert (chain / "trained" / "model" / "modules.json").exists()


def test_search_finds_the_document_and_its_run_is_trec(chain, tmp_path):
    from gnomon.core.retrieval import read_run

    words = ["--queries", chain / "queries.jsonl", "-k", 5]
    assert gnomon("search", chain / "index", *words, "--out", tmp_path / "found") == 0
    runs = read_run(tmp_path / "found" / "run.trec")
    assert (
        len(runs) == 12 and sum(name in {h.id.split("#")[0] for h in hits} for name, hits in runs.items()) > 9
    )
    best = gnomon("search", chain / "index", *words, "--mode", "terms", "--out", tmp_path / "words")
    by_words = read_run(tmp_path / "words" / "run.trec")
    assert best == 0 and all(hits[0].id.split("#")[0] == name for name, hits in by_words.items())
    rows = [raw for _, raw in records.read_raw(tmp_path / "found" / "hits.jsonl")]
    assert set(rows[0]["parts"]) == {"dense", "terms"}
    assert (
        gnomon(
            "search",
            chain / "index",
            "--query",
            "oven dough",
            "--mode",
            "terms",
            "-k",
            3,
            "--out",
            tmp_path / "one",
        )
        == 0
    )
    assert "oven dough" in (tmp_path / "one" / "report.html").read_text()
    with pytest.raises(BadConfig, match="query must be given, or --queries"):
        gnomon("search", chain / "index", "--out", tmp_path / "none")
    with pytest.raises(BadInput, match="no run of index"):
        gnomon("search", chain / "mined", "--query", "x", "--out", tmp_path / "wrong")


def test_another_retriever_is_refused(chain, tmp_path, models):
    import shutil

    shutil.copytree(chain / "index", tmp_path / "index")
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "index.json").write_text(json.dumps({**about, "retriever": str(models[1])}))
    with pytest.raises(ModelMismatch):
        gnomon("search", tmp_path / "index", "--query", "bread", "--out", tmp_path / "found")


def test_evaluation_against_bm25(chain, tmp_path):
    words = ["--queries", chain / "queries.jsonl", "--qrels", chain / "qrels.tsv"]
    assert gnomon("eval", chain / "index", *words, "--out", tmp_path / "eval") == 0
    rows = {r["arm"]: r for r in json.loads((tmp_path / "eval" / "metrics.json").read_text())}
    assert set(rows) == {"bm25", "retriever", "both, rrf", "both, entropy"}
    assert rows["bm25"]["MRR@10"][0] == 1.0 and "MRR@10 - bm25" in rows["retriever"]
    with pytest.raises(BadConfig, match="--queries and --qrels"):
        gnomon("eval", chain / "index", "--out", tmp_path / "no")


def test_answers_their_scores_and_then_a_confidence(chain, models, tmp_path):
    ask = [
        "--answerer",
        f"script:{chain / 'writer.py'}:write",
        "--gain",
        models[0],
        "--mode",
        "terms",
        "--budget",
        500,
    ]
    assert (
        gnomon(
            "ask", chain / "index", "--questions", chain / "queries.jsonl", *ask, "--out", tmp_path / "asked"
        )
        == 0
    )
    rows = [raw for _, raw in records.read_raw(tmp_path / "asked")]
    assert len(rows) == 12 and all(
        r["confidence"] is None and set(r["trace"]["signals"]) == {"score", "margin", "gain"} for r in rows
    )
    assert "no percentage" in (tmp_path / "asked" / "report.html").read_text()
    assert gnomon("eval", tmp_path / "asked", "--out", tmp_path / "judged") == 0
    metrics = json.loads((tmp_path / "judged" / "metrics.json").read_text())
    assert 0 < metrics["right"] <= 1 and 0 < metrics["answer coverage"] <= 1
    # All right or all wrong teaches nothing; a fit comes from answers of both kinds.
    mixed = [{**r, "references": ["zebra"] if i % 2 else r["references"]} for i, r in enumerate(rows)] * 2
    (tmp_path / "mixed").mkdir()
    made.write_rows(tmp_path / "mixed" / "answers.jsonl", mixed)
    (tmp_path / "mixed" / "asked.json").write_text((tmp_path / "asked" / "asked.json").read_text())
    assert gnomon("eval", tmp_path / "mixed", "--fit", "isotonic", "--out", tmp_path / "fitted") == 0
    sure = [*ask, "--confidence", tmp_path / "fitted", "--abstain-below", 0.999]
    assert gnomon("ask", chain / "index", "--question", "bread oven", *sure, "--out", tmp_path / "sure") == 0
    (row,) = [raw for _, raw in records.read_raw(tmp_path / "sure")]
    assert 0 < row["confidence"] < 1 and row["abstained"]
    with pytest.raises(BadInput, match="holds no confidence"):
        gnomon(
            "ask",
            chain / "index",
            "--question",
            "x",
            *ask,
            "--confidence",
            tmp_path / "asked",
            "--out",
            tmp_path / "no",
        )


def test_calibration_of_a_table(run, tmp_path):
    assert gnomon("eval", run, "--by", "bm25", "--reference", "cosine", "--out", tmp_path / "eval") == 0
    result = json.loads((tmp_path / "eval" / "calibration.json").read_text())
    assert len(result["bins"]) == 10 and -1 <= result["spearman"] <= 1 and 0 <= result["error"] <= 1


def test_explain_shows_the_pair_of_a_table_and_two_texts(run, models, tmp_path, capsys):
    words = [
        "uncertainty-rag",
        "explain",
        "--model",
        str(models[0]),
        "--table",
        str(run),
        "--out",
        str(tmp_path / "table"),
    ]
    assert cli.main(words) == 0
    said = capsys.readouterr().err
    assert "windows of" in said and "threshold" in said and "scores  U" in said
    traced = json.loads((tmp_path / "table" / "trace.json").read_text())
    best = max(read_table(run).columns["U"] * -1)
    assert traced["scores"]["U"] == pytest.approx(-best, abs=1e-4)
    page = (tmp_path / "table" / "report.html").read_text()
    assert (
        "covered by kept windows" in page
        and "gain per token" in page
        and "second chunk, given the first" in page
    )
    texts = ["--first", "bread in the oven <script>alert(1)</script>", "--second", "dough rises"]
    assert gnomon("explain", "--model", models[0], *texts, "--out", tmp_path / "texts") == 0
    assert "<script>alert" not in (tmp_path / "texts" / "report.html").read_text()
    with pytest.raises(BadInput, match="no pair of anchor nobody"):
        gnomon(
            "explain", "--model", models[0], "--table", run, "--anchor", "nobody", "--out", tmp_path / "no"
        )
    with pytest.raises(BadConfig, match="first must be given with --second"):
        gnomon("explain", "--model", models[0], "--first", "a", "--out", tmp_path / "one")


def test_a_dry_run_says_what_it_costs_and_writes_nothing(corpus, models, tmp_path, capsys):
    words = [str(w) for w in score_words(corpus, models, "--dry-run", "--json", "--out", tmp_path / "dry")]
    assert run_verb(ROOM, "score", words) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["pairs_at_most"] == 48 and plan["documents"] == 12 and not (tmp_path / "dry").exists()
