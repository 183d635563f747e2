"""Graphs by reference strings: a folder, or a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gnomon.core.retrieval.graph.contract import Edge, Graph, Statement
from gnomon.core.retrieval.graph.folder import FolderGraph
from gnomon.core.retrieval.graph.postgres import PostgresGraph


def _is_server(reference: str | Path) -> bool:
    return str(reference).startswith(("postgres:", "postgresql:"))


def open_graph(reference: str | Path) -> Graph:
    """The graph behind a reference: "FOLDER", or "postgres://HOST/DB#NAME".

    Raises:
        BadInput: there is none.
        BadConfig: the server cannot be reached, or the reference holds a password.
        MissingExtra: a package is not installed.
    """
    return PostgresGraph.open(str(reference)) if _is_server(reference) else FolderGraph.open(reference)


def build_graph(
    reference: str | Path,
    statements: Iterable[Statement],
    edges: Iterable[Edge],
    *,
    anew: bool = False,
) -> Graph:
    """A new graph behind a reference.

    Raises:
        BadInput: rows cannot be stored, see `gnomon.core.retrieval.graph.contract.checked_rows`.
        BadConfig: as in `open_graph`; there is one already.
        MissingExtra: a package is not installed.
    """
    if _is_server(reference):
        return PostgresGraph.build(str(reference), statements, edges, anew=anew)
    return FolderGraph.build(reference, statements, edges, anew=anew)
