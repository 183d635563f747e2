"""The verbs on a small field: each stage reads the one before, answers are those of a count by hand, bad rows cost themselves."""

import json

import numpy as np
import pytest

from gnomon import cli
from gnomon.core import records
from gnomon.core.retrieval import Answer
from gnomon.methods.smart_slic.knowledge.asking import Question, is_right, judged, normal, summarised
from gnomon.methods.smart_slic.knowledge.project import papers_at, passages_of, write_papers

SUBJECTS = {
    "graph": "graph nodes edges neighbours message passing layers spectral clusters vertices",
    "robot": "robot arm grasp object gripper policy camera torque joint contact",
    "food": "bread oven flour yeast dough crust salt butter baker kneading",
}


def raw_papers():
    rows = []
    for i in range(45):
        subject = list(SUBJECTS)[i % 3]
        words = SUBJECTS[subject].split()
        text = " ".join(words[(i + j) % len(words)] for j in range(30))
        rows.append({
            "id": f"p{i}", "title": f"On the {words[i % 10]} of {words[(i + 3) % 10]} {i}", "year": 2015 + i % 6,
            "abstract": f"We study the {text} and what it is for.", "authors": ["Ada Lind", "Bo Karr"] if i % 2 else ["Cy Dole"],
            "venue": "Acta" if i % 5 else "Nova", "references": [f"p{i - 3}"] if i > 2 else [],
            "countries": ["Norway"] if i % 3 == 0 else [], "text": f"The method M{i} reaches {i}.5 on the set Q{i}.",
        })  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    folder = tmp_path_factory.mktemp("field")
    rows = raw_papers()
    records.write(
        folder / "pool.jsonl", [*rows, {"id": "", "title": "no id"}, {"id": "p0", "title": "twice"}]
    )
    records.write(
        folder / "core.jsonl",
        [row for row in rows if row["id"] in ("p42", "p39", "p36", "p33", "p30", "p27", "p24")],
    )
    return folder


def command(verb, *words, fails=0):
    assert cli.main(["smart-slic", verb, *map(str, words), "--quiet"]) == fails


def rows_of(path):
    return [raw for _, raw in records.read_raw(path)]


@pytest.fixture(scope="module")
def cleaned(tmp_path_factory, field):
    out = tmp_path_factory.mktemp("clean") / "run"
    command("clean", field / "pool.jsonl", "--out", out)
    return out


@pytest.fixture(scope="module")
def topics(tmp_path_factory, cleaned):
    out = tmp_path_factory.mktemp("topics") / "run"
    command(
        "topics",
        cleaned,
        "--k-to",
        5,
        "--copies",
        6,
        "--iterations",
        200,
        "--min-df",
        2,
        "--max-df",
        0.9,
        "--out",
        out,
    )
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory, cleaned, topics):
    out = tmp_path_factory.mktemp("build") / "run"
    command("build", cleaned, "--topics", topics, "--encoder", "None", "--out", out)
    return out


def test_expansion_follows_links_and_says_what_it_does_not_know(field, tmp_path):
    command(
        "expand",
        field / "core.jsonl",
        "--provider",
        field / "pool.jsonl",
        "--hops",
        2,
        "--by",
        "references",
        "--out",
        tmp_path / "e",
    )
    papers = {p.id: p.meta["hop"] for p in papers_at(tmp_path / "e").papers}
    assert papers == {
        **dict.fromkeys(("p42", "p39", "p36", "p33", "p30", "p27", "p24"), 0),
        "p21": 1,
        "p18": 2,
    }
    command(
        "expand",
        field / "core.jsonl",
        "--provider",
        field / "pool.jsonl",
        "--hops",
        1,
        "--max-papers",
        0,
        "--out",
        tmp_path / "no",
        fails=2,
    )


def test_bad_rows_are_listed_with_their_reasons(cleaned):
    reasons = [row["reason"] for row in rows_of(cleaned / "rejected.jsonl")]
    assert reasons == ['field "id" is missing or empty', 'the id "p0" comes twice']
    # Raw text is kept apart from the clean one.
    assert (
        papers_at(cleaned).papers[0].abstract.startswith("We study the graph")
        and len(papers_at(cleaned).papers) == 45
    )
    assert "the" not in rows_of(cleaned / "clean.jsonl")[0]["text"].split()


def test_topics_are_the_three_subjects_and_every_paper_has_one(topics):
    names = rows_of(topics / "topics.jsonl")
    assert len(names) == 3 and sum(row["papers"] for row in names) == 45
    places = {row["id"]: row["topic"] for row in rows_of(topics / "paper_topics.jsonl")}
    assert all(len({places[f"p{i}"] for i in range(start, 45, 3)}) == 1 for start in range(3))
    curve = (topics / "curve.csv").read_text().splitlines()
    assert curve[0].startswith("k,min sil W") and [line.split(",")[0] for line in curve[1:]] == [
        "2",
        "3",
        "4",
        "5",
    ]
    page = (topics / "report.html").read_text()
    assert "stability over all papers" in page and "<svg" in page


def test_a_hierarchy_and_common_topics_are_written_too(cleaned, tmp_path):
    words = ["--k-to", 3, "--copies", 4, "--iterations", 60, "--min-df", 2, "--max-df", 0.9]
    command("topics", cleaned, *words, "--depth", 2, "--out", tmp_path / "tree")
    names = {row["topic"]: row["parent"] for row in rows_of(tmp_path / "tree" / "topics.jsonl")}
    assert all(parent is None or parent in names for parent in names.values())
    command("topics", cleaned, *words, "--split", "--out", tmp_path / "split")
    assert len(rows_of(tmp_path / "split" / "paper_topics.jsonl")) == 45
    command("topics", cleaned, "--split", "--depth", 2, "--out", tmp_path / "both", fails=2)


def test_pruning_keeps_the_core_s_subject_with_a_reason_for_each(field, tmp_path):
    (tmp_path / "core.txt").write_text("\n".join(f"p{i}" for i in range(0, 30, 3)))
    command(
        "prune",
        field / "pool.jsonl",
        "--core",
        tmp_path / "core.txt",
        "--rule",
        "knn",
        "--out",
        tmp_path / "out",
    )
    kept = {p.id for p in papers_at(tmp_path / "out").papers}
    assert {f"p{i}" for i in range(0, 30, 3)} <= kept and not kept & {f"p{i}" for i in range(2, 45, 3)}
    decisions = rows_of(tmp_path / "out" / "decisions.jsonl")
    assert len(decisions) == 45 and all("knn" in d["reason"] for d in decisions if d["status"] != "core")


def test_counts_are_those_of_the_rows_and_list_what_was_counted(built, tmp_path):
    questions = tmp_path / "q.jsonl"
    rows = raw_papers()
    by_bo = [r["id"] for r in rows if "Bo Karr" in r["authors"] and r["year"] > 2017]
    nova = [r["id"] for r in rows if r["venue"] == "Nova"]
    gold = [
        {
            "question": "How many papers by Bo Karr came out after 2017?",
            "answer": len(by_bo),
            "route": "graph",
            "evidence": by_bo,
        },
        {
            "question": "How many papers are published in Nova?",
            "answer": len(nova),
            "route": "graph",
            "evidence": nova,
        },
        {
            "question": "What does method M17 reach on Q17?",
            "answer": "17.5",
            "route": "passages",
            "evidence": ["p17"],
        },
        {"question": "How many patents did Bo Karr file?", "answer": None, "route": "outside"},
    ]
    records.write(questions, gold)
    command("eval", built, questions, "--hits", 1, "--out", tmp_path / "e")
    summary = json.loads((tmp_path / "e" / "summary.json").read_text())
    assert (
        summary["exact match"] == 1.0
        and summary["abstention recall"] == 1.0
        and summary["right route"] == 1.0
    )
    assert summary["citation precision"] == 1.0
    command("ask", built, "--question", gold[0]["question"], "--out", tmp_path / "a")
    (answer,) = rows_of(tmp_path / "a" / "answers.jsonl")
    assert sorted(answer["trace"]["counted"]) == sorted(by_bo) and answer["trace"]["number"] == len(by_bo)
    assert answer["trace"]["llm_calls"] == 0
    page = json.loads((built / "report.json").read_text())
    assert page["figures"]["language model calls"] == 0
    command("ask", built, "--out", tmp_path / "none", fails=2)
    command("ask", built, "--question", "x", "--questions", questions, "--out", tmp_path / "two", fails=2)


def test_a_language_model_plans_and_only_what_it_was_shown_is_cited(built, tmp_path):
    script = tmp_path / "plans.py"
    script.write_text(
        "import json\n"
        "def plan(request):\n"
        "    prompt = request.messages[-1].content\n"
        "    if 'M13' in prompt:\n"
        "        raise ValueError('no plan')\n"
        "    if 'Result:' not in prompt:\n"
        "        return json.dumps({'tool': 'search', 'text': 'method M9 reaches'})\n"
        "    return json.dumps({'tool': 'finish', 'sentences': [{'text': 'It reaches 9.5.', 'cites': ['p9#1', 'p1#99']}]})\n"
    )
    command(
        "ask",
        built,
        "--question",
        "What does M9 reach?",
        "--planner",
        f"script:{script}:plan",
        "--out",
        tmp_path / "a",
    )
    (answer,) = rows_of(tmp_path / "a" / "answers.jsonl")
    assert (
        answer["sentences"] == [["It reaches 9.5.", ["p9#1"]]] and answer["trace"]["unknown_citations"] == 1
    )


def test_names_are_joined_and_split_by_the_user_s_files(cleaned, tmp_path):
    (tmp_path / "same.csv").write_text("name,same_as\nBo Karr,Ada Lind\n")
    (tmp_path / "different.csv").write_text("name,paper,author\nCy Dole,p0,Cy Dole (2)\n")
    command("build", cleaned, "--encoder", "None", "--same-as", tmp_path / "same.csv", "--different", tmp_path / "different.csv",
            "--out", tmp_path / "b")  # fmt: skip
    command("ask", tmp_path / "b", "--question", "How many authors are there?", "--out", tmp_path / "a")
    (answer,) = rows_of(tmp_path / "a" / "answers.jsonl")
    assert sorted(answer["trace"]["counted"]) == ["Ada Lind", "Cy Dole", "Cy Dole (2)"]
    (tmp_path / "bad.csv").write_text("name,other\nx,y\n")
    command(
        "build",
        cleaned,
        "--encoder",
        "None",
        "--same-as",
        tmp_path / "bad.csv",
        "--out",
        tmp_path / "no",
        fails=2,
    )


def test_papers_survive_a_round_trip_with_what_is_not_known(tmp_path):
    records.write(tmp_path / "in.jsonl", [
        {"id": "a", "title": "A", "references": [], "citations": None, "keywords": "x;y", "score": 3}, {"id": "b", "title": "B"},
    ])  # fmt: skip
    papers = papers_at(tmp_path / "in.jsonl").papers
    write_papers(tmp_path / "papers.jsonl", papers)
    assert papers_at(tmp_path).papers == papers
    assert papers[0].references == () and papers[0].citations is None and papers[1].references is None
    (only,) = passages_of(papers[0], 50)
    assert only.id == "a#0" and only.text == "A."


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("12", Answer("q", (("12 papers: 3, 4.", ("a",)),), trace={"number": 12}), True),
        ("3", Answer("q", (("12 papers: 3, 4.", ("a",)),), trace={"number": 12}), False),
        ("83.2", Answer("q", (("M17 reaches 83.2 on Q4.", ("a",)),)), True),
        ("3.2", Answer("q", (("M17 reaches 83.2 on Q4.", ("a",)),)), False),
        ("Ada|Bo", Answer("q", (("By Bo and Ada.", ("a",)),)), True),
        (None, Answer("q", (("Not in the corpus.", ()),), abstained=True), True),
        ("7", Answer("q", (("Not in the corpus.", ()),), abstained=True), False),
        (None, Answer("q", (("7", ("a",)),)), False),
    ],
)
def test_an_answer_is_right_by_its_number_or_its_words(gold, answer, right):
    assert is_right(Question("q", gold), answer) == right


def test_shares_of_judged_answers_by_hand():
    rows = [
        judged(
            Question("a", "1", evidence=("p", "q")),
            Answer("a", (("1", ("p#0", "z#1")),), trace={"number": 1}),
        ),
        judged(Question("b", "2"), Answer("b", (("no", ()),), abstained=True)),
        judged(Question("c", None), Answer("c", (("no", ()),), abstained=True)),
    ]
    summary = summarised(rows)
    assert (
        summary["exact match"] == 0.5
        and summary["abstention recall"] == 1.0
        and summary["abstention precision"] == 0.5
    )
    assert summary["citation precision"] == 0.5 and summary["right route"] is None
    assert normal("The Answer, is: 42. ") == "the answer is 42"


def test_an_update_is_a_rebuild_that_encodes_what_is_new_alone(field, tmp_path):
    """The second version of a paper leaves nothing of the first behind; what others state too stays."""
    rows = raw_papers()[:12]
    records.write(tmp_path / "one.jsonl", rows)
    rows[3] = {**rows[3], "abstract": "All of it is new.", "authors": ["Eve Ny"], "venue": "Acta"}
    records.write(
        tmp_path / "two.jsonl",
        [*rows[:11], {"id": "p99", "title": "Fresh", "authors": ["Ada Lind"], "venue": "Acta"}],
    )
    encoder = ["--encoder", "embedded:minilm"]
    command("build", tmp_path / "one.jsonl", *encoder, "--out", tmp_path / "first")
    command(
        "build",
        tmp_path / "two.jsonl",
        *encoder,
        "--update",
        tmp_path / "first",
        "--out",
        tmp_path / "updated",
    )
    command("build", tmp_path / "two.jsonl", *encoder, "--out", tmp_path / "anew")
    figures = [
        json.loads((tmp_path / name / "report.json").read_text())["figures"]
        for name in ("first", "updated", "anew")
    ]
    # Titles with abstracts and texts: 24 of 12 papers; of the second file p3's abstract and p99's title are new.
    assert [f["encoded"] for f in figures] == [24, 2, 23]
    assert (tmp_path / "updated" / "triplets.csv").read_text() == (
        tmp_path / "anew" / "triplets.csv"
    ).read_text()
    assert "Eve Ny" in (tmp_path / "updated" / "triplets.csv").read_text()
    stored = [np.load(tmp_path / name / "vectors.npz") for name in ("updated", "anew")]
    assert stored[0]["ids"].tolist() == stored[1]["ids"].tolist()
    np.testing.assert_allclose(stored[0]["vectors"], stored[1]["vectors"], atol=1e-5)
    command(
        "ask",
        tmp_path / "updated",
        "--question",
        "How many papers by Eve Ny are there?",
        "--out",
        tmp_path / "a",
    )
    assert rows_of(tmp_path / "a" / "answers.jsonl")[0]["trace"]["counted"] == ["p3"]
    command(
        "build",
        tmp_path / "two.jsonl",
        *encoder,
        "--update",
        tmp_path / "nowhere",
        "--out",
        tmp_path / "no",
        fails=2,
    )


def test_the_real_run_measures_every_stage_on_a_user_s_papers(tmp_path):
    rows = [{**row, "field": list(SUBJECTS)[i % 3]} for i, row in enumerate(raw_papers())]
    for i, row in enumerate(rows):
        row["abstract"] += (
            f" The paper on item {i} has one more sentence of its own here. And another sentence is the last of it."
        )
    records.write(tmp_path / "papers.jsonl", rows)
    command("real", tmp_path / "papers.jsonl", "--scale", "smoke", "--seeds", 1, "--out", tmp_path / "r")
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["language model calls"] == 0
    assert {(row["field"], row["rule"]) for row in summary["pruning"]} == {
        (field, rule) for field in SUBJECTS for rule in ("relative", "knn", "centroid")
    }
    (graph,) = summary["graph"]
    assert graph["exact where planned"] == 1.0 and graph["planned"] > 0.9 and graph["withheld outside"] == 1.0
    assert {row["by"] for row in summary["finding"]} == {"words", "vectors", "both"}
