"""A pair looked at token by token: what each costs, which windows are kept, what the first chunk tells about the second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.models.sampling.text import token_texts
from gnomon.methods.uncertainty_rag.options import Span
from gnomon.methods.uncertainty_rag.scoring.reading import Ids, Reader
from gnomon.methods.uncertainty_rag.scoring.scores import PairScores, read_pairs, scoped, score_information
from gnomon.methods.uncertainty_rag.scoring.windows import calibrated, trace

BLOCKS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
"""Heights of a value in a terminal, from nothing to full."""


@dataclass(frozen=True)
class PairTrace:
    """What a pair's scores are made of."""

    first: list[tuple[str, float | None]]
    """Text and information (nats) of each token of the first chunk; None where it is not predicted."""
    second: list[tuple[str, float]]
    """Of the second chunk, given the first."""
    gains: list[float | None]
    """Per token of the second chunk, what the first one saves, in nats; None where it is not predicted alone."""
    covered: list[bool]
    """Per predicted token of the scope (see `Span.scope`), whether a kept window covers it."""
    windows: dict[str, Any]
    """`size`, and per window `mean`, `ratio` and `kept`; `fell_back`; `U`."""
    scores: dict[str, float]
    """U, nll_all, nll_cond, gain and the like."""
    sigma: float
    """The threshold."""
    is_joint: bool
    """Whether windows lie over both chunks."""

    def covered_second(self) -> list[bool]:
        """Whether a kept window covers each token of the second chunk."""
        return self.covered[len(self.covered) - len(self.second) :]

    def covered_first(self) -> list[bool]:
        """Whether a kept window covers each token of the first chunk."""
        if not self.is_joint:
            return [False] * len(self.first)
        n = len(self.covered) - len(self.second)
        return [False] * (len(self.first) - n) + self.covered[:n]


class SpanUncertainty:
    """Span uncertainty of pairs of texts, and the scores that come with it.

    Args:
        reader: reads pairs, see `LocalReader`.
        span: windows and threshold; where sigma is not set, `calibrate` sets it.
    """

    def __init__(self, reader: Reader, span: Span | None = None):
        self.reader, self.span = reader, span or Span()

    def calibrate(self, pairs: Sequence[tuple[str, str]]) -> Span:
        """Freeze sigma as the quantile of all windows of these pairs (first, second); returns the span with it."""
        informations = self.reader.read(self._encode(pairs))
        self.span = calibrated([scoped(i, self.span) for i in informations], self.span)
        return self.span

    def score(self, pairs: Sequence[tuple[str, str]]) -> PairScores:
        """The scores of pairs (first, second).

        Raises:
            BadConfig: sigma is not set.
            BadInput: a pair is longer than the model reads, or a text is empty.
        """
        return score_information(*read_pairs(self.reader, self._encode(pairs)), self.span)

    def trace(self, first: str, second: str) -> PairTrace:
        """One pair, token by token; errors as in `score`."""
        (pair,) = self._encode([(first, second)])
        informations, alone = read_pairs(self.reader, [pair])
        (information,), (bare,) = informations, alone
        scores = score_information(informations, alone, self.span)
        windows = trace(scoped(information, self.span), self.span)
        skipped = len(information.second) - len(bare)
        gains: NDArray[np.float64] = bare - information.second[skipped:]
        missing = len(pair[0]) - len(information.first)
        return PairTrace(
            [*zip(self._texts(pair[0]), [*[None] * missing, *information.first.tolist()], strict=True)],
            [*zip(self._texts(pair[1]), information.second.tolist(), strict=True)],
            [*[None] * skipped, *gains.tolist()],
            windows.pop("covered"),
            windows,
            {name: values[0] for name, values in scores.columns().items()},
            float(self.span.sigma or 0.0),
            self.span.scope == "joint",
        )

    def _encode(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        return [(self.reader.encode(a), self.reader.encode(b)) for a, b in pairs]

    def _texts(self, ids: Ids) -> list[str]:
        reader: Any = self.reader
        tokenizer = reader.lm.tokenizer if hasattr(reader, "lm") else reader.tokenizer
        return token_texts(tokenizer, ids)


def in_terminal(traced: PairTrace, *, colours: bool) -> str:
    """A trace as lines for a terminal.

    Args:
        traced: the pair.
        colours: by ANSI codes: the background rises with what a token costs, and what kept windows cover is underlined. False: kept
            stretches stand between `[` and `]`.
    """
    peak = (
        max([value for _, value in [*traced.first, *traced.second] if value is not None], default=1.0) or 1.0
    )
    lines = []
    for name, pairs, covered in (
        ("first ", traced.first, traced.covered_first()),
        ("second", traced.second, traced.covered_second()),
    ):
        lines.append(f"{name}  {_coloured(pairs, covered, peak) if colours else _bracketed(pairs, covered)}")
    ratios = traced.windows["ratio"]
    top = max(max(ratios), traced.sigma, 1e-9)
    bars = "".join(
        BLOCKS[1 + min(7, int(7 * max(r, 0) / top))] if keep else "\u00b7"
        for r, keep in zip(ratios, traced.windows["kept"], strict=True)
    )
    kept = sum(traced.windows["kept"])
    lines.append(
        f"kept    {bars}  {kept} of {len(ratios)} windows of {traced.windows['size']} tokens, threshold {traced.sigma:.3g}"
    )
    lines.append(
        "scores  "
        + ", ".join(
            f"{name} {value:.3f}" for name, value in traced.scores.items() if isinstance(value, float)
        )
    )
    return "\n".join(lines)


def _coloured(pairs: Sequence[tuple[str, float | None]], covered: Sequence[bool], peak: float) -> str:
    parts = []
    for (text, value), is_covered in zip(pairs, covered, strict=True):
        # 232 to 255 are greys, 52 to 196 reds in the palette of 256 colours: six steps of red, none for what costs nothing.
        step = 0 if value is None else min(5, int(6 * max(value, 0) / peak))
        shade = f"48;5;{(0, 52, 88, 124, 160, 196)[step]};" if step else ""
        parts.append(f"\x1b[{shade}{'4' if is_covered else '24'}m{_one_line(text)}\x1b[0m")
    return "".join(parts)


def _bracketed(pairs: Sequence[tuple[str, float | None]], covered: Sequence[bool]) -> str:
    text, is_open = "", False
    for (piece, _), is_covered in zip(pairs, covered, strict=True):
        if is_covered != is_open:
            text += "[" if is_covered else "]"
            is_open = is_covered
        text += _one_line(piece)
    return text + ("]" if is_open else "")


def _one_line(text: str) -> str:
    """A token on one line; control characters of a stranger's text never reach the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)
