"""Linear probes: logistic regression on hidden states, as plain arrays that need no pickle."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.errors import BadInput

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearProbe:
    """P(class 1) = sigmoid(((x - mean) / scale) . coef + intercept)."""

    coef: Floats
    """[D]."""
    intercept: float
    mean: Floats
    """Taken off every input, [D]; zeros without standardising."""
    scale: Floats
    """Divides every input, [D]; ones without standardising."""

    @property
    def width(self) -> int:
        """D, the width of the states it reads."""
        return len(self.coef)

    def logits(self, states: ArrayLike) -> NDArray[np.float64]:
        """Log-odds of class 1, [N], for states [N, D].

        Raises:
            BadInput: the states are not [N, D], or hold a value that is not finite.
        """
        x = _matrix(states)
        if x.shape[1] != self.width:
            raise BadInput(f"The probe reads states of width {self.width}; got {x.shape[1]}.")
        z = (x.astype(np.float64) - self.mean) / self.scale
        return np.asarray(z @ self.coef.astype(np.float64) + self.intercept)

    def predict(self, states: ArrayLike) -> NDArray[np.float64]:
        """Probability of class 1, [N], for states [N, D]; errors as in `logits`."""
        return np.asarray(0.5 * (1 + np.tanh(self.logits(states) / 2)))

    def tensors(self) -> dict[str, Floats]:
        """The probe as named arrays, for safetensors."""
        intercept = np.array([self.intercept], np.float32)
        return {"coef": self.coef, "intercept": intercept, "mean": self.mean, "scale": self.scale}

    @classmethod
    def of(cls, tensors: Mapping[str, Floats]) -> LinearProbe:
        """The probe that `tensors` described.

        Raises:
            BadInput: an array is missing or has another length.
        """
        try:
            coef, mean, scale = (np.asarray(tensors[name], np.float32) for name in ("coef", "mean", "scale"))
            intercept = float(tensors["intercept"][0])
        except KeyError as error:
            raise BadInput(f"The probe has no {error}; it has {', '.join(sorted(tensors))}.") from None
        if not coef.shape == mean.shape == scale.shape or coef.ndim != 1:
            raise BadInput(f"The probe's arrays differ in shape: {coef.shape}, {mean.shape}, {scale.shape}.")
        return cls(coef, intercept, mean, scale)


def fit_probe(
    states: ArrayLike,
    labels: ArrayLike,
    *,
    C: float = 1.0,
    standardise: bool = True,
    max_iter: int = 1000,
    start: LinearProbe | None = None,
) -> LinearProbe:
    """Logistic regression with an L2 penalty, by L-BFGS.

    Args:
        states: [N, D].
        labels: 0 or 1, [N]; both must be there.
        C: inverse strength of the penalty; 1 is scikit-learn's default.
        standardise: bring every feature to mean 0 and variance 1 first; constant features are only centred.
        max_iter: steps of the solver; when they do not suffice, four times as many are tried once, and then it is said.
        start: a probe from which the solver starts, such as that of the layer below.

    Raises:
        BadInput: shapes do not fit, a value is not finite, or there is one class only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    x, z = _matrix(states), np.asarray(labels)
    if z.shape != (len(x),) or not np.isin(z, (0, 1)).all():
        raise BadInput(
            f"A probe needs one label, 0 or 1, per state; got {z.shape} labels for {len(x)} states."
        )
    if len(np.unique(z)) < 2:
        raise BadInput("A probe needs both classes; all labels are the same.")
    mean, scale = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    if standardise:
        mean, scale = x.mean(0, dtype=np.float64).astype(np.float32), x.std(0, dtype=np.float64).astype(np.float32)  # fmt: skip
        scale[scale < 1e-8] = 1
    ready = (x - mean) / scale
    solver = LogisticRegression(C=C, max_iter=max_iter, warm_start=True)
    if start is not None and start.width == x.shape[1]:
        solver.coef_ = start.coef[None].astype(ready.dtype)
        solver.intercept_ = np.array([start.intercept], ready.dtype)
        solver.classes_ = np.array([0, 1])
    for steps in (max_iter, 4 * max_iter):
        solver.max_iter = steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(ready, z.astype(np.int64))
        if int(solver.n_iter_.max()) < steps:
            break
    else:
        log.warning("A probe did not converge in %d steps; raise max_iter, or standardise.", 4 * max_iter)
    return LinearProbe(solver.coef_[0].astype(np.float32), float(solver.intercept_[0]), mean, scale)


def fit_along(
    layers: Sequence[ArrayLike] | Iterator[ArrayLike], labels: ArrayLike, **options: object
) -> Iterator[LinearProbe]:
    """A probe for each layer, each one started from that of the layer before; arguments and errors as in `fit_probe`."""
    before: LinearProbe | None = None
    for states in layers:
        before = fit_probe(states, labels, start=before, **options)  # type: ignore[arg-type]
        yield before


def _matrix(states: ArrayLike) -> Floats:
    x = np.asarray(states, np.float32)
    if x.ndim != 2:
        raise BadInput(f"Probes read states [N, D]; got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise BadInput("The states hold values that are not finite. Capture them in float32.")
    return x
