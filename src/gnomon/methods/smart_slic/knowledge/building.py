"""A graph from the columns of papers and the factors of topics; each edge knows the paper and the column it comes from."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from gnomon.core.retrieval.graph.contract import Edge, Node, Statement
from gnomon.errors import BadConfig
from gnomon.methods.smart_slic.corpus.papers import Paper

Alignment = Literal["aligned", "document", "auto"]
ALIGNMENTS = ("aligned", "document", "auto")

# Marks that typesetters put behind an affiliation to tie it to names.
_MARKS = re.compile(r"[^\w.)\]\"']+$")


@dataclass(frozen=True)
class PaperTopic:
    """A paper's place in a topic."""

    topic: str
    share: float
    """Of its weights on all topics, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How columns become edges."""

    affiliations: Alignment = "auto"
    """Whose an affiliation is. aligned: the n-th is the n-th author's; document: the paper's; auto: aligned in venues where every
    paper has as many affiliations as authors."""
    same_as: Mapping[str, str] = field(default_factory=dict)
    """Name of an author -> the name it is another form of."""
    different: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(name, paper) -> the author it is there, such as "Xin Wang (2)", where two people share a name."""

    def __post_init__(self) -> None:
        if self.affiliations not in ALIGNMENTS:
            raise BadConfig(f'affiliations must be {", ".join(ALIGNMENTS)}; got "{self.affiliations}".')


@dataclass(frozen=True)
class Rows:
    """What goes into a graph."""

    statements: tuple[Statement, ...]
    edges: tuple[Edge, ...]
    figures: Mapping[str, int]
    """What was seen on the way: papers by alignment, references that lead out of the corpus, names without an id."""


def folded(keyword: str) -> str:
    """A keyword without case and plural, to join its forms.

    >>> folded("Graph Neural Networks"), folded("bias"), folded("analysis"), folded("Studies")
    ('graph neural network', 'bias', 'analysis', 'study')
    """
    words = keyword.casefold().split()
    if words:
        last = words[-1]
        if last.endswith("ies") and len(last) > 4:
            words[-1] = f"{last[:-3]}y"
        elif len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is", "as")):
            words[-1] = last[:-1]
    return " ".join(words)


def rows_of(
    papers: Sequence[Paper],
    rules: Rules | None = None,
    *,
    topics: Mapping[str, Sequence[PaperTopic]] | None = None,
) -> Rows:
    """Nodes and edges that papers state.

    Args:
        papers: with different ids.
        rules: how columns become edges.
        topics: id of a paper -> its topics; None: none.

    Without author ids a node is a name, and `identity` says so: two people of one name are one node until `different` splits
    them. Countries are the paper's and never an author's. References that lead out of the corpus state nothing and are counted.
    """
    rules = rules or Rules()
    inside = {paper.id for paper in papers}
    aligned = _aligned(papers, rules.affiliations)
    figures: dict[str, int] = defaultdict(int)
    statements: dict[tuple[Node, str], Statement] = {}
    edges: list[Edge] = []

    def state(node: Node, paper: Paper, **attrs: object) -> Node:
        statements.setdefault((node, paper.id), Statement(node, paper.id, attrs))
        return node

    def relate(head: Node, relation: str, tail: Node, source: str, paper: Paper, weight: float = 1.0) -> None:
        edges.append(Edge(head, relation, tail, source, paper.id, weight))

    for paper in papers:
        about = {key: value for key, value in (("title", paper.title), ("doi", paper.doi)) if value}
        document = state(Node("Document", paper.id), paper, **about)
        authors = []
        for i, raw in enumerate(paper.authors):
            has_id = len(paper.author_ids) == len(paper.authors)
            name = rules.different.get((raw, paper.id), rules.same_as.get(raw, raw))
            author = Node("Author", paper.author_ids[i] if has_id else name)
            attrs = {"name": name, "identity": "id"} if has_id else {"identity": "name"}
            authors.append(state(author, paper, **attrs))
            source = (
                "authors" if name == raw else "different" if (raw, paper.id) in rules.different else "same_as"
            )
            relate(author, "wrote", document, source, paper)
            figures["author mentions by name" if not has_id else "author mentions by id"] += 1
        figures[
            "papers with aligned affiliations"
            if aligned[paper.id]
            else "papers with affiliations of their own"
        ] += bool(paper.affiliations)
        for i, cell in enumerate(paper.affiliations):
            for name in dict.fromkeys(_MARKS.sub("", part.strip()) for part in cell.split(" + ")):
                if name:
                    owner = authors[i] if aligned[paper.id] else document
                    relate(
                        owner,
                        "is_affiliated_with",
                        state(Node("Affiliation", name), paper),
                        "affiliations",
                        paper,
                    )
        for name in dict.fromkeys(paper.countries):
            relate(document, "is_in_country", state(Node("Country", name), paper), "countries", paper)
        if paper.year is not None:
            relate(document, "written_in_year", state(Node("Year", str(paper.year)), paper), "year", paper)
        if paper.venue:
            relate(document, "published_by", state(Node("Venue", paper.venue), paper), "venue", paper)
        for raw in dict.fromkeys(paper.keywords):
            keyword = state(Node("Keyword", raw), paper)
            relate(document, "has_keyword", keyword, "keywords", paper)
            if (name := folded(raw)) and name != raw:
                relate(keyword, "is_form_of", state(Node("Keyword", name), paper), "folded", paper)
        for name in dict.fromkeys(paper.references or ()):
            if name not in inside:
                figures["references that lead out of the corpus"] += 1
            else:
                relate(document, "cites", Node("Document", name), "references", paper)
        for name in dict.fromkeys(paper.citations or ()):
            if name not in inside:
                figures["citations from outside the corpus"] += 1
            else:  # incoming: the other one is the head
                relate(Node("Document", name), "cites", document, "citations", paper)
        for part in (topics or {}).get(paper.id, ()):
            topic = state(Node("Topic", part.topic), paper)
            relate(document, "is_part_of_topic", topic, "H", paper, part.share)
            while "_" in topic.id:
                above = state(Node("Topic", topic.id.rpartition("_")[0]), paper)
                relate(topic, "subtopic_of", above, "H", paper)
                topic = above
    return Rows(tuple(statements.values()), tuple(edges), dict(figures))


def _aligned(papers: Iterable[Paper], how: Alignment) -> dict[str, bool]:
    """Whether the n-th affiliation of a paper is its n-th author's. One list that is shorter makes the whole venue doubtful."""
    by_venue: dict[str, list[Paper]] = defaultdict(list)
    for paper in papers:
        by_venue[paper.venue].append(paper)
    result = {}
    for group in by_venue.values():
        equal = [len(p.affiliations) == len(p.authors) for p in group]
        for paper, is_equal in zip(group, equal, strict=True):
            result[paper.id] = how != "document" and is_equal and (how == "aligned" or all(equal))
    return result
