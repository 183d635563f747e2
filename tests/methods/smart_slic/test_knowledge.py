"""What papers state: every edge with its paper and column, nothing invented, and answers that list what they counted."""

from collections import Counter, defaultdict

import pytest

from gnomon.core.retrieval import build_graph, check_citations
from gnomon.core.retrieval.graph import Has, Node
from gnomon.core.rng import Rng
from gnomon.methods.smart_slic.corpus.papers import Paper
from gnomon.methods.smart_slic.knowledge.building import PaperTopic, Rules, folded, rows_of
from gnomon.methods.smart_slic.knowledge.planner import Planner, Refusal


def graph_of(tmp_path, papers, rules=None, **more):
    rows = rows_of(papers, rules, **more)
    return build_graph(tmp_path / "graph", rows.statements, rows.edges, anew=True), rows


def neighbours(graph, type, name, relation):
    return [n.node.id for n in graph.neighbours(Node(type, name), relation)]


def test_each_column_becomes_an_edge_with_its_paper(tmp_path):
    paper = Paper(
        "p", "Title", year=2020, authors=("Ann",), countries=("Italy",), venue="V", keywords=("Graphs",)
    )
    _, rows = graph_of(tmp_path, [paper])
    assert {(e.head.id, e.relation, e.tail.id, e.source, e.row) for e in rows.edges} == {
        ("Ann", "wrote", "p", "authors", "p"),
        ("p", "is_in_country", "Italy", "countries", "p"),
        ("p", "written_in_year", "2020", "year", "p"),
        ("p", "published_by", "V", "venue", "p"),
        ("p", "has_keyword", "Graphs", "keywords", "p"),
        ("Graphs", "is_form_of", "graph", "folded", "p"),
    }


def test_references_and_citations_of_one_link_are_one_edge(tmp_path):
    new = Paper("new", "New", references=("old", "old", "elsewhere"))
    old = Paper("old", "Old", citations=("new", "outside"))
    graph, rows = graph_of(tmp_path, [new, old])
    assert graph.relations()["cites"] == 1
    (link,) = graph.neighbours(Node("Document", "new"), "cites")
    assert link.node.id == "old" and link.out
    assert link.stated_by == (("new", "references"), ("old", "citations"))
    assert rows.figures["references that lead out of the corpus"] == 1
    assert rows.figures["citations from outside the corpus"] == 1


def test_affiliations_are_not_invented(tmp_path):
    """One list of the venue is shorter than its authors: then no affiliation of that venue is an author's."""
    short = Paper("a", "A", authors=("Ann", "Bob"), affiliations=("X",), venue="V")
    equal = Paper("b", "B", authors=("Eve",), affiliations=("Y\u2662",), venue="V")
    other = Paper("c", "C", authors=("Cid", "Dan"), affiliations=("X + Z", "X"), venue="W")
    graph, _ = graph_of(tmp_path, [short, equal, other])
    assert neighbours(graph, "Affiliation", "X", "is_affiliated_with") == ["Cid", "Dan", "a"]
    assert neighbours(graph, "Affiliation", "Y", "is_affiliated_with") == ["b"]
    assert neighbours(graph, "Affiliation", "Z", "is_affiliated_with") == ["Cid"]
    graph, _ = graph_of(tmp_path, [short, equal, other], Rules(affiliations="aligned"))
    assert neighbours(graph, "Affiliation", "Y", "is_affiliated_with") == ["Eve"]
    assert neighbours(graph, "Affiliation", "X", "is_affiliated_with") == ["Cid", "Dan", "a"]


def test_names_are_not_people(tmp_path):
    """Two people of one name are one node that says so, until a row splits them; aliases join two names (acl-anthology#208)."""
    papers = [Paper(n, n.upper(), authors=("Xin Wang",)) for n in "ab"] + [
        Paper("c", "C", authors=("X. Wang",))
    ]
    graph, _ = graph_of(tmp_path, papers)
    assert graph.attrs(Node("Author", "Xin Wang"))["identity"] == "name"
    answer = Planner(graph).answer("How many papers did Xin Wang write?")
    assert "2 papers by authors called Xin Wang" in answer.text and set(answer.cited) == {"a", "b"}
    rules = Rules(same_as={"X. Wang": "Xin Wang"}, different={("Xin Wang", "b"): "Xin Wang (2)"})
    graph, rows = graph_of(tmp_path, papers, rules)
    assert neighbours(graph, "Author", "Xin Wang", "wrote") == ["a", "c"]
    assert neighbours(graph, "Author", "Xin Wang (2)", "wrote") == ["b"]
    assert {(e.row, e.source) for e in rows.edges} == {("a", "authors"), ("b", "different"), ("c", "same_as")}


def test_forms_of_a_keyword_keep_their_own_nodes(tmp_path):
    papers = [
        Paper("a", "A", keywords=("Graph Neural Networks",)),
        Paper("b", "B", keywords=("graph neural network",)),
    ]
    graph, _ = graph_of(tmp_path, papers)
    name = "graph neural network"
    assert neighbours(graph, "Keyword", name, "is_form_of") == ["Graph Neural Networks"]
    assert folded("loss") == "loss"


def test_topics_lead_up(tmp_path):
    graph, _ = graph_of(tmp_path, [Paper("a", "A")], topics={"a": [PaperTopic("3_1", 0.75)]})
    assert neighbours(graph, "Topic", "3_1", "subtopic_of") == ["3"]
    assert graph.neighbours(Node("Document", "a"), "is_part_of_topic")[0].weight == 0.75


def test_a_new_version_of_a_paper_leaves_no_old_facts(tmp_path):
    """LightRAG#2528, #155: edges that only the old version gave are gone, shared ones stay."""
    old, other = (
        Paper("a", "Old", authors=("Ann", "Bob"), venue="V"),
        Paper("b", "B", authors=("Bob",), venue="V"),
    )
    graph, _ = graph_of(tmp_path, [old, other])
    rows = rows_of([Paper("a", "New", authors=("Cid",), venue="W")])
    graph = graph.remove_document("a").add(rows.statements, rows.edges)
    fresh = rows_of([Paper("a", "New", authors=("Cid",), venue="W"), other])
    assert sorted(map(str, graph.edges())) == sorted(map(str, fresh.edges))
    assert graph.attrs(Node("Document", "a")) == {"title": "New"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    draw = Rng(0).child("papers").python()
    names = [f"{a} {b}" for a in ("Ann", "Bob", "Cid", "Dora") for b in ("Ito", "Novak", "Silva")]
    papers = [
        Paper(
            f"p{i:03}",
            f"Paper {i}",
            year=draw.randint(2012, 2022),
            authors=tuple(draw.sample(names, draw.randint(1, 3))),
            countries=tuple(draw.sample(["Italy", "Japan", "Brazil"], 2)),
            venue=draw.choice(["NAACL", "WWW", "CoRL"]),
        )
        for i in range(120)
    ]
    rows = rows_of(papers)
    return papers, Planner(build_graph(tmp_path_factory.mktemp("kg") / "g", rows.statements, rows.edges))


def test_counts_are_those_of_the_table(corpus):
    papers, planner = corpus
    for name in sorted({a for p in papers for a in p.authors}):
        for year in (2013, 2018):
            wanted = [p.id for p in papers if name in p.authors and p.year > year]
            answer = planner.answer(f"How many papers has {name} published after {year}?")
            assert answer.trace["counted"] == wanted and answer.text.startswith(f"{len(wanted)} paper")
            assert set(answer.cited) <= set(wanted) and (answer.cited or not wanted)
    wanted = {
        a for p in papers for a in p.authors if p.venue == "WWW" and "Italy" in p.countries and p.year == 2015
    }
    answer = planner.answer("How many authors have papers in WWW from Italy in 2015?")
    assert set(answer.trace["counted"]) == wanted and not answer.abstained


def test_rankings_are_those_of_the_table_and_say_how_many_are_not_shown(corpus):
    """GraphRAG-SDK#255: nothing is cut off silently."""
    papers, planner = corpus
    counts = Counter(a for p in papers if p.venue == "NAACL" for a in p.authors)
    wanted = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    answer = planner.answer("Who are the top 3 authors in NAACL?")
    assert answer.trace["ranked"] == wanted[:3] and answer.trace["total"] == len(wanted)
    assert f"Showing 3 of {len(wanted)}." in answer.text
    behind = defaultdict(list)
    for p in papers:
        for a in p.authors:
            if p.venue == "NAACL":
                behind[a].append(p.id)
    assert answer.trace["counted"] == {name: behind[name] for name, _ in wanted[:3]}
    years = Counter(p.year for p in papers)
    best = min(years, key=lambda year: (-years[year], str(year)))
    assert planner.answer("Which year has the most papers?").trace["ranked"] == [(str(best), years[best])]


def test_long_lists_say_what_they_show(corpus):
    papers, planner = corpus
    wanted = [p.id for p in papers if p.year >= 2014]
    answer = planner.answer("List the papers since 2014")
    assert f"(showing 10 of {len(wanted)})" in answer.text and answer.trace["counted"] == wanted


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("How many issues are open?", '"issues"'),
        ("How many papers did Zoe Quinn write?", "Zoe Quinn"),
        ("How many papers were published in ICML?", "ICML"),
        ("Is deep learning good?", "neither"),
    ],
)
def test_what_is_not_in_the_graph_is_refused(corpus, question, why):
    """cognee#3379: a count is refused where the noun names no type."""
    answer = corpus[1].answer(question)
    assert answer.abstained and why in answer.text and isinstance(corpus[1].plan(question), Refusal)


def test_no_question_becomes_a_query(corpus):
    """Names go in as values: quotes and words of a query language are words like any others."""
    answer = corpus[1].answer("How many papers did Ann Ito'); DROP TABLE nodes; -- write?")
    assert answer.abstained and corpus[1].graph.types()["Document"] == 120


def test_every_sentence_cites_what_states_it(corpus):
    papers, planner = corpus
    shown = {p.id: f"{p.title} {' '.join(p.authors)} {p.venue} {p.year}" for p in papers}
    for question in ("How many papers are in WWW?", "Who are the top authors in Japan?", "List the venues"):
        checked = check_citations(planner.answer(question), shown)
        assert not checked.unknown and not checked.bare


def test_a_zero_is_an_answer(corpus):
    papers, planner = corpus
    assert not any(p.year > 2030 for p in papers)
    answer = planner.answer("How many papers were published after 2030?")
    assert answer.text.startswith("0 papers") and not answer.abstained
    assert planner.plan("How many papers after 2030?").documents == (
        Has("written_in_year", bounds={"gt": 2030}),
    )


def test_names_in_small_letters_are_names_or_refused_and_never_everything(tmp_path):
    """Found on real papers: "How many papers did brian ichter write?" counted all papers."""
    from gnomon.core.retrieval import build_graph
    from gnomon.methods.smart_slic import Paper, Planner, rows_of

    papers = [
        Paper("a", "A", authors=("brian ichter",)),
        Paper("b", "B", authors=("Ada Lind",)),
        Paper("c", "C", authors=("Bo Karr",)),
    ]
    rows = rows_of(papers)
    planner = Planner(build_graph(tmp_path / "graph", rows.statements, rows.edges))
    for text, counted in (
        ("did brian ichter write", ["a"]),
        ("did ada lind write", ["b"]),
        ("are there by Bo Karr", ["c"]),
    ):
        assert planner.answer(f"How many papers {text}?").trace["counted"] == counted
    for text in (
        "How many papers did foo bar write?",
        "How many papers were written by somebody?",
        "How many papers has nemo published?",
    ):
        answer = planner.answer(text)
        assert answer.abstained and "Nothing in the graph is called" in answer.text, text
    assert planner.answer("How many papers did all authors write?").trace["number"] == 3
