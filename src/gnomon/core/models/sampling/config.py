"""Settings for sampling. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass

from gnomon.errors import BadConfig


@dataclass(frozen=True)
class GenConfig:
    """How to sample completions."""

    max_new_tokens: int = 256
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Logits are divided by this; 0 always takes the likeliest token."""
    top_p: float = 1.0
    """Sample from the fewest likeliest tokens that hold this much probability; 1 samples from all."""
    n: int = 1
    """Completions per prompt."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; the text ends before the first of them."""
    batch_size: int = 64
    """Completions sampled side by side; changes speed and memory, not results."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "n", "batch_size"):
            if getattr(self, name) < 1:
                raise BadConfig(f"gen.{name} must be >= 1; got {getattr(self, name)}.")
        if not self.temperature >= 0:
            raise BadConfig(f"gen.temperature must be >= 0; got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise BadConfig(f"gen.top_p must be above 0 and at most 1; got {self.top_p}.")
        if "" in self.stop:
            raise BadConfig("gen.stop must not hold an empty text.")
