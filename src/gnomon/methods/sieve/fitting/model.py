"""A trained filter as one object: load it, score with it, or hand it to a data library as it is.

Its card, saved beside the weights, holds the threshold, the filter and their origin.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core import records
from gnomon.core.config import check, fingerprint
from gnomon.core.files import artifact, write_json
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.sieve.choosing.snippets import pieces_of
from gnomon.methods.sieve.fitting.calibration import KEPT
from gnomon.methods.sieve.students import Student, open_student

# The card.

CARD = "sieve.json"
"""Its file, beside the student's."""

RULES = ("any", "mean", "first")
"""How the snippets of a document decide for it: the best one, their mean, or the first one."""


@dataclass(frozen=True)
class Card:
    """Everything about a model but its weights."""

    filter: dict[str, Any]
    """The filter in words, with the keys of its file."""
    student: str
    """Reference that the student was opened with."""
    snippet_tokens: int
    """Longest snippet in training, in tokens of the student; applying cuts by the same rule."""
    threshold: float
    """What scores this or more passes."""
    objective: str
    """Objective of the threshold."""
    base_rate: float
    """Share of passes in the training stream, as the fitted curve knows it."""
    score_range: list[float]
    """1% and 99% quantile of the scores of the training stream."""
    judge: str
    """Name of the judge."""
    is_simulated: bool
    """True when the judge was a simulator."""
    labels: dict[str, int] = field(default_factory=dict)
    """How many labels of each kind it was trained on."""
    rule: str = "any"
    """One of `RULES`."""
    expected: dict[str, float] = field(default_factory=dict)
    """What the threshold is expected to do on the training stream, snippet by snippet: `pass rate`, `recall` and so on."""
    cuts: list[float] = field(default_factory=list)
    """Thresholds that keep the shares `calibration.KEPT` of the training stream; empty in models made before there were any."""
    stopped: str = ""
    """Why the fit ended before its budget of labels; empty when it did not."""
    version: str = ""
    """A hash of the weights and of this card; empty until saved."""

    def __post_init__(self) -> None:
        check_rule(self.rule)
        if len(self.score_range) != 2:
            raise BadInput(f"score_range must be two numbers, low and high; got {self.score_range!r}.")

    def at(self, *, threshold: float | None = None, keep_share: float | None = None) -> Card:
        """The card with another threshold: a score, or the one that keeps a share of the training stream; None twice: as it is.

        Raises:
            BadConfig: both are given, or one is out of range.
            BadInput: the model does not know its training stream.
        """
        if threshold is None and keep_share is None:
            return self
        if threshold is not None and keep_share is not None:
            raise BadConfig("threshold and keep_share say the same thing in two ways. Give one of them.")
        if keep_share is not None:
            least = float(KEPT[0])
            check(least <= keep_share <= 1, "keep_share", f"in {least:.2g}..1", keep_share)
            if not self.cuts:
                raise BadInput(
                    "The model was saved without the scores of its stream, so keep_share cannot be turned into a threshold. "
                    "Give a threshold, or repeat the fit."
                )
            threshold = float(np.interp(np.log(keep_share), np.log(KEPT), self.cuts))
        assert threshold is not None
        check(0 <= threshold <= 1, "threshold", "in 0..1", threshold)
        expected = {} if not self.cuts else {"pass rate": self.share_above(threshold)}
        return replace(self, threshold=threshold, objective="as given", expected=expected)

    def share_above(self, threshold: float) -> float:
        """Share of the training stream's snippets with this score or a higher one, from `cuts`."""
        return float(np.exp(np.interp(threshold, self.cuts[::-1], np.log(KEPT)[::-1])))

    def save(self, folder: Path) -> Card:
        """Write the card into the folder of a saved student; returns it with its version."""
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CARD)
        contents = [(str(p.relative_to(folder)), _digest(p)) for p in files]
        card = replace(self, version=fingerprint(asdict(replace(self, version="")), contents))
        write_json(folder / CARD, card)
        return card


def check_rule(rule: str) -> None:
    """Raise unless `rule` is one of `RULES`.

    Raises:
        BadConfig: it is not.
    """
    if rule not in RULES:
        raise BadConfig(f'There is no document rule "{rule}". {nearest(rule, RULES)}')


def model_folder(ref: str | Path) -> Path:
    """The folder of a saved model: `ref` itself, or what a run of `fit` left in it.

    Raises:
        BadInput: no model is there.
    """
    folder = artifact(Path(ref), "model")
    if not (folder / CARD).is_file():
        what = "does not exist" if not folder.exists() else f"holds no {CARD}"
        raise BadInput(f"{folder} {what}. Name the folder that `gnomon sieve fit` left, or the model in it.")
    return folder


def read_card(ref: str | Path) -> Card:
    """The card of a saved model.

    Raises:
        BadInput: no model is there, or its card cannot be read.
    """
    path = model_folder(ref) / CARD
    try:
        raw = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error}). Copy the whole folder of the model.") from None
    return records.parse(raw, Card, str(path))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


# The filter.

SCORE, PASS, VERSION = "sieve_score", "sieve_pass", "sieve_version"
"""Columns that applying a model adds."""

Floats = NDArray[np.float64]


class SieveModel:
    """A student with its threshold, its filter and its way to cut and join.

    It is a plain callable. `datasets.Dataset.map(model, batched=True)` and Ray's `map_batches(model, batch_format="numpy")` add the
    columns `sieve_score`, `sieve_pass` and `sieve_version`; `datasets.Dataset.filter(model.keep)`, Ray's `filter(model.keep)` and
    datatrove's `LambdaFilter(model.keep)` keep what passes. Copies in other processes load the saved folder on first use.

    Args:
        student: fitted.
        card: what its scores mean.
        folder: where both are saved; None for a model that is not saved yet.
        text_field: column of the text in rows and batches.
    """

    def __init__(
        self, student: Student | None, card: Card, folder: Path | None = None, *, text_field: str = "text"
    ) -> None:
        if student is None and folder is None:
            raise BadInput("A model needs a student, or the folder of a saved one.")
        self.card = card
        self.folder = folder
        self.text_field = text_field
        self._student = student

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        text_field: str = "text",
        rule: str | None = None,
        threshold: float | None = None,
        keep_share: float | None = None,
    ) -> SieveModel:
        """The model in a folder; its weights are read on first use.

        Args:
            folder: what `gnomon sieve fit` left: the run folder, or the model folder in it.
            text_field: column of the text in rows and batches.
            rule: how a document's snippets decide for it. None: as the card says.
            threshold: scores of this and above pass. None: as the card says.
            keep_share: in place of a threshold, the share of the training stream's snippets that is to pass.

        Raises:
            BadInput: no model is there.
            BadConfig: there is no such rule, or threshold or share are out of range.
        """
        card = read_card(folder).at(threshold=threshold, keep_share=keep_share)
        if rule is not None:
            check_rule(rule)
            card = replace(card, rule=rule)
        return cls(None, card, model_folder(folder).absolute(), text_field=text_field)

    def save(self, folder: Path) -> SieveModel:
        """Write student and card; returns the model as it can be loaded from there."""
        self.student.save(folder)
        return SieveModel(self.student, self.card.save(folder), folder.absolute(), text_field=self.text_field)

    @property
    def student(self) -> Student:
        """The student, loaded now if it was not yet."""
        if self._student is None:
            assert self.folder is not None
            self._student = open_student(self.folder)
        return self._student

    def score(self, texts: Sequence[str]) -> Floats:
        """Score of each text, [N], 0..1: of its best snippet, their mean or the first, as the rule says; NaN without a word."""
        return self.join(*self.score_snippets(texts))

    def passes(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each text passes, [N]; a text without a word does not."""
        return self.decide(self.score(texts))

    def decide(self, scores: Floats) -> NDArray[np.bool_]:
        """Whether each score passes, [N]; NaN does not."""
        return scores >= self.card.threshold

    def score_snippets(self, texts: Sequence[str]) -> tuple[Floats, NDArray[np.int64]]:
        """Scores of the snippets of all texts one after another, [S], and how many snippets each text has, [N]."""
        spans_of, limit = self.student.token_spans, self.card.snippet_tokens
        pieces = [[text[a:b] for a, b in pieces_of(text, spans_of, limit)] for text in texts]
        counts = np.array([len(own) for own in pieces], dtype=np.int64)
        flat = list(chain.from_iterable(pieces))
        return (self.student.predict(flat) if flat else np.empty(0)), counts

    def join(self, scores: Floats, counts: NDArray[np.int64]) -> Floats:
        """Score of each text, [N], from what `score_snippets` gives."""
        joined = np.full(len(counts), np.nan)
        has_words = counts > 0
        if not has_words.any():
            return joined
        starts = (np.cumsum(counts) - counts)[has_words]
        if self.card.rule == "any":
            joined[has_words] = np.maximum.reduceat(scores, starts)
        elif self.card.rule == "mean":
            joined[has_words] = np.add.reduceat(scores, starts) / counts[has_words]
        else:
            joined[has_words] = scores[starts]
        return joined

    def is_outside(self, scores: Floats) -> NDArray[np.bool_]:
        """Whether each snippet's score lies outside the range that holds 98% of the training stream's."""
        low, high = self.card.score_range
        return (scores < low) | (scores > high)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """A batch of columns with the three columns of the model added: arrays for arrays, lists for lists.

        Raises:
            BadInput: the batch is no mapping of columns, or its texts are no strings.
        """
        column = self._column(batch)
        if isinstance(column, str):
            raise BadInput(
                "The model takes batches of rows: use map(model, batched=True), or model.keep for one row."
            )
        scores = self.score(_strings(column, self.text_field))
        added: dict[str, Any] = {
            SCORE: scores,
            PASS: self.decide(scores),
            VERSION: np.full(len(scores), self.card.version),
        }
        if not isinstance(column, np.ndarray):
            added = {name: values.tolist() for name, values in added.items()}
        return {**batch, **added}

    def keep(self, item: Any) -> bool | list[bool]:
        """Whether a text, a row or a document passes; for a batch of columns, one answer per row.

        Args:
            item: a string, a mapping (row or batch), or an object with an attribute `text`.

        Raises:
            BadInput: it is none of these.
        """
        if not isinstance(item, (str, Mapping)):
            item = getattr(item, "text", item)
        text = item if isinstance(item, str) else self._column(item)
        if isinstance(text, str):
            return bool(self.passes([text])[0])
        return [bool(is_kept) for is_kept in self.passes(_strings(text, self.text_field))]

    def _column(self, batch: Any) -> Any:
        if not isinstance(batch, Mapping):
            raise BadInput(
                f"The model takes columns by name, such as {{{self.text_field!r}: [...]}}; got {type(batch).__name__}. "
                'For Ray, set batch_format="numpy".'
            )
        if self.text_field not in batch:
            raise BadInput(
                f'The batch has no column "{self.text_field}"; it has {", ".join(map(str, batch))}. '
                "Name the column with SieveModel.load(folder, text_field=...)."
            )
        return batch[self.text_field]

    def __getstate__(self) -> dict[str, Any]:
        if self.folder is None:
            raise BadInput(
                "Only a saved model can go to other processes. Call save, and use what it returns."
            )
        return {"card": self.card, "folder": self.folder, "text_field": self.text_field}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_student": None}


def _strings(column: Any, name: str) -> list[str]:
    texts = list(column)
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise BadInput(
                f'Row {row} of the batch: column "{name}" must hold text; got {type(text).__name__}.'
            )
    return texts
