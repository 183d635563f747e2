"""Settings of the students. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gnomon.core.config import check


@dataclass(frozen=True)
class StudentConfig:
    """How a student is trained and how it scores."""

    gamma: float = 2.0
    """Focusing exponent of the focal loss; 0 is cross entropy."""
    device: str = "auto"
    """Where a transformer runs: "cpu", "cuda", or "auto" for a GPU when there is one."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of a transformer; "auto" is bf16 on a GPU and float32 elsewhere."""
    max_tokens: int = 512
    """A transformer reads this many tokens of a text, special tokens included."""
    score_tokens: int | None = None
    """Tokens, padding included, that a transformer scores at once; changes speed and memory, not results. None: 2048 on a
    CPU, where larger batches only add padding, and 32768 on a GPU."""
    lr: float = 3e-4
    """Peak learning rate of AdamW; it rises over a tenth of the steps and falls linearly to 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay; norms and biases are spared."""
    batch_size: int = 32
    """Texts per optimiser step."""
    epochs: int = 30
    """Passes over the labels, at most; the first rounds have few labels and need many."""
    max_steps: int | None = 1000
    """Optimiser steps, at most, whatever the number of epochs. None: no cap."""
    held_out: float = 0.15
    """Share of the labels kept back for early stopping; 0 trains to the end on all of them."""
    patience: int = 8
    """Stop after this many epochs in a row without a better loss on the labels kept back."""
    dropout: float = 0.1
    """Dropout on the pooled text of t5-encoder."""
    adapt_steps: int = 0
    """Steps of span-corruption training on unlabelled text before the first fit of t5-encoder; 0 leaves it out."""
    adapt_lr: float = 1e-3
    """Peak learning rate of that training."""
    adapt_batch_size: int = 32
    """Texts per step of that training."""
    hash_bits: int = 20
    """hashed-linear: n-grams fall into 2 to this power buckets."""
    ngrams: int = 2
    """hashed-linear: longest run of words that is one feature; 1 takes single words."""
    idf: bool = False
    """hashed-linear: weigh n-grams by their rarity in the unlabelled text."""
    lsa_dim: int = 0
    """hashed-linear: learn on this many standardised dimensions of the unlabelled text's LSA; 0 learns on the n-grams."""
    l2: float = 1.0
    """hashed-linear: strength of the squared-length penalty, against the summed loss of labels of mean weight 1."""

    def __post_init__(self) -> None:
        is_device = self.device.split(":")[0] in ("auto", "cpu", "cuda", "mps")
        check(is_device, "student.device", '"auto", "cpu" or "cuda"', self.device)
        check(self.gamma >= 0, "student.gamma", ">= 0", self.gamma)
        check(
            self.precision in ("auto", "float32", "bf16"),
            "student.precision",
            '"auto", "float32" or "bf16"',
            self.precision,
        )
        for name, least in (("max_tokens", 2), ("batch_size", 1), ("epochs", 1)):
            check(getattr(self, name) >= least, f"student.{name}", f">= {least}", getattr(self, name))
        for name, least in (("patience", 1), ("adapt_steps", 0), ("adapt_batch_size", 1), ("lsa_dim", 0)):
            check(getattr(self, name) >= least, f"student.{name}", f">= {least}", getattr(self, name))
        for name in ("max_steps", "score_tokens"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"student.{name}", ">= 1 or None", value)
        for name in ("lr", "adapt_lr", "l2"):
            check(getattr(self, name) > 0, f"student.{name}", "> 0", getattr(self, name))
        check(self.weight_decay >= 0, "student.weight_decay", ">= 0", self.weight_decay)
        check(0 <= self.held_out < 1, "student.held_out", "at least 0 and below 1", self.held_out)
        check(0 <= self.dropout < 1, "student.dropout", "at least 0 and below 1", self.dropout)
        check(4 <= self.hash_bits <= 28, "student.hash_bits", "in 4..28", self.hash_bits)
        check(1 <= self.ngrams <= 8, "student.ngrams", "in 1..8", self.ngrams)
