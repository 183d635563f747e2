"""Settings of the ma-rlhf verbs and the claims its miniature tests. Defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rollout.tasks import Layout
from gnomon.core.study import Miniature
from gnomon.core.train.config import TrainConfig
from gnomon.methods.ma_rlhf.options import RULES, Macro, Ppo

PAPER = "MA-RLHF, arXiv 2410.02743"

Part = Literal["all", "sft", "reward", "ppo"]
"""Which share of a data set a stage takes."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """One data set for three stages, of which each takes its own share."""

    part: Part = "all"
    """all rows, or the share of a stage: 20 % sft, 40 % reward, 40 % ppo, by the hash of a row's prompt."""


@dataclass(frozen=True, kw_only=True)
class Sft(LoadConfig, Share):
    """Fine-tune a model on answers: the first stage."""

    data: Positional[str]
    """Rows of prompt and completion, or of messages: JSONL, Parquet, a folder or hf://name."""
    model: TextModel
    """A causal model: a folder, a run folder or a hub id."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=5e-5, batch_size=512, epochs=3, schedule="cosine", max_length=1024
        )
    )
    """The training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_trainable(self.train.lora_rank is None)


@dataclass(frozen=True, kw_only=True)
class Reward(LoadConfig, Share):
    """Train a reward model on pairs of answers: the second stage."""

    data: Positional[str]
    """Pairs: prompt, chosen, rejected, as text or messages; also the columns of summaries, HH and WebGPT comparisons."""
    model: TextModel
    """The model of the first stage, or a reward model that is trained further and keeps its head."""
    loss_on: Literal["last", "divergent_tokens"] = "last"
    """Compare values at the last token, or their mean over tokens from the first that differs (the released code)."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=1e-5, batch_size=64, epochs=1, schedule="cosine", max_length=1024, eval_share=0.05
        )
    )
    """The training; rows set aside are measured beside rules of length."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_trainable(self.train.lora_rank is None)
        check(
            not self.train.packing,
            "train.packing",
            "False: a reward model reads whole texts",
            self.train.packing,
        )


@dataclass(frozen=True, kw_only=True)
class Train(LoadConfig, Share):
    """Train a policy by PPO over macro actions: the third stage."""

    data: Positional[str]
    """Tasks: rows of prompt or messages, and what the reward needs beside them; also GSM8K, HumanEval, MBPP."""
    model: TextModel
    """The policy to begin with, and the reference: a folder, a run folder or a hub id, with an adapter or without."""
    reward: str
    """scorer:MODEL, rule:my.py:function, tests, tests:graded, judge:LLM, number, exact, contains or regex:PATTERN."""
    critic: str | None = None
    """A reward model that the critic begins as. None: the scorer of --reward, else the policy's backbone under a head of zeros."""
    layout: Layout = "auto"
    """How the tasks' rows are laid out."""
    rollout: str | None = None
    """A server of the policy that writes the rollouts, http://host:8000/v1#name; adapters are loaded there after each update.
    None: the policy writes them here."""
    macro: Macro = field(default_factory=Macro)
    """How answers are cut into macro actions, and how credit passes between them."""
    matched: bool = False
    """Train a second policy beside, by token PPO with lambda ** (1/n), and compare the two: how much is the longer horizon?"""
    ppo: Ppo = field(default_factory=Ppo)
    """How answers are sampled, and what is learned from them."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How a judge is asked."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=1.5e-5,
            batch_size=256,
            schedule="cosine",
            warmup_steps=200,
            max_length=1024,
            weight_decay=0.0,
            checkpoint_every=20,
        )
    )
    """The training; batch_size counts answers of an optimiser step, max_length tokens of prompt and answer together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.train.max_length > self.ppo.gen.max_new_tokens, "train.max_length",
            "more than ppo.gen.max_new_tokens: it counts prompt and answer", self.train.max_length,
        )  # fmt: skip
        check(
            not self.matched or (self.macro.rule == "fixed" and (self.macro.n or 0) > 1), "matched",
            "False unless macro.rule is fixed with n > 1", self.matched,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Eval(LoadConfig, Share):
    """Reward of a policy on prompts, its distance from a reference, and how often it wins against it."""

    data: Positional[str]
    """Tasks, as for train."""
    model: TextModel
    """The policy: a folder, a run folder or a hub id."""
    reward: str
    """As for train."""
    against: str | None = None
    """Another model that answers the same prompts, such as the one the policy began as."""
    judge: str | None = None
    """A language model that says whose answer is better, both orders asked. None: the reward decides."""
    pairs: int = 50
    """Prompts that the judge sees."""
    layout: Layout = "auto"
    """How the tasks' rows are laid out."""
    limit: int | None = 2000
    """Tasks at most. None: all."""
    gen: GenConfig = field(default_factory=lambda: GenConfig(max_new_tokens=512, temperature=0.8, top_k=50))
    """How answers are sampled; n answers for each prompt."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How judges are asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.judge is None or self.against is not None, "judge", "None without --against", self.judge)
        check(self.pairs >= 1, "pairs", ">= 1", self.pairs)


@dataclass(frozen=True, kw_only=True)
class Segment(LoadConfig):
    """Show how each rule cuts a text into macro actions."""

    text: Positional[str]
    """A text, or the path of a text file."""
    model: TextModel
    """Its tokenizer cuts the text into tokens; its log-probabilities are what the rules perplexity and surprise look at."""
    prompt: str = ""
    """What stands before the text."""
    rules: tuple[str, ...] = RULES
    """Which rules: names, or rule:path.py:function."""
    macro: Macro = field(default_factory=Macro)
    """The rules' settings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.rules), "rules", f"some of {', '.join(RULES)}", self.rules)
        for rule in self.rules:
            Macro(rule=rule)


MiniPart = Literal["world", "rules", "text"]


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: a policy learns which words are good from a reward at the end of its answer."""

    parts: tuple[MiniPart, ...] = ("world", "rules", "text")
    """world: macro actions against tokens at equal rollouts; rules: the other rules and options in the same world; text: every
    rule once on real sentences."""


@dataclass(frozen=True, kw_only=True)
class Real(Miniature):
    """A real story model learns to write friendly words, by every kind of macro action at equal updates."""

    model: Positional[str]
    """The story model: a folder with a small causal model that writes simple English."""


CLAIMS = (
    Claim("Macro actions end with a higher reward at equal rollouts", f"{PAPER}: MA-PPO against PPO",
          "final share good: n=5 > n=1", 0.02, part="world"),
    Claim("They pass 60 % sooner", f"{PAPER}: 1.7 to 2 times sooner", "rollouts to .60: n=5 < n=1", part="world"),
    Claim("Token PPO with lambda to the power 1/5 is as good: what counts is the horizon of credit",
          "control: matched lambda", "final share good: n=5 == matched", 0.02, part="world"),
    Claim("At least 1.1 times fewer rollouts are needed", "the specification's acceptance",
          "rollouts to .60 over those of n=1: n=5 <= 0.909", part="world", required=False),
    Claim("The whole answer as one action ends no worse than pieces of five", "reported: contextual bandit",
          "final share good: n=inf >= n=5", -0.02, part="world", required=False),
)  # fmt: skip
"""What the miniature tests; thresholds are the specification's."""

REAL_CLAIMS = (
    Claim("Macro actions end with a higher reward at equal updates", f"{PAPER}: MA-PPO against PPO",
          "friendly words, last updates: n=5 > n=1"),
    Claim("Token PPO with lambda to the power 1/5 is as good", "control: matched lambda; trial: 20.7 against 21.2 %",
          "friendly words, last updates: n=5 == matched", 0.05),
    Claim("Macro actions get more at equal distance from the reference", "reported: the price of the reward",
          "friendly words at equal log-ratio: n=5 > n=1", required=False),
)  # fmt: skip
"""What the real run tests; shares are 0..1."""
