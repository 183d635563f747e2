"""What is asked of Milvus: a server, or its embedded twin, which runs in this process on a folder."""

from __future__ import annotations

import gc
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

from gnomon.core.retrieval.stores.contract import Floats, Rows
from gnomon.core.retrieval.stores.milvus.filters import Filter, encoded
from gnomon.errors import BadConfig, BadInput
from gnomon.lazy import optional

BATCH = 500
"""Rows that are sent at once."""
LONGEST_ID = 65_535
"""Bytes of an id, at most."""
LINKS, EF_BUILD = 32, 200
"""Neighbours a row is linked with in a graph, and the candidates kept while building."""
TIMEOUT_S = 10.0
"""How long a server may take to answer the first call."""

_TWINS: WeakValueDictionary[str, Twin] = WeakValueDictionary()
"""Folder -> open twin: a folder is open once in a process, and in one process."""


class Server:
    """What the store asks of a server, which takes the values of a filter beside its text."""

    is_twin = False

    def __init__(self, client: Any):
        self.client = client

    def behind(self, alias: str) -> str | None:
        """The collection that an alias means."""
        if not self.client.has_collection(alias):
            return None
        name: str = self.client.describe_alias(alias)["collection_name"]
        return name

    def sweep(self, alias: str, but: str | None) -> None:
        """Drop the collections of an alias which it does not mean."""
        for name in self.client.list_collections():
            if name.startswith(f"{alias}_v") and name != but:
                self.client.drop_collection(name)

    def create(self, name: str, about: dict[str, Any]) -> None:
        """A collection without rows."""
        types = optional("pymilvus", "pymilvus", "milvus").DataType
        schema = self.client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", types.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("id", types.VARCHAR, max_length=LONGEST_ID)
        schema.add_field("vector", types.FLOAT_VECTOR, dim=about["dim"])
        schema.add_field("meta", types.JSON)
        index = self.client.prepare_index_params()
        graph = {"index_type": "HNSW", "params": {"M": LINKS, "efConstruction": EF_BUILD}}
        index.add_index(
            "vector", metric_type="IP", **graph if about["approximate"] else {"index_type": "FLAT"}
        )
        properties = {"gnomon": json.dumps(about)}
        self.client.create_collection(
            name, schema=schema, index_params=index, properties=properties, consistency_level="Strong"
        )

    def upsert(self, name: str, rows: Rows, keys: Mapping[str, str]) -> None:
        """Put rows in, in batches."""
        for row in rows.ids:
            if len(row.encode()) > LONGEST_ID:
                raise BadInput(f'The id "{row[:40]}..." is too long: Milvus takes {LONGEST_ID:,} bytes.')
        points = [
            {
                "key": key_of(row),
                "id": row,
                "vector": vector,
                "meta": {keys[column]: encoded(value) for column, value in meta.items()},
            }
            for row, vector, meta in zip(rows.ids, rows.vectors, rows.meta, strict=True)
        ]
        for first in range(0, len(points), BATCH):
            self.client.upsert(name, points[first : first + BATCH])

    def count(self, name: str) -> int:
        """Rows of a collection."""
        (row,) = self.client.query(name, filter="", output_fields=["count(*)"])
        return int(row["count(*)"])

    def near(
        self, name: str, query: Floats, limit: int, chosen: Filter, options: dict[str, Any]
    ) -> list[dict[str, Any]]:
        """Rows with the largest inner product: id, vector and distance, which is the product."""
        (hits,) = self.client.search(
            name,
            [query.tolist()],
            limit=limit,
            output_fields=["id", "vector"],
            search_params={"metric_type": "IP", "params": options},
            **self._filtered(chosen),
        )
        return [{"distance": hit["distance"], **hit["entity"]} for hit in hits]

    def rows(self, name: str, chosen: Filter, fields: list[str]) -> Iterator[dict[str, Any]]:
        """All rows that a filter leaves."""
        pages = self.client.query_iterator(
            name,
            batch_size=BATCH,
            output_fields=fields,
            filter=chosen.text,
            expr_params=dict(chosen.values),  # pages call by this name what queries call filter_params
        )
        try:
            while page := pages.next():
                yield from page
        finally:
            pages.close()

    def _filtered(self, chosen: Filter) -> dict[str, Any]:
        return {"filter": chosen.text, "filter_params": dict(chosen.values)}


class Twin(Server):
    """The embedded twin of a server: it runs in this process, and takes no values beside a filter's text."""

    is_twin = True

    def __init__(self, folder: str, reference: str):
        server = optional("milvus_lite.adapter.grpc.server", "milvus-lite", "milvus")
        locked = optional("milvus_lite.exceptions", "milvus-lite", "milvus").DataDirLockedError
        try:
            listener, database, port = server.start_server_in_thread(folder, host="127.0.0.1")
        except locked as error:
            raise BadConfig(f'"{reference}" is open in another process: {error}') from error
        package = optional("pymilvus", "pymilvus", "milvus")
        client = package.MilvusClient(f"http://127.0.0.1:{port}", timeout=TIMEOUT_S)
        super().__init__(client)
        finalize(self, _stop, client, listener, database)  # at the end of the process too

    def create(self, name: str, about: dict[str, Any]) -> None:
        """A collection without rows."""
        super().create(name, about)
        # The client catches an error on the way, whose traceback holds the frames up to here, and with them the folder's lock.
        gc.collect()

    def rows(self, name: str, chosen: Filter, fields: list[str]) -> Iterator[dict[str, Any]]:
        """All rows that a filter leaves, at once: the twin has no limit, and warns of its pages."""
        yield from self.client.query(name, output_fields=fields, **self._filtered(chosen))

    def _filtered(self, chosen: Filter) -> dict[str, Any]:
        return {"filter": chosen.filled}


def _stop(client: Any, listener: Any, database: Any) -> None:
    client.close()
    listener.stop(grace=0.5).wait()  # at once when the client's connection is gone
    database.close()


def connected(address: str, reference: str, *, new: bool) -> Server:
    """The server at an address, or the twin in a folder.

    Raises:
        BadConfig: it cannot be reached, or another process has the folder open.
        BadInput: the folder is not there, and it is not to be made.
    """
    package = optional("pymilvus", "pymilvus", "milvus")
    if address.startswith(("http://", "https://")):
        try:
            token = os.environ.get("MILVUS_TOKEN", "")
            return Server(package.MilvusClient(address, token=token, timeout=TIMEOUT_S))
        except package.MilvusException as error:
            raise BadConfig(f'"{reference}" cannot be reached: {error.message}') from error
    folder = Path(address).absolute()
    if not new and not (folder / "LOCK").exists():
        raise BadInput(f'There is no index in "{reference}". Build one first.')  # and no folder is left
    twin = _TWINS.get(str(folder))
    if twin is None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _TWINS[str(folder)] = twin = Twin(str(folder), reference)
    return twin


def key_of(name: str) -> str:
    """The primary key of an id: 32 hexadecimal digits."""
    return uuid.uuid5(uuid.NAMESPACE_OID, name).hex
