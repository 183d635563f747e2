"""A made-up field: six subjects and three foreign ones, papers with people, places, links and facts, and questions about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gnomon.core.rng import Rng
from gnomon.methods.smart_slic.corpus.papers import Paper
from gnomon.methods.smart_slic.knowledge.asking import Question

FIRST = ("Anna", "Bela", "Carl", "Dora", "Emil", "Fina", "Gero", "Hana", "Ivo", "Jana")
LAST = ("Keller", "Lindt", "Moser", "Novak", "Ohlin", "Petri")
COUNTRIES = ("Austria", "Brazil", "Canada", "Denmark", "Egypt", "Finland")
VENUES = ("Alpha Letters", "Beta Review", "Gamma Notes", "Delta Proceedings")
YEARS = range(2010, 2025)
SUBJECTS, FOREIGN = 6, 3
FAR = ", far words"
"""End of the kind of a question whose words the rules do not expect."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the miniature."""

    domain: int = 300
    foreign: int = 120
    core: int = 30
    words: int = 500
    length: int = 120
    questions: int = 40
    """Of each kind."""
    copies: int = 10
    iterations: int = 300
    k_to: int = 9
    device: str = "cpu"


SCALES = {
    "smoke": Scale(60, 24, 12, 200, 60, 4, 3, 40, 7),
    "mini": Scale(),
    "gpu": Scale(15_000, 5000, 100, 5000, 150, 200, 20, 1000, 12, "cuda"),
}


@dataclass(frozen=True)
class World:
    """Papers, the subject of each (foreign ones from `SUBJECTS` on), and the core."""

    papers: Sequence[Paper]
    subjects: Sequence[int]
    core: Sequence[str]
    facts: Sequence[tuple[str, str, str, str]]
    """(paper, method, set, value): what one paragraph of the paper says."""


def draw_world(scale: Scale, rng: Rng) -> World:
    """A field of a seed; citations lie within a subject nine times in ten."""
    draw = rng.child("world").numpy()
    vocabulary = np.array([f"w{i}{chr(97 + i % 26)}" for i in range(scale.words)])
    mixes = draw.dirichlet([0.05] * scale.words, SUBJECTS + FOREIGN)
    people = [f"{a} {b}" for a in FIRST for b in LAST]
    home = {name: COUNTRIES[int(draw.integers(len(COUNTRIES)))] for name in people}
    subjects = [i % SUBJECTS for i in range(scale.domain)] + [
        SUBJECTS + i % FOREIGN for i in range(scale.foreign)
    ]
    papers: list[Paper] = []
    facts: list[tuple[str, str, str, str]] = []
    for i, subject in enumerate(subjects):
        name = f"p{i}"
        words = vocabulary[draw.choice(scale.words, scale.length, p=mixes[subject])]
        authors = [people[int(j)] for j in draw.choice(len(people), int(draw.integers(1, 4)), replace=False)]
        same = [j for j in range(i) if subjects[j] == subject]
        links = {same[int(draw.integers(len(same)))] for _ in range(3) if same and draw.random() < 0.9}
        links |= {int(draw.integers(i)) for _ in range(1) if i and draw.random() < 0.1}
        paragraphs = []
        for p in range(3):
            method, data, value = f"M{3 * i + p}", f"Q{int(draw.integers(40))}", f"{draw.uniform(10, 99):.1f}"
            noise = " ".join(vocabulary[draw.choice(scale.words, 40, p=mixes[subject])])
            paragraphs.append(f"{noise}. The method {method} reaches {value} on the set {data}. {noise}.")
            facts.append((name, method, data, value))
        papers.append(Paper(
            name, f"Study {i} of {words[0]} and {words[1]}", " ".join(words), int(draw.choice(YEARS)), tuple(authors),
            countries=tuple(sorted({home[a] for a in authors})), references=tuple(f"p{j}" for j in sorted(links)),
            venue=VENUES[int(draw.integers(len(VENUES)))], text="\n\n".join(paragraphs),
        ))  # fmt: skip
    core = [f"p{i}" for i in draw.permutation(scale.domain)[: scale.core]]
    return World(papers, subjects, core, facts)


def questions_about(world: World, papers: Sequence[Paper], count: int, rng: Rng) -> list[Question]:
    """Questions about some papers, with answers counted on the rows; phrasings are those that the rules were not written from."""
    draw = rng.child("questions").numpy()
    inside = {paper.id: paper for paper in papers}
    facts = [fact for fact in world.facts if fact[0] in inside]

    def pick(values: Sequence[str]) -> str:
        return values[int(draw.integers(len(values)))]

    def phrased(
        kind: str, near: Sequence[str], far: str, answer: str, route: str, evidence: Sequence[str]
    ) -> Question:
        """In the words of a table half of the time, else in other ones."""
        is_far = bool(draw.integers(2))
        text = far if is_far else pick(near)
        return Question(text, answer, f"{kind}{FAR if is_far else ''}", route, tuple(evidence))

    def counting() -> Question:
        author, year = pick([a for p in papers for a in p.authors]), int(draw.choice(YEARS))
        own = [p.id for p in papers if author in p.authors and (p.year or 0) > year]
        near = (
            f"How many articles by {author} came out after {year}?",
            f"What is the number of papers {author} wrote after {year}?",
        )
        far = pick(
            [
                f"{author} has published how many papers since {year + 1}?",
                f"Count the works of {author} that are later than {year}.",
            ]
        )
        return phrased("counting", near, far, str(len(own)), "graph", own)

    def two_hop() -> Question:
        country, venue = pick(COUNTRIES), pick(VENUES)
        own = [p.id for p in papers if country in p.countries and p.venue == venue]
        near = (f"How many papers with authors in {country} are published in {venue}?",)
        far = f"How often did groups from {country} get into {venue}?"
        return phrased("two hops", near, far, str(len(own)), "graph", own)

    def metadata() -> Question:
        venue, year = pick(VENUES), int(draw.choice(YEARS))
        own = [p.id for p in papers if p.venue == venue and p.year == year]
        near = (f"Which papers were published in {venue} in {year}?",)
        return phrased("metadata", near, f"List what {venue} printed in {year}.", str(len(own)), "graph", own)

    def content() -> Question:
        paper, method, data, value = facts[int(draw.integers(len(facts)))]
        near = (f"What score does method {method} reach on {data}?",)
        return phrased("content", near, f"How well does {method} do on {data}?", value, "passages", (paper,))

    def nothing() -> Question:
        text = pick([
            f"How many papers did {pick(FIRST)} Zwicky write?", f"How many papers appeared in the Journal of {pick(LAST)} Studies?",
            f"How many patents did {pick(FIRST)} {pick(LAST)} file?",
        ])  # fmt: skip
        return Question(text, None, "unanswerable", "outside")

    makers: tuple[Callable[[], Question], ...] = (counting, two_hop, metadata, content, nothing)
    return [maker() for maker in makers for _ in range(count)]
