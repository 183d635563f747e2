"""How a concept is erased. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnomon.core.config import check
from gnomon.errors import BadConfig

Schedule = Literal["ramp", "constant"]
Action = Literal["erase", "enhance", "random"]
Hardness = Literal["soft", "hard"]
Balance = Literal["none", "grad_norm"]
Rival = Literal["rmu", "repnoise", "whp", "ga", "graddiff", "npo", "simnpo"]

BASELINES: tuple[Rival, ...] = ("rmu", "repnoise", "whp", "ga", "graddiff", "npo", "simnpo")


@dataclass(frozen=True, kw_only=True)
class Reweighting:
    """The distribution that an erased model is trained towards."""

    eta: float = 500.0
    """Strength of erasing: 500 in the paper, 1000 in its code. Where q is one-hot nearly everywhere it is too large."""
    eta_schedule: Schedule = "ramp"
    """ramp rises along each text from eta_start to eta, as the released code does; constant is the paper's formula."""
    eta_start: float = 1.0
    """eta at the first token of a ramp."""
    top_k: int = 50
    """Tokens kept of each distribution."""
    temperature: float = 1.2
    """Divides the frozen model's logits."""
    action: Action = "erase"
    """erase; enhance turns the sign around; random trains towards noise (the last two are ablations)."""

    def __post_init__(self) -> None:
        check(self.eta > 0, "eta", "> 0 (action enhance turns the sign around)", self.eta)
        check(self.top_k >= 1, "top_k", ">= 1", self.top_k)
        check(self.temperature > 0, "temperature", "> 0", self.temperature)


@dataclass(frozen=True, kw_only=True)
class Erasure(Reweighting):
    """An erasure: the target, the losses, what is trained."""

    rank: int = 4
    """Rank of the low-rank adapters: 4 for WMDP, 256 for Harry Potter."""
    alpha: int = 16
    """An adapter's output is scaled by alpha / rank."""
    dropout: float = 0.05
    """Dropout of the adapters."""
    layers: str = "auto"
    """Blocks that get adapters, as "4,8": 4 to 7. auto: from an eighth to a quarter of the depth, at least two."""
    erase_weight: float = 1.0
    """Weight of the erase loss."""
    retain_weight: float = 1.0
    """Weight of the retain loss."""
    fluency_weight: float = 1.0
    """Weight of the fluency loss, where there are fluent texts."""
    erase_target: Hardness = "soft"
    """soft: all kept tokens of q; hard: its likeliest."""
    retain_target: Hardness = "soft"
    """soft: KL from the frozen model; hard: its likeliest token, the released code's default."""
    balance: Balance = "none"
    """grad_norm makes the gradients of retain and fluency as long as the erase term's, by micro-batch and 100-fold at most."""
    norms_every: int = 25
    """Steps between two measurements of each term's gradient; 0: never."""
    fluency_every: int = 1
    """Steps between two that have fluent texts in them."""
    fluency_batch: int | None = None
    """Fluent texts in such a step; None: as many as forget texts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("rank", "alpha", "fluency_every"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("erase_weight", "retain_weight", "fluency_weight", "norms_every"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))
        check(0 <= self.dropout < 1, "dropout", "in [0, 1)", self.dropout)
        check(
            self.fluency_batch is None or self.fluency_batch >= 1,
            "fluency_batch",
            ">= 1 or None",
            self.fluency_batch,
        )
        layer_range(self.layers, None)


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The baselines' own constants, as published."""

    rmu_c: float = 6.5
    """RMU: length of the random direction."""
    rmu_alpha: float = 1200.0
    """RMU: weight of the retain texts."""
    rmu_layer: int | None = None
    """RMU: the block that is steered; None: 7 of 32 in proportion."""
    repnoise_alpha: float = 1.0
    """RepNoise: weight of the noise."""
    repnoise_beta: float = 0.001
    """RepNoise: weight of the ascent."""
    npo_beta: float = 0.1
    """NPO: strength."""
    simnpo_beta: float = 4.5
    """SimNPO: strength, on the log-probability per token; 4.5 is published for TOFU."""
    simnpo_gamma: float = 0.0
    """SimNPO: margin, in the same unit times beta; above 0 texts are pushed further down."""
    retain_weight: float = 1.0
    """GradDiff, NPO, SimNPO: weight of the retain texts' loss."""
    whp_strength: float = 5.0
    """WHP: how much of what the reinforced model prefers is taken off."""
    whp_steps: int = 100
    """WHP: steps of the reinforced model."""
    whp_lr: float = 3e-4
    """WHP: its learning rate."""
    whp_rank: int = 16
    """WHP: rank of its adapters."""

    def __post_init__(self) -> None:
        for name in ("rmu_c", "npo_beta", "simnpo_beta", "whp_lr"):
            check(getattr(self, name) > 0, name, "> 0", getattr(self, name))
        for name in ("whp_steps", "whp_rank"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        check(self.simnpo_gamma >= 0, "simnpo_gamma", ">= 0", self.simnpo_gamma)
        for name in ("rmu_alpha", "repnoise_alpha", "repnoise_beta", "retain_weight", "whp_strength"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))


def layer_range(layers: str, depth: int | None) -> tuple[int, int]:
    """First block and the first behind the last, of a model of `depth` blocks.

    Args:
        layers: `"4,8"`, or `"auto"`: round(0.125 N) to round(0.25 N), at least two blocks.
        depth: N; None checks the text alone.

    Raises:
        BadConfig: the text is no range, or leads out of the model.

    >>> layer_range("auto", 32), layer_range("auto", 4), layer_range("0,2", 4)
    ((4, 8), (0, 2), (0, 2))
    """
    if layers == "auto":
        if depth is None:
            return 0, 0
        first = min(round(0.125 * depth), max(0, depth - 2))
        return first, min(depth, max(round(0.25 * depth), first + 2))
    try:
        first, end = (int(part) for part in layers.split(","))
    except ValueError:
        raise BadConfig(f'layers must be "auto" or two numbers such as "4,8"; got "{layers}".') from None
    if not 0 <= first < end or (depth is not None and end > depth):
        within = "" if depth is None else f" of a model of {depth}"
        raise BadConfig(f'layers must name a range of blocks{within}, such as "4,8"; got "{layers}".')
    return first, end
