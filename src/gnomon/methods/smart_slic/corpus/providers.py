"""Papers from services on the network: OpenAlex and the Semantic Scholar Graph API, through one small client.

Every answer is kept in a folder under its request, so that a repeated command asks for nothing twice; a service that says its
day's budget is spent ends the work, with what came kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from gnomon.core.files import write_json
from gnomon.errors import BadConfig, BadInput, BudgetSpent, nearest
from gnomon.methods.smart_slic.corpus.papers import Paper

TRIES, LONGEST_WAIT_S, TIMEOUT_S = 4, 60.0, 60.0
"""Tries of a request that fails for a moment, the longest wait that a service may ask for, and that for an answer."""


@dataclass
class Client:
    """JSON over HTTP, kept by request.

    Args:
        base: of all addresses.
        folder: where answers are kept; None: nowhere.
        headers: sent with every request; not part of what an answer is kept under.
        budget: requests that may go over the network; None: any number.
        sleep: waits; seconds.
    """

    base: str
    folder: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    budget: int | None = None
    sleep: Callable[[float], None] = time.sleep
    n_asked: int = field(default=0, init=False)
    """Requests that went over the network."""
    n_kept: int = field(default=0, init=False)
    """Answers that were there already."""

    def ask(
        self, path: str, query: Mapping[str, str], secret: Mapping[str, str] | None = None, body: Any = None
    ) -> Any:
        """An answer, as JSON.

        Args:
            path: behind the base.
            query: of the address.
            secret: more of the query that no file holds, such as a key.
            body: posted as JSON; None: a GET.

        Raises:
            BudgetSpent: the budget is spent, or the service says that its own is.
            BadInput: the service refuses the request, cannot be reached, or answers no JSON.
        """
        name = hashlib.sha256(
            json.dumps([self.base, path, dict(query), body], sort_keys=True).encode()
        ).hexdigest()
        kept = None if self.folder is None else self.folder / f"{name}.json"
        if kept is not None and kept.is_file():
            self.n_kept += 1
            return json.loads(kept.read_text("utf-8"))
        address = f"{self.base}{path}?{urllib.parse.urlencode({**query, **(secret or {})})}"
        data = None if body is None else json.dumps(body).encode()
        headers = {
            **self.headers,
            "User-Agent": "gnomon",
            **({} if data is None else {"Content-Type": "application/json"}),
        }
        answer = self._fetched(urllib.request.Request(address, data, headers))
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, answer)
        return answer

    def _fetched(self, request: urllib.request.Request) -> Any:
        where = f"{self.base}{urllib.parse.urlsplit(request.full_url).path}"
        reason = ""
        for attempt in range(TRIES):
            if self.budget is not None and self.n_asked >= self.budget:
                raise BudgetSpent(
                    f"{self.budget} requests were asked, the budget of this run. Repeat the command to go on."
                )
            self.n_asked += 1
            wait = 2.0**attempt
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
                    return json.loads(reply.read())
            except urllib.error.HTTPError as error:
                reason = f"status {error.code}: {error.read()[:200].decode('utf-8', 'replace')}"
                if error.code == 429:
                    wait = _seconds(error.headers.get("Retry-After"), wait)
                    if wait > LONGEST_WAIT_S:
                        raise BudgetSpent(
                            f"{self.base} takes no more requests for {wait / 3600:.1f} hours: its budget for now is spent. What "
                            "came is kept; repeat the command then."
                        ) from None
                elif error.code < 500:
                    raise BadInput(f"{where} refused the request with {reason}") from None
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                reason = str(getattr(error, "reason", error))
            except ValueError as error:
                reason = f"no JSON ({error})"
            if attempt < TRIES - 1:
                self.sleep(wait)
        raise BadInput(f"{where} could not be asked, {TRIES} times: {reason}")


def _seconds(text: str | None, otherwise: float) -> float:
    try:
        return max(0.0, float(text or ""))
    except ValueError:
        return otherwise


@dataclass
class Service(ABC):
    """Papers of a service, in batches of ids.

    Args:
        client: asks.
        key: of the user; None: without one.
    """

    client: Client
    key: str | None = None
    n_failed: int = field(default=0, init=False)
    """Papers that came in a form that is none."""

    base: ClassVar[str]
    variable: ClassVar[str]
    """Environment variable of the key."""
    batch: ClassVar[int]
    """Ids a request."""

    def papers(self, ids: Sequence[str]) -> Mapping[str, Paper]:
        """Those of the ids that it has.

        Raises:
            BudgetSpent: it may not be asked further now; batches that came before are kept by the client.
            BadInput: it cannot be asked.
        """
        papers: dict[str, Paper] = {}
        for start in range(0, len(ids), self.batch):
            for raw in self._fetch(ids[start : start + self.batch]):
                try:
                    paper = self._paper(raw)
                except (KeyError, TypeError, ValueError, AttributeError):
                    self.n_failed += 1
                    continue
                papers[paper.id] = paper
        return papers

    @abstractmethod
    def _fetch(self, ids: Sequence[str]) -> list[Any]:
        """Raw papers of a batch."""

    @abstractmethod
    def _paper(self, raw: Any) -> Paper:
        """A paper out of its raw form."""


class OpenAlex(Service):
    """OpenAlex: ids such as W2741809807; `citations` are not known, as a work does not list who cites it."""

    base = "https://api.openalex.org"
    variable = "OPENALEX_API_KEY"
    batch = 50
    FIELDS = "id,doi,display_name,abstract_inverted_index,publication_year,authorships,referenced_works,primary_location,keywords"

    def _fetch(self, ids: Sequence[str]) -> list[Any]:
        query = {"filter": f"openalex_id:{'|'.join(ids)}", "per-page": str(self.batch), "select": self.FIELDS}
        secret = {} if self.key is None else {"api_key": self.key}
        return list(self.client.ask("/works", query, secret)["results"])

    def _paper(self, raw: Any) -> Paper:
        places = (raw.get("primary_location") or {}).get("source") or {}
        people = raw.get("authorships") or []
        countries = {code for person in people for code in person.get("countries") or ()}
        institutions = {
            i["display_name"]
            for person in people
            for i in person.get("institutions") or ()
            if i.get("display_name")
        }
        references = raw.get("referenced_works")
        return Paper(
            _short(raw["id"]), str(raw["display_name"] or "").strip() or _short(raw["id"]),
            words_in_order(raw.get("abstract_inverted_index")), raw.get("publication_year"),
            tuple(str(p["author"]["display_name"]) for p in people), tuple(_short(p["author"]["id"]) for p in people),
            tuple(sorted(institutions)), tuple(sorted(countries)), None if references is None else tuple(map(_short, references)),
            keywords=tuple(k["display_name"] for k in raw.get("keywords") or ()), venue=str(places.get("display_name") or ""),
            doi=str(raw.get("doi") or "").removeprefix("https://doi.org/"),
        )  # fmt: skip


class SemanticScholar(Service):
    """The Semantic Scholar Graph API: paper ids; a publisher that withholds references leaves them not known."""

    base = "https://api.semanticscholar.org/graph/v1"
    variable = "S2_API_KEY"
    batch = 100
    FIELDS = ",".join((
        "title,abstract,year,venue,externalIds,referenceCount", "authors.name,authors.authorId", "references.paperId",
        "citations.paperId",
    ))  # fmt: skip

    def _fetch(self, ids: Sequence[str]) -> list[Any]:
        rows = self.client.ask("/paper/batch", {"fields": self.FIELDS}, body={"ids": list(ids)})
        return [row for row in rows if row is not None]

    def _paper(self, raw: Any) -> Paper:
        people = raw.get("authors") or []
        ids = tuple(str(person.get("authorId") or "") for person in people)
        return Paper(
            str(raw["paperId"]), str(raw["title"]), str(raw.get("abstract") or ""), raw.get("year"),
            tuple(str(person["name"]) for person in people), ids if all(ids) else (),
            references=_links(raw, "references"), citations=_links(raw, "citations"), venue=str(raw.get("venue") or ""),
            doi=str((raw.get("externalIds") or {}).get("DOI") or ""),
        )  # fmt: skip


SERVICES: Mapping[str, type[Service]] = {"openalex": OpenAlex, "s2": SemanticScholar}


def open_service(reference: str, folder: Path, budget: int | None = None) -> Service:
    """A service by name, `openalex` or `s2`; behind `@` another address, such as a mirror.

    Args:
        reference: `openalex`, `s2`, `openalex@http://host`.
        folder: where answers are kept.
        budget: requests at most.

    Raises:
        BadConfig: there is no such service.
    """
    name, _, base = reference.partition("@")
    if name not in SERVICES:
        raise BadConfig(f'There is no provider "{name}". {nearest(name, SERVICES)}')
    kind = SERVICES[name]
    key = os.environ.get(kind.variable)
    headers = {"x-api-key": key} if key and kind is SemanticScholar else {}
    return kind(Client(base.rstrip("/") or kind.base, folder, headers, budget), key)


def words_in_order(inverted: Mapping[str, Sequence[int]] | None) -> str:
    """A text out of OpenAlex's table of words and their places.

    >>> words_in_order({"graphs": [0, 2], "of": [1]})
    'graphs of graphs'
    """
    places = [(at, word) for word, ats in (inverted or {}).items() for at in ats]
    return " ".join(word for _, word in sorted(places))


def _short(address: str) -> str:
    return str(address).rpartition("/")[2]


def _links(raw: Any, name: str) -> tuple[str, ...] | None:
    """Ids; not known where the service says that there are some and gives none."""
    rows = raw.get(name)
    if rows is None or (not rows and name == "references" and raw.get("referenceCount")):
        return None
    return tuple(str(row["paperId"]) for row in rows if row.get("paperId"))
