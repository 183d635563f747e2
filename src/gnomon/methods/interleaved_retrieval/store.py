"""An index of documents: raw vectors of their sections, from which those of documents are taken anew at every change."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from gnomon.core.files import write_json
from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.stores.contract import check_fingerprint
from gnomon.core.retrieval.stores.folder import search_rows
from gnomon.core.retrieval.stores.generations import Generations
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document, section_id
from gnomon.methods.interleaved_retrieval.documents.serialise import Form
from gnomon.methods.interleaved_retrieval.encoding.encoder import encoded_of
from gnomon.methods.interleaved_retrieval.encoding.shards import Cache, section_rows
from gnomon.methods.interleaved_retrieval.encoding.vectors import (
    Encoded,
    EncodesSections,
    Floats,
    merged,
    unit,
)

Width = Literal["f32", "f16"]


@dataclass(frozen=True)
class Shown:
    """A block of a section that was returned."""

    number: int
    """In its section."""
    type: str
    """text, image or table."""
    text: str
    """Its beginning, or its caption."""
    file: str
    """The picture's file; empty where it has none."""


class DocumentIndex:
    """Documents by their vectors. `build` makes an index, `open` opens it; a change writes a new generation beside the old one.

    A document's vector is the merged one of its sections' raw vectors, which are stored; after any change it is taken from them
    again. So an index that was updated is the one that would be built anew, to the last bit.
    """

    def __init__(self, generations: Generations, at: Path):
        self._generations = generations
        about = json.loads((at / "meta.json").read_text("utf-8"))
        self.fingerprint: str = about["fingerprint"]
        """Of the encoder."""
        self.merge: str = about["merge"]
        """How sections become a document."""
        self.form = Form(**about["form"])
        """How sections were written."""
        self.width: Width = about["width"]
        """Type of the stored section vectors."""
        self._rows = pq.read_table(at / "sections.parquet")
        self.documents: list[str] = pq.read_table(at / "docs.parquet").column("id").to_pylist()
        """Ids in ascending order."""
        dtype = np.float32 if self.width == "f32" else np.float16
        count, dim = self._rows.num_rows, int(about["dim"])
        self._sections = np.memmap(at / f"sections.{self.width}", dtype, "r", shape=(count, dim))
        self._docs = np.memmap(at / "docs.f32", np.float32, "r", shape=(len(self.documents), dim))
        self.loss: float = about["loss"]
        """Largest change of a cosine between a section and itself by storing it in 16 bits; 0 in 32."""

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._docs.shape[1])

    @classmethod
    def build(
        cls,
        folder: str | Path,
        rows: Iterable[Mapping[str, Any]],
        *,
        encoder: EncodesSections,
        form: Form,
        width: Width = "f32",
        anew: bool = False,
    ) -> DocumentIndex:
        """A new index.

        Args:
            folder: where it is written.
            rows: of sections, see `section_rows`; parts of one document follow each other.
            encoder: that made their vectors.
            form: how sections were written.
            width: f32; or f16, half as large, after which an update is no longer the same as a rebuild to the last bit.
            anew: replace the index that is there.

        Raises:
            BadInput: there is no row, or a document comes twice.
        """
        about = {
            "fingerprint": encoder.fingerprint,
            "merge": encoder.merge,
            "form": vars(form),
            "width": width,
        }
        with Generations(Path(folder)).writing(anew=anew) as at:
            _write(at, [dict(row) for row in rows], about)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path, *, fingerprint: str | None = None) -> DocumentIndex:
        """The index in a folder.

        Raises:
            BadInput: there is none.
            ModelMismatch: another encoder made it.
        """
        generations = Generations(Path(folder))
        index = generations.read(lambda at: cls(generations, at))
        check_fingerprint(folder, index.fingerprint, fingerprint)
        return index

    def rows(self) -> list[dict[str, Any]]:
        """All rows with their raw vectors."""
        vectors = np.asarray(self._sections)
        return [
            {**row, "vector": vector} for row, vector in zip(self._rows.to_pylist(), vectors, strict=True)
        ]

    def cache(self) -> Cache:
        """Key of a section's content -> its parts; what unchanged sections need not be read again for."""
        cache: Cache = {}
        owners: dict[str, tuple[str, int]] = {}
        for row in self.rows():
            owner = (row["document"], row["section"])
            if owners.setdefault(row["key"], owner) == owner:  # of two equal sections one is enough
                blocks = tuple(entry[0] for entry in json.loads(row["blocks"]))
                vector = np.asarray(row["vector"], np.float32)
                cache.setdefault(row["key"], []).append((blocks, row["tokens"], vector))
        return cache

    def add(
        self, encoder: EncodesSections, documents: Sequence[Document], *, exact: bool = True
    ) -> DocumentIndex:
        """The index with more documents, or with new contents of documents that it has: unchanged sections are not read again.

        Raises:
            ModelMismatch: another encoder made the index.
            BadInput: a document has nothing to show.
        """
        check_fingerprint(self._generations.folder, self.fingerprint, encoder.fingerprint)
        new = []
        cache = self.cache()
        for document in documents:
            rows = list(section_rows(encoder, document, self.form, exact=exact, cache=cache))
            if not rows:
                raise BadInput(f'Document "{document.id}" has nothing to show.')
            new += rows
        gone = {document.id for document in documents}
        return self._written([row for row in self.rows() if row["document"] not in gone] + new)

    def update_section(
        self, encoder: EncodesSections, document: Document, number: int, *, exact: bool = True
    ) -> DocumentIndex:
        """The index with one section read anew, from the document as it is now.

        Raises:
            BadInput: the index has no such document, or the document no such section.
        """
        if document.id not in set(self.documents) or not 0 <= number < len(document.sections):
            raise BadInput(f"The index has no section {section_id(document.id, number)} to update.")
        alone = replace(
            document,
            sections=tuple(
                section if i == number else replace(section, heading="", blocks=())
                for i, section in enumerate(document.sections)
            ),
        )
        check_fingerprint(self._generations.folder, self.fingerprint, encoder.fingerprint)
        new = list(section_rows(encoder, alone, self.form, exact=exact))
        kept = [r for r in self.rows() if (r["document"], r["section"]) != (document.id, number)]
        return self._written(kept + new)

    def delete(self, documents: Sequence[str]) -> DocumentIndex:
        """The index without some documents.

        Raises:
            BadInput: it has no such document.
        """
        missing = set(documents) - set(self.documents)
        if missing:
            raise BadInput(f'The index has no document "{min(missing)}".')
        gone = set(documents)
        return self._written([row for row in self.rows() if row["document"] not in gone])

    def _written(self, rows: list[dict[str, Any]]) -> DocumentIndex:
        about = {
            "fingerprint": self.fingerprint, "merge": self.merge, "form": vars(self.form), "width": self.width,
        }  # fmt: skip
        with self._generations.writing(anew=True) as at:
            _write(at, rows, about)
        return DocumentIndex.open(self._generations.folder)

    @property
    def encoded(self) -> Encoded:
        """The sections as they are compared."""
        rows = self._rows.to_pylist()
        return encoded_of(
            [row["document"] for row in rows],
            [
                (row["section"], row["part"], tuple(entry[0] for entry in json.loads(row["blocks"])))
                for row in rows
            ],
            [row["tokens"] for row in rows],
            list(np.asarray(self._sections).astype(np.float32)),
            self.dim,
        )

    def search(self, queries: Floats, k: int = 10) -> list[list[Hit]]:
        """The k documents with the largest cosine for each query of unit length; by the best section where nothing is merged.

        Of equal scores the smaller id comes first.
        """
        if self.merge != "max_sim":
            return search_rows(self.documents, self._docs, queries, min(k, len(self)), 1.0)
        from gnomon.methods.interleaved_retrieval.encoding.vectors import rank_documents

        return rank_documents(queries, self.encoded, "max_sim", k)

    def sections_of(self, documents: Iterable[str]) -> dict[str, list[str]]:
        """Document -> the names of its sections in the index."""
        wanted = dict.fromkeys(documents)
        names: dict[str, list[str]] = {name: [] for name in wanted}
        for owner, number in zip(
            self._rows.column("document").to_pylist(), self._rows.column("section").to_pylist(), strict=True
        ):
            if owner in wanted:
                names[owner].append(section_id(owner, number))
        return {owner: list(dict.fromkeys(sections)) for owner, sections in names.items()}

    def shown(self, section: str) -> tuple[str, str, list[Shown]]:
        """Title and heading of a section, and its blocks with their picture files.

        Raises:
            BadInput: the index has no such section.
        """
        title = heading = ""
        blocks: list[Shown] = []
        for row in self._by_section.get(section, ()):
            title, heading = row["title"], row["heading"]
            blocks += [Shown(*entry) for entry in json.loads(row["blocks"])]
        if section not in self._by_section:
            raise BadInput(f'The index has no section "{section}".')
        return title, heading, blocks

    @property
    def _by_section(self) -> dict[str, list[dict[str, Any]]]:
        if not hasattr(self, "_sections_by_id"):
            table: dict[str, list[dict[str, Any]]] = {}
            for row in self._rows.to_pylist():
                table.setdefault(section_id(row["document"], row["section"]), []).append(row)
            self._sections_by_id = table
        return self._sections_by_id


@dataclass(frozen=True)
class Earlier:
    """An index whose unchanged sections are taken over, opened in whichever process."""

    folder: str
    """Where it lies."""

    def __call__(self, fingerprint: str) -> Cache:
        """Its sections by their content.

        Raises:
            ModelMismatch: another encoder made it.
        """
        return DocumentIndex.open(self.folder, fingerprint=fingerprint).cache()


def _write(at: Path, rows: list[dict[str, Any]], about: Mapping[str, Any]) -> None:
    """Write a generation; rows lie by document, section and part, whatever their order was."""
    if not rows:
        raise BadInput("There is no section to index: every document was empty or could not be read.")
    rows = sorted(rows, key=lambda row: (row["document"], row["section"], row["part"]))
    names = [(row["document"], row["section"], row["part"]) for row in rows]
    if len(set(names)) < len(names):
        twice = next(a for a, b in itertools.pairwise(names) if a == b)
        raise BadInput(f'Document "{twice[0]}" comes twice.')
    raw = np.stack([np.asarray(row["vector"], np.float32) for row in rows])
    if not np.isfinite(raw).all():
        raise BadInput("A vector is not finite.")
    stored, loss = _stored(raw, about["width"])
    owners = [row["document"] for row in rows]
    encoded = encoded_of(
        owners,
        [(row["section"], row["part"], ()) for row in rows],
        [row["tokens"] for row in rows],
        list(stored.astype(np.float32)),
        raw.shape[1],
    )
    how = "mean" if about["merge"] == "max_sim" else about["merge"]
    docs = merged(encoded, how)
    stored.tofile(at / f"sections.{about['width']}")
    docs.tofile(at / "docs.f32")
    titles = {row["document"]: row["title"] for row in rows}
    first: NDArray[np.int64] = encoded.offsets
    table = {
        "id": encoded.documents, "title": [titles[name] for name in encoded.documents],
        "first": first[:-1], "sections": np.diff(first),
    }  # fmt: skip
    pq.write_table(pa.table(table), at / "docs.parquet")
    columns = ("document", "title", "section", "part", "heading", "key", "tokens", "blocks")
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in columns}), at / "sections.parquet")
    write_json(at / "meta.json", {**about, "dim": raw.shape[1], "rows": len(rows), "loss": loss})


def _stored(raw: Floats, width: str) -> tuple[NDArray[Any], float]:
    """Vectors as they are stored, and the largest change of a cosine that this makes.

    16 bits hold unit vectors: raw ones of some models are beyond 65,504.
    """
    if width == "f32":
        return raw, 0.0
    if width != "f16":
        raise BadConfig(f'width must be "f32" or "f16"; got "{width}".')
    half = unit(raw).astype(np.float16)
    cosines = (unit(half.astype(np.float32)).astype(np.float64) * unit(raw)).sum(1)
    return half, float(np.abs(1 - cosines).max())
