"""The gated feed-forward block, and the module that sets blocks beside a layer's own feed-forward network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.activations import ACT2FN

from gnomon.errors import BadConfig, nearest
from gnomon.methods.neutral_residues.extension.design import Design, Gate, Init, Shape

GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "elu": nn.functional.elu,
    "sigmoid": torch.sigmoid,
}

GATE_BIAS = 0.5
"""At the start: with 0 a ReLU gate is shut for half of the tokens, and what is shut does not learn."""


class Block(nn.Module):
    """rho(x) = g(x) W_o (act(W_g x) * W_i x): a gated linear unit behind a gate of its own.

    W_o starts at zero, so a new block adds nothing.

    Args:
        d: width of the model.
        r: width of the block.
        act: activation, a name of transformers' table.
        gate: what opens the block; `"none"` leaves it open.
        gate_shape: one gate per token, or one per token and channel.

    Raises:
        BadConfig: there is no such gate or activation.

    Source: Neutral Residues (arXiv 2410.02744), section on the architecture. Differs: the gate's bias, of which the paper does not
    speak.
    """

    def __init__(
        self, d: int, r: int, *, act: str = "silu", gate: Gate = "relu", gate_shape: Shape = "scalar"
    ):
        super().__init__()
        if gate != "none" and gate not in GATES:
            raise BadConfig(f'There is no gate "{gate}". {nearest(gate, [*GATES, "none"])}')
        if act not in ACT2FN:
            raise BadConfig(f'There is no activation "{act}". {nearest(act, ACT2FN)}')
        self.d, self.r, self.gate_name, self.gate_shape, self.act_name = d, r, gate, gate_shape, act
        # W_g above W_i: one product in place of two.
        self.into = nn.Linear(d, 2 * r, bias=False)
        self.out = nn.Linear(r, d, bias=False)
        self.gate = None if gate == "none" else nn.Linear(d, 1 if gate_shape == "scalar" else d)
        self.act = ACT2FN[act]

    @torch.no_grad()
    def start(self, n_layers: int, init: Init, generator: torch.Generator) -> None:
        """Draw the weights: variance 1 / (d L) for `low_variance`, 2 / d for `he`; W_o is zero."""
        variance = 1 / (self.d * n_layers) if init == "low_variance" else 2 / self.d
        for layer in filter(None, (self.into, self.gate)):
            drawn = torch.randn(layer.weight.shape, generator=generator) * math.sqrt(variance)
            layer.weight.copy_(drawn)
        self.out.weight.zero_()
        if self.gate is not None:
            self.gate.bias.fill_(GATE_BIAS)

    def opening(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N G"] | None:
        """g(x), one per token or per channel; None without a gate."""
        return None if self.gate is None else GATES[self.gate_name](self.gate(x))

    def ungated(self, x: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """A(x), the block's output before its gate."""
        gate, value = self.into(x).chunk(2, -1)
        output: Tensor = self.out(self.act(gate) * value)
        return output

    def forward(self, x: Float[Tensor, "*N D"]) -> tuple[Float[Tensor, "*N D"], Float[Tensor, "*N G"] | None]:
        """rho(x) and g(x).

        Without gradients, tokens whose ReLU gate is shut are left out where that is more than half of them: their rho is zero.
        """
        g = self.opening(x)
        if g is None:
            return self.ungated(x), None
        if self.gate_name == "relu" and g.shape[-1] == 1 and _may_branch():
            is_open = g[..., 0] > 0
            if 2 * int(is_open.sum()) < is_open.numel():
                rho = torch.zeros_like(x)
                rho[is_open] = g[is_open] * self.ungated(x[is_open])
                return rho, g
        return g * self.ungated(x), g


def _may_branch() -> bool:
    """Whether the values of gates may decide what is computed: not under gradients, nor while a graph is compiled."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling()


Watch = Callable[[int, Tensor, Tensor | None], None]
"""Layer, rho [B, T, D] and g of the newest block, called as they are computed."""


@dataclass
class Switch:
    """State that all layers of a model share: whether its blocks are on, a callback for their outputs, how they were built."""

    is_on: bool = True
    watch: Watch | None = field(default=None, repr=False)
    designs: list[Design] = field(default_factory=list)
    """How the blocks were built, the oldest extension first."""


class ExtendedMLP(nn.Module):
    """A layer's feed-forward network with blocks beside it: FFN(x) + rho_1(x) + rho_2(x) + ...

    Args:
        mlp: the layer's own network; it stays as it is.
        layer: its number.
        switch: shared by all layers.
    """

    def __init__(self, mlp: nn.Module, layer: int, switch: Switch):
        super().__init__()
        self.mlp, self.layer, self.switch = mlp, layer, switch
        self.blocks = nn.ModuleList()

    @property
    def stacked(self) -> list[Block]:
        """The blocks, the oldest first."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, x: Tensor, *more: Any, **options: Any) -> Any:
        """The network's output and the blocks'.

        Networks of experts may return their router's choice beside the output, and the output flat, [B T, D].
        """
        output = self.mlp(x, *more, **options)
        if not self.switch.is_on:
            return output
        y, *beside = output if isinstance(output, tuple) else (output,)
        for block in self.stacked:
            # Blocks may have a type of their own beside a model in half precision.
            rho, g = block(x.to(block.out.weight.dtype))
            y = y + rho.to(y.dtype).reshape(y.shape)
        if self.switch.watch is not None and len(self.blocks):
            self.switch.watch(self.layer, rho, g)
        return (y, *beside) if isinstance(output, tuple) else y
