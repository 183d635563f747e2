"""Span uncertainty: windows over the self-information of a pair's tokens, the trusted ones by their signal-to-noise ratio.

All windows of all pairs are worked out at once from cumulative sums in float64.

Source: UncertaintyRAG (2410.02719), section on span-level uncertainty. The exact window and threshold of the paper are not certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag.options import Span

Floats = NDArray[np.float64]

EPSILON = 1e-6
"""Added to the standard deviation, so that a constant window has a huge ratio and not an infinite one."""
ROUNDING = 1e-12
"""Variance of a window, over the largest square of its row, that cumulative sums cannot tell from 0."""
BLOCK = 1 << 20
"""Values worked on at once: what fits a processor's cache is several times faster."""


@dataclass(frozen=True)
class Uncertainty:
    """Span uncertainty of N pairs."""

    value: Floats
    """U, in nats per token: higher is less certain; [N]."""
    n_windows: NDArray[np.int64]
    """Windows, [N]."""
    kept: NDArray[np.int64]
    """Those that are kept, [N]; 1 where none was and the fallback is used."""
    fell_back: NDArray[np.bool_]
    """Whether no window was kept and the single most extreme one stands in, [N]."""


@dataclass(frozen=True)
class Windows:
    """The windows of a block of pairs, padded to the longest."""

    information: Floats
    """-ln p of each token, [B, T]; 0 at padding."""
    lengths: NDArray[np.int64]
    """Tokens of each pair, [B]."""
    mean: Floats
    """Mean information of each window, [B, W]; NaN where there is no such window."""
    ratio: Floats
    """Signal-to-noise ratio of each window, [B, W]; NaN where there is no such window."""
    size: NDArray[np.int64]
    """Tokens of the windows of each pair: w, or the pair's length where it is shorter; [B]."""

    @property
    def exists(self) -> NDArray[np.bool_]:
        """True at windows that there are, [B, W]."""
        return ~np.isnan(self.mean)


def windows_of(rows: Sequence[Floats], span: Span) -> Windows:
    """Mean and ratio of every window of every row.

    Args:
        rows: -ln p of the tokens of each pair, any lengths.
        span: window, signal and unit of the ratio.

    Raises:
        BadInput: a row has no token, or a value is not finite.
    """
    lengths = np.array([len(row) for row in rows], np.int64)
    if not len(rows) or not lengths.min():
        raise BadInput("A pair has no predicted token. Leave empty chunks out.")
    width = int(lengths.max())
    information = np.zeros((len(rows), width))
    for row, values in zip(information, rows, strict=True):
        row[: len(values)] = values
    if not np.isfinite(information).all():
        raise BadInput("The information of a token is not finite.")
    size = np.minimum(span.window, lengths)
    signal = information if span.signal == "information" else np.exp(-information)
    last = np.maximum(lengths - size, 0)
    starts = np.arange(int(last.max()) + 1)
    exists = starts <= last[:, None]
    mean = np.where(exists, _sums(information, starts, size) / size[:, None], np.nan)
    # Centred by each row's own mean first: a difference of two large sums of squares would lose what is small.
    centre = np.array([row[:n].mean() for row, n in zip(signal, lengths, strict=True)])[:, None]
    centred = signal - centre
    middle = _sums(centred, starts, size) / size[:, None]
    squares = _sums(centred * centred, starts, size) / size[:, None]
    variance = squares - middle**2
    # Below this there is nothing but rounding, by which constant windows would differ.
    noise = ROUNDING * (centred * centred).max(1, keepdims=True)
    spread = np.sqrt(np.where(variance > noise, variance, 0))
    ratio = (middle + centre) / (spread + EPSILON)
    if span.snr == "db":
        ratio = 20 * np.log10(np.maximum(ratio, np.finfo(float).tiny))
    return Windows(information, lengths, mean, np.where(exists, ratio, np.nan), size)


def _sums(values: Floats, starts: NDArray[np.int64], size: NDArray[np.int64]) -> Floats:
    """Sums over windows, [B, W]; beyond the last window they mean nothing."""
    total = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=total[:, 1:])
    width = values.shape[1]
    first = np.minimum(starts, width)
    if (size == size[0]).all():
        last = np.minimum(starts + int(size[0]), width)
        return total[:, last] - total[:, first]
    last = np.minimum(starts[None] + size[:, None], width)
    return np.take_along_axis(total, last, 1) - total[:, first]


def kept_windows(windows: Windows, span: Span) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which windows are kept, [B, W], and which rows fell back on the single most extreme one, [B].

    Raises:
        BadConfig: sigma is not set.
    """
    if span.sigma is None:
        raise BadConfig("Sigma is not set: calibrate it on a sample of pairs first, or set span.sigma.")
    with np.errstate(invalid="ignore"):
        kept = windows.ratio < span.sigma if span.direction == "below" else windows.ratio > span.sigma
    fell_back = np.asarray(~kept.any(1))
    if fell_back.any():
        ratio = windows.ratio[fell_back]
        at = np.nanargmin(ratio, 1) if span.direction == "below" else np.nanargmax(ratio, 1)
        kept[np.flatnonzero(fell_back), at] = True
    return kept, fell_back


def covered(windows: Windows, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tokens that a kept window covers, [B, T]."""
    rows, starts = np.nonzero(kept)
    edges = np.zeros((kept.shape[0], windows.information.shape[1] + 1), np.int64)
    np.add.at(edges, (rows, starts), 1)
    np.add.at(edges, (rows, starts + windows.size[rows]), -1)
    return np.cumsum(edges[:, :-1], axis=1) > 0


def uncertainty(rows: Sequence[Floats], span: Span) -> Uncertainty:
    """Span uncertainty of each row.

    Args:
        rows: -ln p of the tokens of each pair in the span's scope.
        span: with its sigma set.

    Raises:
        BadConfig: sigma is not set.
        BadInput: as in `windows_of`.
    """
    n = len(rows)
    value, counts, kept_n, fell = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
    # Rows of one length side by side need no padding.
    order = sorted(range(n), key=lambda i: (len(rows[i]), i))
    while order:
        width = max(1, len(rows[order[min(len(order), 64) - 1]]))
        part, order = order[: max(1, BLOCK // width)], order[max(1, BLOCK // width) :]
        windows = windows_of([rows[i] for i in part], span)
        kept, fell[part] = kept_windows(windows, span)
        counts[part], kept_n[part] = windows.exists.sum(1), kept.sum(1)
        if span.average == "windows":
            value[part] = np.where(kept, windows.mean, 0).sum(1) / kept.sum(1)
        else:
            mask = covered(windows, kept)
            value[part] = (windows.information * mask).sum(1) / mask.sum(1)
    return Uncertainty(value, counts, kept_n, fell)


def calibrated(rows: Sequence[Floats], span: Span) -> Span:
    """The span with its sigma frozen: as it is where that is set, else the quantile of all windows of a sample of pairs.

    A quantile taken anew for each call would make a pair's uncertainty depend on the others beside it.

    Raises:
        BadInput: there is no pair.
    """
    if span.sigma is not None:
        return span
    windows = windows_of(rows, span)
    return replace(span, sigma=float(np.quantile(windows.ratio[windows.exists], span.quantile)))


def trace(row: Floats, span: Span) -> dict[str, Any]:
    """What a pair's uncertainty is made of: `mean`, `ratio` and `kept` of each window, `covered` of each token, the numbers."""
    windows = windows_of([row], span)
    kept, fell_back = kept_windows(windows, span)
    return {
        "size": int(windows.size[0]),
        "mean": windows.mean[0].tolist(),
        "ratio": windows.ratio[0].tolist(),
        "kept": kept[0].tolist(),
        "covered": covered(windows, kept)[0].tolist(),
        "fell_back": bool(fell_back[0]),
        "U": float(uncertainty([row], span).value[0]),
    }
