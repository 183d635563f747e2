"""Settings of the markov verbs and the claims its miniature tests. Defaults are the paper's where it states them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature, check_parts

PAPER = "Large Language Models as Markov Chains, arXiv 2410.02724"


def _temperatures(values: tuple[float, ...]) -> None:
    check(bool(values) and all(v > 0 for v in values), "temperature", "one or more numbers > 0", values)
    check(len(set(values)) == len(values), "temperature", "different numbers", values)


@dataclass(frozen=True, kw_only=True)
class Chain(LoadConfig):
    """The exact Markov chain of a small or restricted model: matrix, stationary distribution, mixing, loops."""

    model: TextModel
    """A causal model: a folder or a hub id."""
    tokens: str = ""
    """The tokens that make up the states, with commas between: texts that are one token each, or ids such as #15. Empty: all."""
    window: int = 3
    """K: how many tokens the model sees."""
    temperature: tuple[float, ...] = (0.2, 0.5, 1.0, 1.5, 2.0)
    """Sampling temperatures, each a chain of its own; one pass over the states serves all."""
    prefix: str = ""
    """A fixed text in front of every state, such as a system prompt; no part of the state."""
    bos: Literal["auto", "yes", "no"] = "auto"
    """Whether the begin-of-text token stands in front. auto: as the tokenizer adds it to any text."""
    top_k: int | None = None
    """Decoding writes only so many of the likeliest tokens. None: all."""
    top_p: float | None = None
    """Decoding writes only the likeliest tokens that together reach this. None: all."""
    steps: int = 200
    """Tokens for which the distance to the stationary distribution is measured."""
    text: Path | None = None
    """A text the model was trained on: how much of the stationary distribution lies on its states?"""
    limit: int = 100_000_000
    """Most numbers of the transition matrix, states times tokens; a chain that needs more memory than is free is refused too."""
    batch_size: int | None = None
    """States scored at once. None: what fits a modest memory."""
    dtype: str = "float32"
    """Number type of the weights; "auto" keeps the checkpoint's."""

    LOOSE: ClassVar[tuple[str, ...]] = ("batch_size",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.window >= 1, "window", ">= 1", self.window)
        _temperatures(self.temperature)
        check(self.top_k is None or self.top_k >= 1, "top_k", ">= 1", self.top_k)
        check(self.top_p is None or 0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self.top_p)
        check(self.steps >= 1, "steps", ">= 1", self.steps)
        check(self.limit >= 2, "limit", ">= 2", self.limit)
        check(self.batch_size is None or self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Forget(LoadConfig):
    """How fast a model of any vocabulary forgets which of two prompts it began with."""

    a: Positional[str]
    """A text file: the one prompt."""
    b: Positional[str]
    """A text file: the other."""
    model: TextModel
    """A causal model: a folder or a hub id."""
    temperature: tuple[float, ...] = (0.5, 1.0, 1.5)
    """Sampling temperatures."""
    samples: int = 64
    """Continuations of each prompt."""
    steps: int = 64
    """Tokens of each continuation."""
    top: int = 50
    """Likeliest tokens that are compared one by one; all others count as one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _temperatures(self.temperature)
        check(self.samples >= 2, "samples", ">= 2", self.samples)
        check(self.steps >= 1, "steps", ">= 1", self.steps)
        check(self.top >= 1, "top", ">= 1", self.top)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The paper's generalisation bounds, from sizes or from a checkpoint."""

    kind: Positional[Literal["pretrain", "icl"]] = "pretrain"
    """pretrain: the risk after pre-training; icl: in the context of a Markov chain."""
    model: str | None = None
    """A checkpoint: its vocabulary, width and unembedding are read. None: from --vocab and --width."""
    vocab: int = 32_000
    """T, tokens of the vocabulary; Llama 2's by default."""
    width: int = 4096
    """r, width of the model."""
    n_train: float = 1e12
    """Tokens of pre-training."""
    temperature: float = 1.0
    """Sampling temperature."""
    delta: float = 0.05
    """Chance that the bound fails."""
    empirical: float = 0.0
    """Empirical risk, 0..1."""
    c0: float | None = None
    """Smallest true probability of a next token. None: large enough not to matter."""
    gamma: float = 1.0
    """Operator norm of the data's mixing matrix; 1 for independent data."""
    feature_norm: float = 1.0
    """Largest L2 length of the model's final features; the paper supposes 1, RMS norms give about the root of the width."""
    states: int = 3
    """icl: states of the chain."""
    length: float = 1000
    """icl: states in the prompt."""
    t_min: float = 4.0
    """icl: mixing constant of the chain; 4 is the least there is."""
    p_min: float = 0.01
    """icl: smallest transition probability of the chain."""

    def __post_init__(self) -> None:
        check(self.vocab >= 2, "vocab", ">= 2", self.vocab)
        check(self.width >= 1, "width", ">= 1", self.width)
        check(self.n_train >= 1, "n_train", ">= 1", self.n_train)
        check(self.temperature > 0, "temperature", "> 0", self.temperature)
        check(0 < self.delta < 1, "delta", "within (0, 1)", self.delta)
        check(0 <= self.empirical <= 1, "empirical", "in 0..1", self.empirical)
        check(self.feature_norm > 0, "feature_norm", "> 0", self.feature_norm)


@dataclass(frozen=True, kw_only=True)
class Icl(LoadConfig):
    """How well a model learns Markov chains and dynamical systems in its context, against counting."""

    model: TextModel
    """A causal model: a folder or a hub id."""
    kind: str = "brownian"
    """What is to be learned: random, uniform-rows, walk, polygon, cliques, slow, drift; brownian, geometric-brownian,
    ornstein-uhlenbeck, gaussian, uniform, logistic, noisy-logistic, lorenz."""
    states: int = 700
    """Number of states d."""
    length: int = 1000
    """States in the prompt."""
    runs: int = 10
    """Series."""
    bos: Literal["auto", "yes", "no"] = "auto"
    """Whether the begin-of-text token stands in front. auto: as the tokenizer adds it to any text."""
    distance: Literal["tv", "kl", "bhattacharyya", "hellinger"] = "tv"
    """Distance of prediction and truth."""
    first: int = 10
    """Smallest n of the slope's fit."""
    batch_size: int = 4
    """Series at once."""

    LOOSE: ClassVar[tuple[str, ...]] = ("batch_size",)

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.states >= 2, "states", ">= 2", self.states)
        check(self.length >= 2, "length", ">= 2", self.length)
        check(self.runs >= 1, "runs", ">= 1", self.runs)
        check(self.first >= 1, "first", ">= 1", self.first)
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: exact chains of small trained models, and small models that learn chains in context."""

    parts: tuple[str, ...] = ("chain", "icl")
    """Which parts to run: chain (the parity model on its four orbits), icl (two models trained on fresh chains, and the exact
    chain of one of them)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("chain", "icl"))


CLAIMS = (
    Claim(
        "A model of T tokens and window K is an ergodic chain with T entries a row and one stationary distribution",
        f"{PAPER}: proposition on the transition matrix",
        "structure as stated: every chain == 1",
        part="chain or icl",
    ),
    Claim(
        "No chain is ever further from its stationary distribution than the bound says",
        f"{PAPER}: theorem on convergence",
        "steps that violate the bound: every chain == 0",
        part="chain or icl",
    ),
    Claim(
        "eps, and with it the bound's speed, grows with temperature",
        f"{PAPER}: eps grows about log-linearly with temperature",
        "eps rises with temperature: every chain == 1",
        part="chain or icl",
    ),
    Claim(
        "On periodic orbits the true speed grows with temperature as well",
        f"{PAPER}: steps to stationarity fall with temperature",
        "|lambda_2| falls with temperature: periodic orbits == 1",
        part="chain",
    ),
    Claim(
        "On fixed-point orbits, too, the true speed grows with temperature",
        f"{PAPER}: steps to stationarity fall with temperature",
        "|lambda_2| falls with temperature: fixed points == 1",
        required=False,
        part="chain",
    ),
    Claim(
        "At tau 1 the stationary distribution concentrates on states of the training text",
        f"{PAPER}: toy model",
        "mass on training states, tau 1: every orbit >= 0.5",
        required=False,
        part="chain",
    ),
    Claim(
        "On chains of 3 states a model is no worse than 1.5 times counting after 128 states",
        f"{PAPER}: in context, d = 3, the model and counting are close",
        "risk over counting's, d=3: model <= 1.5",
        part="icl",
    ),
    Claim(
        "On chains of 3 states a model is no better than 0.8 times counting",
        f"{PAPER}: in context, d = 3, the model and counting are close",
        "risk over counting's, d=3: model >= 0.8",
        part="icl",
    ),
    Claim(
        "On chains of 3 states a model does not beat the Bayes estimator",
        "add-1 is the posterior mean for Dirichlet(1) rows",
        "risk, d=3: model >= add-1",
        margin=-0.01,
        part="icl",
    ),
    Claim(
        "The risk falls at least as fast as n to the -0.3",
        f"{PAPER}: in context, O(N^-1/2)",
        "slope, d=3: model <= -0.3",
        part="icl",
    ),
    Claim(
        "The risk falls no faster than n to the -0.65",
        f"{PAPER}: in context, O(N^-1/2)",
        "slope, d=3: model >= -0.65",
        part="icl",
    ),
    Claim(
        "On drifting walks over many states a model has at most half the risk of the best counting estimator",
        f"{PAPER}: in context, d = 700, the model is clearly better",
        "risk over best counting's, many states: model <= 0.5",
        part="icl",
    ),
)
"""What the miniature tests; the thresholds are the specification's."""
