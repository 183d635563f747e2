"""Encoders by reference: a vision-language model, a retriever trained here, a published embedder, an encoder of text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gnomon.core.models.load import LoadConfig, kind_of, model_at
from gnomon.core.retrieval.encoders import TextEncoder
from gnomon.methods.interleaved_retrieval.documents.serialise import Form
from gnomon.methods.interleaved_retrieval.encoding.encoder import InterleavedEncoder
from gnomon.methods.interleaved_retrieval.encoding.settings import FILE
from gnomon.methods.interleaved_retrieval.encoding.texts import TextSections


def open_encoder(
    ref: str | Path,
    load: LoadConfig | None = None,
    *,
    form: Form | None = None,
    merge: str | None = None,
    strict: bool = False,
    batch_tokens: int | None = None,
) -> InterleavedEncoder | TextSections:
    """The encoder behind a reference.

    Args:
        ref: a run of `train` or its folder, a vision-language model, a published embedder, an encoder of text, or a server's
            endpoint for embeddings (`http://host/v1#name`).
        load: how it is loaded.
        form: how sections are written; None: as its folder says.
        merge: how the vectors of sections become one; None: as its folder says.
        strict: an image that cannot be shown is an error.
        batch_tokens: tokens of a batch; None: as suits the device.
    """
    name = str(ref)
    if not name.startswith(("http://", "https://")):
        folder = Path(model_at(ref))
        if kind_of(folder if folder.exists() else name) == "vlm" or (folder / FILE).is_file():
            encoder = InterleavedEncoder.from_pretrained(
                ref, load, form=form, strict=strict, batch_tokens=batch_tokens
            )
            if merge is not None:
                how: Any = replace(encoder.how, merge=merge)  # type: ignore[arg-type]
                encoder = InterleavedEncoder(encoder.handle, how, strict=strict, batch_tokens=batch_tokens)
            return encoder
        name = str(folder) if folder.exists() else name
    texts = TextEncoder.load(name, None if name.startswith("http") else load)
    return TextSections(texts, form or Form(images="captions"), merge=merge or "mean")
