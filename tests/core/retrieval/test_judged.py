from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gnomon.core.data.documents import Document
from gnomon.core.metrics.retrieve import evaluate
from gnomon.core.retrieval import read_beir, read_qrels, read_run, write_beir, write_qrels, write_run
from gnomon.core.retrieval.hits import ranked
from gnomon.core.retrieval.judged import Beir
from gnomon.errors import BadInput

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(
    runs=st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.sampled_from([0.0, -1.5, 2.0, 1e-30]), max_size=5), max_size=3
    )
)
def test_a_run_is_read_as_it_was_written(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("r") / "run.txt"
    hits = {query: ranked(scores.items()) for query, scores in runs.items() if scores}
    write_run(path, hits, "mine")
    again = read_run(path)
    assert {q: [h.id for h in some] for q, some in again.items()} == {
        q: [h.id for h in some] for q, some in hits.items()
    }
    for some in again.values():
        scores = [hit.score for hit in some]
        assert all(a > b for a, b in pairwise(scores))  # strictly falling


def test_tied_documents_are_evaluated_in_our_order(tmp_path):
    """trec_eval puts equal scores in the order of DESCENDING ids: three tied documents, the first relevant, gave RR .333."""
    tools = pytest.importorskip("ir_measures")
    hits, qrels = ranked([("a", 1.0), ("b", 1.0), ("c", 1.0)]), {"q": {"a": 1}}
    write_run(tmp_path / "run.txt", {"q": hits}, "mine")
    write_qrels(tmp_path / "qrels.txt", qrels)
    run = list(tools.read_trec_run(str(tmp_path / "run.txt")))
    wanted = tools.calc_aggregate([tools.RR], list(tools.read_trec_qrels(str(tmp_path / "qrels.txt"))), run)
    assert wanted[tools.RR] == 1.0 == evaluate({"q": [h.id for h in hits]}, qrels)["MRR@10"].mean


@given(
    qrels=st.dictionaries(
        NAMES, st.dictionaries(NAMES, st.integers(-1, 3), min_size=1, max_size=4), max_size=3
    )
)
def test_judgements_are_read_as_they_were_written(qrels, tmp_path_factory):
    path = tmp_path_factory.mktemp("q") / "qrels.txt"
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


def test_a_beir_folder_goes_out_and_comes_in(tmp_path):
    documents = {
        "d 1": Document("d 1", "A title\n\nA text\nof two lines.", {"title": "A title", "year": 1999}),
        "d2": Document("d2", "no title", {"title": ""}),
    }
    data = Beir(documents, {"q1": "what?"}, {"q1": {"d 1": 2, "d2": 0}})
    write_beir(tmp_path / "b", data, "dev")
    again = read_beir(tmp_path / "b", "dev")
    assert {n: (d.text, d.meta) for n, d in again.documents.items()} == {
        n: (d.text, d.meta) for n, d in documents.items()
    }
    assert (again.queries, again.qrels) == (data.queries, data.qrels)
    with pytest.raises(BadInput, match=r"test\.tsv: cannot be read"):
        read_beir(tmp_path / "b")
    (tmp_path / "b/qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td9\t1\n")
    with pytest.raises(BadInput, match='document "d9" is judged and not in the corpus'):
        read_beir(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 x tag\n", 'line 1: "x" is no number'),
        ("q Q0 d 1 2.0\n", "line 1: wanted 6 columns; got 5"),
        ("q Q0 d 1 2.0 t\n\nq Q0 d 2 1.0 t\n", 'line 3: "d" comes twice'),
    ],
)
def test_a_bad_line_is_named(text, message, tmp_path):
    (tmp_path / "run.txt").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_run(tmp_path / "run.txt")


def test_what_no_tool_could_read_is_not_written(tmp_path):
    with pytest.raises(BadInput, match="one word"):
        write_run(tmp_path / "r", {}, "two words")
    with pytest.raises(BadInput, match="is nan"):
        write_run(tmp_path / "r", {"q": ranked([("a", float("nan"))])}, "t")
