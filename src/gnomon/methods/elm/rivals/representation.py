"""Baselines that act on hidden states: RMU steers those of forget texts to a fixed direction, RepNoise turns them into noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gnomon.core.models.architectures.sites import Sites, find_sites
from gnomon.core.models.hooks import StepInfo, hooked
from gnomon.core.rng import Rng
from gnomon.core.train.losses import token_cross_entropy
from gnomon.errors import ModelMismatch
from gnomon.methods.elm.texts.batches import FORGET, RETAIN, counted, of_kind, read_by, text_logits


def states(
    model: Any, sites: Sites, at: Sequence[str], read: Any, width: int
) -> tuple[list[Float[Tensor, "B T D"]], Tensor]:
    """Hidden states at the last `width` columns of a batch, their graph kept, and the logits there.

    Args:
        model: what is called; it may be wrapped for several processes.
        sites: of the model within.
        at: names of sites.
        read: the batch.
        width: columns that belong to the texts.
    """
    seen: dict[str, Tensor] = {}

    def keep(site: str, hidden: Tensor, step: StepInfo) -> None:
        seen[site] = hidden[:, -width:]

    with hooked(sites, {site: partial(keep, site) for site in at}):
        logits = text_logits(model, read, width)
    return [seen[site] for site in at], logits


def steering_layer(depth: int) -> int:
    """The block l whose states RMU steers: 7 of 32, in proportion elsewhere, and at least the third where there are three.

    >>> steering_layer(32), steering_layer(4)
    (7, 2)
    """
    return min(depth - 1, max(2, round(7 / 32 * depth)))


class RMU:
    """Loss of representation misdirection: |h_l(x_f) - u|^2 + alpha |h_l(x_r) - h_l^frozen(x_r)|^2, means over tokens and channels.

    Args:
        model: the model; what is trained in it is chosen here: the last map of the MLP in blocks l-2 to l.
        reference: the model as it was, frozen.
        c: length of u, which has entries above 0 and is drawn once.
        alpha: weight of the retain texts.
        generator: where u is drawn from.
        layer: l; None: 7 of 32 in proportion.

    Source: Li et al., "The WMDP Benchmark" (2403.03218).
    """

    def __init__(
        self,
        model: Any,
        reference: Any,
        *,
        c: float = 6.5,
        alpha: float = 1200.0,
        generator: Rng,
        layer: int | None = None,
    ):
        self.sites, self.reference = find_sites(model), reference.eval()
        self.references = (self.reference,)
        self.frozen_sites = find_sites(reference)
        blocks = self.sites.top.blocks
        self.layer = steering_layer(len(blocks)) if layer is None else layer
        self.site, self.alpha = f"{self.layer}.resid_post", alpha
        model.requires_grad_(False)
        for block in blocks[max(0, self.layer - 2) : self.layer + 1]:
            for weight in last_maps(block):
                weight.requires_grad_(True)
        u = torch.rand(model.config.get_text_config().hidden_size, generator=generator.child("u").torch())
        self.u = (c * u / u.norm()).to(model.device)

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        rows = batch["kind"] != 2
        read, width = read_by(batch, rows)
        (hidden,), _ = states(model, self.sites, [self.site], read, width)
        kinds = batch["kind"][rows]
        retain = of_kind(batch, RETAIN)
        with torch.no_grad():
            read, width = read_by(batch, retain)
            (before,), _ = states(self.reference, self.frozen_sites, [self.site], read, width)
        away = hidden[kinds == FORGET][counted(batch, FORGET)].float() - self.u
        stay = (hidden[kinds == RETAIN] - before)[counted(batch, RETAIN)].float()
        loss: Tensor = away.square().mean(-1).sum() / batch["tokens_forget"]
        return loss + self.alpha * stay.square().mean(-1).sum() / batch["tokens_retain"]


def last_maps(block: nn.Module) -> list[nn.Parameter]:
    """The weights of the last linear map of a block's MLP; in a mixture of experts, of all its experts, shared ones too.

    Raises:
        ModelMismatch: the experts' weights are stacked, and none of the stacks is named as the last map.
    """
    stacks = {name: p for name, p in block.named_parameters() if "experts" in name and p.dim() == 3}
    if not stacks:
        return [down_projection(block).weight]
    last = [p for name, p in stacks.items() if name.endswith("down_proj")]
    if not last:
        raise ModelMismatch(
            f"RMU trains the last map of each MLP, and none of the experts' weights is called down_proj; they are "
            f"{', '.join(stacks)}. Use another method."
        )
    shared = [
        p for name, p in block.named_parameters() if "shared" in name and name.endswith("down_proj.weight")
    ]
    return [*last, *shared]


def down_projection(block: nn.Module) -> Any:
    """The last linear map of a block's MLP, whatever the family calls it."""
    from transformers.pytorch_utils import Conv1D

    named = [(n, m) for n, m in block.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    within = [m for n, m in named if any(part in n.lower() for part in ("mlp", "fc", "ffn", "feed_forward"))]
    return (within or [m for _, m in named])[-1]


class RepNoise:
    """RepNoise: retain texts' next-token loss - beta log(forget texts') + alpha MMD(forget texts' states, noise), mean over layers.

    The MMD is that of a micro-batch's tokens, at most `sample` of them, weighed by its share of the batch.

    Args:
        model: all of its weights are trained.
        alpha: weight of the noise.
        beta: weight of the ascent.
        generator: names the noise and the tokens.
        sample: tokens compared.

    Source: Rosati et al., "Representation Noising" (2405.14577). Differs: the constants 1 and 0.001 are not certain, and losses
    read off at every layer are left out.
    """

    def __init__(
        self, model: Any, *, alpha: float = 1.0, beta: float = 0.001, generator: Rng, sample: int = 256
    ):
        self.sites = find_sites(model)
        self.at = [f"{i}.resid_post" for i in range(len(self.sites.top.blocks))]
        self.alpha, self.beta, self.generator, self.sample = alpha, beta, generator, sample

    def __call__(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of a micro-batch."""
        rows = batch["kind"] != 2
        read, width = read_by(batch, rows)
        hidden, logits = states(model, self.sites, self.at, read, width)
        kinds, labels = batch["kind"][rows], batch["labels"][rows]
        forget = counted(batch, FORGET)
        ascent = token_cross_entropy(logits[kinds == FORGET], labels[kinds == FORGET], "token_mean")
        stay = token_cross_entropy(logits[kinds == RETAIN], labels[kinds == RETAIN]) / batch["targets_retain"]
        draw = self.generator.child("noise", int(batch["step"])).torch()
        tokens = forget.nonzero()
        tokens = tokens[torch.randperm(len(tokens), generator=draw)[: self.sample].to(tokens.device)]
        mmd = logits.new_zeros(())
        for state in hidden:
            x = state[kinds == FORGET][tokens[:, 0], tokens[:, 1]].float()
            mmd = mmd + gaussian_mmd(x, torch.randn(x.shape, generator=draw).to(x.device))
        share = forget.sum() / batch["tokens_forget"]
        return (
            stay - self.beta * share * ascent.clamp(min=1e-6).log() + self.alpha * share * mmd / len(self.at)
        )


def gaussian_mmd(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], kernels: int = 5) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy of two samples, with Gaussian kernels of widths around their mean distance; not below 0.

    0 where a sample is empty.
    """
    both = torch.cat([x, y])
    squares = both.square().sum(-1)
    apart = (squares[:, None] + squares[None] - 2 * both @ both.T).clamp(min=0)
    n, a = len(both), len(x)
    if not a or not len(y):  # as on a process whose texts fill the batch up and count for nothing
        return both.sum()  # 0, with a gradient of 0
    width = (apart.detach().sum() / max(1, n * n - n)).clamp(min=1e-12)
    gram = sum(torch.exp(-apart / (width * 2.0 ** (i - kernels // 2))) for i in range(kernels))
    assert isinstance(gram, Tensor)
    return gram[:a, :a].mean() + gram[a:, a:].mean() - 2 * gram[:a, a:].mean()
