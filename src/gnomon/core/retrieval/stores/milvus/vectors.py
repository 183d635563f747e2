"""Vectors in Milvus: a server, or its embedded twin in a folder."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np

from gnomon.core.retrieval.hits import Hit, Where, conditions
from gnomon.core.retrieval.stores.contract import (
    MORE,
    Floats,
    Meta,
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
from gnomon.core.retrieval.stores.milvus.filters import Filter
from gnomon.core.retrieval.stores.milvus.server import BATCH, connected, key_of
from gnomon.errors import BadConfig, BadInput

WINDOW = 16_384
"""Rows that a server returns at once, at most."""
EF = 100
"""Candidates kept while searching a graph, at least."""


class Milvus:
    """An index of vectors in Milvus, reference "milvus:URL_OR_PATH#NAME". It always shows the newest rows.

    NAME is an alias of a collection: a build fills another one beside it, and then the alias moves. The primary key is a hash of a
    row's id. Columns are numbered (`c0`) in a field of JSON, where texts are written as the hexadecimal digits of their bytes: they
    sort as the texts do, and hold nothing that a filter could take for a part of itself.
    """

    approximates = True

    def __init__(self, reference: str):
        self._reference = reference
        address, name = split_reference(reference)
        self._alias = alias_of(name)
        self._at = connected(address.partition(":")[2], reference, new=False)
        collection, about = self._current()
        self._at.client.load_collection(collection)  # the twin forgets at its end what is loaded
        self.fingerprint: str = about["fingerprint"]
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
    ) -> Milvus:
        """A new index; arguments and errors as in `build_index`."""
        rows = checked(ids, vectors, meta)
        address, name = split_reference(reference)
        alias = alias_of(name)
        at = connected(address.partition(":")[2], reference, new=True)
        before = at.behind(alias)
        if before is not None and not anew:
            raise BadConfig(f'"{reference}" holds an index already. Open it, or build it anew.')
        if at.is_twin:  # of builds that died; on a server somebody else may be filling one
            at.sweep(alias, before)
        about = about_rows(rows, fingerprint, approximate=approximate)
        collection = f"{alias}_v{uuid.uuid4().hex}"
        at.create(collection, about)
        at.upsert(collection, rows, about["keys"])
        if before is None:
            at.client.create_alias(collection, alias)
        else:
            at.client.alter_alias(collection, alias)
            at.client.drop_collection(before)
        return cls(reference)

    @classmethod
    def open(cls, reference: str, *, fingerprint: str | None = None) -> Milvus:
        """The index behind a reference; errors as in `open_index`."""
        index = cls(reference)
        check_fingerprint(reference, index.fingerprint, fingerprint)
        return index

    def _current(self) -> tuple[str, dict[str, Any]]:
        """The collection behind the alias, and its description."""
        name = self._at.behind(self._alias)
        if name is None:
            raise BadInput(f'There is no index in "{self._reference}". Build one first.')
        about = json.loads(self._at.client.describe_collection(name)["properties"]["gnomon"])
        if hasattr(self, "fingerprint"):
            check_fingerprint(self._reference, about["fingerprint"], self.fingerprint)
        return name, about

    def __len__(self) -> int:
        return self._at.count(self._current()[0])

    @property
    def ids(self) -> list[str]:
        """In ascending order."""
        rows = self._at.rows(self._current()[0], Filter.all(), ["id"])
        return sorted(row["id"] for row in rows)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._current()[1]["dim"])

    @property
    def columns(self) -> list[str]:
        """What rows can be filtered by."""
        return sorted(self._current()[1]["kinds"])

    def add(
        self, ids: Sequence[str], vectors: Floats, *, fingerprint: str, meta: Meta | None = None
    ) -> Milvus:
        """The index with more rows, or with new vectors for rows that it has; errors as in `build` and `open`."""
        rows = checked(ids, vectors, meta)
        name, about = self._current()
        check_fingerprint(self._reference, about["fingerprint"], fingerprint)
        check_length(about["dim"], rows.vectors, "these have")
        about = with_more(about, rows)
        # Before the rows that need it: a client that dies in between leaves columns without values.
        self._at.client.alter_collection_properties(name, {"gnomon": json.dumps(about)})
        self._at.upsert(name, rows, about["keys"])
        return self

    def remove(self, ids: Sequence[str]) -> Milvus:
        """The index without some rows.

        Raises:
            BadInput: it has no such row.
        """
        name, _ = self._current()
        keys = [key_of(i) for i in ids]
        batches = [keys[first : first + BATCH] for first in range(0, len(keys), BATCH)]
        present = [row["id"] for batch in batches for row in self._at.client.get(name, batch, ["id"])]
        check_has(ids, present)
        for batch in batches:
            self._at.client.delete(name, ids=batch)
        return self

    def matching(self, where: Where | None) -> list[str] | None:
        """Ids of the rows that a filter leaves; None: all.

        Raises:
            BadInput: a column is not there.
        """
        name, about = self._current()
        wanted = conditions(where, about["kinds"])
        if not wanted:
            return None
        rows = self._at.rows(name, Filter.of(wanted, about["keys"]), ["id"])
        return sorted(row["id"] for row in rows)

    def search(self, queries: Floats, k: int, where: Where | None = None) -> list[list[Hit]]:
        """The k rows with the largest inner product, for each query.

        Args:
            queries: [Q, D].
            k: hits a query; fewer where the index, or what the filter leaves of it, has not as many.
            where: filter, see `Where`.

        Raises:
            BadInput: queries are of another length or not finite, or a column is not there.
        """
        name, about = self._current()
        queries = checked_queries(queries, k, about["dim"])
        wanted = conditions(where, about["kinds"])
        chosen = Filter.of(wanted, about["keys"]) if wanted else Filter.all()
        return [self._nearest(name, about, query, k, chosen) for query in queries]

    def _nearest(self, name: str, about: dict[str, Any], query: Floats, k: int, chosen: Filter) -> list[Hit]:
        """Hits of one query [D]; exact where more rows are needed than a server returns at once."""
        rows, more_may_tie = [], k + MORE > WINDOW
        if not more_may_tie:
            rows = self._at.near(name, query, k + MORE, chosen, {"ef": max(EF, k + MORE)})
            if len(rows) == k + MORE:
                least = rows[k - 1]["distance"] - slack(query, about["longest"])
                more_may_tie = rows[-1]["distance"] >= least
        if more_may_tie:
            rows = list(self._at.rows(name, chosen, ["id", "vector"]))
        vectors = np.array([row["vector"] for row in rows], np.float32)
        return exact([row["id"] for row in rows], vectors, query, k) if rows else []


def alias_of(name: str) -> str:
    """The alias of an index: Milvus takes letters, digits and _ alone.

    >>> alias_of("a-b_c")
    'gnomon_a_mb__c'
    """
    return "gnomon_" + name.replace("_", "__").replace("-", "_m")
