"""Graphs as files that other tools read: triplets in CSV, N-Quads for RDF, tables for Neo4j."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from gnomon.core.files import write_text
from gnomon.core.retrieval.graph.contract import Edge, Graph, Node, Statement
from gnomon.errors import BadConfig, BadInput

FORMATS = ("triplets", "nquads", "neo4j")
HEADER = (
    "head", "head_type", "head_attrs", "relation", "tail", "tail_type", "tail_attrs", "weight", "source", "row"
)  # fmt: skip
_BASE = "urn:gnomon:"


def export(
    graph: Graph, path: str | Path, form: Literal["triplets", "nquads", "neo4j"] = "triplets"
) -> list[Path]:
    """Write all edges whose ends exist; the files that were written.

    Args:
        graph: to write.
        path: of the file; for `neo4j` the folder of `nodes.csv` and `edges.csv` (for `neo4j-admin database import`).
        form: `triplets`: CSV with provenance, which `read_triplets` reads; `nquads`: the graph's name of a quad is its row.

    Raises:
        BadConfig: there is no such format.
    """
    if form not in FORMATS:
        raise BadConfig(f'form must be {", ".join(FORMATS)}; got "{form}".')
    path = Path(path)
    nodes = dict.fromkeys(s.node for s in graph.statements())
    edges = [e for e in graph.edges() if e.head in nodes and e.tail in nodes]
    if form == "nquads":
        lines = [_quad(e) for e in edges]
        write_text(path, "".join(f"{line}\n" for line in dict.fromkeys(lines)))
        return [path]
    attrs = {node: json.dumps(graph.attrs(node), sort_keys=True, ensure_ascii=False) for node in nodes}
    if form == "triplets":
        rows = [
            (*e.head[::-1], attrs[e.head], e.relation, *e.tail[::-1], attrs[e.tail], repr(e.weight), e.source, e.row)
            for e in edges
        ]  # fmt: skip
        write_text(path, _csv([HEADER, *rows]))
        return [path]
    path.mkdir(parents=True, exist_ok=True)
    keys = {node: f"{node.type}:{node.id}" for node in nodes}
    write_text(
        path / "nodes.csv",
        _csv([("key:ID", "id", "attrs", ":LABEL"), *((keys[n], n.id, attrs[n], n.type) for n in nodes)]),
    )
    head = (":START_ID", ":END_ID", ":TYPE", "weight:double", "source", "row")
    write_text(
        path / "edges.csv",
        _csv([head, *((keys[e.head], keys[e.tail], e.relation, repr(e.weight), e.source, e.row) for e in edges)]),
    )  # fmt: skip
    return [path / "nodes.csv", path / "edges.csv"]


def read_triplets(path: str | Path) -> tuple[list[Statement], list[Edge]]:
    """The rows of a file of triplets: edges, and that their ends exist, each by the row that states the edge.

    Raises:
        BadInput: a column is missing or a weight is no number; the message names the line.
    """
    statements: dict[tuple[Node, str], Statement] = {}
    edges = []
    with Path(path).open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := set(HEADER) - set(reader.fieldnames or ()):
            raise BadInput(f"{path}: column {min(missing)} is missing; triplets have {', '.join(HEADER)}.")
        for row in reader:
            ends = [Node(row[f"{end}_type"], row[end]) for end in ("head", "tail")]
            try:
                weight = float(row["weight"])
                attrs = [json.loads(row[f"{end}_attrs"] or "{}") for end in ("head", "tail")]
            except ValueError as error:
                raise BadInput(f"{path}, line {reader.line_num}: {error}.") from None
            for node, about in zip(ends, attrs, strict=True):
                statements[node, row["row"]] = Statement(node, row["row"], about)
            edges.append(Edge(ends[0], row["relation"], ends[1], row["source"], row["row"], weight))
    return list(statements.values()), edges


def _csv(rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _quad(edge: Edge) -> str:
    return " ".join([*_iris(edge), "."])


def _iris(edge: Edge) -> Iterator[str]:
    """Subject, predicate, object, and as the graph's name the row: all percent-encoded, so no name can end a term early."""
    yield _iri(*edge.head)
    yield _iri("relation", edge.relation)
    yield _iri(*edge.tail)
    yield _iri("row", edge.row, edge.source)


def _iri(*parts: str) -> str:
    return f"<{_BASE}{':'.join(quote(part, safe='') for part in parts)}>"
