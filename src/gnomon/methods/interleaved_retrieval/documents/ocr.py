"""Words in pictures, such as the labels of axes, read without a network and put into captions."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gnomon.errors import BadInput
from gnomon.lazy import optional
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document

log = logging.getLogger(__name__)


class Reader:
    """Reads words in pictures.

    Raises:
        MissingExtra: rapidocr-onnxruntime is not installed.
    """

    def __init__(self) -> None:
        module = optional("rapidocr_onnxruntime", "rapidocr-onnxruntime", "ocr")
        self._engine = module.RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)

    def words(self, image: Any) -> str:
        """The words of a PIL image in reading order, pieces separated by a bar; empty where there are none."""
        pieces, _ = self._engine(np.asarray(image.convert("RGB"))[:, :, ::-1])
        return " | ".join(str(piece[1]) for piece in pieces or ())


def with_words(documents: Sequence[Document], words: Mapping[str, str]) -> list[Document]:
    """Documents whose captions have the words of their pictures behind them.

    Args:
        documents: as they are.
        words: key of a block -> words in its picture.
    """

    def block(old: Block) -> Block:
        more = words.get(old.key, "") if old.type == "image" else ""
        return replace(old, caption=" ".join(filter(None, (old.caption, more)))) if more else old

    return [
        replace(
            document,
            sections=tuple(
                replace(section, blocks=tuple(block(b) for b in section.blocks))
                for section in document.sections
            ),
        )
        for document in documents
    ]


def words_of(documents: Sequence[Document], read: Any, progress: Any = None) -> dict[str, str]:
    """Key of a block -> words in its picture; each picture is read once, and one that cannot be opened has none."""
    words: dict[str, str] = {}
    for document in documents:
        for section in document.sections:
            for block in section.blocks:
                if block.type == "image" and block.key not in words:
                    try:
                        words[block.key] = read(block.picture("A picture"))
                    except BadInput as error:
                        log.warning("%s", error)
                        words[block.key] = ""
        if progress is not None:
            progress.advance(1)
    return words
