"""A training set without labels: of each anchor's candidates the most similar are positives, the least similar hard negatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadInput
from gnomon.methods.uncertainty_rag.options import Choice
from gnomon.methods.uncertainty_rag.scoring.scores import similarity
from gnomon.methods.uncertainty_rag.training.chunks import are_near, plain


@dataclass(frozen=True)
class Mined:
    """A training set, and what to know of it."""

    rows: list[dict[str, Any]]
    """Per anchor: `anchor`, `anchor_text`, `positives`, `negatives` (ids), `positive_texts`, `negative_texts`."""
    figures: Mapping[str, Any]
    """Counts: rows, removed negatives, positives of the anchor's document, hubness."""


def hubness(candidates: Sequence[str], anchors: int) -> dict[str, float]:
    """How far few candidates are everybody's positives.

    Args:
        candidates: of each (anchor, positive), the positive.
        anchors: how many there are.

    Returns:
        `top 1%`: share of positives taken by the most used 1% of candidates (one at least); `most used`: anchors that the most
        used one is a positive of, over all; `skewness`: of how often a candidate is a positive (k-occurrence), 0 where all are
        used alike.

    >>> hubness(["a", "a", "b", "a"], 4)
    {'top 1%': 0.75, 'most used': 0.75, 'skewness': 0.0}
    """
    _, counts = np.unique(np.asarray(candidates, dtype=str), return_counts=True)
    counts = np.sort(counts)[::-1].astype(float)
    top = counts[: max(1, round(len(counts) / 100))].sum() / counts.sum()
    spread = counts.std()
    skew = ((counts - counts.mean()) ** 3).mean() / spread**3 if spread > 0 else 0.0
    return {"top 1%": float(top), "most used": float(counts[0] / anchors), "skewness": round(float(skew), 9)}


def build_training_set(columns: Mapping[str, Any], texts: Mapping[str, str], choice: Choice) -> Mined:
    """Positives and hard negatives of every anchor in a table of scored pairs.

    The best half of an anchor's candidates may become positives at most and the other half negatives, so that a short list never
    makes one candidate both. A negative never has the id or the text of the anchor or of a positive of it, nor nearly the text.

    Args:
        columns: of the table: `anchor`, `candidate`, `same_document` and the scores.
        texts: id -> text of all chunks.
        choice: score, centring, numbers.

    Raises:
        BadInput: a chunk of the table is not among the texts, or no anchor has two candidates.
    """
    values = similarity(columns, choice.by, choice.centre)
    groups: dict[str, list[int]] = defaultdict(list)
    for row_at, name in enumerate(columns["anchor"]):
        groups[str(name)].append(row_at)
    names = {*groups, *map(str, columns["candidate"])}
    if missing := names - texts.keys():
        raise BadInput(
            f'Chunk "{min(missing)}" is in the table and not among the chunks: they are of two runs.'
        )
    rows, removed, of_document, few = [], 0, 0, 0
    for anchor, places in groups.items():
        # Equal scores: the smaller id first, so that the order of the table decides nothing.
        ranked = sorted(places, key=lambda i: (-values[i], str(columns["candidate"][i])))
        if len(ranked) < 2:
            few += 1
            continue
        half = max(1, len(ranked) // 2)
        chosen = ranked[: min(choice.k_p, half)]
        positives = [str(columns["candidate"][i]) for i in chosen]
        least = [str(columns["candidate"][i]) for i in reversed(ranked[max(half, len(chosen)) :])]
        own = [texts[anchor], *(texts[name] for name in positives)]
        negatives: list[str] = []
        for name in least:
            if len(negatives) == choice.k_n:
                break
            if name in positives or name == anchor or _says_any(texts[name], own, choice.near):
                removed += 1
            else:
                negatives.append(name)
        of_document += sum(bool(columns["same_document"][i]) for i in chosen)
        rows.append(
            {
                "anchor": anchor,
                "anchor_text": texts[anchor],
                "positives": positives,
                "positive_texts": [texts[name] for name in positives],
                "negatives": negatives,
                "negative_texts": [texts[name] for name in negatives],
            }
        )
    if not rows:
        raise BadInput(
            "No anchor has two candidates or more, so there is nothing to prefer. Score with more candidates."
        )
    used = [name for row in rows for name in row["positives"]]
    figures = {
        "anchors": len(rows),
        "anchors left out, one candidate": few,
        "positives": len(used),
        "negatives": sum(len(row["negatives"]) for row in rows),
        "negatives removed, equal or near to a positive": removed,
        "positives of the anchor's document": of_document / len(used),
        **{f"hubness, {name}": value for name, value in hubness(used, len(rows)).items()},
    }
    return Mined(rows, figures)


def _says_any(text: str, others: Sequence[str], near: float) -> bool:
    """Whether a text says what one of the others says."""
    key = plain(text)
    return any(key == plain(other) or are_near(text, other, near) for other in others)


def hubness_of_all(columns: Mapping[str, Any], scores: Sequence[str], k_p: int) -> list[dict[str, Any]]:
    """The hubness of each score, plain and centred, had it chosen the `k_p` best of each anchor."""
    anchors = np.asarray(columns["anchor"], dtype=str)
    candidates = np.asarray(columns["candidate"], dtype=str)
    rows = []
    for name in scores:
        for centre in ("none", "candidate") if name != "gain_centred" else ("none",):
            values = similarity(columns, name, centre)
            used = candidates[_best_of_each(anchors, values, k_p)]
            row = {"score": name, "centre": centre, **hubness(used.tolist(), len(np.unique(anchors)))}
            rows.append(row)
    return rows


def _best_of_each(anchors: NDArray[Any], values: NDArray[np.float64], k: int) -> list[int]:
    places: dict[str, list[int]] = defaultdict(list)
    for i in np.argsort(-values, kind="stable").tolist():
        if len(places[anchors[i]]) < k:
            places[anchors[i]].append(i)
    return [i for of_anchor in places.values() for i in of_anchor]
