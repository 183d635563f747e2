"""The arms: neutral residues, plain adapters, LoRA and full fine-tuning, trained on the same batches.

Warns of gates that are shut on the new domain: what is shut gets no gradient and stays shut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from gnomon.core.models import add_lora
from gnomon.core.rng import Rng, seeded
from gnomon.core.train import History, TrainConfig, causal_loss, fit
from gnomon.core.train.loop import Step, TrainRun
from gnomon.core.train.losses import token_cross_entropy
from gnomon.core.train.optim import decay_groups
from gnomon.methods.neutral_residues.extension.design import Design, Method, backbone, lora_rank
from gnomon.methods.neutral_residues.extension.extension import Extended, extend
from gnomon.methods.neutral_residues.training.mixing import Mixture


def prepare(
    model: Any, method: Method, design: Design, *, rank: int | None = None, generator: Rng | None = None
) -> nn.Module:
    """What a method trains, its own weights alone trainable.

    Args:
        model: a causal transformers model; it is changed in place.
        method: `neutral`: gated blocks with the local loss; `adapter`: the same blocks without gate and local loss, first weights
            as He draws them; `lora`: low-rank adapters on every linear map, as many weights as the blocks; `full`: everything.
        design: how blocks are built; its budget holds for `lora` too.
        rank: of `lora`; None: by the budget.
        generator: where first weights come from; None: seed 0.
    """
    if method == "neutral":
        return extend(model, design, generator=generator)
    if method == "adapter":
        plain = replace(design, gate="none", init="he", local="none")
        return extend(model, plain, generator=generator)
    if method == "lora":
        rank = rank or lora_rank(model, design.extra * backbone(model, design.budget_of))
        with seeded((generator or Rng(0)).child("adapters")):  # the library draws them from the global stream
            adapted: nn.Module = add_lora(model, rank)
        return adapted
    model.requires_grad_(True)
    return model  # type: ignore[no-any-return]


def train_arm(
    model: nn.Module, batches: Mixture, cfg: TrainConfig, *, run: TrainRun, **watchers: Any
) -> History:
    """Train what `prepare` made; see `gnomon.core.train.fit`.

    Gates and W_o are spared weight decay: the others have no gradient in the first step, and a shut gate has none at all.
    """
    groups = None
    if isinstance(model, Extended):
        into = [block.into.weight for block in model.blocks]
        rest = [p for p in model.extension_parameters() if all(p is not w for w in into)]
        groups = [{"params": into, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return fit(
        model,
        batches,
        loss_of(model),
        cfg,
        run=run,
        groups=groups or decay_groups(model, cfg.weight_decay),
        **watchers,
    )


def loss_of(model: nn.Module) -> Callable[[Any, Mapping[str, Tensor]], Tensor]:
    """The loss of a model on a micro-batch of `Mixture`, summed over targets.

    The local loss is a mean over the old domain's tokens of the whole batch. Times the batch's targets it becomes a sum as
    the loop wants it, and adds up to the same value however the batch is cut.
    """
    if not isinstance(model, Extended):
        return lambda wrapped, batch: causal_loss(wrapped, {k: batch[k] for k in ("input_ids", "labels")})
    extended = model

    def loss(wrapped: Any, batch: Mapping[str, Tensor]) -> Tensor:
        counts = batch["counts"][:, None].expand_as(batch["input_ids"])
        loss = wrapped(batch["input_ids"], attention_mask=None, domain=batch["domain"], real=counts)
        total = token_cross_entropy(loss.logits, batch["labels"])
        design = extended.design
        if design.local != "none":
            among = batch["n_tokens"] if design.local == "ce" else batch["n_old"].clamp(min=1)
            total = total + design.alpha * loss.local_sum * batch["n_targets"] / among
        return total

    return loss


# Warns of gates that are shut on the new domain: what is shut gets no gradient and stays shut.

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
        """Count closed gates in the last forward pass."""
        for layer, share in enumerate(self.model.open_on_new):
            self.shut[layer] = self.shut[layer] + 1 if share < LEAST else 0
            if self.shut[layer] == PATIENCE:
                log.warning(
                    "Step %d: the gate of layer %d has been open for less than %.0f%% of the new text's tokens for %d steps, and a "
                    "shut gate does not learn. Lower --alpha or the learning rate.",
                    step.step, layer, 100 * LEAST, PATIENCE,
                )  # fmt: skip
