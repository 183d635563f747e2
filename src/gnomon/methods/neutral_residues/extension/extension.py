"""A model with new blocks beside its feed-forward networks: the backbone frozen, the newest blocks trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gnomon.core.models.architectures.sites import find_sites
from gnomon.core.rng import Rng
from gnomon.core.train.losses import token_cross_entropy
from gnomon.errors import BadInput, ModelMismatch, UserError
from gnomon.methods.neutral_residues.extension.blocks import Block, ExtendedMLP, Switch
from gnomon.methods.neutral_residues.extension.design import Design, backbone, block_width
from gnomon.methods.neutral_residues.extension.files import save_checkpoint, wrapped


@dataclass
class Output:
    """What an extended model returns."""

    logits: Float[Tensor, "B T V"]
    loss: Tensor | None
    """Mean next-token cross-entropy plus alpha times `local_loss`; None without labels."""
    lm_loss: Tensor | None
    """The first of the two."""
    local_loss: Tensor | None
    """Mean over layers and tokens of the old domain of the residual's L1 length / d (or the gates' cross-entropy); None without
    domain flags."""
    local_sum: Tensor | None
    """The same before it is divided by the number of such tokens."""
    residual_norms: Float[Tensor, " L"]
    """Mean over the tokens of ||rho||_1 / d, layer by layer."""


class Extended(nn.Module):
    """A causal model with a block beside each feed-forward network. `extend` and `load_extension` make one.

    The transformers model inside, `.model`, stays an ordinary one: `generate`, caches and handles work on it.

    Args:
        model: the transformers model; its feed-forward networks are wrapped in place.
        switch: shared by its layers.
        design: how the newest blocks are built and trained.
    """

    def __init__(self, model: Any, switch: Switch, design: Design):
        super().__init__()
        self.model, self.switch, self.design = model, switch, design
        self._seen: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.open_on_new: list[float] = []
        """Per layer, the share of the new domain's tokens with a ReLU gate above zero in the last training step."""

    @property
    def layers(self) -> list[ExtendedMLP]:
        """The wrapped networks, from the bottom to the top."""
        return wrapped(self.model)

    @property
    def blocks(self) -> list[Block]:
        """The newest block of each layer: what is trained."""
        return [layer.stacked[-1] for layer in self.layers]

    def extension_parameters(self) -> Iterator[nn.Parameter]:
        """The weights of the newest blocks."""
        for block in self.blocks:
            yield from block.parameters()

    def train(self, mode: bool = True) -> Extended:
        """Training mode of the blocks; the frozen backbone stays without dropout."""
        super().train(mode)
        # Layers are computed anew by gradient checkpointing in training mode only.
        is_checkpointed = any(
            getattr(module, "gradient_checkpointing", False) for module in self.model.modules()
        )
        self.model.train(mode and is_checkpointed)
        return self

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """Write backbone and blocks as one folder, which `open_extended` opens. `save_extension` writes the blocks alone."""
        self.model.save_pretrained(folder, **options)

    @contextmanager
    def extension_disabled(self) -> Iterator[None]:
        """Inside the `with` the model is the backbone, bit for bit."""
        was_on, self.switch.is_on = self.switch.is_on, False
        try:
            yield
        finally:
            self.switch.is_on = was_on

    def forward(
        self,
        input_ids: Int[Tensor, "B T"],
        attention_mask: Tensor | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        domain: Tensor | None = None,
        *,
        real: Tensor | None = None,
        **inputs: Any,
    ) -> Output:
        """Logits and losses.

        Args:
            input_ids: token ids.
            attention_mask: 1 at real tokens; None: all are.
            labels: targets, -100 where there is none.
            domain: 0 for text of the old domain, 1 for the new one, per row [B] or per token [B, T].
            real: tokens that losses and norms count, `[B, T]`; None: those that `attention_mask` marks.
            inputs: more for the transformers model.

        Raises:
            UserError: gradient checkpointing is on in its reentrant form, which loses the local loss.
        """
        if real is None:
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        real = real.bool()
        self._seen = {}
        self.switch.watch = self._note
        try:
            options = {"use_cache": False} | inputs
            logits = self.model(input_ids=input_ids, attention_mask=attention_mask, **options).logits
        finally:
            self.switch.watch = None
        norms = [_share(rho) for rho, _ in self._seen.values()]  # [B, T] each
        local_sum = local = None
        if domain is not None and norms and self.design.local != "none":
            flags = domain if domain.dim() == 2 else domain[:, None].expand_as(input_ids)
            local_sum, n = self._local(norms, real, flags)
            if self.training and self.design.gate == "relu":
                self.open_on_new = self._open(real & (flags != 0))
            local = local_sum / max(n, 1)
            if self.training and torch.is_grad_enabled() and not local.requires_grad:
                raise UserError(
                    "The local loss has no gradient: activation checkpointing is on in its reentrant form. Turn it on with "
                    'model.activation_checkpointing_enable({"use_reentrant": False}).'
                )
        lm = None if labels is None else token_cross_entropy(logits, labels, "token_mean")
        loss = lm if lm is None or local is None else lm + self.design.alpha * local
        mean = torch.stack([norm.detach()[real].mean() for norm in norms]) if norms else torch.zeros(0)
        self._seen = {}
        return Output(logits, loss, lm, local, local_sum, mean)

    @torch.no_grad()
    def _open(self, is_new: Tensor) -> list[float]:
        """Per layer, the share of these tokens whose gate is above zero; nothing where there is no such token."""
        if not bool(is_new.any()):
            return []
        return [float((g[is_new] > 0).float().mean()) for _, g in self._seen.values() if g is not None]

    def _note(self, layer: int, rho: Tensor, g: Tensor | None) -> None:
        # By layer and not in a list: gradient checkpointing computes a layer twice.
        self._seen[layer] = (rho, g)

    def _local(self, norms: list[Tensor], real: Tensor, flags: Tensor) -> tuple[Tensor, int]:
        """The local loss, summed over its tokens and averaged over layers, and how many tokens that is.

        Source: Neutral Residues (arXiv 2410.02744), local loss: the L1 length of residues on the old domain.
        """
        is_old = real & (flags == 0)
        if self.design.local == "ce":
            gates = [g.float() for _, g in self._seen.values() if g is not None]
            wanted = flags.float()[..., None]
            per_token = [
                nn.functional.binary_cross_entropy(g, wanted.expand_as(g), reduction="none").mean(-1)
                for g in gates
            ]
            return torch.stack([layer[real].sum() for layer in per_token]).mean(), int(real.sum())
        return torch.stack([norm[is_old].sum() for norm in norms]).mean(), int(is_old.sum())


def extend(
    model: Any, design: Design | None = None, *, generator: Rng | None = None, width: int | None = None
) -> Extended:
    """`model` with new blocks in every layer; all its own weights are frozen, those of earlier extensions too.

    Args:
        model: a causal transformers model, or an extended one that gets one more block per layer.
        design: how the blocks are built and trained; None: the paper's.
        generator: where first weights come from; None: seed 0.
        width: width of the blocks; None: from `design.extra`.

    Raises:
        BadConfig: the blocks have no room in the budget.
        ModelMismatch: the model has no layers with a feed-forward network of that name.
    """
    design = design or Design()
    base = model.model if isinstance(model, Extended) else model
    switch, layers = model.switch if isinstance(model, Extended) else Switch(), wrapped(model)
    d = int(base.config.get_text_config().hidden_size)
    r = width or block_width(design.extra * backbone(base, design.budget_of), d, len(_layers(base)))
    base.requires_grad_(False)
    layers = layers or _wrap(base, design.mlp_name, switch)
    act = matching_act(base) if design.act == "match" else design.act
    draw = (generator or Rng(0)).child("blocks").torch()
    for layer in layers:
        block = Block(d, r, act=act, gate=design.gate, gate_shape=design.gate_shape)
        block.start(len(layers), design.init, draw)
        like = next(layer.mlp.parameters())
        layer.blocks.append(block.to(like.device))
    switch.designs.append(design)
    # transformers' own would write names that no class loads, and a plain model would draw its networks at random.
    base.save_pretrained = MethodType(save_checkpoint, base)
    return Extended(base, switch, design)


def matching_act(model: Any) -> str:
    """The activation of a model's own feed-forward networks.

    Raises:
        ModelMismatch: its config names none.
    """
    config = model.config.get_text_config()
    for name in ("hidden_activation", "hidden_act", "activation_function"):
        if getattr(config, name, None):
            return str(getattr(config, name))
    raise ModelMismatch(f"The config of {type(model).__name__} names no activation. Give one with --act.")


def _layers(model: Any) -> list[nn.Module]:
    blocks: list[nn.Module] = list(find_sites(model).top.blocks)
    return blocks


def _wrap(model: Any, name: str, switch: Switch) -> list[ExtendedMLP]:
    layers = _layers(model)
    for layer in layers:
        if not isinstance(getattr(layer, name, None), nn.Module):
            parts = ", ".join(part for part, _ in layer.named_children())
            raise ModelMismatch(
                f'A layer of {type(model).__name__} has no feed-forward network called "{name}"; it has {parts}. '
                "Name it with --mlp-name."
            )
    blocks = []
    for i, layer in enumerate(layers):
        blocks.append(ExtendedMLP(getattr(layer, name), i, switch))
        setattr(layer, name, blocks[-1])
    return blocks


def _share(rho: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
    """||rho||_1 / d per token, in float32 whatever the blocks compute in."""
    if rho.dim() != 3:
        raise BadInput(
            f"A feed-forward network was called with a tensor of {rho.dim()} axes; expected [B, T, D]."
        )
    return rho.float().abs().mean(-1)
