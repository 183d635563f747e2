"""Texts packed into one stream of token ids on disk, a separator before each: written once, read through a memory map."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOGETHER = 256
"""Texts tokenised at once."""


@dataclass(frozen=True)
class Stream:
    """Texts one after the other."""

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
        told = json.loads(kept.read_text("utf-8"))
        return Stream(np.load(path, mmap_mode="r"), told["texts"], told["bytes"])
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
