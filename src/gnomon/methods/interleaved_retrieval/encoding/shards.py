"""Rows of sections with their raw vectors: what shards of a job leave, and what an index is built from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from gnomon.core.data.execute import Rejected, Tally, parts
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, key_of
from gnomon.methods.interleaved_retrieval.encoding.vectors import EncodesSections, Floats

SNIPPET = 300
"""Characters of a block's text that are kept with it."""

Cache = dict[str, list[tuple[tuple[int, ...], int, Floats]]]
"""Key of a section's content -> blocks, tokens and raw vector of each of its parts."""


@dataclass
class EncodeStep:
    """The step: documents to rows of sections with their raw vectors.

    With several processes each opens the encoder by itself.
    """

    open: Callable[[], EncodesSections]
    """Opens the encoder."""
    form: Form
    """How sections are written; for the keys of their contents."""
    exact: bool = True
    """Whether each section is read by itself, see `InterleavedEncoder.encode_sections`."""
    earlier: Callable[[str], Cache] | None = None
    """Fingerprint of the encoder -> sections of an earlier index, by their content; None: all are read."""
    suffix = ".parquet"
    _open: Any = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": None}

    def __call__(self, documents: Iterator[Any]) -> Iterator[Any]:
        """Rows of sections, and what became of the documents."""
        if self._open is None:
            encoder = self.open()
            self._open = (encoder, {} if self.earlier is None else self.earlier(encoder.fingerprint))
        encoder, cache = self._open
        for document in documents:
            if not isinstance(document, Document):
                yield Rejected(document.reason, {"id": document.id})
                continue
            troubles = encoder.troubles
            before = dict(troubles.images), dict(troubles.dropped), dict(troubles.empty)
            try:
                rows = list(section_rows(encoder, document, self.form, exact=self.exact, cache=cache))
            except BadInput as error:
                yield Rejected(str(error), {"id": document.id})
                continue
            new = [
                {name: why for name, why in now.items() if name not in old}
                for now, old in zip((troubles.images, troubles.dropped, troubles.empty), before, strict=True)
            ]
            if not rows:
                yield Rejected(f'Document "{document.id}" has nothing to show.', {"id": document.id})
            yield from rows
            taken = sum(row["key"] in cache for row in rows)
            yield Tally(
                {
                    "documents": float(bool(rows)),
                    "sections encoded": float(len(rows) - taken),
                    "sections taken over": float(taken),
                    "tokens": float(sum(row["tokens"] for row in rows)),
                    "images left out": float(len(new[0])),
                    "blocks dropped": float(len(new[1])),
                    "empty sections": float(len(new[2])),
                }
            )
            for kind, reasons in zip(("image", "block", "section"), new, strict=True):
                for name, why in reasons.items():
                    yield Rejected(f"{name}: {why}", {"id": document.id, "kind": kind, "name": name})


def section_rows(
    encoder: EncodesSections,
    document: Document,
    form: Form,
    *,
    exact: bool = True,
    cache: Cache | None = None,
) -> Iterator[dict[str, Any]]:
    """A row for each section, or part of one, of a document."""
    encoded = encoder.encode_sections([document], exact=exact, cache=cache)
    for (number, part), blocks, tokens, vector in zip(
        encoded.sections, encoded.blocks, encoded.tokens.tolist(), encoded.vectors, strict=True
    ):
        section = document.sections[number]
        yield {
            "document": document.id,
            "title": document.title,
            "section": number,
            "part": part,
            "heading": section.heading,
            "key": key_of(document, number, form),
            "tokens": tokens,
            "blocks": json.dumps([[i, *_shown(section.blocks[i])] for i in blocks]),
            "vector": vector.tolist(),
        }


def _shown(block: Any) -> tuple[str, str, str]:
    text = block.text if block.type == "text" else block.caption or " | ".join(block.header)
    return block.type, text[:SNIPPET], block.file


def read_rows(sink: Path) -> Iterator[dict[str, Any]]:
    """The rows that `EncodeStep` left in a folder, in order."""
    for path in parts(sink, ".parquet"):
        table = pq.read_table(path)
        if table.num_rows:
            yield from table.to_pylist()
