"""Snippets: pieces of documents, small enough for the student to read whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of a document. Judge and student see exactly this text."""

    snippet_id: str
    """`DOC_ID:START-END`."""
    doc_id: str
    """The document it is a piece of."""
    text: str
    """The piece."""
    start: int
    """Where it begins in the document, in characters."""
    end: int
    """Where it ends."""
