"""Baselines that push the forget text's likelihood down: gradient ascent, GradDiff, NPO and SimNPO.

Who's Harry Potter, simplified: learn the labels that a model would give which knows less than one that was taught more.

The paper also replaces anchor terms by a dictionary that a strong model wrote. Here the labels come from logits alone, so this is
called `whp-simplified` in every result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnomon.core.models import add_lora
from gnomon.core.rng import seeded
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss, fit
from gnomon.core.train.loop import TrainRun
from gnomon.core.train.losses import IGNORED, token_cross_entropy
from gnomon.methods.elm.texts.batches import FORGET, RETAIN, Ids, counted, of_kind, read_by, text_logits


def label_losses(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Next-token loss on forget and on retain texts, each as this micro-batch's part of the batch's mean per token."""
    read, width = read_by(batch, batch["kind"] != 2)
    logits = text_logits(model, read, width)
    kinds = batch["kind"][batch["kind"] != 2]
    labels = batch["labels"][batch["kind"] != 2]
    forget = token_cross_entropy(logits[kinds == FORGET], labels[kinds == FORGET]) / batch["targets_forget"]
    retain = token_cross_entropy(logits[kinds == RETAIN], labels[kinds == RETAIN]) / batch["targets_retain"]
    return forget, retain


class Ascent:
    """Gradient ascent: minus the forget texts' next-token loss, with a weight above 0 (GradDiff) plus the retain texts'.

    Args:
        retain_weight: 0 for gradient ascent, 1 for GradDiff.
    """

    def __init__(self, retain_weight: float):
        self.retain_weight = retain_weight

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        forget, retain = label_losses(model, batch)
        return self.retain_weight * retain - forget


def text_logprobs(logits: Float[Tensor, "B T V"], labels: Int[Tensor, "B T"]) -> Float[Tensor, " B"]:
    """Log-probability of each text: the sum over its targets, the logits at a token held against the next label."""
    wanted = labels[:, 1:]
    logprobs = logits[:, :-1].float().log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None]).squeeze(-1)
    return logprobs.masked_fill(wanted == IGNORED, 0.0).sum(-1)


def npo_loss(
    mine: Float[Tensor, " B"], reference: Float[Tensor, " B"], beta: float = 0.1
) -> Float[Tensor, " B"]:
    """-(2 / beta) log sigmoid(-beta log(pi / pi_ref)) per text.

    Source: Zhang et al., "Negative Preference Optimization" (2404.05868).
    """
    return -2 / beta * torch.nn.functional.logsigmoid(-beta * (mine - reference))


class NPO:
    """Loss of negative preference optimisation on forget texts plus next-token loss on retain texts.

    Args:
        reference: the model as it was, frozen.
        beta: strength; towards 0 it becomes gradient ascent.
        retain_weight: weight of the retain texts' loss.
    """

    def __init__(self, reference: Any, beta: float = 0.1, retain_weight: float = 1.0):
        self.reference, self.beta, self.retain_weight = reference.eval(), beta, retain_weight
        self.references = (self.reference,)

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        rows = batch["kind"] != 2
        read, width = read_by(batch, rows)
        logits, labels, kinds = text_logits(model, read, width), batch["labels"][rows], batch["kind"][rows]
        forget = of_kind(batch, FORGET)
        with torch.no_grad():
            read, width = read_by(batch, forget)
            before = text_logprobs(text_logits(self.reference, read, width), batch["labels"][forget])
        mine = text_logprobs(logits[kinds == FORGET], batch["labels"][forget])
        counts = batch["counts"][forget].to(mine)
        away = (npo_loss(mine, before, self.beta) * counts).sum() / batch["n_forget"]
        stay = token_cross_entropy(logits[kinds == RETAIN], labels[kinds == RETAIN]) / batch["targets_retain"]
        return away + self.retain_weight * stay


def simnpo_loss(
    logprobs: Float[Tensor, " B"], lengths: Float[Tensor, " B"], beta: float = 4.5, gamma: float = 0.0
) -> Float[Tensor, " B"]:
    """-(2 / beta) log sigmoid(-(beta / |y|) log p(y) - gamma) per text: NPO by the text's own length in place of a reference model.

    Args:
        logprobs: log-probability of each text.
        lengths: |y|, its predicted tokens.
        beta: strength.
        gamma: margin.

    Source: Fan et al., "Simplicity Prevails: Rethinking Negative Preference Optimization for LLM Unlearning" (2410.07163).
    """
    return -2 / beta * torch.nn.functional.logsigmoid(-beta * logprobs / lengths.clamp(min=1) - gamma)


class SimNPO:
    """Loss of simple NPO on forget texts plus next-token loss on retain texts; it needs no copy of the model.

    Args:
        beta: strength.
        gamma: margin.
        retain_weight: weight of the retain texts' loss.
    """

    def __init__(self, beta: float = 4.5, gamma: float = 0.0, retain_weight: float = 1.0):
        self.beta, self.gamma, self.retain_weight = beta, gamma, retain_weight

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        rows = batch["kind"] != 2
        read, width = read_by(batch, rows)
        logits, labels, kinds = text_logits(model, read, width), batch["labels"][rows], batch["kind"][rows]
        forget = labels[kinds == FORGET]
        mine = text_logprobs(logits[kinds == FORGET], forget)
        lengths = (forget[:, 1:] != IGNORED).sum(-1).to(mine)
        counts = batch["counts"][of_kind(batch, FORGET)].to(mine)
        away = (simnpo_loss(mine, lengths, self.beta, self.gamma) * counts).sum() / batch["n_forget"]
        stay = token_cross_entropy(logits[kinds == RETAIN], labels[kinds == RETAIN]) / batch["targets_retain"]
        return away + self.retain_weight * stay


# Who's Harry Potter, simplified: learn the labels that a model would give which knows less than one that was taught more.


def generic_labels(base: Float[Tensor, "*N V"], reinforced: Float[Tensor, "*N V"], strength: float) -> Tensor:
    """Argmax of v_0 - a ReLU(v_r - v_0): what the base model would say without what the reinforced one prefers, [*N]."""
    return (base - strength * torch.relu(reinforced - base)).argmax(-1)


def reinforce(
    model: Any, texts: Sequence[Ids], start: Ids, cfg: TrainConfig, *, rank: int, run: TrainRun
) -> Any:
    """`model`, which is changed, taught the forget texts even better by low-rank adapters."""
    with seeded(run.rng.child("reinforced")):
        adapted = add_lora(model, rank)
    rows = [[*start, *text] for text in texts]
    examples = [Example(row, row) for row in rows if len(row) > 1]
    batches = Batches(
        examples,
        cfg.batch_size,
        pad_id=0,
        generator=run.rng.child("reinforce"),
        micro_batch_size=cfg.micro_batch_size,
        max_length=cfg.max_length,
    )
    fit(adapted, batches, causal_loss, cfg, run=run)
    return adapted.eval().requires_grad_(False)


class WHP:
    """Cross-entropy on forget texts against generic labels.

    Args:
        reinforced: the model that was taught more, a PEFT model whose base is the model as it was.
        strength: a.

    Source: Eldan and Russinovich, "Who's Harry Potter?" (2310.02238). Differs: no dictionary of anchor terms.
    """

    def __init__(self, reinforced: Any, strength: float = 5.0):
        self.reinforced, self.strength = reinforced, strength
        self.references = (self.reinforced,)

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        read, width = read_by(batch, of_kind(batch, FORGET))
        with torch.no_grad():
            after = text_logits(self.reinforced, read, width)
            with self.reinforced.disable_adapter():
                before = text_logits(self.reinforced, read, width)
        logits = text_logits(model, read, width)
        mask = counted(batch, FORGET)
        labels = generic_labels(before[mask], after[mask], self.strength)
        loss = torch.nn.functional.cross_entropy(logits[mask].float(), labels, reduction="sum")
        return loss / batch["tokens_forget"]
