"""Settings of the neutral-residues verbs and the claims its miniature tests. Defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature
from gnomon.core.train.config import TrainConfig
from gnomon.methods.neutral_residues.extension.design import METHODS, Design, Method

PAPER = "Neutral Residues, arXiv 2410.02744"

Pair = Literal["source", "languages", "samples"]
"""The two domains of a miniature."""


def _schedule() -> TrainConfig:
    return TrainConfig(lr=2e-4, batch_size=64, max_length=1024, schedule="cosine", warmup_ratio=0.01)


@dataclass(frozen=True, kw_only=True)
class Domains(Design, LoadConfig):
    """A model, the domain it is to learn, and text that stands for what it knows."""

    model: TextModel
    """A causal model: a folder, a run folder or a hub id."""
    new: str
    """Text of the new domain: records, a folder, plain text, hf://name, stdlib:docs or stdlib:code."""
    original: str | None = None
    """Text like that of the original training; needed unless p is 0."""
    new_held: str | None = None
    """Text of the new domain to measure on. None: held_out of --new."""
    original_held: str | None = None
    """Text of the old domain to measure on, better from another source than --original. None: held_out of --original."""
    held_out: float = 0.05
    """Share of the documents set aside to measure on where no source of their own is named."""
    text_field: str = "text"
    """Column of the text."""
    p: float = 0.1
    """Share of training sequences that come from --original."""
    train: TrainConfig = field(default_factory=_schedule)
    """The training; max_length is the length of the rows that texts are packed into."""

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        super().__post_init__()
        check(0 <= self.p <= 1, "p", "in 0..1", self.p)
        check(0 < self.held_out < 1, "held_out", "within (0, 1)", self.held_out)
        check(self.train.max_length >= 2, "train.max_length", ">= 2", self.train.max_length)


@dataclass(frozen=True, kw_only=True)
class Train(Domains):
    """Teach a model a new domain: neutral residues, plain adapters, LoRA, or all weights."""

    method: Method = "neutral"
    """What is trained."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_trainable(self.method == "full")


@dataclass(frozen=True, kw_only=True)
class Sweep(Domains):
    """Train every method at several learning rates, and draw what each learns against what it forgets."""

    methods: tuple[Method, ...] = METHODS
    """What is compared."""
    lr: tuple[float, ...] = (5e-5, 1e-4, 2e-4, 5e-4)
    """Peak learning rates; each method is trained at each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.methods), "methods", f"some of {', '.join(METHODS)}", self.methods)
        self.check_trainable("full" in self.methods)
        check(bool(self.lr) and all(lr > 0 for lr in self.lr), "lr", "one or more numbers > 0", self.lr)


@dataclass(frozen=True, kw_only=True)
class Eval(LoadConfig):
    """Bits per byte of an extended model and of its backbone on texts of both domains."""

    run: Positional[str]
    """A run of train, or a folder that holds an extension, an adapter or a model."""
    original: str
    """Text of the old domain."""
    new: str
    """Text of the new domain."""
    base: str | None = None
    """The backbone; None: as the run names it."""
    length: int = 1024
    """Tokens a window."""
    text_field: str = "text"
    """Column of the text."""
    batch_size: int = 16
    """Windows at once."""

    LOOSE: ClassVar[tuple[str, ...]] = ("batch_size",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.length >= 2, "length", ">= 2", self.length)
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Inspect(Eval):
    """What the blocks add to each domain, layer by layer, and when their gates open."""

    text: str = ""
    """A text to colour by its gates. Empty: the beginning of each domain's text."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """An extension on its own, or merged into a plain checkpoint where that is exact."""

    run: Positional[str]
    """A run of train, or a folder that holds an extension."""
    merge: bool = False
    """Write a plain transformers checkpoint with wider feed-forward networks; blocks must have no gate."""
    base: str | None = None
    """The backbone; None: as the run names it."""


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: a model learns a new domain by every method, each over its own learning rates."""

    pair: Pair = "source"
    """source: documentation and Python source; languages: two made-up ones; samples: what --checkpoint writes, and Python."""
    checkpoint: str | None = None
    """A small pretrained model, the backbone of the pair samples: a folder or a hub id."""
    full: bool = False
    """The ablations as well: alpha 0, ELU gate, sigmoid gate with cross-entropy, He's variance, no, little and much old text."""


CLAIMS = (
    Claim(
        "At equal learning, neutral residues forget at most 0.65 times what full fine-tuning, LoRA or adapters forget at best",
        f"{PAPER}: trade-off of learning and forgetting",
        "forgetting over the best rival's, at equal learning: neutral <= 0.65",
    ),
    Claim(
        "The blocks add at most 0.6 times as much to text of the old domain as to the new",
        f"{PAPER}: residuals are neutral on the original distribution",
        "residual, old over new: neutral <= 0.6",
    ),
    Claim(
        "A new extension changes nothing: the first loss is the backbone's",
        f"{PAPER}: initialisation",
        "first loss minus the backbone's: neutral == 0",
    ),
    Claim(
        "The gate adds to what the local loss does by itself",
        f"{PAPER}: ablation of the gate",
        "forgetting over the ungated block's, at equal learning: neutral <= 1",
        required=False,
    ),
)
"""What the miniature tests; the thresholds are the specification's."""

BESIDE = (
    Claim(
        "At equal learning, neutral residues forget less than full fine-tuning, LoRA or adapters forget at best",
        f"{PAPER}: trade-off of learning and forgetting",
        "forgetting over the best rival's, at equal learning: neutral < 1",
    ),
    *CLAIMS[1:],
)
"""What the other pairs of domains test: the direction alone."""
