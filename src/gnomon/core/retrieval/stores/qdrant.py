"""Vectors in Qdrant: a server, or its embedded twin in a folder; filters are conditions of the client, never text."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from gnomon.core.retrieval.hits import Condition, Hit, Where, conditions
from gnomon.core.retrieval.stores.contract import (
    MORE,
    Floats,
    Meta,
    Rows,
    about_rows,
    check_fingerprint,
    check_has,
    check_length,
    checked,
    checked_queries,
    exact,
    slack,
    split_reference,
    with_more,
)
from gnomon.errors import BadConfig, BadInput
from gnomon.lazy import optional

BATCH = 500
"""Rows that are sent at once."""
EXACT = 2**53
"""Qdrant compares numbers as floats of 64 bits, which hold whole numbers up to here."""

_CLIENTS: WeakValueDictionary[str, Any] = WeakValueDictionary()
"""Folder -> open client: a folder is open once in a process, and in one process."""


class Qdrant:
    """An index of vectors in Qdrant, reference "qdrant:URL_OR_PATH#NAME". It always shows the newest rows.

    NAME is an alias of a collection: a build fills another one beside it, and then the alias moves. A point is numbered by a hash
    of its id, which lies in its payload with the columns, numbered too.
    """

    approximates = True

    def __init__(self, reference: str):
        self._reference = reference
        address, self._alias = split_reference(reference)
        self._address = address.partition(":")[2]
        self._models = optional("qdrant_client.models", "qdrant-client", "qdrant")
        if not _is_server(self._address) and not (Path(self._address) / "meta.json").exists():
            raise BadInput(f'There is no index in "{reference}". Build one first.')  # and no folder is left
        self._client = _client(self._address, reference)
        self.fingerprint: str = self._current()[1]["fingerprint"]
        """Of the encoder that made the vectors."""

    @classmethod
    def build(
        cls,
        reference: str,
        ids: Sequence[str],
        vectors: Floats,
        *,
        fingerprint: str,
        meta: Meta | None = None,
        anew: bool = False,
        approximate: bool = False,
    ) -> Qdrant:
        """A new index; arguments and errors as in `build_index`."""
        rows = checked(ids, vectors, meta)
        address, alias = split_reference(reference)
        models = optional("qdrant_client.models", "qdrant-client", "qdrant")
        client = _client(address.partition(":")[2], reference)
        before = _behind(client, alias)
        if before is not None and not anew:
            raise BadConfig(f'"{reference}" holds an index already. Open it, or build it anew.')
        name = f"{alias}.{uuid.uuid4().hex}"
        about = about_rows(rows, fingerprint, approximate=approximate)
        config = models.VectorParams(size=about["dim"], distance=models.Distance.DOT)
        client.create_collection(name, vectors_config=config, metadata=about)
        _upsert(client, name, rows, about["keys"])
        created = models.CreateAlias(collection_name=name, alias_name=alias)
        operations = [models.CreateAliasOperation(create_alias=created)]
        if before is not None:
            gone = models.DeleteAlias(alias_name=alias)
            operations.insert(0, models.DeleteAliasOperation(delete_alias=gone))
        client.update_collection_aliases(change_aliases_operations=operations)
        if before is not None:
            client.delete_collection(before)
        return cls(reference)

    @classmethod
    def open(cls, reference: str, *, fingerprint: str | None = None) -> Qdrant:
        """The index behind a reference; errors as in `open_index`."""
        index = cls(reference)
        check_fingerprint(reference, index.fingerprint, fingerprint)
        return index

    def _current(self) -> tuple[str, dict[str, Any]]:
        """The collection behind the alias, and its description."""
        name = _behind(self._client, self._alias)
        if name is None:
            raise BadInput(f'There is no index in "{self._reference}". Build one first.')
        about = self._client.get_collection(name).config.metadata
        if hasattr(self, "fingerprint"):
            check_fingerprint(self._reference, about["fingerprint"], self.fingerprint)
        return name, about

    def __len__(self) -> int:
        return int(self._client.count(self._current()[0], exact=True).count)

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        return sorted(self._ids(self._current()[0], None))

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._current()[1]["dim"])

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return sorted(self._current()[1]["kinds"])

    def _ids(self, name: str, chosen: Any) -> Iterator[str]:
        offset = None
        while True:
            points, offset = self._client.scroll(
                name, scroll_filter=chosen, limit=1000, offset=offset, with_payload=["id"]
            )
            yield from (point.payload["id"] for point in points)
            if offset is None:
                return

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Qdrant:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        rows = checked(ids, vectors, meta)
        name, about = self._current()
        check_fingerprint(self._reference, about["fingerprint"], fingerprint)
        check_length(about["dim"], rows.vectors, "these have")
        about = with_more(about, rows)
        self._client.update_collection(name, metadata=about)  # before the rows that need it
        _upsert(self._client, name, rows, about["keys"])
        return self

    def remove(self, ids: Sequence[str]) -> Qdrant:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        name, _ = self._current()
        points = [_number(i) for i in ids]
        records = self._client.retrieve(name, points, with_payload=["id"])
        check_has(ids, (record.payload["id"] for record in records))
        self._client.delete(name, self._models.PointIdsList(points=points), wait=True)
        return self

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there, or Qdrant has no such comparison.
        """
        name, about = self._current()
        wanted = conditions(where, about["kinds"])
        return sorted(self._ids(name, self._filter(wanted, about["keys"]))) if wanted else None

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`; bounds of texts are an error.

        Raises:
            BadInput: queries are of another length or not finite, a column is not there, or Qdrant has no such comparison.
        """
        name, about = self._current()
        queries = checked_queries(queries, k, about["dim"])
        wanted = conditions(where, about["kinds"])
        options = {
            "query_filter": self._filter(wanted, about["keys"]) if wanted else None,
            "with_payload": ["id"],
            "with_vectors": True,
        }
        if _is_server(self._address):  # the embedded twin is always exact
            options["search_params"] = self._models.SearchParams(exact=not about["approximate"])
        hits: list[list[Hit]] = []
        for query in queries:
            near = self._client.query_points(name, query.tolist(), limit=k + MORE, **options).points
            if len(near) == k + MORE:
                least = near[k - 1].score - slack(query, about["longest"])
                if near[-1].score >= least:  # more rows may tie than were fetched
                    count = self._client.count(name, exact=True).count
                    near = self._client.query_points(
                        name, query.tolist(), limit=count, score_threshold=least, **options
                    ).points
            vectors = np.array([point.vector for point in near], np.float32)
            names = [point.payload["id"] for point in near]
            hits.append(exact(names, vectors, query, k) if near else [])
        return hits

    def _filter(self, wanted: Sequence[Condition], keys: dict[str, str]) -> Any:
        return self._models.Filter(must=[self._condition(each, keys[each.column]) for each in wanted])

    def _condition(self, wanted: Condition, key: str) -> Any:
        models, any_of = self._models, []
        if wanted.kind == "float" and wanted.among:  # Qdrant compares numbers with a fraction by bounds alone
            ranges = [models.Range(gte=value, lte=value) for value in wanted.among]
            any_of += [models.FieldCondition(key=key, range=bounds) for bounds in ranges]
        elif wanted.kind != "null" and wanted.among:
            matches = [models.MatchValue(value=value) for value in wanted.among]
            any_of += [models.FieldCondition(key=key, match=match) for match in matches]
        if wanted.or_null:
            any_of.append(models.IsEmptyCondition(is_empty=models.PayloadField(key=key)))
        if wanted.bounds and wanted.kind in ("int", "float"):
            if any(abs(value) > EXACT for value in wanted.bounds.values() if isinstance(value, int)):
                raise BadInput(f'Qdrant cannot compare "{wanted.column}" with whole numbers beyond 2^53.')
            any_of.append(models.FieldCondition(key=key, range=models.Range(**wanted.bounds)))
        elif wanted.bounds and wanted.kind != "null":
            raise BadInput(
                f'Qdrant has no order of texts or truth values, so "{wanted.column}" cannot be compared by bounds.'
            )
        return models.Filter(should=any_of or [models.HasIdCondition(has_id=[])])


def _is_server(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _client(address: str, reference: str) -> Any:
    package = optional("qdrant_client", "qdrant-client", "qdrant")
    if _is_server(address):
        exceptions = optional("qdrant_client.http.exceptions", "qdrant-client", "qdrant")
        client = package.QdrantClient(
            url=address, api_key=os.environ.get("QDRANT_API_KEY"), check_compatibility=False
        )
        try:
            client.get_aliases()
        except (exceptions.ResponseHandlingException, exceptions.UnexpectedResponse) as error:
            raise BadConfig(f'"{reference}" cannot be reached: {error}') from error
        return client
    folder = str(Path(address).absolute())
    client = _CLIENTS.get(folder)
    if client is None:
        try:
            client = package.QdrantClient(path=folder, force_disable_check_same_thread=True)
        except RuntimeError as error:  # how it says that another process has the folder open
            raise BadConfig(f'"{reference}" is open in another process: {error}') from error
        _CLIENTS[folder] = client
    return client


def _behind(client: Any, alias: str) -> str | None:
    """The collection that an alias means."""
    names = {each.alias_name: each.collection_name for each in client.get_aliases().aliases}
    return names.get(alias)


def _number(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def _upsert(client: Any, name: str, rows: Rows, keys: dict[str, str]) -> None:
    models = optional("qdrant_client.models", "qdrant-client", "qdrant")
    points = [
        models.PointStruct(
            id=_number(key),
            vector=vector.tolist(),
            payload={"id": key, **{keys[column]: value for column, value in meta.items()}},
        )
        for key, vector, meta in zip(rows.ids, rows.vectors, rows.meta, strict=True)
    ]
    for first in range(0, len(points), BATCH):
        client.upsert(name, points[first : first + BATCH], wait=True)
