"""Warns of gates that are shut on the new domain: what is shut gets no gradient and stays shut."""

from __future__ import annotations

import logging

from gnomon.core.train.loop import Step
from gnomon.methods.neutral_residues.extension import Extended

log = logging.getLogger(__name__)

LEAST, PATIENCE = 0.01, 100
"""A layer whose gate is open for less than this share of the tokens, for so many steps, is reported."""


class GateWatcher:
    """Counts, layer by layer, the steps in a row in which a ReLU gate was open for hardly any token of the new domain.

    Args:
        model: the model in training.
    """

    def __init__(self, model: Extended):
        self.model = model
        self.shut = [0] * len(model.layers)
        """Steps in a row in which each layer was shut."""

    def __call__(self, step: Step) -> None:
        """Look at the last forward pass."""
        for layer, share in enumerate(self.model.open_on_new):
            self.shut[layer] = self.shut[layer] + 1 if share < LEAST else 0
            if self.shut[layer] == PATIENCE:
                log.warning(
                    "Step %d: the gate of layer %d has been open for less than %.0f%% of the new text's tokens for %d steps, and a "
                    "shut gate does not learn. Lower --alpha or the learning rate.",
                    step.step, layer, 100 * LEAST, PATIENCE,
                )  # fmt: skip
