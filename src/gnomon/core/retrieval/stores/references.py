"""Stores by reference strings: one table from the word before the colon to what opens it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnomon.core.retrieval.stores.contract import Floats, Index, Meta, check_secrets
from gnomon.errors import BadConfig, nearest
from gnomon.lazy import resolve

_STORES = {
    "faiss": "approximate:Approximate",
    "lance": "lance:Lance",
    "milvus": "milvus.vectors:Milvus",
    "postgres": "postgres.vectors:Postgres",
    "postgresql": "postgres.vectors:Postgres",
    "qdrant": "qdrant:Qdrant",
}
"""Word before the colon -> class with `build` and `open`. A reference without one is a folder."""


def open_index(reference: str | Path, *, fingerprint: str | None = None) -> Index:
    """The index behind a reference.

    Args:
        reference: "FOLDER", "postgres://HOST/DB#NAME", and so on: see docs/retrieval.md.
        fingerprint: of the encoder that will ask; None: not checked.

    Raises:
        BadConfig: there is no such store, it cannot be reached, or the reference holds a password.
        BadInput: there is no index.
        ModelMismatch: another encoder made it.
        MissingExtra: a package is not installed.
    """
    store: Any = _store(str(reference))
    index: Index = store.open(str(reference), fingerprint=fingerprint)
    return index


def build_index(
    reference: str | Path,
    ids: Sequence[str],
    vectors: Floats,
    *,
    fingerprint: str,
    meta: Meta | None = None,
    anew: bool = False,
    approximate: bool = False,
) -> Index:
    """A new index behind a reference.

    Args:
        reference: as in `open_index`.
        ids: names, all different.
        vectors: [N, D], as the encoder gave them.
        fingerprint: of the encoder.
        meta: per row what it can be filtered by: texts, numbers, truth values, None; None: nothing.
        anew: replace the index that is there.
        approximate: search by a graph (HNSW) that may miss some of the nearest, where the store can do both.

    Raises:
        BadConfig: as in `open_index`; an index is there already; the store has no approximate search.
        BadInput: rows cannot be stored, see `gnomon.core.retrieval.stores.contract.checked`.
        MissingExtra: a package is not installed.
    """
    store: Any = _store(str(reference))
    options: dict[str, Any] = {"approximate": True} if approximate else {}
    if approximate and not getattr(store, "approximates", False):
        raise BadConfig(f'The store of "{reference}" has one way to search. Leave out approximate.')
    index: Index = store.build(
        str(reference), ids, vectors, fingerprint=fingerprint, meta=meta, anew=anew, **options
    )
    return index


def _store(reference: str) -> Any:
    check_secrets(reference)
    scheme = re.match(r"([a-z]{2,}):", reference)
    if scheme is None or Path(reference).exists():
        return resolve("gnomon.core.retrieval.stores.folder:Vectors")
    if scheme[1] not in _STORES:
        raise BadConfig(f'There is no store "{scheme[1]}". {nearest(scheme[1], _STORES)}')
    return resolve(f"gnomon.core.retrieval.stores.{_STORES[scheme[1]]}")
