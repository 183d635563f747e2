"""The index of a run: opened for search, and the questions that are put to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.models import ModelHandle
from gnomon.core.models.load import LoadConfig
from gnomon.core.retrieval import Search, Terms, TextEncoder, open_index
from gnomon.core.retrieval.answers import Confidence
from gnomon.core.retrieval.fusion import How
from gnomon.core.retrieval.rerankers import Gain, Start
from gnomon.errors import BadInput
from gnomon.methods.uncertainty_rag.training.chunks import read_chunks

ABOUT, CHUNKS = "index.json", "chunks.jsonl"
"""Within the folder of a run of `index`."""


def load_of(ref: str, device: str) -> LoadConfig | None:
    """How an encoder is loaded; a server loads by itself."""
    return None if ref.startswith(("http://", "https://")) else LoadConfig(device=device)


def open_search(
    folder: str | Path,
    mode: str = "both",
    how: How = "rrf",
    *,
    reranker: Gain | None = None,
    candidates: int = 100,
    device: str = "auto",
) -> Search:
    """The search over the index of a run.

    Args:
        folder: of a run of `index`.
        mode: `dense`, `terms` or `both`.
        how: both become one, see `gnomon.core.retrieval.fuse`.
        reranker: orders hits anew; None: none.
        candidates: hits taken from each source.
        device: where the encoder runs.

    Raises:
        BadInput: the folder holds no index.
        ModelMismatch: the retriever is another than the one that made the vectors.
    """
    folder = Path(folder)
    if not (folder / ABOUT).is_file():
        raise BadInput(f"{folder} is no run of index. Make one with `gnomon uncertainty-rag index`.")
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    passages = {p.id: p for p in read_chunks(folder / CHUNKS)}
    encoder = vectors = None
    if mode != "terms":
        encoder = TextEncoder.load(about["retriever"], load_of(about["retriever"], device))
        vectors = open_index(about["store"] or folder / "vectors", fingerprint=encoder.fingerprint)
    terms = None if mode == "dense" else Terms.open(folder / "terms")
    return Search(passages, encoder, vectors, terms, reranker, candidates, how)


def open_gain(ref: str | None, device: str, start: Start) -> Gain | None:
    """What measures the gain of a question from a passage; None where no model is named."""
    return (
        None
        if ref is None
        else Gain(ModelHandle.load(ref, LoadConfig(device=device), kind="causal"), start=start)
    )


def read_confidence(folder: str | None) -> Confidence | None:
    """The confidence that a run of `eval` fitted on labelled answers; None where none is named.

    Raises:
        BadInput: it fitted none.
    """
    if folder is None:
        return None
    path = Path(folder) / "confidence.json"
    if not path.is_file():
        raise BadInput(f"{folder} holds no confidence: its answers were too few, or all right or all wrong.")
    raw = json.loads(path.read_text("utf-8"))
    lists = {name: tuple(value) for name, value in raw.items() if isinstance(value, list)}
    return Confidence(**{**raw, **lists, "steps": tuple(map(tuple, raw["steps"]))})


def read_queries(source: str, field: str, id_field: str) -> dict[str, str]:
    """Name -> words of a file of questions; a row without a name has its number.

    Raises:
        BadInput: a row has no question, or two have one name.
    """
    queries: dict[str, str] = {}
    for where, raw in records.read_raw(source):
        name = str(raw.get(id_field, len(queries)))
        if name in queries:
            raise BadInput(f'{where}: the name "{name}" was there before.')
        queries[name] = _words(raw, field, where)
    return queries


def read_questions(
    source: str, field: str, answer_field: str, id_field: str, limit: int | None
) -> list[dict[str, Any]]:
    """Rows of `id`, `question` and `references`, which may be none.

    Raises:
        BadInput: a row has no question.
    """
    rows: list[dict[str, Any]] = []
    for where, raw in islice(records.read_raw(source), limit):
        answers = raw.get(answer_field) or []
        references = [answers] if isinstance(answers, str) else [str(answer) for answer in answers]
        name = str(raw.get(id_field, len(rows)))
        rows.append({"id": name, "question": _words(raw, field, where), "references": references})
    return rows


def _words(raw: Mapping[str, Any], field: str, where: str) -> str:
    text = raw.get(field)
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f'{where}: field "{field}" is missing or empty. Name the column with --query-field.')
    return text
