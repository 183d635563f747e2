"""The error detector: a linear probe that says how likely an answer is right, saved with all it needs to be used again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gnomon.core.files import write_json
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.truth_probes.linear import LinearProbe, fit_probe
from gnomon.methods.truth_probes.splits import FEWEST, require_both

if TYPE_CHECKING:
    from gnomon.methods.truth_probes.states import RepStore, Site

WEIGHTS, CARD = "probe.safetensors", "probe.json"


@dataclass(frozen=True)
class ErrorProbe:
    """P(the answer is right) from one hidden state."""

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
    """What it reached on questions set aside."""

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
        return cls(fit_probe(X, z, C=C, standardise=scale, max_iter=max_iter), **about)

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

        from gnomon.core.run import artifact

        folder = artifact(folder, "probe")
        try:
            card = json.loads((folder / CARD).read_text("utf-8"))
            linear = LinearProbe.of(load_file(folder / WEIGHTS))
        except (OSError, ValueError, SafetensorError) as error:
            raise BadInput(
                f"{folder} holds no probe ({error}). `gnomon truth-probes train` makes one."
            ) from None
        known = {name: card[name] for name in card if name in cls.__dataclass_fields__ and name != "linear"}
        probe = cls(linear, **known)
        if card.get("width") != linear.width:
            raise BadInput(f"{folder}: {CARD} and {WEIGHTS} do not belong together.")
        return probe
