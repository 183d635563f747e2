"""Files of judged retrieval: TREC runs and qrels, and BEIR folders, read and written."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np

from gnomon.core.data.documents import Document
from gnomon.core.files import write_text
from gnomon.core.retrieval.hits import Hit, ranked
from gnomon.errors import BadInput


def write_run(path: Path, runs: Mapping[str, Sequence[Hit]], tag: str) -> None:
    """Write rankings as a TREC run of six columns.

    trec_eval sorts by score, and equal scores by DESCENDING id. So that it sees the order that is meant, a score that is not below
    the one before is written as the next float32 below that. White space in names is percent-encoded, as columns are split at it.

    Args:
        path: the file.
        runs: query -> hits, the best first.
        tag: name of the run, one word.

    Raises:
        BadInput: the tag has white space, or a score is not finite.
    """
    if not tag or re.search(r"\s", tag):
        raise BadInput(f'The name of a run is one word; got "{tag}".')
    lines = []
    for query, hits in runs.items():
        before = np.float32(math.inf)
        for rank, hit in enumerate(hits, 1):
            if not math.isfinite(hit.score):
                raise BadInput(f'The score of "{hit.id}" for query "{query}" is {hit.score}.')
            score = min(np.float32(hit.score), np.nextafter(before, np.float32(-math.inf)))
            lines.append(f"{_encoded(query)} Q0 {_encoded(hit.id)} {rank} {float(score)!r} {tag}\n")
            before = score
    write_text(path, "".join(lines))


def read_run(path: Path) -> dict[str, list[Hit]]:
    """Query -> hits of a TREC run, by falling score and ascending id; its own ranks are not asked, as trec_eval does not.

    Raises:
        BadInput: the file cannot be read; the message names its line.
    """
    scores: dict[str, dict[str, float]] = {}
    for where, columns in _columns(path, 6):
        query, name = unquote(columns[0]), unquote(columns[2])
        of_query = scores.setdefault(query, {})
        if name in of_query:
            raise BadInput(f'{where}: "{name}" comes twice for query "{query}".')
        of_query[name] = _number(columns[4], where)
    return {query: ranked(of_query.items()) for query, of_query in scores.items()}


def write_qrels(path: Path, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write judgements as TREC qrels of four columns; white space in names is percent-encoded."""
    rows = ((query, name, rel) for query, of_query in qrels.items() for name, rel in of_query.items())
    write_text(path, "".join(f"{_encoded(query)} 0 {_encoded(name)} {rel}\n" for query, name, rel in rows))


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query -> document -> relevance of TREC qrels, or of BEIR's (`.tsv` with a header and three columns).

    Raises:
        BadInput: the file cannot be read; the message names its line.
    """
    qrels: dict[str, dict[str, int]] = {}
    for where, (query, name, relevance) in _judgements(path):
        of_query = qrels.setdefault(query, {})
        if name in of_query and of_query[name] != relevance:
            raise BadInput(f'{where}: "{name}" is judged twice for query "{query}", in two ways.')
        of_query[name] = relevance
    return qrels


def _judgements(path: Path) -> Iterator[tuple[str, tuple[str, str, int]]]:
    if path.suffix != ".tsv":
        for where, columns in _columns(path, 4):
            yield where, (unquote(columns[0]), unquote(columns[2]), int(_number(columns[3], where)))
        return
    with _opened(path) as file:
        reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(reader, None)
        for number, row in enumerate(reader, 2):
            where = f"{path}, line {number}"
            if len(row) != 3:
                raise BadInput(f"{where}: wanted 3 columns; got {len(row)}.")
            yield where, (row[0], row[1], int(_number(row[2], where)))


@dataclass(frozen=True)
class Beir:
    """A BEIR folder: `corpus.jsonl`, `queries.jsonl` and `qrels/SPLIT.tsv`."""

    documents: dict[str, Document]
    """Id -> document: title and text with a blank line between, the title in `meta`."""
    queries: dict[str, str]
    """Id -> words."""
    qrels: dict[str, dict[str, int]]
    """Query -> document -> relevance, of one split."""


def read_beir(folder: Path, split: str = "test") -> Beir:
    """The corpus, the queries and the judgements of a split.

    Raises:
        BadInput: a file is missing or a line cannot be read; or a judgement names a query or document that is not there.
    """
    documents = {}
    for where, row in _lines(folder / "corpus.jsonl"):
        name, title, text = str(row["_id"]), str(row.get("title") or ""), str(row.get("text") or "")
        meta = {"title": title, **(row.get("metadata") or {})}
        documents[name] = Document(name, f"{title}\n\n{text}" if title else text, meta, where)
    queries = {str(row["_id"]): str(row["text"]) for _, row in _lines(folder / "queries.jsonl")}
    qrels = read_qrels(folder / "qrels" / f"{split}.tsv")
    for query, of_query in qrels.items():
        if query not in queries:
            raise BadInput(f'{folder}: query "{query}" is judged and not among the queries.')
        if strange := set(of_query) - documents.keys():
            raise BadInput(f'{folder}: document "{min(strange)}" is judged and not in the corpus.')
    return Beir(documents, queries, qrels)


def write_beir(folder: Path, data: Beir, split: str = "test") -> None:
    """Write a BEIR folder; names keep their white space, and must have no tab or line end.

    Raises:
        BadInput: a name has one.
    """
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    for name in (*data.documents, *data.queries):
        if re.search(r"[\t\r\n]", name):
            raise BadInput(f"The name {name!r} has a tab or a line end, which BEIR's tables are split at.")
    corpus = []
    for name, document in data.documents.items():
        title = str(document.meta.get("title", ""))
        text = document.text.removeprefix(f"{title}\n\n") if title else document.text
        metadata = {key: value for key, value in document.meta.items() if key != "title"}
        corpus.append({"_id": name, "title": title, "text": text, "metadata": metadata})
    write_text(folder / "corpus.jsonl", _jsonl(corpus))
    write_text(
        folder / "queries.jsonl", _jsonl({"_id": name, "text": text} for name, text in data.queries.items())
    )
    rows = [
        f"{query}\t{name}\t{rel}\n"
        for query, of_query in data.qrels.items()
        for name, rel in of_query.items()
    ]
    write_text(folder / "qrels" / f"{split}.tsv", "query-id\tcorpus-id\tscore\n" + "".join(rows))


def _jsonl(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise BadInput(f"{where}: {error}") from None
            if not isinstance(row, dict) or "_id" not in row:
                raise BadInput(f'{where}: a row needs the column "_id".')
            yield where, row


def _columns(path: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            columns = line.split()
            if not columns:
                continue
            if len(columns) != count:
                raise BadInput(f"{path}, line {number}: wanted {count} columns; got {len(columns)}.")
            yield f"{path}, line {number}", columns


def _opened(path: Path) -> Any:
    try:
        return path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}).") from None


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadInput(f'{where}: "{word}" is no number.') from None


def _encoded(name: str) -> str:
    """A name in one word; `unquote` gives it back."""
    return re.sub(r"[\s%]", lambda match: quote(match[0], safe=""), name)
