"""Queries without judges: a sentence, a row or the names of a table's columns, taken out of a section that must be found again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gnomon.core.rng import Rng
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section, section_id

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORDS = (8, 40)
"""Words of a sentence that is taken out, from and to."""
KINDS = ("sentences", "table rows", "column names")


def cloze(
    documents: Sequence[Document], rng: Rng
) -> tuple[list[Document], list[Query], dict[str, dict[str, int]], dict[str, str]]:
    """Documents with parts taken out, these as queries, their sections, and the kind of each query.

    A sentence is taken out of a paragraph of three or more; a row out of a table of three or more. The names of a table's columns
    stay where they are: code and prose that speak of them may be found by them too.

    Args:
        documents: as they are.
        rng: which sentence and which row.
    """
    new, queries = [], []
    qrels: dict[str, dict[str, int]] = {}
    kinds: dict[str, str] = {}

    def ask(kind: str, name: str, text: str) -> None:
        query = Query(f"{kind}:{name}", text)
        queries.append(query)
        qrels[query.id] = {name: 1}
        kinds[query.id] = kind

    for document in documents:
        sections = []
        for i, section in enumerate(document.sections):
            name, draw = section_id(document.id, i), rng.child(document.id, i).python()
            blocks = list(section.blocks)
            if sentence := _take_sentence(blocks, draw):
                ask("sentences", name, sentence)
            tables = [k for k, b in enumerate(blocks) if b.type == "table" and len(b.rows) >= 3]
            if tables:
                k = draw.choice(tables)
                if header := " ".join(filter(None, blocks[k].header)):
                    ask("column names", name, header)
                blocks[k], row = _without_row(blocks[k], draw)
                ask("table rows", name, " ".join(filter(None, row)))
            sections.append(Section(section.heading, tuple(blocks)))
        new.append(replace(document, sections=tuple(sections)))
    return new, queries, qrels, kinds


def _take_sentence(blocks: list[Block], draw: Any) -> str:
    """A sentence of prose, which is then no longer in its block; empty where there is none."""
    places = []
    for k, block in enumerate(blocks):
        if block.type == "text" and "`" not in block.text and "=" not in block.text:
            parts = SENTENCE.split(block.text)
            if len(parts) >= 3:
                places += [(k, n) for n, s in enumerate(parts) if WORDS[0] <= len(s.split()) <= WORDS[1]]
    if not places:
        return ""
    k, n = draw.choice(places)
    parts = SENTENCE.split(blocks[k].text)
    blocks[k] = replace(blocks[k], text=" ".join(part for m, part in enumerate(parts) if m != n))
    return str(parts[n])


def _without_row(table: Block, draw: Any) -> tuple[Block, tuple[str, ...]]:
    n = draw.randrange(len(table.rows))
    return replace(table, rows=tuple(row for m, row in enumerate(table.rows) if m != n)), table.rows[n]
