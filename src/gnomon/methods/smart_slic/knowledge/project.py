"""A project on disk: papers from any run or file, and what `build` leaves: graph, passages, words, vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.documents import Document
from gnomon.core.files import write_json
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval import (
    Cut,
    Passage,
    Search,
    Terms,
    TextEncoder,
    build_graph,
    build_index,
    cut,
    encode_corpus,
    open_graph,
    open_index,
)
from gnomon.core.retrieval.encoders.corpus import read_vectors
from gnomon.errors import BadInput
from gnomon.methods.smart_slic.corpus.papers import Paper, Papers, read_papers
from gnomon.methods.smart_slic.knowledge.agent import Agent
from gnomon.methods.smart_slic.knowledge.building import PaperTopic, Rows
from gnomon.methods.smart_slic.knowledge.planner import Planner

PAPERS, PASSAGES, ABOUT, HOP = "papers.jsonl", "passages.jsonl", "project.json", "hop"


def papers_at(source: str | Path) -> Papers:
    """Papers of a run of this room, or of any file."""
    file = Path(source) / PAPERS
    return read_papers(file if file.is_file() else source)


def write_papers(path: Path, papers: Sequence[Paper]) -> None:
    """Papers as `read_papers` reads them; links that are not known stay so."""
    rows = []
    for paper in papers:
        row = {**asdict(paper), **paper.meta}
        del row["meta"]
        rows.append({key: value for key, value in row.items() if value not in (None, "", ())})
    for row, paper in zip(rows, papers, strict=True):  # an empty list of references is a statement
        row.update(
            {
                name: list(value)
                for name in ("references", "citations")
                if (value := getattr(paper, name)) is not None
            }
        )
    records.write(path, rows)


def passages_of(paper: Paper, words: int) -> list[Passage]:
    """Title and abstract as one passage, and the text in pieces: what is cited is always the paper's own words."""
    summary = Passage(f"{paper.id}#0", paper.id, 0, len(paper.summary), paper.summary)
    if not paper.text:
        return [summary]
    pieces = cut(Document(paper.id, paper.text), Cut("words", words, 0))
    return [
        summary,
        *(
            Passage(f"{paper.id}#{p.order + 1}", paper.id, p.start, p.end, p.text, p.order + 1)
            for p in pieces
        ),
    ]


def read_topics(run: str | Path) -> dict[str, list[PaperTopic]]:
    """Id of a paper -> its topics, of a run of `topics`.

    Raises:
        BadInput: it is none.
    """
    file = Path(run) / "paper_topics.jsonl"
    if not file.is_file():
        raise BadInput(f"{run} is no run of topics: it has no {file.name}.")
    topics: dict[str, list[PaperTopic]] = {}
    for _, raw in records.read_raw(file):
        topics.setdefault(str(raw["id"]), []).append(PaperTopic(raw["topic"], raw["share"]))
    return topics


def write_project(
    folder: Path,
    rows: Rows,
    passages: Sequence[Passage],
    *,
    graph: str | None,
    encoder: str | None,
    device: str,
    progress: Any = None,
) -> None:
    """Write graph, passages, words and vectors.

    Args:
        folder: of the run.
        rows: of the graph.
        passages: of all papers.
        graph: reference of the graph; None: in the folder.
        encoder: of the passages; None: no vectors.
        device: of the encoder.
        progress: told the passages that are encoded.
    """
    build_graph(graph or str(folder / "graph"), rows.statements, rows.edges, anew=True)
    records.write(folder / PASSAGES, map(asdict, passages))
    Terms.build(folder / "terms", {p.id: p.text for p in passages}, anew=True)
    if encoder is not None:
        with TextEncoder.load(encoder, LoadConfig(device=device)) as opened:
            encode_corpus(opened, passages, folder / "encoded", progress=progress)
            ids, vectors = read_vectors(folder / "encoded")
            build_index(str(folder / "vectors"), ids, vectors, fingerprint=opened.fingerprint, anew=True)
    write_json(folder / ABOUT, {"graph": graph, "encoder": encoder})


@contextmanager
def open_agent(
    folder: str | Path, *, llm: Any = None, steps: int = 6, hits: int = 3, device: str = "auto"
) -> Iterator[Agent]:
    """The agent of a run of `build`, its encoder open while a `with` lasts.

    Args:
        folder: the run.
        llm: plans; None: rules.
        steps: tool calls of a question at most.
        hits: passages that a search shows.
        device: of the encoder.

    Raises:
        BadInput: it is no run of `build`.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise BadInput(f"{folder} is no run of build: it has no {ABOUT}.")
    about: Mapping[str, Any] = json.loads((folder / ABOUT).read_text("utf-8"))
    passages = {
        raw["id"]: Passage(**{**raw, "headings": tuple(raw["headings"])})
        for _, raw in records.read_raw(folder / PASSAGES)
    }
    planner = Planner(open_graph(about["graph"] or str(folder / "graph")))
    terms = Terms.open(folder / "terms")
    if about["encoder"] is None:
        yield Agent(planner, Search(passages, terms=terms), passages, llm, steps, hits)
        return
    with TextEncoder.load(about["encoder"], LoadConfig(device=device)) as encoder:
        vectors = open_index(str(folder / "vectors"), fingerprint=encoder.fingerprint)
        search = Search(passages, encoder, vectors, terms)
        yield Agent(planner, search, passages, llm, steps, hits)
