"""Graphs: every store gives the answers that were worked out by hand, and the answers of a slow second opinion."""

import csv

import hypothesis.strategies as st
import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings

from gnomon.core.retrieval.graph import (
    Edge,
    FolderGraph,
    Has,
    Node,
    Statement,
    build_graph,
    export,
    open_graph,
    read_triplets,
)
from gnomon.errors import BadConfig, BadInput

ANN, BOB, EVE = (Node("Author", name) for name in ("Ann", "Bob", 'O\'Brien "E"; DROP TABLE'))
P1, P2, P3 = (Node("Document", name) for name in ("p1", "p2", "p3"))
Y18, Y21 = Node("Year", "2018"), Node("Year", "2021")


def rows_of(papers):
    """Statements and edges of papers (document, authors, year, cited)."""
    statements, edges = [], []
    for doc, authors, year, cites in papers:
        statements += [
            Statement(node, doc.id, {"title": doc.id.upper()} if node is doc else {})
            for node in (doc, *authors, year)
        ]
        edges += [Edge(author, "wrote", doc, "authors", doc.id) for author in authors]
        edges += [Edge(doc, "written_in_year", year, "year", doc.id)]
        edges += [Edge(doc, "cites", other, "references", doc.id) for other in cites]
    return statements, edges


PAPERS = [(P1, (ANN, BOB), Y18, ()), (P2, (ANN,), Y21, (P1,)), (P3, (ANN, EVE), Y21, (P1, P2))]


@pytest.fixture(params=["folder", "postgres"])
def make(request, new_reference):
    def made(statements, edges, **more):
        reference = new_reference(request.param)
        graph = build_graph(reference, statements, edges, **more)
        return graph, reference

    return made


@pytest.fixture
def graph(make):
    return make(*rows_of(PAPERS))[0]


def test_types_and_relations_are_counted(graph):
    assert graph.types() == {"Author": 3, "Document": 3, "Year": 2}
    assert graph.relations() == {"cites": 3, "written_in_year": 3, "wrote": 5}


def test_counting_lists_what_was_counted(graph):
    after = Has("written_in_year", bounds={"gt": 2018})
    assert graph.count("Document", [after]).nodes == (P2, P3)
    assert graph.count("Document", [Has("wrote", BOB, out=False)]).number == 1
    assert graph.count("Document", [Has("wrote", Node("Author", "nobody"), out=False)]).number == 0


def test_a_question_of_two_hops(graph):
    """Authors of a paper after 2018 that cites p1 and was not written by Eve."""
    paper = (
        Has("cites", P1),
        Has("written_in_year", bounds={"gt": 2018}),
        Has("wrote", EVE, out=False, negated=True),
    )
    assert graph.select("Author", [Has("wrote", where=paper)]).nodes == (ANN,)
    assert graph.select("Author", [Has("wrote", where=paper[:2])]).nodes == (ANN, EVE)


def test_cites_points_from_citing_to_cited(make):
    graph, _ = make(*rows_of([(P1, (), Y18, ()), (P2, (), Y21, (P1,))]))
    assert graph.select("Document", [Has("cites", P1)]).nodes == (P2,)
    assert graph.select("Document", [Has("cites", P2, out=False)]).nodes == (P1,)
    assert [n.out for n in graph.neighbours(P1, "cites")] == [False]


def test_top_says_how_many_there_are(graph):
    top = graph.top("Author", Has("wrote"), k=2)
    assert top.rows == ((ANN, 3), (BOB, 1)) and top.total == 3
    since = graph.top("Author", Has("wrote", where=(Has("written_in_year", Y21),)), k=5)
    assert since.rows == ((ANN, 2), (EVE, 1)) and since.total == 2
    assert graph.top("Document", Has("cites", out=False), where=[Has("wrote", BOB, out=False)]).rows == (
        (P1, 2),
    )


def test_neighbours_say_who_states_them(graph):
    assert [(n.node, n.relation, n.out, n.stated_by) for n in graph.neighbours(EVE)] == [
        (P3, "wrote", True, (("p3", "authors"),))
    ]
    assert graph.common(BOB, EVE).number == 0
    assert graph.common(ANN, EVE, "wrote").nodes == (P3,)


def test_paths_are_shortest_and_always_the_same(graph):
    steps = graph.path(BOB, EVE)
    assert [(e.head.id, e.relation, e.tail.id) for e in steps] == [
        ("Bob", "wrote", "p1"), ("p3", "cites", "p1"), (EVE.id, "wrote", "p3")
    ]  # fmt: skip
    assert graph.path(BOB, EVE, longest=2) is None
    assert graph.path(ANN, ANN) == []


def test_a_document_is_taken_out_exactly_and_comes_back(make):
    statements, edges = rows_of(PAPERS)
    shared = Edge(ANN, "is_affiliated_with", Node("Affiliation", "X"), "affiliations", "p1")
    also = Edge(ANN, "is_affiliated_with", Node("Affiliation", "X"), "affiliations", "p3")
    more = [Statement(Node("Affiliation", "X"), row) for row in ("p1", "p3")]
    graph, reference = make([*statements, *more], [*edges, shared, also])
    before = list(graph.statements()), list(graph.edges())
    smaller = graph.remove_document("p1")
    assert smaller.types() == {"Affiliation": 1, "Author": 2, "Document": 2, "Year": 1}
    assert smaller.neighbours(ANN, "is_affiliated_with")[0].stated_by == (("p3", "affiliations"),)
    assert smaller.relations()["cites"] == 1  # p2 and p3 still say that they cite p1, which is not there
    fresh, _ = make(
        *([r for r in rows if r.row != "p1"] for rows in ([*statements, *more], [*edges, shared, also]))
    )
    assert list(smaller.edges()) == list(fresh.edges()) and list(smaller.statements()) == list(
        fresh.statements()
    )
    smaller.add(
        *([r for r in rows if r.row == "p1"] for rows in ([*statements, *more], [*edges, shared, also]))
    )
    again = open_graph(reference)
    assert (list(again.statements()), list(again.edges())) == before
    assert again.relations()["cites"] == 3
    with pytest.raises(BadInput, match='No row "p9"'):
        again.remove_document("p9")


def test_adding_twice_doubles_nothing(make):
    graph, reference = make(*rows_of(PAPERS))
    before = list(graph.edges())
    graph.add(*rows_of(PAPERS))
    assert list(open_graph(reference).edges()) == before


def test_a_row_that_comes_again_is_written_over(make):
    graph, _ = make(*rows_of(PAPERS))
    changed = Edge(ANN, "wrote", P1, "authors", "p1", 2.0)
    weights = {n.node: n.weight for n in graph.add([], [changed]).neighbours(ANN, "wrote")}
    assert weights == {P1: 2.0, P2: 1.0, P3: 1.0}


def test_what_is_not_there_is_named(graph):
    with pytest.raises(BadInput, match="Author"):
        graph.count("Autor")
    with pytest.raises(BadInput, match="wrote"):
        graph.count("Author", [Has("wrot")])
    with pytest.raises(BadInput, match='no Author "Zed"'):
        graph.neighbours(Node("Author", "Zed"))
    with pytest.raises(BadConfig, match="above"):
        graph.count("Document", [Has("written_in_year", bounds={"above": 3})])
    with pytest.raises(BadConfig, match="k >= 1"):
        graph.top("Author", Has("wrote"), k=0)


def test_a_graph_is_not_built_over_another(make):
    _, reference = make(*rows_of(PAPERS))
    with pytest.raises(BadConfig, match="already"):
        build_graph(reference, *rows_of(PAPERS[:1]))
    assert build_graph(reference, *rows_of(PAPERS[:1]), anew=True).types()["Document"] == 1


def test_rows_that_cannot_be_stored(make):
    with pytest.raises(BadInput, match="empty"):
        make([Statement(Node("Author", ""), "p1")], [])
    with pytest.raises(BadInput, match="finite"):
        make([], [Edge(ANN, "wrote", P1, "a", "p1", float("nan"))])
    with pytest.raises(BadInput, match=r"1.0 and 2.0"):
        make([], [Edge(ANN, "wrote", P1, "a", "p1", weight) for weight in (1.0, 2.0)])


def test_attrs_come_from_the_smallest_row(make):
    graph, _ = make(
        [Statement(P1, "b", {"title": "B"}), Statement(P1, "a", {"title": "A"}), Statement(P1, "0")], []
    )
    assert graph.attrs(P1) == {"title": "A"} and graph.attrs(P2) == {}


def test_triplets_come_back(graph, tmp_path):
    (path,) = export(graph, tmp_path / "t.csv")
    copy = FolderGraph.build(tmp_path / "copy", *read_triplets(path))
    assert list(copy.edges()) == list(graph.edges()) and copy.attrs(P1) == {"title": "P1"}
    path.write_text("head\na\n")
    with pytest.raises(BadInput, match="column"):
        read_triplets(path)


def test_other_formats_hold_every_edge_and_no_name_breaks_out(graph, tmp_path):
    (quads,) = export(graph, tmp_path / "g.nq", "nquads")
    lines = quads.read_text().splitlines()
    assert len(lines) == 11 and all(
        line.count("<") == 4 and line.endswith(" .") and '"' not in line for line in lines
    )
    nodes, edges = export(graph, tmp_path / "neo", "neo4j")
    rows = {path: list(csv.DictReader(path.read_text().splitlines())) for path in (nodes, edges)}
    keys = {row["key:ID"] for row in rows[nodes]}
    ends = {row[end] for row in rows[edges] for end in (":START_ID", ":END_ID")}
    assert ends <= keys and f"Author:{EVE.id}" in ends


names = st.sampled_from("abcdef")
edge_lists = st.lists(
    st.tuples(names, st.sampled_from(["r", "s"]), names, st.sampled_from(["1", "2", "3"])), max_size=25
)


@given(edge_lists, st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_folder_answers_as_networkx_does(tmp_path_factory, edges, data):
    node = {name: Node("N", name) for name in "abcdef"}
    rows = [Edge(node[a], r, node[b], "c", row) for a, r, b, row in edges]
    graph = FolderGraph.build(tmp_path_factory.mktemp("g"), [Statement(n, "0") for n in node.values()], rows)
    other = nx.MultiDiGraph()
    other.add_nodes_from("abcdef")
    other.add_edges_from({(a, b, r) for a, r, b, _ in edges})
    for relation in graph.relations():
        degrees = {n: sum(1 for _, _, k in other.out_edges(n, keys=True) if k == relation) for n in "abcdef"}
        ranked = sorted((n for n in degrees if degrees[n]), key=lambda n: (-degrees[n], n))
        assert [(n.id, c) for n, c in graph.top("N", Has(relation), k=9).rows] == [
            (n, degrees[n]) for n in ranked
        ]
    a, b = data.draw(names), data.draw(names)
    plain = other.to_undirected()
    length = nx.shortest_path_length(plain, a, b) if nx.has_path(plain, a, b) else None
    way = graph.path(node[a], node[b])
    assert (None if way is None else len(way)) == length
    if edges:
        gone = edges[0][3]
        left = graph.remove_document(gone)
        assert sorted(left.edges(), key=str) == sorted({e for e in rows if e.row != gone}, key=str)
