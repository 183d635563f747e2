"""What every store keeps to: the verbs of an index, checks of rows that come in, and scores that are summed in one way."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray

from gnomon.core.retrieval.hits import Hit, Where, ranked
from gnomon.errors import BadConfig, BadInput, ModelMismatch

Floats = NDArray[np.float32]
Meta = Sequence[Mapping[str, Any]]

MORE = 64
"""Rows that are fetched beyond k, so that ties at the end are seen without asking twice."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}")
_SECRETS = ("password", "sslpassword", "passwd", "pwd", "token", "api_key", "apikey", "secret")


class Index(Protocol):
    """Vectors with the caller's ids. Ask what `add` and `remove` return: an older handle of a folder still sees the old rows."""

    fingerprint: str
    """Of the encoder that made the vectors."""

    def __len__(self) -> int:
        """Rows."""

    @property
    def ids(self) -> list[str]:
        """In ascending order."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Index:
        """The index with more rows, or with new vectors for rows that it has."""

    def remove(self, ids: Sequence[str]) -> Index:
        """The index without some rows; one that it has not is an error."""

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query; of equal scores the smaller id comes first."""

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all."""


@dataclass(frozen=True)
class Rows:
    """Rows that were checked and can be stored."""

    ids: list[str]
    vectors: Floats
    """[N, D]."""
    meta: list[dict[str, Any]]
    """Per row the values that there are; a column without one is left out."""
    kinds: dict[str, str]
    """Column -> kind of its values: bool, int, float, str, or null where no row has one."""

    @property
    def longest(self) -> float:
        """Length of the longest vector; 0 of none."""
        return longest_of(self.vectors)


def longest_of(vectors: Floats) -> float:
    """Length of the longest of [N, D] vectors; 0 of none."""
    return float(np.linalg.norm(vectors, axis=1).max(initial=0.0))


def checked(ids: Sequence[str], vectors: Any, meta: Meta | None) -> Rows:
    """Rows as every store takes them.

    Args:
        ids: names, all different.
        vectors: [N, D].
        meta: per row what it can be filtered by: texts, numbers, truth values, or None. None: nothing.

    Raises:
        BadInput: ids are not all different or no texts, there are not as many rows of each, a number is not finite, or a column
            holds values of different kinds.
    """
    ids, vectors = list(ids), np.asarray(vectors, np.float32)
    if vectors.ndim != 2 or len(vectors) != len(ids) or not vectors.shape[1]:
        raise BadInput(
            f"There are {len(ids)} ids and vectors of shape {vectors.shape}; wanted [{len(ids)}, D]."
        )
    if not np.isfinite(vectors).all():
        raise BadInput("A vector holds a number that is not finite.")
    for name in ids:
        check_text(name, "An id")
    if len(set(ids)) < len(ids):
        raise BadInput("Two rows have the same id.")
    meta = [{}] * len(ids) if meta is None else meta
    if len(meta) != len(ids):
        raise BadInput(f"There are {len(ids)} ids and {len(meta)} rows of meta.")
    rows = [{column: _plain(column, value) for column, value in row.items()} for row in meta]
    columns = sorted({column for row in rows for column in row})
    kinds = {column: _kind(column, {type(row.get(column)) for row in rows}) for column in columns}
    kept = [{column: value for column, value in row.items() if value is not None} for row in rows]
    return Rows(ids, vectors, kept, kinds)


def check_text(value: Any, what: str) -> None:
    """Refuse what cannot be stored as text everywhere.

    Raises:
        BadInput: it is no text, or holds the character 0 or half a surrogate pair.
    """
    if not isinstance(value, str):
        raise BadInput(f"{what} is {value!r}; wanted a text.")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise BadInput(f"{what}, {value!r}, holds a character that is no text.")


def _plain(column: str, value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        check_text(value, f'A value of column "{column}"')
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise BadInput(
        f'Column "{column}" holds {value!r}; rows are filtered by texts, truth values, and finite numbers of 64 bits. '
        "Write dates as text: 2024-05-31."
    )


def _kind(column: str, types: set[type]) -> str:
    names = {kind.__name__ for kind in types - {type(None)}}
    kind = "null"
    for name in sorted(names):
        kind = _joined(column, kind, name)
    return kind


def _joined(column: str, kind: str, other: str) -> str:
    if kind == other or other == "null":
        return kind
    if kind == "null":
        return other
    if {kind, other} == {"int", "float"}:
        return "float"
    raise BadInput(f'Column "{column}" holds values of different kinds: {kind} and {other}.')


def joined_kinds(kinds: Mapping[str, str], more: Mapping[str, str]) -> dict[str, str]:
    """Kinds of the columns of both.

    Raises:
        BadInput: a column holds values of different kinds.
    """
    names = sorted({*kinds, *more})
    return {name: _joined(name, kinds.get(name, "null"), more.get(name, "null")) for name in names}


def about_rows(rows: Rows, fingerprint: str, *, approximate: bool) -> dict[str, Any]:
    """What a server that numbers its columns keeps beside the rows of a new index.

    `keys` maps a column to its key in a row, since servers read dots, brackets and the like in a name as a path.
    """
    return {
        "fingerprint": fingerprint,
        "dim": rows.vectors.shape[1],
        "longest": rows.longest,
        "kinds": rows.kinds,
        "keys": _numbered({}, rows.kinds),
        "approximate": approximate,
    }


def with_more(about: Mapping[str, Any], rows: Rows) -> dict[str, Any]:
    """What `about_rows` gave, once the index has more rows.

    Raises:
        BadInput: a column holds values of different kinds.
    """
    kinds = joined_kinds(about["kinds"], rows.kinds)
    keys, longest = _numbered(about["keys"], kinds), max(about["longest"], rows.longest)
    return {**about, "kinds": kinds, "keys": keys, "longest": longest}


def _numbered(keys: Mapping[str, str], columns: Iterable[str]) -> dict[str, str]:
    """Column -> key; a column that has one keeps it."""
    keys = dict(keys)
    for column in columns:
        keys.setdefault(column, f"c{len(keys)}")
    return keys


def check_fingerprint(where: str | Path, built_with: str, encoder: str | None) -> None:
    """Refuse to mix vectors of two encoders.

    Raises:
        ModelMismatch: `encoder` is not the one that an index was built with.
    """
    if encoder is not None and encoder != built_with:
        raise ModelMismatch(
            f'The index "{where}" was built with the encoder {built_with}, and {encoder} is asking. Vectors of two encoders cannot '
            "be compared: name the same encoder, or build the index anew."
        )


def check_has(ids: Iterable[str], present: Iterable[str]) -> None:
    """Refuse to remove rows that are not there.

    Raises:
        BadInput: an id is not among those present.
    """
    if unknown := set(ids) - set(present):
        raise BadInput(f'The index has no "{min(unknown)}".')


def check_length(dim: int, vectors: Floats, what: str) -> None:
    """Refuse vectors of another length.

    Raises:
        BadInput: they have one.
    """
    if vectors.shape[1] != dim:
        raise BadInput(f"The index has vectors of length {dim}; {what} {vectors.shape[1]}.")


def checked_queries(queries: Any, k: int, dim: int) -> Floats:
    """[Q, D] float32.

    Raises:
        BadInput: queries are of another length, or hold a number that is not finite.
        BadConfig: k is below 1.
    """
    if k < 1:
        raise BadConfig(f"k must be at least 1; got {k}.")
    queries = np.atleast_2d(np.asarray(queries, np.float32))
    check_length(dim, queries, "queries have")
    if not np.isfinite(queries).all():
        raise BadInput("A query holds a number that is not finite.")
    return queries


def slack(query: Floats, longest: float) -> float:
    """By how much two ways to sum an inner product in float32 may differ.

    Each sum of D products is off by at most D * 2^-24 * |q| * |v| (Higham, "Accuracy and Stability", section 3.1).

    Args:
        query: [D].
        longest: length of the longest vector.
    """
    return 2 * len(query) * 2.0**-24 * float(np.linalg.norm(query)) * longest


def exact(ids: Iterable[str], vectors: Floats, query: Floats, k: int) -> list[Hit]:
    """The k best of some rows by exact scores.

    A score is summed in float64, row by row, and rounded to float32: it depends neither on the store, nor on other rows or
    queries, so that equal vectors have equal scores and stand in the order of their ids.

    Args:
        ids: of the rows.
        vectors: [N, D] of the rows.
        query: [D].
        k: hits at most.
    """
    products = vectors.astype(np.float64) * query.astype(np.float64)
    scores = products.sum(axis=1).astype(np.float32)
    return ranked(zip(ids, scores.tolist(), strict=True), k, source="dense")


def split_reference(reference: str) -> tuple[str, str]:
    """The address and the name of an index: "qdrant:/data/q#papers" -> ("qdrant:/data/q", "papers").

    Raises:
        BadConfig: there is no name or it has other characters, or the reference holds a password.
    """
    check_secrets(reference)
    address, _, name = reference.rpartition("#")
    if not address or not _NAME.fullmatch(name):
        raise BadConfig(
            f'"{reference}" names no index: put # and a name of up to 40 letters, digits, _ and - at its end.'
        )
    return address, name


def check_secrets(reference: str) -> None:
    """Refuse a reference with a password, which would be written into settings and reports.

    Raises:
        BadConfig: it holds one; the message does not.
    """
    parameters = parse_qsl(urlsplit(reference).query, keep_blank_values=True)
    if re.search(r"//[^/@]*:[^@]*@", reference) or any(name.lower() in _SECRETS for name, _ in parameters):
        raise BadConfig(
            "A reference to a store holds a password, and references are written into settings and reports: take it out, and give "
            "it by PGPASSWORD or a service file (PostgreSQL), MILVUS_TOKEN or QDRANT_API_KEY."
        )
