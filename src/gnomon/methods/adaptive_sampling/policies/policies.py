"""The three ways to spend samples: the best of N, samples on demand until c is high enough, and many of which most are given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from gnomon.core.config import check
from gnomon.core.models import Completion, GenConfig, generate
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Schedule, check_restart
from gnomon.methods.adaptive_sampling.policies.watch import Pruning, Watching

GROUPS = (1, 1, 2, 4, 8)
"""Samples drawn at once, one group after another; all of a group count as spent. The last size repeats."""


@dataclass(frozen=True)
class Drawn:
    """One sample."""

    text: str
    tokens: tuple[int, ...]
    """As they were sampled, the end token among them."""
    c: float | None
    """Of the whole answer; None where it was given up before."""
    logprob: float
    """Sum of the log-probabilities (nats) of its tokens, untempered."""
    finish: str
    """eos, stop, length, or watch: given up."""
    temperature: float
    """It was drawn with."""
    c_at: dict[int, float] = field(default_factory=dict)
    """Cut -> c of its beginning."""
    given_up: int | None = None
    """The cut at which it did not stay."""
    is_copy: bool = False
    """Whether an earlier sample says the same, whose c it has."""


@dataclass(frozen=True)
class SampleResult:
    """The answer that was chosen, and what it took."""

    text: str
    tokens: tuple[int, ...]
    c: float
    k_used: int
    """Samples drawn, those that were given up among them."""
    chosen: int
    """Number of the sample, from 0."""
    tokens_generated: int
    """Over all samples."""
    tokens_selfeval: int
    """Tokens read for self-evaluation alone."""
    all_samples: tuple[Drawn, ...]
    trace: dict[str, Any]
    """Why it stopped, and what was seen when."""

    def as_row(self) -> dict[str, Any]:
        """As results are written."""
        return asdict(self)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> SampleResult:
        """A result as it was written; the trace is left as JSON has it."""
        samples = tuple(
            Drawn(
                **{**s, "tokens": tuple(s["tokens"]), "c_at": {int(cut): c for cut, c in s["c_at"].items()}}
            )
            for s in row["all_samples"]
        )
        values = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**values, "tokens": tuple(row["tokens"]), "all_samples": samples})


Generators = Rng | Sequence[Rng]


@dataclass(frozen=True)
class _Policy:
    evaluator: SelfEvaluator
    gen: GenConfig = field(default_factory=GenConfig)
    """Longest answer, top-p, top-k, stop texts and batch size; number and temperature of samples are the policy's."""
    schedule: Schedule = field(default_factory=Schedule)
    any_restart: bool = False
    """Whether samples may be drawn otherwise than those that c was trained to compare with."""

    def _sample(
        self,
        prompts: Sequence[str | Sequence[int]],
        generator: Generators,
        n: int,
        first: int,
        watching: Watching,
        more: Callable[[int, list[Completion]], int] | None = None,
    ) -> list[list[Drawn]]:
        """All samples of each prompt."""
        evaluator = self.evaluator
        if not self.any_restart:
            check_restart(evaluator.restart, self.schedule, self.gen)
        gen = replace(self.schedule.draws(self.gen, n, evaluator.carrier.banned), n=first)
        encoded = [evaluator.tokenizer(p)["input_ids"] if isinstance(p, str) else list(p) for p in prompts]
        evaluator.check_room([len(ids) + gen.max_new_tokens + evaluator.carrier.longest for ids in encoded])
        drawn = generate(
            evaluator.model, evaluator.tokenizer, encoded, gen, generator=generator, watch=watching, more=more
        )
        return [
            [self._drawn((i, k), done, row, gen, watching) for k, done in enumerate(row)]
            for i, row in enumerate(drawn)
        ]

    def _drawn(
        self,
        key: tuple[int, int],
        done: Completion,
        row: list[Completion],
        gen: GenConfig,
        watching: Watching,
    ) -> Drawn:
        copies = [other.token_ids for other in row[: key[1]]]
        return Drawn(
            done.text,
            done.token_ids,
            watching.c.get(key),
            float(sum(done.logprobs)),
            done.finish,
            gen.temperature_of(key[1]),
            {cut: values[key] for cut, values in sorted(watching.at_cut.items()) if key in values},
            watching.given_up.get(key),
            done.token_ids in copies,
        )

    def _results(
        self,
        drawn: list[list[Drawn]],
        watching: Watching,
        trace: Callable[[int, list[Drawn]], dict[str, Any]],
    ) -> list[SampleResult]:
        results = []
        for i, samples in enumerate(drawn):
            values = [
                -1.0 if s.c is None or s.given_up is not None else s.c for s in samples
            ]  # the earliest of equals
            best = max(range(len(samples)), key=lambda k: (values[k], -k))
            chosen = samples[best]
            assert chosen.c is not None
            results.append(
                SampleResult(
                    chosen.text, chosen.tokens, chosen.c, len(samples), best, sum(len(s.tokens) for s in samples),
                    watching.tokens_read[i], tuple(samples), trace(i, samples),
                )
            )  # fmt: skip
        return results


@dataclass(frozen=True)
class BestOfN(_Policy):
    """N samples, of which the one with the highest c is taken.

    Source: step 6 of the specification.
    """

    n: int = 16
    cuts: tuple[int, ...] = ()
    """Beginnings that are looked at too, for replays; nothing is given up."""

    def sample(self, prompts: Sequence[str | Sequence[int]], generator: Generators) -> list[SampleResult]:
        """The chosen answer of each prompt.

        Raises:
            BadInput: a prompt leaves no room for an answer and the question behind it.
            BadConfig: samples are drawn otherwise than c was trained for.
        """
        check(self.n >= 1, "n", ">= 1", self.n)
        watching = Watching(self.evaluator, self.cuts)
        drawn = self._sample(prompts, generator, self.n, self.n, watching)
        return self._results(
            drawn, watching, lambda i, samples: {"policy": "best-of-n", "why": "all samples drawn"}
        )


@dataclass(frozen=True)
class AdaptiveSampler(_Policy):
    """Samples on demand, until the highest c reaches gamma or there are n_max; what was drawn is kept and never drawn again.

    Source: steps 7 and 8.
    """

    gamma: float = 0.9
    n_max: int = 16
    groups: tuple[int, ...] = GROUPS

    def sample(self, prompts: Sequence[str | Sequence[int]], generator: Generators) -> list[SampleResult]:
        """The chosen answer of each prompt; errors as of `BestOfN`."""
        check(0 < self.gamma <= 1, "gamma", "within (0, 1]", self.gamma)
        check(self.n_max >= 1, "n_max", ">= 1", self.n_max)
        check(bool(self.groups) and min(self.groups) >= 1, "groups", "numbers of samples from 1", self.groups)
        watching = Watching(self.evaluator)
        ends: dict[int, list[int]] = {}

        def more(prompt: int, done: list[Completion]) -> int:
            borders = ends.setdefault(prompt, [])
            borders.append(len(done))
            if len(done) >= self.n_max or max(watching.c[prompt, k] for k in range(len(done))) >= self.gamma:
                return 0
            size = self.groups[min(len(borders), len(self.groups) - 1)]
            return min(size, self.n_max - len(done))

        first = min(self.groups[0], self.n_max)
        drawn = self._sample(prompts, generator, self.n_max, first, watching, more)

        def trace(i: int, samples: list[Drawn]) -> dict[str, Any]:
            reached = max(s.c for s in samples if s.c is not None) >= self.gamma
            why = "c reached gamma" if reached else "no samples left"
            return {"policy": "adaptive", "gamma": self.gamma, "groups": ends[i], "why": why}

        return self._results(drawn, watching, trace)


@dataclass(frozen=True)
class PruningSampler(_Policy):
    """N samples side by side, most of which are given up after a few tokens; they leave the batch, so time is saved too.

    Source: step 9.
    """

    n: int = 16
    pruning: Pruning = field(default_factory=Pruning)

    def sample(self, prompts: Sequence[str | Sequence[int]], generator: Generators) -> list[SampleResult]:
        """The chosen answer of each prompt; errors as of `BestOfN`.

        Raises:
            BadConfig: a batch does not hold all samples of a prompt, of which some are to be given up together.
        """
        check(self.n >= 1, "n", ">= 1", self.n)
        if self.gen.batch_size < self.n:
            raise BadConfig(
                f"gen.batch_size must be at least the {self.n} samples of a prompt, which are compared while they are written; got "
                f"{self.gen.batch_size}."
            )
        watching = Watching(self.evaluator, self.pruning.cuts, self.pruning)
        drawn = self._sample(prompts, generator, self.n, self.n, watching)

        def trace(i: int, samples: list[Drawn]) -> dict[str, Any]:
            lost = [k for k, s in enumerate(samples) if s.given_up is not None]
            return {
                "policy": "prune",
                "cuts": self.pruning.cuts,
                "given_up": lost,
                "why": "the rest was written to its end",
            }

        return self._results(drawn, watching, trace)
