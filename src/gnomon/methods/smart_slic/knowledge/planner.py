"""Questions in plain English planned by rules: counted, ranked or listed on the graph with what was counted, or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gnomon.core.retrieval.answers import Answer
from gnomon.core.retrieval.graph.contract import Graph, Has, Node

SHOWN = 10
"""Ids that a sentence lists; the trace holds all."""

Ask = Literal["count", "top", "list"]

TYPES = {
    "Document": (
        "paper",
        "papers",
        "article",
        "articles",
        "document",
        "documents",
        "publication",
        "publications",
    ),
    "Author": ("author", "authors", "researcher", "researchers", "people", "writers"),
    "Affiliation": (
        "affiliation",
        "affiliations",
        "institution",
        "institutions",
        "university",
        "universities",
    ),
    "Country": ("country", "countries", "nation", "nations"),
    "Venue": ("venue", "venues", "conference", "conferences", "journal", "journals"),
    "Year": ("year", "years"),
    "Topic": ("topic", "topics"),
    "Keyword": ("keyword", "keywords"),
}
"""Type of node -> the nouns that name it."""

TO_DOCUMENT = {
    "Author": Has("wrote"),
    "Affiliation": Has("is_affiliated_with", out=False),
    "Country": Has("is_in_country", out=False),
    "Venue": Has("published_by", out=False),
    "Year": Has("written_in_year", out=False),
    "Topic": Has("is_part_of_topic", out=False),
    "Keyword": Has("has_keyword", out=False),
}
"""How a type reaches documents."""

_NOUNS = {noun: type for type, nouns in TYPES.items() for noun in nouns}
_COUNT = re.compile(
    r"\b(?:how many|number of|count(?: of| the| all)?)\s+(?:different |distinct |the )?(?P<noun>[a-z-]+)"
)
_TOP = re.compile(
    r"\b(?:top|most (?:prolific|active|productive|frequent|common)|leading)\s+(?:(?P<k>\d+|three|five|ten)\s+)?(?P<noun>[a-z]+)"
    r"|\bwhich (?P<k2>\d+|three|five|ten)?\s*(?P<noun2>[a-z]+) (?:has|have|wrote|published|appears? in) (?:the )?most"
)
_LIST = re.compile(r"\b(?:which|what|list|show|name)\s+(?:me )?(?:all )?(?:the )?(?P<noun>[a-z]+)")
_SOMEBODY = re.compile(
    r"\b(?:did|has|have|by)\s+(?:the )?(?P<name>[a-z][\w'-]*(?:\s+[a-z][\w'-]*){0,3}?)"
    r"(?:\s+(?:write|wrote|written|publish|published|author|authored)\b|\s*$)"
)
"""Whoever wrote, in small letters, behind which a name stands that was not taken out."""
_YEARS = (
    (re.compile(r"\b(?:after|since the end of|later than)\s+(\d{4})"), "gt"),
    (re.compile(r"\b(?:since|from|starting in)\s+(\d{4})"), "gte"),
    (re.compile(r"\b(?:before|earlier than|prior to)\s+(\d{4})"), "lt"),
    (re.compile(r"\b(?:until|up to|through)\s+(\d{4})"), "lte"),
)
_IN_YEAR = re.compile(r"\bin (?:the year )?(\d{4})\b|\b(\d{4}) (?:papers|articles)")
_NUMBERS = {"three": 3, "five": 5, "ten": 10}


@dataclass(frozen=True)
class Plan:
    """A question as a call on the graph."""

    ask: Ask
    type: str
    """Of the nodes that are counted, ranked or listed."""
    documents: tuple[Has, ...]
    """What the documents behind them must have."""
    k: int = 5
    """For `top`."""


@dataclass(frozen=True)
class Refusal:
    """Why a question is not answered."""

    why: str
    is_content: bool = False
    """Whether it asks for neither a number, a ranking nor a list, so that passages may answer it."""


class Planner:
    """Plans of questions over one graph: nouns name types, and the graph's own names are looked for in the question.

    Args:
        graph: that is asked.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._names: dict[str, list[Node]] = {}
        self._forms: dict[str, tuple[str, ...]] = {}
        for type in ("Author", "Venue", "Country", "Affiliation", "Keyword", "Topic"):
            for node in graph.select(type).nodes if type in graph.types() else ():
                words = _words(node.id if type != "Topic" else f"topic {node.id}")
                if words:
                    self._names.setdefault(" ".join(words), []).append(node)
        self._longest = max((len(name.split()) for name in self._names), default=0)

    def plan(self, question: str) -> Plan | Refusal:
        """The call that a question means, or why there is none.

        Refused are: nouns that name no type of the graph, names and years that are not in it, and questions that ask for neither
        a number, a ranking nor a list.
        """
        text = question.casefold()
        ask, noun, k = _kind(text)
        if ask is None:
            return Refusal("It asks for neither a number, a ranking nor a list.", is_content=True)
        type = _NOUNS.get(noun)
        if type is None or type not in self.graph.types():
            types = ", ".join(sorted(self.graph.types()))
            # "What score does ..." names no type and may be about what a paper says; "how many issues" is not.
            why = f'The graph has nothing that "{noun}" names; it has {types}.'
            return Refusal(why, is_content=ask == "list")
        nodes, rest = self._mentioned(question)
        conditions = []
        for node in nodes:
            over = TO_DOCUMENT[node.type]
            conditions.append(Has(over.relation, node, out=not over.out))
        bounds: dict[str, float] = {}
        for pattern, name in _YEARS:
            if match := pattern.search(text):
                bounds[name] = int(match[1])
        if not bounds and (match := _IN_YEAR.search(text)):
            bounds = {"gte": int(match[1] or match[2]), "lte": int(match[1] or match[2])}
        if bounds:
            conditions.append(Has("written_in_year", bounds=bounds))
        if strange := _strange(rest):
            return Refusal(f'Nothing in the graph is called "{strange}".')
        return Plan(ask, type, tuple(conditions), k)

    def _mentioned(self, question: str) -> tuple[list[Node], str]:
        """Nodes whose whole name is in the question, longest first, and the question with those names taken out."""
        words = re.findall(r"[^\W_]+(?:['\u2019.-][^\W_]+)*|_", question)
        folded_words = [" ".join(_words(word)) for word in words]
        nodes: list[Node] = []
        i = 0
        rest = []
        while i < len(words):
            for size in range(min(self._longest, len(words) - i), 0, -1):
                key = " ".join(" ".join(folded_words[i : i + size]).split())
                # One word in lower case is a word and not a name: "us" is no country, "natural" no author. Two are a name.
                is_name = size > 1 or any(w[0].isupper() or w[0].isdigit() for w in words[i : i + size])
                if is_name and key in self._names and key not in _NOUNS:
                    nodes += self._names[key][:1]
                    rest.append("_")
                    i += size
                    break
            else:
                rest.append(words[i])
                i += 1
        return nodes, " ".join(rest)

    def answer(self, question: str) -> Answer:
        """The answer of the graph; every number lists what was counted, every sentence cites documents that state it."""
        plan = self.plan(question)
        if isinstance(plan, Refusal):
            sentence = (f"Not in the corpus. {plan.why}", ())
            return Answer(question, (sentence,), abstained=True, trace={"refused": plan.why})
        trace: dict[str, Any] = {"plan": plan}
        if plan.ask == "top":
            return self._ranked(question, plan, trace)
        nodes = self._behind(plan)
        names = [self._name(node) for node in nodes]
        ids = [node.id for node in nodes]
        trace |= {"counted": ids, "number": len(ids)}
        shown = ", ".join(names[:SHOWN])
        more = f" (showing {SHOWN} of {len(ids)})" if len(ids) > SHOWN else ""
        noun = TYPES[plan.type][int(len(ids) != 1)]
        called = self._called(plan)
        text = f"{len(ids)} {noun}{called}{': ' if ids else ''}{shown}{more}."
        return Answer(question, ((text, self._evidence(plan, nodes)),), trace=trace)

    def _behind(self, plan: Plan) -> tuple[Node, ...]:
        if plan.type == "Document":
            return self.graph.select("Document", plan.documents).nodes
        over = TO_DOCUMENT[plan.type]
        has = (Has(over.relation, out=over.out, where=plan.documents),) if plan.documents else ()
        return self.graph.select(plan.type, has).nodes

    def _ranked(self, question: str, plan: Plan, trace: dict[str, Any]) -> Answer:
        over = TO_DOCUMENT.get(plan.type, Has("cites", out=False))
        top = self.graph.top(plan.type, Has(over.relation, out=over.out, where=plan.documents), k=plan.k)
        sentences = []
        counted = {}
        for node, number in top.rows:
            link = Has(over.relation, node, out=not over.out)
            papers = self.graph.select("Document", (link, *plan.documents)).nodes
            counted[node.id] = [paper.id for paper in papers]
            sentences.append((f"{self._name(node)}: {number}.", tuple(p.id for p in papers[:SHOWN])))
        trace |= {
            "ranked": [(node.id, number) for node, number in top.rows],
            "total": top.total,
            "counted": counted,
        }
        if top.total > len(top.rows):
            sentences.append((f"Showing {len(top.rows)} of {top.total}.", sentences[0][1]))
        if not sentences:
            return Answer(question, (("Not in the corpus: there is none.", ()),), abstained=True, trace=trace)
        return Answer(question, tuple(sentences), trace=trace)

    def _evidence(self, plan: Plan, nodes: Sequence[Node]) -> tuple[str, ...]:
        """Documents that state what is counted, a few."""
        if plan.type == "Document":
            return tuple(node.id for node in nodes[:SHOWN])
        rows = (self.graph.neighbours(node, TO_DOCUMENT[plan.type].relation) for node in nodes[:SHOWN])
        return tuple(dict.fromkeys(n[0].stated_by[0][0] for n in rows if n))

    def _called(self, plan: Plan) -> str:
        """A name is not a person, and the answer says so."""
        names = [
            has.to.id
            for has in plan.documents
            if has.to is not None and has.to.type == "Author" and self._identity(has.to) == "name"
        ]
        return "".join(f" by authors called {name}" for name in names)

    def _identity(self, node: Node) -> str:
        return str(self.graph.attrs(node).get("identity", ""))

    def _name(self, node: Node) -> str:
        attrs: Mapping[str, Any] = self.graph.attrs(node)
        return f'"{attrs["title"]}"' if "title" in attrs else str(attrs.get("name", node.id))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _kind(text: str) -> tuple[Ask | None, str, int]:
    """What is asked for, the noun, and how many rows."""
    if match := _COUNT.search(text):
        return "count", match["noun"], 0
    if match := _TOP.search(text):
        number = match["k"] or match["k2"] or ""
        k = int(number) if number.isdigit() else _NUMBERS.get(number, 0)
        noun = match["noun"] or match["noun2"]
        return "top", noun, k or (5 if noun.endswith("s") else 1)
    if match := _LIST.search(text):
        return "list", match["noun"], 0
    return None, "", 0


def _strange(rest: str) -> str:
    """A capitalised word behind the first that no name of the graph explains; empty where there is none."""
    words = rest.split()
    for i, word in enumerate(words):
        if i and word[0].isupper() and word.casefold() not in _NOUNS:
            run = [word]
            for follower in words[i + 1 :]:
                if not follower[0].isupper():
                    break
                run.append(follower)
            return " ".join(run)
    # A name in small letters that the graph does not have: without this, all papers would be counted.
    if (match := _SOMEBODY.search(rest)) and not set(match["name"].split()) & set(_NOUNS):
        return match["name"]
    return ""
