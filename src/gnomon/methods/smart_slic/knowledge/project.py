"""A project on disk: papers from any run or file, and what `build` leaves: graph, passages, words, vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
VECTORS = "vectors.npz"


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


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a project is written, and by what its passages are encoded."""

    graph: str | None = None
    """Reference of the graph; None: in the folder."""
    encoder: str | None = None
    """Of the passages; None: no vectors."""
    device: str = "auto"
    """Of the encoder."""
    earlier: str | Path | None = None
    """A former run whose vectors are taken over for passages that say the same; None: all are encoded."""


def write_project(
    folder: Path, rows: Rows, passages: Sequence[Passage], where: Where, *, progress: Any = None
) -> int:
    """Write graph, passages, words and vectors; how many passages were encoded.

    The graph is always written whole, which takes a second: what a paper stated before and states no longer is gone, and what
    another states too stays.

    Args:
        folder: of the run.
        rows: of the graph.
        passages: of all papers.
        where: of graph and vectors.
        progress: told the passages that are encoded.

    Raises:
        BadInput: the former run is none, or was encoded by another encoder.
    """
    build_graph(where.graph or str(folder / "graph"), rows.statements, rows.edges, anew=True)
    records.write(folder / PASSAGES, map(asdict, passages))
    Terms.build(folder / "terms", {p.id: p.text for p in passages}, anew=True)
    n_encoded, fingerprint = 0, None
    if where.encoder is not None:
        with TextEncoder.load(where.encoder, LoadConfig(device=where.device)) as encoder:
            fingerprint = encoder.fingerprint
            vectors = {} if where.earlier is None else _vectors_of(Path(where.earlier), passages, fingerprint)
            fresh = [p for p in passages if p.id not in vectors]
            if fresh:
                encode_corpus(encoder, fresh, folder / "encoded", progress=progress)
                vectors |= dict(zip(*read_vectors(folder / "encoded"), strict=True))
            n_encoded = len(fresh)
        ids = [p.id for p in passages if p.id in vectors]
        table = np.stack([vectors[name] for name in ids])
        np.savez(folder / VECTORS, ids=np.array(ids), vectors=table)
        build_index(str(folder / "vectors"), ids, table, fingerprint=fingerprint, anew=True)
    write_json(folder / ABOUT, {"graph": where.graph, "encoder": where.encoder, "fingerprint": fingerprint})
    return n_encoded


def _vectors_of(earlier: Path, passages: Sequence[Passage], fingerprint: str) -> dict[str, Any]:
    """Vectors of a former run, of the passages that say the same there."""
    if not (earlier / ABOUT).is_file():
        raise BadInput(f"{earlier} is no run of build: it has no {ABOUT}.")
    about = json.loads((earlier / ABOUT).read_text("utf-8"))
    if about["fingerprint"] != fingerprint or not (earlier / VECTORS).is_file():
        raise BadInput(
            f"{earlier} has no vectors of this encoder. Name the one that it was built with, or leave --update out."
        )
    texts = {raw["id"]: raw["text"] for _, raw in records.read_raw(earlier / PASSAGES)}
    stored = np.load(earlier / VECTORS)
    same = {p.id for p in passages if texts.get(p.id) == p.text}
    return {
        str(name): row
        for name, row in zip(stored["ids"], stored["vectors"], strict=True)
        if str(name) in same
    }


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
