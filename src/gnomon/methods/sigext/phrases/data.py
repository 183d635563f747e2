"""Rows: documents with reference summaries, candidate phrases and labels; read, prepared in shards, and drawn for training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.documents import text_id
from gnomon.core.data.execute import Rejected, Tally
from gnomon.core.rng import Rng
from gnomon.core.text import check_language, stopwords
from gnomon.errors import BadInput
from gnomon.methods.sigext.phrases.labels import Rule, label
from gnomon.methods.sigext.phrases.phrases import Phrase, clean_scientific, cut, extract_phrases

DOCUMENT_TOKENS, REFERENCE_TOKENS = 6000, 510
"""Longest beginning of a document and of a summary that phrases are looked for in, in tokens of `phrases.tokens`."""


@dataclass(frozen=True)
class Reading:
    """Settings by which phrases are found and labelled; an extractor stores them with its weights."""

    language: str = "english"
    """Of stop words and stems."""
    scientific: bool = False
    """Collapse white space and fold markers such as @xcite12, as in the arXiv and PubMed sets."""
    rule: Rule = "code"
    """Rule of the labels, see `label`."""

    def __post_init__(self) -> None:
        check_language(self.language)

    def clean(self, text: str) -> str:
        """The text that phrases are found in and that a language model gets."""
        return clean_scientific(text) if self.scientific else text

    def phrases(self, document: str) -> list[Phrase]:
        """Candidates of a document that has been cleaned."""
        return extract_phrases(cut(document, DOCUMENT_TOKENS), stop=stopwords(self.language))

    def labels(self, phrases: Sequence[Phrase], summary: str) -> list[bool]:
        """Label each phrase: whether the summary contains it."""
        wanted = extract_phrases(cut(self.clean(summary), REFERENCE_TOKENS), stop=stopwords(self.language))
        references = [phrase.text for phrase in wanted]
        return label([phrase.text for phrase in phrases], references, self.rule, language=self.language)


@dataclass(frozen=True)
class Row:
    """A document, its reference summary where there is one, and its phrases once they are found."""

    id: str
    document: str
    """Cleaned text."""
    summary: str = ""
    """The reference summary; empty where there is none."""
    phrases: tuple[Phrase, ...] = ()
    """Candidates in reading order."""
    labels: tuple[bool, ...] = ()
    """Whether the summary contains each; empty without a summary."""
    meta: dict[str, Any] = field(default_factory=dict)
    """The other columns."""

    @property
    def n_positive(self) -> int:
        """Phrases that the summary says."""
        return sum(self.labels)


@dataclass(frozen=True)
class Columns:
    """Names of the columns."""

    document: str = "document"
    """Column of the document."""
    summary: str = "summary"
    """Column of the reference summary."""
    id: str = "id"
    """Column of the row's name; a hash of the document where it is missing."""


def read_rows(
    source: str | Path,
    reading: Reading | None = None,
    columns: Columns | None = None,
    *,
    need_summary: bool = True,
    limit: int | None = None,
) -> list[Row]:
    """The rows of a source with their phrases and, where there is a summary, their labels.

    Args:
        source: record files, a folder, a run folder, or `hf://name:split`.
        reading: how phrases are found; None takes the defaults.
        columns: their names.
        need_summary: whether a row without a reference summary is an error.
        limit: only so many from the start. None: all.

    Raises:
        BadInput: a column is missing or holds no text, a summary is empty, two rows have one id, or there is no row.
    """
    reading, columns = reading or Reading(), columns or Columns()
    rows: list[Row] = []
    seen: dict[str, str] = {}
    for where, raw in records.read_raw(source):
        if limit is not None and len(rows) == limit:
            break
        row = to_row(raw, reading, columns, where, need_summary=need_summary)
        if row.id in seen:
            raise BadInput(
                f'{where}: id "{row.id}" is that of {seen[row.id]} too. Ids must differ; name another column with --id-field.'
            )
        seen[row.id] = where
        rows.append(row)
    if not rows:
        raise BadInput(f"{source} holds no rows.")
    return rows


def to_row(
    raw: Mapping[str, Any], reading: Reading, columns: Columns, where: str, *, need_summary: bool = True
) -> Row:
    """One row, checked, with its phrases and labels.

    Raises:
        BadInput: as in `read_rows`.
    """
    document = _text(raw, columns.document, where, "document")
    summary = (
        _text(raw, columns.summary, where, "summary") if need_summary else raw.get(columns.summary) or ""
    )
    if not isinstance(summary, str):
        raise BadInput(f'{where}: field "{columns.summary}" must be a string; got {type(summary).__name__}.')
    name = raw.get(columns.id)
    if isinstance(name, (list, dict, bool)):
        raise BadInput(f'{where}: field "{columns.id}" is no name. Name another column with --id-field.')
    named = (columns.document, columns.summary, columns.id)
    document = reading.clean(document)
    row = Row(
        text_id(document) if name is None else str(name),
        document,
        summary,
        tuple(reading.phrases(document)),
        meta={key: value for key, value in raw.items() if key not in named},
    )
    return replace(row, labels=tuple(reading.labels(row.phrases, summary))) if summary.strip() else row


def _text(raw: Mapping[str, Any], column: str, where: str, what: str) -> str:
    if column not in raw:
        names = ", ".join(f'"{name}"' for name in list(raw)[:8]) or "no columns"
        raise BadInput(
            f'{where}: field "{column}" is missing; the row has {names}. Name the column with --{what}-field.'
        )
    text = raw[column]
    if not isinstance(text, str):
        raise BadInput(f'{where}: field "{column}" must be a string; got {type(text).__name__}.')
    if not text.strip():
        raise BadInput(f'{where}: field "{column}" is empty. Leave the row out, or mend it.')
    return text


def label_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of phrases and of positive ones."""
    phrases, positive = sum(len(row.phrases) for row in rows), sum(row.n_positive for row in rows)
    return {
        "documents": len(rows),
        "phrases": phrases,
        "phrases per document": phrases / len(rows) if rows else None,
        "positive": positive,
        "positive rate": positive / phrases if phrases else None,
        "documents without a positive": sum(row.n_positive == 0 for row in rows),
    }


# Rows for training


@dataclass(frozen=True)
class PrepareStep:
    """A data step from rows to rows with labelled phrases; a row that cannot be used is rejected with the reason."""

    reading: Reading
    """How phrases are found and labelled."""
    columns: Columns
    """Names of the columns."""

    def __call__(
        self, items: Iterator[tuple[str, dict[str, Any]]]
    ) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """The rows in order."""
        phrases = positive = 0
        for where, raw in items:
            try:
                row = to_row(raw, self.reading, self.columns, where)
            except BadInput as error:
                yield Rejected(str(error), raw)
                continue
            phrases += len(row.phrases)
            positive += row.n_positive
            labelled = [
                {"text": p.text, "start": p.start, "end": p.end, "label": int(is_positive)}
                for p, is_positive in zip(row.phrases, row.labels, strict=True)
            ]
            yield {**raw, self.columns.id: row.id, self.columns.document: row.document, "phrases": labelled}
        yield Tally({"phrases": float(phrases), "positive": float(positive)})


def checked(
    items: Iterable[tuple[str, dict[str, Any]]], id_field: str, limit: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first `limit` rows of a source.

    Raises:
        BadInput: two rows have one id.
    """
    seen: dict[str, str] = {}
    for number, (where, raw) in enumerate(items):
        if limit is not None and number >= limit:
            return
        name = raw.get(id_field)
        if name is not None and (before := seen.setdefault(str(name), where)) != where:
            raise BadInput(
                f'{where}: id "{name}" is that of {before} too. Ids must differ; name another column with --id-field.'
            )
        yield where, raw


@dataclass(frozen=True)
class Split:
    """Sources and numbers of the rows to train on and to validate with."""

    sources: tuple[str, ...]
    """Each gives an equal share of the rows."""
    validation: str | None = None
    """Source of the validation rows. None: rows of `sources` that are not trained on, at most a third."""
    n_train: int = 1000
    n_validation: int = 200
    limit: int | None = None
    """Only so many rows from the start of each source. None: all."""


def draw(split: Split, reading: Reading, columns: Columns, rng: Rng) -> tuple[list[Row], list[Row]]:
    """Draw training and validation rows at random, none in both.

    Args:
        split: sources and numbers.
        reading: how phrases are found.
        columns: names of the columns.
        rng: the order of the rows.

    Raises:
        BadInput: a row cannot be used, or the validation source shares a document with the training rows.
    """
    sources = split.sources
    train: list[Row] = []
    held_out: list[Row] = []
    for i, source in enumerate(sources):
        rows = read_rows(source, reading, columns, limit=split.limit)
        if len(sources) > 1:  # ids of different sets may be the same
            rows = [replace(row, id=f"{source}: {row.id}") for row in rows]
        rng.child("rows", i).python().shuffle(rows)
        n_held_out = (
            0 if split.validation else min(_share(split.n_validation, i, len(sources)), len(rows) // 3)
        )
        n_train = _share(split.n_train, i, len(sources))
        train += rows[n_held_out : n_held_out + n_train]
        held_out += rows[:n_held_out]
    if split.validation and split.n_validation:
        held_out = read_rows(split.validation, reading, columns, limit=split.n_validation)
    shared = {row.document for row in train} & {row.document for row in held_out}
    if split.validation and shared:
        raise BadInput(
            f"{len(shared)} validation documents are trained on as well: the threshold and the epoch would be chosen on known text."
        )
    return train, [row for row in held_out if row.document not in shared]


def _share(n: int, i: int, parts: int) -> int:
    """The i-th part of `n` things that are shared out as evenly as possible.

    >>> [_share(5, i, 3) for i in range(3)]
    [2, 2, 1]
    """
    return n // parts + (i < n % parts)
