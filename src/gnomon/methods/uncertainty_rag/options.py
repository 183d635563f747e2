"""Options of scores, mining and training, and the miniature's claims; nothing heavy, since the command line reads them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from gnomon.core.claims import Claim
from gnomon.core.config import check
from gnomon.core.retrieval.passages import Cut

__all__ = ["CLAIMS", "By", "Centre", "Choice", "Contrast", "Cut", "Layout", "Pool", "Sampling", "Span"]

By = Literal["span", "span_other", "nll_all", "nll_cond", "gain", "gain_centred", "bm25", "cosine"]
Centre = Literal["none", "candidate"]
Sampling = Literal["random", "kmeans", "knn_spread"]


@dataclass(frozen=True)
class Span:
    """How windows become an uncertainty. Defaults are the paper's where it is certain."""

    window: int = 20
    """Tokens a window, w; stride 1. A shorter pair has one window of its full length."""
    quantile: float = 0.3
    """Sigma as the quantile of all windows' ratios on a sample of pairs; frozen after that. Used where sigma is None."""
    sigma: float | None = None
    """Threshold of the ratio, in the unit of `snr`; None: by `quantile`."""
    direction: Literal["below", "above"] = "below"
    """Which windows are kept: those whose ratio is below sigma (the paper), or above it."""
    signal: Literal["information", "probability"] = "information"
    """What the ratio is taken of: -ln p (nats) or p. Means are of -ln p either way."""
    snr: Literal["ratio", "db"] = "ratio"
    """Mean over standard deviation, or 20 log10 of it."""
    scope: Literal["joint", "second"] = "joint"
    """Windows over both chunks, or within the second one alone."""
    average: Literal["windows", "tokens"] = "windows"
    """Mean of the kept windows' means, or over the tokens that they cover, each once."""

    def __post_init__(self) -> None:
        check(self.window >= 1, "span.window", ">= 1", self.window)
        check(0 < self.quantile < 1, "span.quantile", "within (0, 1)", self.quantile)
        check(self.sigma is None or math.isfinite(self.sigma), "span.sigma", "finite", self.sigma)

    def other_way(self) -> Span:
        """The same with the other direction: what is kept here is dropped there."""
        return replace(self, direction="above" if self.direction == "below" else "below")


@dataclass(frozen=True)
class Layout:
    """How a pair is put to the model: `[start] first separator second`.

    Ids are put together and not strings, so that no token changes at the seam.
    """

    order: Literal["candidate", "anchor"] = "candidate"
    """Which of the two stands first. The other one is what `nll_cond` and `gain` are about."""
    start: Literal["bos", "eos", "none"] = "bos"
    """Token in front. A chat model's bos may be the mark of a turn and no beginning of a text: see the page."""
    separator: str = "\n"
    """Between the two."""


@dataclass(frozen=True)
class Pool:
    """Which chunks become anchors and candidates. Defaults are the paper's, but for the random candidates."""

    n_anchors: int = 1000
    """Anchors, at most."""
    anchor_sampling: Sampling = "random"
    """random; kmeans: the chunk next to each centre of a clustering of the encoder's vectors; knn_spread: one at random, its
    nearest neighbours left out, and so on."""
    m: int = 100
    """Candidates of each anchor by BM25."""
    n_random: int = 20
    """Random ones beside them: what shares no word with the anchor is never found by BM25."""
    n_encoder: int = 0
    """And the nearest by --encoder."""
    min_gap: int = 1
    """Chunks that lie at least between an anchor and a candidate of its document, so that "next piece" is not what is learned."""
    near: float = 0.9
    """Similarity from which two chunks say the same: such a candidate is left out."""

    def __post_init__(self) -> None:
        check(self.n_anchors >= 1, "pool.n_anchors", ">= 1", self.n_anchors)
        for name in ("m", "n_random", "n_encoder", "min_gap"):
            check(getattr(self, name) >= 0, f"pool.{name}", ">= 0", getattr(self, name))
        check(
            self.m + self.n_random + self.n_encoder >= 2,
            "pool.m",
            "so that there are two candidates or more",
            self.m,
        )
        check(0 < self.near <= 1, "pool.near", "within (0, 1]", self.near)


@dataclass(frozen=True)
class Choice:
    """How positives and negatives are chosen. Defaults are the paper's."""

    by: By = "span"
    """The score. What the self-check recommends is often another one."""
    centre: Centre = "none"
    """candidate: less the candidate's mean over its anchors, so that easy text is not everybody's positive."""
    k_p: int = 20
    """Most similar candidates that become positives."""
    k_n: int = 20
    """Least similar ones that become hard negatives."""
    near: float = 0.9
    """Similarity from which a negative says what a positive or the anchor says, and is left out."""

    def __post_init__(self) -> None:
        check(self.k_p >= 1, "k_p", ">= 1", self.k_p)
        check(self.k_n >= 0, "k_n", ">= 0", self.k_n)
        check(0 < self.near <= 1, "near", "within (0, 1]", self.near)


@dataclass(frozen=True)
class Contrast:
    """What a step compares. Defaults are the paper's where it is certain."""

    temperature: float = 0.05
    """Divides cosines."""
    hard: int = 1
    """Hard negatives of each anchor a step."""
    two_stage: bool = False
    """First all epochs with the batch's other passages alone, then as many with hard negatives."""

    def __post_init__(self) -> None:
        check(self.temperature > 0, "temperature", "> 0", self.temperature)
        check(self.hard >= 0, "hard", ">= 0", self.hard)


PAPER = "UncertaintyRAG, arXiv 2410.02719"

CLAIMS = (
    Claim(
        "Miniature: span uncertainty tells related pairs better than plain perplexity of the joint text",
        f"{PAPER}: span uncertainty as similarity",
        "AUC: span > nll_all",
        margin=0.10,
        part="world",
    ),
    Claim(
        "Miniature: windows whose ratio is below the threshold are the ones to trust, not those above",
        f"{PAPER}: threshold of the signal-to-noise ratio",
        "AUC: span > span_other",
        margin=0.15,
        part="world",
    ),
    *(
        Claim(
            f"Miniature: a retriever trained on it without labels beats {words} {where}",
            f"{PAPER}: unlabelled training under distribution shift",
            f"{metric}: span > {rival}",
            margin=margin,
            part="world",
        )
        for metric, where, margin in (("MRR", "in distribution", 0.04), ("MRR, shifted", "under shift", 0.02))
        for rival, words in (
            ("BM25 itself", "BM25"),
            ("bm25", "one trained on BM25's positives"),
            ("random", "one trained on random positives"),
        )
    ),
    Claim(
        "Against the paper's score: plain conditional likelihood, a free baseline, trains a retriever that is no worse",
        "control: conditional likelihood",
        "MRR: nll_cond >= span",
        required=False,
        part="world",
    ),
    Claim(
        "Against the paper's score: on real text the gain of the second chunk from the first tells related pieces better than span",
        "control: pieces of one abstract with a gap",
        "AUC with a gap: gain > span",
        required=False,
        part="gap",
    ),
)
"""What the miniature tests, with the specification's thresholds, and beside it what speaks against the paper's particular score."""
