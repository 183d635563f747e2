"""The texts of a domain as packed streams: one to train on, one that was set aside.

Texts packed into one stream of token ids on disk, a separator before each: written once, read through a memory map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomon.core.data.documents import Document, read_documents
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Texts packed into one stream of token ids on disk, a separator before each: written once, read through a memory map.

TOGETHER = 256
"""Texts tokenised at once."""


@dataclass(frozen=True)
class Stream:
    """Texts packed into one stream of token ids."""

    ids: NDArray[np.unsignedinteger]
    """Token ids, `[N]`; each text begins with the separator."""
    n_texts: int
    """Texts in it."""
    n_bytes: int
    """Length of all texts in UTF-8."""

    def rows(self, length: int) -> NDArray[np.unsignedinteger]:
        """The stream cut into rows of `length` tokens, `[N // length, length]`; a rest that fills no row is left out.

        Raises:
            BadInput: it fills not even one.
        """
        count = len(self.ids) // length
        if not count:
            raise BadInput(f"The texts have {len(self.ids)} tokens in all, fewer than a row of {length}.")
        return self.ids[: count * length].reshape(count, length)


def pack(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, path: Path | None = None, *, name: str = "texts"
) -> Stream:
    """The texts as one stream.

    Args:
        texts: what to pack; empty ones are left out.
        tokenizer: its begin-of-text token separates, else its end-of-text token.
        path: a `.npy` file that keeps the ids; read where it exists already. None: memory alone.
        name: what the texts are, for messages.

    Raises:
        BadInput: there is no text.
    """
    kept = None if path is None else path.with_suffix(".json")
    if path is not None and kept is not None and kept.exists():
        description = json.loads(kept.read_text("utf-8"))
        return Stream(np.load(path, mmap_mode="r"), description["texts"], description["bytes"])
    separator = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    parts: list[NDArray[np.unsignedinteger]] = []
    n_texts = n_bytes = 0
    left = filter(None, texts)
    while some := list(islice(left, TOGETHER)):
        encoded = tokenizer(some, add_special_tokens=False)["input_ids"]
        flat = chain.from_iterable((separator, *ids) for ids in encoded)
        parts.append(np.fromiter(flat, dtype=kind))
        n_texts += len(some)
        n_bytes += sum(len(text.encode("utf-8", "surrogatepass")) for text in some)
    if not n_texts:
        raise BadInput(f"There are no {name}: every text is empty, or there is none.")
    ids = np.concatenate(parts)
    if path is None or kept is None:
        return Stream(ids, n_texts, n_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, ids)
    kept.write_text(json.dumps({"texts": n_texts, "bytes": n_bytes, "tokens": len(ids)}), "utf-8")
    return Stream(np.load(path, mmap_mode="r"), n_texts, n_bytes)


# The texts of a domain as packed streams: one to train on, one that was set aside.


@dataclass(frozen=True)
class Corpus:
    """A domain's text."""

    train: Stream
    """What is learned from."""
    held: Stream
    """What is measured on; nothing of it is in `train`."""


def corpus(
    source: str,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path | None,
    name: str,
    *,
    measure: str | None = None,
    held_out: float = 0.05,
    text_field: str = "text",
) -> Corpus:
    """A domain's streams, packed once into `folder`.

    Args:
        source: what `gnomon.core.data.documents.read_documents` reads.
        tokenizer: the model's.
        folder: where the packed ids are kept; None: in memory alone.
        name: of the domain, for files and messages.
        measure: a source of its own to measure on. None: a share of `source`'s groups (files, where it names them; else documents).
        held_out: that share, by hash of the group's name: the same in every run.
        text_field: column of the text.

    Raises:
        BadInput: a source holds no text, or too little to set some aside.
    """

    def texts(held: bool) -> Iterator[str]:
        for document in read_documents(source, text_field=text_field):
            if measure is not None or is_held_out(document, held_out) == held:
                yield document.text

    def file(ending: str) -> Path | None:
        return None if folder is None else folder / f"{name}{ending}.npy"

    train = pack(texts(False), tokenizer, file(""), name=f"texts of the {name} domain in {source}")
    message = f"texts of the {name} domain to measure on"
    if measure is None:
        return Corpus(train, pack(texts(True), tokenizer, file("-held"), name=f"{message} in {source}"))
    others = (document.text for document in read_documents(measure, text_field=text_field))
    return Corpus(train, pack(others, tokenizer, file("-held"), name=f"{message} in {measure}"))


def is_held_out(document: Document, share: float) -> bool:
    """Whether a document belongs to the share that is set aside, by the name of its group."""
    return share_of(str(document.meta.get("group", document.doc_id))) < share


def share_of(name: str) -> float:
    """A number in 0..1 that is a function of a name alone."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") / 2**64
