"""Everything the room reports of one chain, as a row of numbers."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.markov.chain import Chain, Floats
from gnomon.methods.markov.equilibrium import second_eigenvalue, stationary
from gnomon.methods.markov.loops import likely_states, mass_on
from gnomon.methods.markov.rates import (
    DENSE,
    Curve,
    log_epsilon,
    measure,
    mixing_time,
    relaxation_time,
    violations,
)

log = logging.getLogger(__name__)

STARTS = 64
"""States that are followed where there are too many to follow all."""

CELLS = 2**24
"""Numbers in memory while states are followed, at most."""


@dataclass(frozen=True)
class Analysis:
    """What is known of a chain."""

    row: dict[str, Any]
    """Temperature, structure, eps, |lambda_2| and times; None where a number does not exist."""
    pi: Floats | None
    """Stationary distribution, `[S]`; None when it is not unique."""
    curve: Curve | None
    """Measured distance to it, step by step; None without it."""


def analyse(
    chain: Chain, temperature: float, steps: int = 200, texts: Iterable[Sequence[int]] | None = None
) -> Analysis:
    """Structure, stationary distribution and mixing of a chain.

    Args:
        chain: the chain.
        temperature: of the chain, for the row.
        steps: tokens for which the distance is measured and held against the bound.
        texts: training texts in the chain's own tokens, for the mass on states that occur in them; None: not asked.
    """
    space, classes = chain.space, chain.classes
    log_eps = log_epsilon(chain)
    row: dict[str, Any] = {
        "temperature": temperature,
        "states": len(space),
        "transient": classes.transient,
        "closed classes": len(classes.recurrent),
        "period": max(classes.periods),
        "log10 eps": log_eps / math.log(10) if math.isfinite(log_eps) else None,
    }
    if len(classes.recurrent) > 1:
        return Analysis(row | dict.fromkeys(_LATER), None, None)
    found = stationary(chain)
    second = _second(chain)
    curve = measure(chain, found.pi, steps, _starts(chain))
    first, probability, returns = likely_states(found.pi, 1)[0]
    positive = found.pi[found.pi > 0]
    row |= {
        "|lambda_2|": second,
        "relaxation time": None if second is None else relaxation_time(second),
        "t_mix(1/4)": _mixing_time(chain, found.pi, curve),
        "bound violations": violations(curve, log_eps, space.window),
        "entropy of pi": float(-(positive * np.log2(positive)).sum()),
        "top state": space.label(first),
        "its probability": probability,
        "its return time": returns,
    }
    if texts is not None:
        row["mass on training states"] = mass_on(space, found.pi, texts)
    return Analysis(row, found.pi, curve)


_LATER = (
    "|lambda_2|", "relaxation time", "t_mix(1/4)", "bound violations", "entropy of pi", "top state", "its probability",
    "its return time",
)  # fmt: skip


def _second(chain: Chain) -> float | None:
    """The second eigenvalue; None where the iteration for a large chain does not settle, as very cold ones may not."""
    try:
        return second_eigenvalue(chain)
    except BadInput as error:
        log.warning("%s It is left out.", error)
        return None


def _starts(chain: Chain) -> list[int] | None:
    """All states where they can be followed, else the same few drawn ones each time."""
    size = len(chain.space)
    if size * size <= CELLS:
        return None
    few = max(1, min(STARTS, CELLS // size))
    return sorted(Rng(0).child("starts").numpy().choice(size, few, replace=False).tolist())


def _mixing_time(chain: Chain, pi: Floats, curve: Curve) -> int | None:
    """Exact for small chains; for others read off the curve, as a lower limit, when the curve reaches it."""
    if len(chain.space) <= DENSE:
        return mixing_time(chain.Q.toarray(), pi)
    close = np.flatnonzero(curve.tv <= 0.25)
    return int(close[0]) if len(close) else None
