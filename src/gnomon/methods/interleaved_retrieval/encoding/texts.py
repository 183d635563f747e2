"""Sections and queries through an encoder of text, with captions in place of images: the baseline that needs no eyes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.retrieval.encoders import TextEncoder
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Query, section_id
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, Troubles, key_of, plain_text
from gnomon.methods.interleaved_retrieval.encoding.encoder import encoded_of
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded, Floats


class TextSections:
    """An encoder of text over serialised sections.

    Args:
        encoder: of texts.
        form: how sections are written; None: images by their captions.
        merge: how the vectors of sections become one.
    """

    def __init__(self, encoder: TextEncoder, form: Form | None = None, *, merge: str = "mean"):
        self.encoder, self.form, self.merge = encoder, form or Form(images="captions"), merge
        self.troubles = Troubles()

    @property
    def fingerprint(self) -> str:
        """The encoder's, and how sections are written."""
        from gnomon.core.config import fingerprint

        return f"{self.encoder.fingerprint}-{fingerprint(repr(self.form))}"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.encoder.dim)

    def with_form(self, form: Form) -> TextSections:
        """The same encoder with sections written in another form."""
        return TextSections(self.encoder, form, merge=self.merge)

    def encode_sections(
        self,
        documents: Sequence[Document],
        *,
        exact: bool = False,
        cache: Mapping[str, Sequence[tuple[tuple[int, ...], int, Floats]]] | None = None,
    ) -> Encoded:
        """The vectors of sections; errors and arguments as of `InterleavedEncoder.encode_sections`."""
        owners: list[str] = []
        rows: list[tuple[int, int, tuple[int, ...]]] = []
        texts: list[str] = []
        vectors: list[Any] = []
        tokens: list[int] = []
        for document in documents:
            for number, section in enumerate(document.sections):
                stored = None if cache is None else cache.get(key_of(document, number, self.form))
                if stored is not None:
                    for part, (blocks, count, vector) in enumerate(stored):
                        owners.append(document.id)
                        rows.append((number, part, blocks))
                        tokens.append(count)
                        vectors.append(vector)
                    continue
                text = plain_text(document, number, self.form)
                if not text.strip():
                    self.troubles.empty[section_id(document.id, number)] = "nothing in it can be shown"
                    continue
                owners.append(document.id)
                rows.append((number, 0, tuple(range(len(section.blocks)))))
                # Words stand for tokens: a server does not say how many it reads.
                tokens.append(len(text.split()))
                vectors.append(len(texts))
                texts.append(text)
        groups = [[text] for text in texts] if exact else [texts]
        states = [vector for group in groups for vector in self.encoder.encode(group)]
        filled = [states[v] if isinstance(v, int) else v for v in vectors]
        return encoded_of(owners, rows, tokens, filled, self.dim)

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """The vectors of queries by their words.

        Raises:
            BadInput: a query has no words.
        """
        for query in queries:
            if not query.text.strip():
                raise BadInput(f'Query "{query.id}" has an image alone, and an encoder of text reads words.')
        vectors: Floats = self.encoder.encode([query.text for query in queries], role="query")
        return vectors
