"""A corpus as chunks: cut blindly at a fixed length, copies removed and counted, whole documents set aside."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.documents import Document, read_rows, to_document
from gnomon.core.retrieval.passages import Cut, Passage, cut
from gnomon.core.text import distinct
from gnomon.errors import BadInput

SHINGLE, SKETCH, SHARED = 4, 12, 3
"""Words of a shingle, smallest hashes of a chunk's shingles that are kept, and how many two near-duplicates share at least."""
NEAR = 0.9
"""Similarity from which two chunks say the same, see `gnomon.core.text.distinct`."""


@dataclass
class Corpus:
    """Documents that can be used, and rows that cannot."""

    documents: list[Document]
    """In their order."""
    refused: list[dict[str, str]] = field(default_factory=list)
    """Rows that cannot be used: `id` and `reason`."""
    copies: int = 0
    """Documents without a name whose very text was there before; they are no fault of a corpus."""


def read_corpus(
    source: str, *, text_field: str = "text", id_field: str | None = None, limit: int | None = None
) -> Corpus:
    """The documents of a source, so many from the start; one bad row is left out with its name and reason.

    Raises:
        BadInput: nothing is there, or no row can be used.
    """
    corpus, names = Corpus([]), set[str]()
    for row in read_rows(source, text_field=text_field):
        if limit is not None and len(corpus.documents) >= limit:
            break
        try:
            document = to_document(row, text_field=text_field, id_field=id_field)
        except BadInput as error:
            corpus.refused.append({"id": row.where, "reason": str(error)})
            continue
        title = str(document.meta.get("title") or "")
        if title and not document.text.startswith(title):  # BEIR keeps titles in a column of their own
            document = Document(document.doc_id, f"{title}\n\n{document.text}", document.meta, document.where)
        if not document.text.strip():
            reason = "The document is empty."
        elif document.doc_id in names and id_field is None:  # the name is a hash of the text
            corpus.copies += 1
            continue
        elif document.doc_id in names:
            reason = "A document of this name was read before."
        else:
            names.add(document.doc_id)
            corpus.documents.append(document)
            continue
        corpus.refused.append({"id": document.doc_id, "reason": reason})
    if not corpus.documents:
        why = corpus.refused[0]["reason"] if corpus.refused else "It has no rows."
        raise BadInput(f"{source} holds no document that can be used. {why}")
    return corpus


def chunk(documents: Sequence[Document], how: Cut, tokenizer: Any = None) -> list[Passage]:
    """The chunks of documents, in order; offsets and document are kept."""
    return [passage for document in documents for passage in cut(document, how, tokenizer)]


@dataclass(frozen=True)
class Deduplicated:
    """Chunks of which no two say the same."""

    kept: list[Passage]
    """In their order."""
    removed: list[dict[str, str]]
    """Those that are left out: `id`, `of` (the chunk that stays) and `why` (exact, near)."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Why -> how many."""
        return Counter(row["why"] for row in self.removed)


def deduplicate(chunks: Sequence[Passage], near: float | None = NEAR) -> Deduplicated:
    """Leave out chunks whose text another one has, to the letter (case and white space aside) or nearly.

    A copy would be a positive that teaches nothing, or a negative that is none. The first one stays. Near-duplicates are looked
    for among chunks that share shingles, and decided by `gnomon.core.text.distinct`.

    Args:
        chunks: in their order.
        near: similarity from which two say the same; None: exact copies alone.

    Raises:
        BadInput: all chunks have the same text.
    """
    first: dict[str, Passage] = {}
    removed = []
    for passage in chunks:
        original = first.setdefault(plain(passage.text), passage)
        if original is not passage:
            removed.append({"id": passage.id, "of": original.id, "why": "exact"})
    kept = list(first.values())
    if near is not None:
        kept, more = _without_near(kept, near)
        removed += more
    if len(kept) < 2 <= len(chunks):
        raise BadInput(
            f"All {len(chunks)} chunks say the same: there is nothing to tell apart. Look at the corpus, or cut it otherwise."
        )
    return Deduplicated(kept, removed)


def plain(text: str) -> str:
    """A text without case and white space: what makes two texts equal."""
    return " ".join(text.casefold().split())


def are_near(a: str, b: str, ratio: float) -> bool:
    """Whether two texts say the same."""
    return len(distinct([a, b], 2, ratio=ratio)) < 2


def _without_near(chunks: Sequence[Passage], near: float) -> tuple[list[Passage], list[dict[str, str]]]:
    holders: dict[int, list[int]] = defaultdict(list)
    kept: list[Passage] = []
    removed = []
    for passage in chunks:
        sketch = _sketch(passage.text)
        meets = Counter(i for number in sketch for i in holders[number])
        # Short chunks have few shingles, of which near-duplicates need share fewer.
        least = min(SHARED, max(1, len(sketch) // 3))
        close = (i for i, count in meets.most_common() if count >= least)
        twin = next((i for i in close if are_near(kept[i].text, passage.text, near)), None)
        if twin is not None:
            removed.append({"id": passage.id, "of": kept[twin].id, "why": "near"})
            continue
        for number in sketch:
            holders[number].append(len(kept))
        kept.append(passage)
    return kept, removed


def _sketch(text: str) -> list[int]:
    """The smallest hashes of a text's shingles."""
    words = text.casefold().split()
    shingles = {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
    hashes = sorted(map(_number, shingles))
    return hashes[:SKETCH]


def _number(text: str) -> int:
    """A number for a text, the same in every process."""
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
    )


def is_held_out(doc_id: str, share: float) -> bool:
    """Whether a document is set aside: by its name alone, so that it is in every run and process."""
    return _number(doc_id) / 2**64 < share


def split_documents(
    documents: Sequence[Document], share: float, never: Collection[str] = ()
) -> tuple[list[Document], list[Document]]:
    """Documents to mine from, and those that are set aside, whole documents.

    Args:
        documents: all of them.
        share: set aside by the hash of their names, 0..1.
        never: names of documents to be set aside in any case, such as judged ones.

    Raises:
        BadInput: fewer than two are left to mine from.
    """
    aside = [d for d in documents if d.doc_id in never or is_held_out(d.doc_id, share)]
    names = {d.doc_id for d in aside}
    rest = [d for d in documents if d.doc_id not in names]
    if len(rest) < 2:
        raise BadInput(
            f"{len(rest)} of {len(documents)} documents are left to mine from; two or more are needed, since one alone has no "
            "unrelated chunks."
        )
    return rest, aside


def write_chunks(path: Path, chunks: Sequence[Passage]) -> None:
    """Write chunks as records: id, doc_id, start, end, order, text."""
    records.write(path, map(_row, chunks))


def _row(passage: Passage) -> dict[str, Any]:
    names = ("id", "doc_id", "start", "end", "order", "text")
    return {name: getattr(passage, name) for name in names}


def read_chunks(path: Path) -> Iterator[Passage]:
    """The chunks of a file that `write_chunks` wrote."""
    for _, raw in records.read_raw(path):
        yield Passage(**raw)
