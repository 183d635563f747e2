"""Papers into topics, a graph and answers: a made-up field of 90 papers, and no language model anywhere."""

from pathlib import Path
from tempfile import TemporaryDirectory

from gnomon.core.retrieval import Search, Terms, build_graph
from gnomon.core.rng import Rng
from gnomon.methods.smart_slic import Agent, NMFk, Options, Planner, rows_of, tfidf
from gnomon.methods.smart_slic.knowledge.project import passages_of
from gnomon.methods.smart_slic.mini.world import Scale, draw_world

papers = draw_world(Scale(domain=90, foreign=9), Rng(0)).papers[:90]
X = tfidf([paper.abstract for paper in papers], min_df=2, max_df=0.9).matrix
for row in NMFk(Options(copies=6, iterations=200), rng=Rng(1)).fit(X, range(2, 9)).table:
    print(f"{row['k']:.0f} topics: smallest silhouette {row['min sil W']:.2f} (words)")

QUESTIONS = (
    "How many papers are published in Beta Review?",
    "What does method M7 reach?",
    "How many patents are there?",
)
with TemporaryDirectory() as folder:
    rows = rows_of(papers)
    graph = build_graph(Path(folder) / "graph", rows.statements, rows.edges)
    passages = {p.id: p for paper in papers for p in passages_of(paper, 60)}
    terms = Terms.build(Path(folder) / "terms", {name: p.text for name, p in passages.items()})
    agent = Agent(Planner(graph), Search(passages, terms=terms), passages, hits=1)
    for answer in map(agent.ask, QUESTIONS):
        print(f"{answer.question}\n    {answer.text[:110]} {answer.cited[:3]} by {answer.trace['route']}")
