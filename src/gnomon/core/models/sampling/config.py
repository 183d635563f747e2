"""Settings for sampling. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass

from gnomon.errors import BadConfig


@dataclass(frozen=True)
class GenConfig:
    """How to sample completions."""

    max_new_tokens: int = 256
    """Longest completion, in tokens."""
    temperature: float | tuple[float, ...] = 1.0
    """Logits are divided by this; 0 always takes the likeliest token. Several: of a prompt's first sample, its second, and so on,
    the last for all that follow."""
    top_p: float = 1.0
    """Sample from the fewest likeliest tokens that hold this much probability; 1 samples from all."""
    n: int = 1
    """Completions per prompt."""
    stop: tuple[str, ...] = ()
    """Texts that end a completion; the text ends before the first of them."""
    batch_size: int = 64
    """Completions sampled side by side; changes speed and memory, not results."""
    top_k: int | None = None
    """Sample from so many of the likeliest tokens, before top_p; None: all."""
    banned: tuple[int, ...] = ()
    """Ids that are never written: the model is read as if its vocabulary did not have them."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "n", "batch_size"):
            if getattr(self, name) < 1:
                raise BadConfig(f"gen.{name} must be >= 1; got {getattr(self, name)}.")
        if not self.temperatures or not all(0 <= value < float("inf") for value in self.temperatures):
            raise BadConfig(f"gen.temperature must be >= 0; got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise BadConfig(f"gen.top_p must be above 0 and at most 1; got {self.top_p}.")
        if self.top_k is not None and self.top_k < 1:
            raise BadConfig(f"gen.top_k must be >= 1 or None; got {self.top_k}.")
        if any(token < 0 for token in self.banned):
            raise BadConfig(f"gen.banned must hold token ids; got {self.banned}.")
        if "" in self.stop:
            raise BadConfig("gen.stop must not hold an empty text.")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperature of the first sample, the second, and so on; the last one repeats."""
        return self.temperature if isinstance(self.temperature, tuple) else (self.temperature,)

    def temperature_of(self, sample: int) -> float:
        """The temperature of a prompt's sample, counted from 0."""
        return self.temperatures[min(sample, len(self.temperatures) - 1)]

    @property
    def is_greedy(self) -> bool:
        """Whether every sample takes the likeliest tokens."""
        return not any(self.temperatures)
