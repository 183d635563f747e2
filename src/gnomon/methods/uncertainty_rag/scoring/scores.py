"""All scores of a pair from the same pass, each as a similarity: higher means more related."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.uncertainty_rag.options import Centre, Span
from gnomon.methods.uncertainty_rag.scoring.reading import Information, Reader
from gnomon.methods.uncertainty_rag.scoring.windows import uncertainty

Floats = NDArray[np.float64]

SCORES: Mapping[str, str] = {
    "span": "-U: span uncertainty, the paper's score",
    "span_other": "-U with the other direction of the threshold",
    "nll_all": "-mean of all tokens' information: plain perplexity of the joint text",
    "nll_cond": "-mean information of the second chunk given the first",
    "gain": "information of the second chunk alone, less that given the first, per token",
    "gain_centred": "gain, less the candidate's mean over its anchors",
    "bm25": "BM25 of the candidate for the anchor",
    "cosine": "cosine of an encoder's vectors",
}
"""Name -> what it is. Every one is a similarity."""

FREE = ("span", "span_other", "nll_all", "nll_cond", "gain", "gain_centred")
"""Those that come from the language model's one pass."""


@dataclass(frozen=True)
class PairScores:
    """The language model's scores of N pairs, all in nats per token."""

    U: Floats
    """Span uncertainty."""
    U_other: Floats
    """The same with the other direction of the threshold."""
    nll_all: Floats
    """Mean information of all predicted tokens."""
    nll_cond: Floats
    """Mean information of the second chunk given the first."""
    gain: Floats
    """Mean over the second chunk's tokens of what the first chunk saves."""
    n_windows: NDArray[np.int64]
    """Windows."""
    kept: NDArray[np.int64]
    """Windows that are kept."""
    fell_back: NDArray[np.bool_]
    """Whether none was kept, and the most extreme one stands in."""

    def columns(self) -> dict[str, list[Any]]:
        """Column -> values, as tables hold them."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}


def score_information(informations: Sequence[Information], alone: Sequence[Floats], span: Span) -> PairScores:
    """The scores of pairs that were read.

    Args:
        informations: of each pair.
        alone: of each pair's second chunk, read without the first; without a start token its first token is missing.
        span: with its sigma set.

    Raises:
        BadInput: there is no pair, or one has no predicted token.
    """
    if not informations:
        raise BadInput("There is no pair to score.")
    rows = [scoped(information, span) for information in informations]
    below, other = uncertainty(rows, span), uncertainty(rows, span.other_way())
    gains = [
        # Without a start token the first token is predicted in one of the two alone, and left out of both.
        float((bare - information.second[len(information.second) - len(bare) :]).mean()) if len(bare) else 0.0
        for information, bare in zip(informations, alone, strict=True)
    ]
    return PairScores(
        below.value,
        other.value,
        np.array([information.joint.mean() for information in informations]),
        np.array([information.second.mean() for information in informations]),
        np.array(gains),
        below.n_windows,
        below.kept,
        below.fell_back,
    )


def scoped(information: Information, span: Span) -> Floats:
    """The tokens that windows lie over."""
    return information.joint if span.scope == "joint" else information.second


def read_pairs(
    reader: Reader, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> tuple[list[Information], list[Floats]]:
    """The information of pairs, and of each second chunk alone, which is read once however often it comes."""
    seconds = list(dict.fromkeys(tuple(second) for _, second in pairs))
    alone = dict(zip(seconds, reader.alone(seconds), strict=True))
    return reader.read(pairs), [alone[tuple(second)] for _, second in pairs]


def similarity(columns: Mapping[str, Any], by: str, centre: Centre = "none") -> Floats:
    """The similarity of each row of a table, [N].

    Args:
        columns: name -> values: the columns of the score, and `candidate` where one is centred.
        by: one of `SCORES`.
        centre: `candidate` subtracts a candidate's mean over its anchors. A joint score holds the first chunk's own surprise, so
            that easy text looks certain beside every anchor.

    Raises:
        BadConfig: there is no such score.
        BadInput: the table does not hold it.
    """
    if by not in SCORES:
        raise BadConfig(f'There is no score "{by}". {nearest(by, SCORES)}')
    column, sign = {
        "span": ("U", -1),
        "span_other": ("U_other", -1),
        "nll_all": ("nll_all", -1),
        "nll_cond": ("nll_cond", -1),
        "gain_centred": ("gain", 1),
    }.get(by, (by, 1))
    if column not in columns:
        raise BadInput(
            f'The table has no score "{by}": it was made without. Its columns: {", ".join(columns)}.'
        )
    values = sign * np.asarray(columns[column], np.float64)
    if by == "gain_centred" or centre == "candidate":
        values = values - candidate_means(values, columns["candidate"])
    return values


def candidate_means(values: Floats, candidates: Sequence[Any]) -> Floats:
    """Each row's candidate's mean over its rows; of a candidate with one row, the mean over all rows.

    One row says nothing of what a candidate scores beside other anchors, and its own mean would make it 0.
    """
    _, row_at, counts = np.unique(np.asarray(candidates, dtype=str), return_inverse=True, return_counts=True)
    means = np.bincount(row_at, weights=values) / counts
    means[counts == 1] = values.mean()
    return np.asarray(means[row_at], np.float64)
