"""Applying a model to rows of any number: the step that core spreads over processes, and a share of the rows for each machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from gnomon.core.config import check
from gnomon.core.data.documents import Row, text_of
from gnomon.core.data.execute import Rejected, Tally
from gnomon.errors import BadInput
from gnomon.methods.sieve.fitting.model import (
    PASS,
    SCORE,
    VERSION,
    Card,
    SieveModel,
    check_rule,
    model_folder,
    read_card,
)

Keep = Literal["all", "pass"]
"""Write every row with its verdict, or only those that pass."""

T = TypeVar("T")


@dataclass(frozen=True)
class ApplyStep:
    """Rows in, rows with score, verdict and version out. A shard is scored in one go.

    Rows that cannot be read, have no text or hold no word are refused with the reason. The tally holds `scored`, `passed`,
    `snippets`, `above` (snippets at or above the threshold), and `outside`: snippets whose score lies outside the range seen in
    training.
    """

    folder: Path
    """Of the model."""
    version: str
    """Of the model: the work of another one is not continued."""
    text_field: str = "text"
    rule: str | None = None
    """How a document's snippets decide for it. None: as the model says."""
    keep: Keep = "all"
    threshold: float | None = None
    """Scores of this and above pass. None: as the model says."""

    @classmethod
    def of(
        cls,
        ref: str | Path,
        *,
        text_field: str = "text",
        rule: str | None = None,
        keep: Keep = "all",
        threshold: float | None = None,
        keep_share: float | None = None,
    ) -> ApplyStep:
        """The step of the model at `ref`; threshold and share as in `Card.at`.

        Raises:
            BadInput: no model is there, or it does not know its training stream.
            BadConfig: a choice is not among those there are, or out of range.
        """
        check(keep in ("all", "pass"), "keep", "all or pass", keep)
        if rule is not None:
            check_rule(rule)
        card = read_card(ref)
        other = card.at(threshold=threshold, keep_share=keep_share)
        return cls(
            model_folder(ref).absolute(),
            card.version,
            text_field,
            rule,
            keep,
            None if other is card else other.threshold,
        )

    @property
    def card(self) -> Card:
        """The model's card, with the threshold of the step."""
        return read_card(self.folder).at(threshold=self.threshold)

    @property
    def settings(self) -> dict[str, Any]:
        """What the output depends on; the place of the model is not part of it."""
        return {
            "version": self.version,
            "text_field": self.text_field,
            "rule": self.rule,
            "keep": self.keep,
        } | ({} if self.threshold is None else {"threshold": self.threshold})

    def __call__(self, rows: Iterator[Row]) -> Iterator[dict[str, Any] | Rejected | Tally]:
        """The rows of a shard with their verdicts."""
        model = _loaded(self.folder, self.version, self.rule, self.threshold)
        readable: list[tuple[dict[str, Any], str]] = []
        for row in rows:
            try:
                text = text_of(row, self.text_field)
                if not text.strip():
                    raise BadInput(f'{row.where}: field "{self.text_field}" holds no word.')
                readable.append((row.raw or {}, text))
            except BadInput as refusal:
                yield Rejected(str(refusal), row.raw)
        snippets, counts = model.score_snippets([text for _, text in readable])
        scores = model.join(snippets, counts)
        passed = model.decide(scores)
        for (raw, _), score, is_kept in zip(readable, scores.tolist(), passed.tolist(), strict=True):
            if is_kept or self.keep == "all":
                yield raw | {SCORE: score, PASS: is_kept, VERSION: self.version}
        yield Tally(
            {
                "scored": len(readable),
                "passed": int(passed.sum()),
                "snippets": len(snippets),
                "above": int(model.decide(snippets).sum()),
                "outside": int(model.is_outside(snippets).sum()),
            }
        )


def share_of(rows: Iterable[T], *, shards: int, shard: int, block: int) -> Iterator[T]:
    """Every `shards`-th block of rows, from block number `shard` on: the part of one machine of several.

    >>> list(share_of(range(9), shards=2, shard=1, block=2))
    [2, 3, 6, 7]
    """
    check(shards >= 1, "shards", ">= 1", shards)
    check(0 <= shard < shards, "shard", f"in 0..{shards - 1}", shard)
    check(block >= 1, "block", ">= 1", block)
    stream = iter(rows)
    number = 0
    while taken := list(islice(stream, block)):
        if number % shards == shard:
            yield from taken
        number += 1


def outside_note(outside: float, snippets: float) -> str:
    """A sentence about scores outside the range seen in training, of which 2% are to be expected.

    >>> outside_note(30, 100)
    '30.0% of the snippets score outside the range seen in training (2% is usual): the text may be of another kind.'
    """
    share = outside / snippets if snippets else 0.0
    note = f"{share:.1%} of the snippets score outside the range seen in training (2% is usual)"
    return f"{note}: the text may be of another kind." if share > 0.1 else f"{note}."


@lru_cache(maxsize=2)
def _loaded(folder: Path, version: str, rule: str | None, threshold: float | None) -> SieveModel:
    """The model of this process: a worker reads it once, not once a shard."""
    model = SieveModel.load(folder, rule=rule, threshold=threshold)
    if model.card.version != version:
        raise BadInput(f"{folder}: the model has changed since this job began. Start over with --fresh.")
    return model
