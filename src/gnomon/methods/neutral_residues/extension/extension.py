"""A model with new blocks beside its feed-forward networks: the backbone frozen, the newest blocks trained."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from gnomon.core.train.memory import recomputed
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.neutral_residues.extension.blocks import Block, ExtendedMLP, Switch
from gnomon.methods.neutral_residues.extension.design import Design, backbone, block_width
from gnomon.methods.neutral_residues.extension.files import save_checkpoint, unwrap, wrapped

log = logging.getLogger(__name__)


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
        self.model.train(False)
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
        """
        if real is None:
            real = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        real = real.bool()
        self._seen = {}
        self.switch.watch = self._note
        try:
            options = {"use_cache": False} | inputs
            with self._recomputing():
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
        lm = None if labels is None else token_cross_entropy(logits, labels, "token_mean")
        loss = lm if lm is None or local is None else lm + self.design.alpha * local
        mean = torch.stack([norm.detach()[real].mean() for norm in norms]) if norms else torch.zeros(0)
        self._seen = {}
        return Output(logits, loss, lm, local, local_sum, mean)

    def _recomputing(self) -> AbstractContextManager[None]:
        """Gradient checkpointing where it is on in the model, whose own switch asks for training mode, and so for dropout."""
        is_on = any(getattr(module, "gradient_checkpointing", False) for module in self.model.modules())
        return recomputed(self.model) if is_on and torch.is_grad_enabled() else nullcontext()

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
    act = matching_act(base) if design.act == "match" else design.act
    if not layers:
        layers = _wrap(base, design.mlp_name, switch)
        _warn_of_experts(base, design.extra, 3 * d * r)
    base.requires_grad_(False)
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
    for name in ("hidden_activation", "hidden_act", "activation_function", "activation"):
        if isinstance(getattr(config, name, None), str):
            return str(getattr(config, name))
    raise ModelMismatch(f"The config of {type(model).__name__} names no activation. Give one with --act.")


def _layers(model: Any) -> list[nn.Module]:
    blocks: list[nn.Module] = list(find_sites(model).top.blocks)
    return blocks


def _wrap(model: Any, name: str, switch: Switch) -> list[ExtendedMLP]:
    """Set a place for blocks beside each layer's feed-forward network, and try it on a few tokens.

    Raises:
        ModelMismatch: a layer has no such network, or blocks cannot stand beside it; the model is left as it was.
    """
    layers = _layers(model)
    names = [_network(model, layer, name) for layer in layers]
    blocks = []
    for i, (layer, mlp) in enumerate(zip(layers, names, strict=True)):
        blocks.append(ExtendedMLP(getattr(layer, mlp), i, switch))
        setattr(layer, mlp, blocks[-1])
    if failure := _failure(model, blocks):
        unwrap(model)
        raise ModelMismatch(
            f'"{names[0]}" of {type(model).__name__} is no feed-forward network that blocks can stand beside: {failure}. Blocks '
            "need a module that reads one state per token and returns as much."
        )
    return blocks


_NETWORK = re.compile(r"mlp|ffn|ff$|feed_?forward|moe|experts", re.IGNORECASE)
"""Names of feed-forward networks in models that people train."""


def _network(model: Any, layer: nn.Module, name: str) -> str:
    """The name of a layer's feed-forward network: the one that is asked for, or the only one that there is.

    Raises:
        ModelMismatch: there are several, or none.
    """
    parts = {
        part: module for part, module in layer.named_children() if any(True for _ in module.parameters())
    }
    if name in parts:
        return name
    likely = [part for part in parts if _NETWORK.search(part) and "norm" not in part.lower()]
    if name == Design.mlp_name and len(likely) == 1:
        return likely[0]
    if likely:
        raise ModelMismatch(
            f'A layer of {type(model).__name__} has no feed-forward network called "{name}"; it has {" or ".join(likely)}. Name '
            "one with --mlp-name."
        )
    raise ModelMismatch(
        f"A layer of {type(model).__name__} has no module of its own for the feed-forward network, beside which blocks could "
        f"stand; it has {', '.join(parts)}. Such a model cannot be extended here: use LoRA (--method lora)."
    )


@torch.no_grad()
def _failure(model: Any, blocks: list[ExtendedMLP]) -> str:
    """Why blocks cannot stand beside these networks, found by a pass over a few tokens; empty: they can."""
    shapes: dict[int, tuple[int, ...]] = {}

    def note(layer: int) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            y = output[0] if isinstance(output, tuple) else output
            if inputs and isinstance(y, Tensor) and inputs[0].numel() == y.numel():
                shapes[layer] = tuple(inputs[0].shape)

        return hook

    hooks = [block.mlp.register_forward_hook(note(i)) for i, block in enumerate(blocks)]
    was_training = model.training
    model.eval()
    ids = torch.arange(1, TRIED + 1, device=model.device)[None]
    try:
        model(input_ids=ids, use_cache=False)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        return f"a pass over a few tokens ended in {type(error).__name__}"
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    d = int(model.config.get_text_config().hidden_size)
    wrong = [i for i in range(len(blocks)) if shapes.get(i) != (1, TRIED, d)]
    return f"layer {wrong[0]} is not called with one state of {d} numbers per token" if wrong else ""


TRIED = 3
"""Tokens of the pass."""


def _warn_of_experts(model: Any, extra: float, per_block: int) -> None:
    """Say what blocks sized by all experts cost in a model whose tokens go through a few of them."""
    config = model.config.get_text_config()
    names = ("num_local_experts", "num_experts", "n_routed_experts")
    n = next((getattr(config, name) for name in names if isinstance(getattr(config, name, None), int)), 0)
    used = getattr(config, "num_experts_per_tok", None)
    if n and isinstance(used, int) and used < n:
        log.warning(
            "%s sends each token through %d of %d experts, and --extra is a share of all of them: a block has %s weights, and "
            "every token goes through all of these. About --extra %.2g is the same share of what a token uses.",
            type(model).__name__,
            used,
            n,
            f"{per_block:,}",
            extra * used / n,
        )


def _share(rho: Float[Tensor, "B T D"]) -> Float[Tensor, "B T"]:
    """||rho||_1 / d per token, in float32 whatever the blocks compute in."""
    if rho.dim() != 3:
        raise BadInput(
            f"A feed-forward network was called with a tensor of {rho.dim()} axes; expected [B, T, D]."
        )
    return rho.float().abs().mean(-1)
