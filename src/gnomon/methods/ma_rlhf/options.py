"""How answers are cut into macro actions, and how PPO learns from them. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core.config import check
from gnomon.core.models.sampling.config import GenConfig
from gnomon.errors import BadConfig, nearest

RULES = ("fixed", "randomized", "perplexity", "surprise", "code", "chunks")
"""Rules that come with the room; a function of one's own is `rule:module:function` or `rule:path.py:function`."""

Sigma = Literal["equal", "unit", "position_decayed", "position_decayed_first"]

if TYPE_CHECKING:
    Rule = str | Callable[..., Any]
else:
    Rule = str  # what the command line reads; a function comes from Python alone


def _named(value: object, names: tuple[str, ...], field: str) -> None:
    if value not in names:
        raise BadConfig(
            f'{field} must be one of {", ".join(names)}; got "{value}". {nearest(str(value), names)}'
        )


@dataclass(frozen=True, kw_only=True)
class Macro:
    """How answers are cut into macro actions, and how credit passes between them."""

    rule: Rule = "fixed"
    """Where a macro action ends: fixed, randomized, perplexity, surprise, code, chunks, or rule:path.py:function, which gets
    tokens, offsets and text. In Python it may be a function."""
    n: int | None = 5
    """Tokens of a macro action by the rule fixed, and where another rule finds nothing to cut. 1 is token PPO.
    None: the whole answer."""
    lengths: tuple[int, ...] = (2, 3, 5, 10)
    """Lengths that the rule randomized shuffles."""
    repeats: int = 3
    """How often it takes each; what is left behind the last one is one macro action."""
    ppl_mode: Literal["token", "running"] = "token"
    """Rule perplexity: token ends before a token less likely than the one before it (the released code), running before one that
    raises the perplexity of its macro action (the paper). Log-probabilities are the reference's."""
    p_min: float = 0.5
    """Rule surprise: a macro action ends before a token that the policy had given less than this probability."""
    cutoff: int = 5
    """Rule code: parts of the syntax tree with fewer tokens are not taken apart."""
    sigma: Sigma = "equal"
    """Weights of the token values in a macro action's value: their mean; unit is the last token's; position_decayed weighs the last
    most (the paper), position_decayed_first the first (the released code)."""
    reward: Literal["sum", "mean"] = "sum"
    """Reward of a macro action: the sum of its tokens' (the paper), or their mean by sigma (the released code)."""
    rho: float = 1.0
    """Discount within a macro action's sum, 0..1."""
    gamma: float = 1.0
    """Discount from a macro action to the next, 0..1."""
    lam: float = 0.95
    """Lambda of the advantages, 0..1."""
    lam_critic: float | None = None
    """Lambda of the returns that the critic learns; 1 is the plain sum of rewards. None: lam."""
    ratio: Literal["token", "macro"] = "token"
    """What is clipped: the ratio of each token (the released code), or of each macro action (the paper)."""
    weight: Literal["actions", "tokens"] = "actions"
    """With ratio macro: the mean over macro actions, or over macro actions by their length."""
    isolate_last: bool | None = None
    """The last token is a macro action of its own. None: as the reward needs it, which is with mean alone."""

    def __post_init__(self) -> None:
        if isinstance(self.rule, str) and not self.rule.startswith("rule:"):
            _named(self.rule, RULES, "macro.rule")
        check(self.n is None or self.n >= 1, "macro.n", ">= 1, or None for the whole answer", self.n)
        check(bool(self.lengths) and min(self.lengths) >= 1, "macro.lengths", "numbers >= 1", self.lengths)
        check(self.repeats >= 1, "macro.repeats", ">= 1", self.repeats)
        check(0 < self.p_min < 1, "macro.p_min", "within (0, 1)", self.p_min)
        check(self.cutoff >= 2, "macro.cutoff", ">= 2", self.cutoff)
        _named(self.ppl_mode, ("token", "running"), "macro.ppl_mode")
        _named(self.sigma, ("equal", "unit", "position_decayed", "position_decayed_first"), "macro.sigma")
        _named(self.reward, ("sum", "mean"), "macro.reward")
        _named(self.ratio, ("token", "macro"), "macro.ratio")
        _named(self.weight, ("actions", "tokens"), "macro.weight")
        for name in ("rho", "gamma", "lam"):
            check(0 <= getattr(self, name) <= 1, f"macro.{name}", "in 0..1", getattr(self, name))
        check(
            self.lam_critic is None or 0 <= self.lam_critic <= 1,
            "macro.lam_critic",
            "in 0..1 or None",
            self.lam_critic,
        )
        # A mean would divide the terminal reward by the length of the last macro action.
        check(
            self.isolate_last is not False or self.reward == "sum",
            "macro.isolate_last", "None or True where macro.reward is mean", self.isolate_last,
        )  # fmt: skip

    @property
    def isolates(self) -> bool:
        """Whether the last token is a macro action of its own."""
        return self.reward == "mean" if self.isolate_last is None else self.isolate_last

    @property
    def name(self) -> str:
        """The rule in a word or two."""
        rule = self.rule if isinstance(self.rule, str) else getattr(self.rule, "__name__", "own rule")
        return rule if rule != "fixed" else f"n={'inf' if self.n is None else self.n}"


def matched_lambda(lam: float, n: int) -> float:
    """The lambda with which token PPO carries credit as far as macro actions of n tokens do with `lam`: lam ** (1/n).

    >>> round(matched_lambda(0.95, 5), 4)
    0.9898
    """
    return float(lam ** (1 / n))


@dataclass(frozen=True, kw_only=True)
class Ppo:
    """How the policy writes, and how it learns from that."""

    gen: GenConfig = field(default_factory=lambda: GenConfig(max_new_tokens=512, temperature=0.8, top_k=50))
    """How answers are sampled; n answers for each prompt. A judge compares the answers to one prompt, so it needs two or more."""
    beta: float = 0.05
    """Weight of the penalty for leaving the reference: of log policy - log reference, for each token."""
    reward_clip: float | None = 2.5
    """Rewards are cut to -x..x. None: taken as they are."""
    clip: float = 0.2
    """Ratios are clipped to 1-x..1+x."""
    value_clip: float | None = 0.2
    """The critic's step is clipped to x around its value at the rollout. None: not clipped."""
    epochs: int = 1
    """Passes over a rollout."""
    minibatches: int = 1
    """Optimiser steps in a pass; a rollout has train.batch_size answers for each of them."""
    whiten: bool = False
    """Advantages to mean 0 and deviation 1 over all tokens of a rollout."""
    on_cut: str = "zero"
    """Answers cut by the length limit: zero takes the cut as an end; bootstrap goes on with the critic's value behind the last
    token; penalty:X adds X to the reward."""
    drop_shorter_than: int = 1
    """Answers with fewer tokens are left out, and counted. The released code has 2."""
    logprob_temperature: float = 1.0
    """Temperature of the log-probabilities in ratios and penalty, of policy and reference alike."""
    critic_lr: float | None = None
    """Peak learning rate of the critic. None: train.lr."""
    critic_clip: float | None = 1.0
    """Longest gradient of the critic, which is clipped apart from the policy. None: not clipped."""
    value_warmup: int = 0
    """Steps of the critic alone, on what the policy wrote before it learned anything."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW."""

    def __post_init__(self) -> None:
        check(self.beta >= 0, "ppo.beta", ">= 0", self.beta)
        for name in ("clip", "logprob_temperature"):
            check(getattr(self, name) > 0, f"ppo.{name}", "> 0", getattr(self, name))
        for name in ("reward_clip", "value_clip", "critic_lr", "critic_clip"):
            value = getattr(self, name)
            check(value is None or value > 0, f"ppo.{name}", "> 0 or None", value)
        for name in ("epochs", "minibatches", "drop_shorter_than"):
            check(getattr(self, name) >= 1, f"ppo.{name}", ">= 1", getattr(self, name))
        check(self.value_warmup >= 0, "ppo.value_warmup", ">= 0", self.value_warmup)
        check(all(0 <= beta < 1 for beta in self.betas), "ppo.betas", "two numbers in [0, 1)", self.betas)
        check(
            not self.gen.is_greedy,
            "ppo.gen.temperature",
            "> 0: a greedy policy explores nothing",
            self.gen.temperature,
        )
        self.cut_penalty  # noqa: B018 - reads it

    @property
    def cut_penalty(self) -> float | None:
        """What a cut adds to the reward; None where it is continued by the critic's value.

        Raises:
            BadConfig: `on_cut` is written in another way.
        """
        kind, _, rest = self.on_cut.partition(":")
        if self.on_cut in ("zero", "bootstrap"):
            return 0.0 if kind == "zero" else None
        try:
            penalty = float(rest) if kind == "penalty" else math.nan
        except ValueError:
            penalty = math.nan
        check(
            math.isfinite(penalty), "ppo.on_cut", "zero, bootstrap or penalty:X with a number X", self.on_cut
        )
        return penalty

    @property
    def updates(self) -> int:
        """Optimiser steps that share a rollout."""
        return self.epochs * self.minibatches


MACRO, PPO = Macro(), Ppo()
"""The defaults."""
