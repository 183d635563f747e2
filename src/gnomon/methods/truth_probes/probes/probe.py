"""Linear probes on hidden states, and the error detector: a probe saved with all it needs to be used again.

Logistic regression by scikit-learn, kept as plain arrays that need no pickle.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.files import write_json
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.truth_probes.states.states import FEWEST, require_both

if TYPE_CHECKING:
    from gnomon.methods.truth_probes.states.states import RepStore, Site

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier: P(class 1) = sigmoid(((x - mean) / scale) . coef + intercept)."""

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
        """The probe from the arrays of `tensors`.

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


@dataclass(frozen=True)
class FitOptions:
    """How a probe is fitted."""

    C: float = 1.0
    """Inverse strength of the L2 penalty; 1 is scikit-learn's default."""
    scale: bool = True
    """Bring every feature to mean 0 and variance 1 first; constant features are only centred."""
    max_iter: int = 1000
    """Steps of the solver; when they do not suffice, four times as many are tried once, and then a warning is logged."""


def fit_probe(
    states: ArrayLike,
    labels: ArrayLike,
    options: FitOptions | None = None,
    start: LinearProbe | None = None,
) -> LinearProbe:
    """Logistic regression with an L2 penalty, by L-BFGS.

    Args:
        states: [N, D].
        labels: 0 or 1, [N]; both must be there.
        options: penalty, scaling and steps; None: the defaults.
        start: a probe from which the solver starts, such as that of the layer below.

    Raises:
        BadInput: shapes do not fit, a value is not finite, or there is one class only.

    Source: the paper (arXiv 2410.02707), section on detecting errors: linear probes with scikit-learn's defaults. Differs: features
    are standardised unless `options.scale` is off, which converges faster.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    options = options or FitOptions()
    x, z = _matrix(states), np.asarray(labels)
    if z.shape != (len(x),) or not np.isin(z, (0, 1)).all():
        raise BadInput(
            f"A probe needs one label, 0 or 1, per state; got {z.shape} labels for {len(x)} states."
        )
    if len(np.unique(z)) < 2:
        raise BadInput("A probe needs both classes; all labels are the same.")
    mean, scale = np.zeros(x.shape[1], np.float32), np.ones(x.shape[1], np.float32)
    if options.scale:
        # Statistics in float64: sums of many float32 states lose digits.
        mean, scale = x.mean(0, dtype=np.float64).astype(np.float32), x.std(0, dtype=np.float64).astype(np.float32)  # fmt: skip
        scale[scale < 1e-8] = 1  # constant features are only centred
    ready = (x - mean) / scale
    solver = LogisticRegression(C=options.C, max_iter=options.max_iter, warm_start=True)
    # Neighbouring layers are alike: from the last solution the solver needs a fraction of the steps.
    if start is not None and start.width == x.shape[1]:
        solver.coef_ = start.coef[None].astype(ready.dtype)
        solver.intercept_ = np.array([start.intercept], ready.dtype)
        solver.classes_ = np.array([0, 1])
    for steps in (options.max_iter, 4 * options.max_iter):
        solver.max_iter = steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            solver.fit(ready, z.astype(np.int64))
        if int(solver.n_iter_.max()) < steps:
            break
    else:
        log.warning(
            "A probe did not converge in %d steps; raise max_iter, or standardise.", 4 * options.max_iter
        )
    return LinearProbe(solver.coef_[0].astype(np.float32), float(solver.intercept_[0]), mean, scale)


def fit_along(
    layers: Sequence[ArrayLike] | Iterator[ArrayLike], labels: ArrayLike, options: FitOptions | None = None
) -> Iterator[LinearProbe]:
    """A probe for each layer, each one started from that of the layer before; arguments and errors as in `fit_probe`."""
    before: LinearProbe | None = None
    for states in layers:
        before = fit_probe(states, labels, options, start=before)
        yield before


def _matrix(states: ArrayLike) -> Floats:
    x = np.asarray(states, np.float32)
    if x.ndim != 2:
        raise BadInput(f"Probes read states [N, D]; got shape {x.shape}.")
    if not np.isfinite(x).all():
        raise BadInput("The states hold values that are not finite. Capture them in float32.")
    return x


# The error detector.

WEIGHTS, CARD = "probe.safetensors", "probe.json"


@dataclass(frozen=True)
class ErrorProbe:
    """The error detector: P(the answer is right) from one hidden state."""

    linear: LinearProbe
    model_id: str = ""
    """The model that it reads, as it was called."""
    model_key: str = ""
    """Hash of that model; see `states.model_key`."""
    site: Site = "mlp"
    layer: int = 0
    position: str = "exact_last"
    task: str = ""
    extract: str = "auto"
    """How exact answers were found when it was trained."""
    template: str = "auto"
    """How questions were put."""
    stop: str | None = None
    """The text that ended an answer; None: by the template."""
    max_new_tokens: int | None = None
    """Longest answer; None: the task's."""
    seed: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    """Its figures on questions set aside."""

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        z: ArrayLike,
        *,
        C: float = 1.0,
        scale: bool = True,
        max_iter: int = 1000,
        fewest: int = FEWEST,
        **about: Any,
    ) -> ErrorProbe:
        """A probe of states [N, D] and labels [N], 1 for right.

        Args:
            X: hidden states.
            z: labels.
            C: inverse strength of the L2 penalty.
            scale: standardise every feature first.
            max_iter: steps of the solver.
            fewest: answers that each class needs.
            **about: the other fields.

        Raises:
            BadInput: shapes do not fit, or there are fewer than `fewest` right or wrong answers.
        """
        require_both(np.asarray(z), "Training", fewest)
        return cls(fit_probe(X, z, FitOptions(C, scale, max_iter)), **about)

    @classmethod
    def of(cls, linear: LinearProbe, store: RepStore, layer: int, position: str, **about: Any) -> ErrorProbe:
        """A probe on a layer and position of a store."""
        return cls(linear, store.model_id, store.model_key, store.site, layer, position, **about)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """P(right) of each state, [N], for states [N, D]."""
        return self.linear.predict(X)

    def predict(self, store: RepStore) -> NDArray[np.float64]:
        """P(right) of each answer of a store.

        Raises:
            ModelMismatch: the states are those of another model or site.
            BadInput: its layer or position was not captured.
        """
        if store.site != self.site:
            raise ModelMismatch(f'The probe reads "{self.site}"; the states are "{store.site}".')
        self.check(store.model_key, self.linear.width, store.model_id)
        return self.predict_proba(store.at(self.layer, self.position))

    def check(self, key: str, width: int, name: str = "this model") -> None:
        """Refuse another model than the one that it was trained on.

        Raises:
            ModelMismatch: the hash or the width is another.
        """
        if width != self.linear.width:
            raise ModelMismatch(
                f"The probe reads states of width {self.linear.width}; {name} has width {width}."
            )
        if self.model_key and key != self.model_key:
            raise ModelMismatch(
                f'The probe was trained on "{self.model_id}" and cannot read {name}: its weights are others. '
                "Train a probe for this model."
            )

    def save(self, folder: Path) -> Path:
        """Write `probe.safetensors` and `probe.json`; returns the folder."""
        from safetensors.numpy import save_file

        from gnomon.core.env import describe

        folder.mkdir(parents=True, exist_ok=True)
        save_file(self.linear.tensors(), folder / WEIGHTS)
        about = {name: value for name, value in asdict(self).items() if name != "linear"}
        versions = describe()
        write_json(
            folder / CARD,
            {"format": 1, **about, "width": self.linear.width, "versions": versions["packages"]},
        )
        return folder

    @classmethod
    def load(cls, folder: Path) -> ErrorProbe:
        """The probe in a folder, or in the run that trained it.

        Raises:
            BadInput: no probe is there, or it is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        from gnomon.core.files import artifact

        folder = artifact(folder, "probe")
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            linear = LinearProbe.of(load_file(folder / WEIGHTS))
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(
                f"{folder} holds no probe ({error}). `gnomon truth-probes train` makes one."
            ) from None
        about = {name: card[name] for name in card if name in cls.__dataclass_fields__ and name != "linear"}
        probe = cls(linear, **about)
        if card.get("width") != linear.width:
            raise BadInput(f"{folder}: {CARD} and {WEIGHTS} do not belong together.")
        return probe
