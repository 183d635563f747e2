"""Who's Harry Potter, simplified: learn the labels that a model would give which knows less than one that was taught more.

The paper also replaces anchor terms by a dictionary that a strong model wrote. Here the labels come from logits alone, so this is
called `whp-simplified` in every result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.models import add_lora
from gnomon.core.rng import seeded
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss, fit
from gnomon.core.train.loop import TrainRun
from gnomon.methods.elm.feed import FORGET, counted, of_kind, read_by
from gnomon.methods.elm.prefixing import Ids, text_logits


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
