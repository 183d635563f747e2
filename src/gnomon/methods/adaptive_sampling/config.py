"""Settings of the adaptive-sampling verbs and the claims its miniature tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.train.config import TrainConfig

PAPER = "Adaptive Inference-Time Compute, arXiv 2410.02725"


def _check_here(model: str) -> None:
    """Refuse a served model, which nobody can look into while it writes."""
    wanted = "a run of train or its folder; a served model scores given answers alone (score --server)"
    check(not model.startswith(("http://", "https://")), "model", wanted, model)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an answer is worth."""

    layout: Literal["auto", "rows", "gsm8k", "question", "alpaca", "humaneval", "mbpp", "apps"] = "auto"
    """How rows are laid out; auto: by the columns of the first."""
    reward: str = "number"
    """number, exact, contains, regex:PATTERN, tests, tests:graded, scorer:MODEL, judge:LLM, rule:MODULE:NAME, rule:FILE:NAME."""
    epsilon: float = 0.0
    """Rewards no further apart tie: 0 for 0/1 rewards, the paper's 0.01 for continuous ones."""
    limit: int | None = None
    """Only so many prompts. None: all."""

    def __post_init__(self) -> None:
        check(self.epsilon >= 0, "epsilon", ">= 0", self.epsilon)
        check(self.limit is None or self.limit >= 1, "limit", ">= 1 or None", self.limit)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How samples are drawn."""

    anneal: Literal["halving", "linear", "constant"] = "halving"
    """Temperature of the k-th sample: 1 - 2^-(k-1) of --temperature, so the first is greedy; rising in a line; or one for all."""
    temperature: float = 1.0
    """Highest temperature."""
    gen: GenConfig = field(default_factory=GenConfig)
    """Longest answer, top-p, top-k, stop texts, batch size; number and temperature of samples are set above."""

    def check_drawn(self) -> None:
        """Refuse what the schedule sets itself."""
        check(self.temperature >= 0, "temperature", ">= 0", self.temperature)
        check(self.gen.n == 1, "gen.n", "left out: the number of samples is --k or --n-max", self.gen.n)
        check(
            self.gen.temperature == 1.0,
            "gen.temperature",
            "left out in favour of --temperature",
            self.gen.temperature,
        )


@dataclass(frozen=True, kw_only=True)
class Build(Asked, Drawn, LoadConfig, Shards):
    """Draw samples of a model for each prompt, score them, and label each by the chance that a fresh one would not be better."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, *LoadConfig.LOOSE)

    source: Positional[str]
    """Prompts: rows with prompt or messages and reference, GSM8K, MBPP, HumanEval, question,answer CSV; a file, a folder, hf://name."""
    model: TextModel
    """The policy: a causal model."""
    k: int = 8
    """Samples of a prompt that labels compare with."""
    restart: str = "next"
    """What a fresh sample is: next, a further one of the same schedule; or a temperature, such as the paper's 1."""
    labels: Literal["soft", "pair"] = "soft"
    """soft: the share of the others that a sample beats or ties; pair: 0 or 1 against one other, as in the paper."""
    prefixes: int = 1
    """Beginnings of each answer that carry its label, beside the whole: 1 makes half of the examples unfinished."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How a judge is asked."""

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        LoadConfig.__post_init__(self)
        Shards.__post_init__(self)
        self.check_drawn()
        check(self.k >= 2, "k", ">= 2: a label compares samples", self.k)
        check(self.prefixes >= 0, "prefixes", ">= 0", self.prefixes)


def _training() -> TrainConfig:
    return TrainConfig(lr=2e-4, batch_size=32, warmup_ratio=0.05, lora_rank=8)


@dataclass(frozen=True, kw_only=True)
class Train(LoadConfig):
    """Teach a model to predict, behind any beginning of its answer, whether starting over would give something better."""

    source: Positional[str]
    """A run of build."""
    model: TextModel
    """The model that the samples were drawn from."""
    carrier: Literal["token", "text", "reserved"] = "token"
    """token: one added token asks; text: a turn of the user does, Yes or No; reserved: two unused logits, read at every token."""
    anchor: Literal["kl", "lm", "none"] = "kl"
    """What keeps the answers as they are: KL to the model before; likelihood of the samples (drawn at temperature 1); nothing."""
    anchor_weight: float = 1.0
    """Of the anchor."""
    train: TrainConfig = field(default_factory=_training)
    """The training; lora_rank None trains all weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_trainable(self.train.lora_rank is None)
        check(self.anchor_weight >= 0, "anchor_weight", ">= 0", self.anchor_weight)
        check(
            not self.train.packing,
            "train.packing",
            "off: questions are packed by themselves",
            self.train.packing,
        )
        check(self.train.eval_share == 0, "train.eval_share", "0; measure with eval", self.train.eval_share)


@dataclass(frozen=True, kw_only=True)
class Apply(Drawn, LoadConfig, Shards):
    """Answer prompts by the best of N, on demand until c is high enough, or with most samples given up early."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, *LoadConfig.LOOSE)

    model: Positional[str]
    """A run of train, or its model folder."""
    source: Positional[str]
    """Prompts, as for build; no reference is needed."""
    policy: Literal["best-of-n", "adaptive", "prune"] = "adaptive"
    """How samples are spent."""
    gamma: float = 0.9
    """adaptive: c from which a prompt gets no more samples. It does not carry over to other tasks: see eval."""
    n_max: int = 16
    """Samples of a prompt, at most."""
    groups: tuple[int, ...] = (1, 1, 2, 4, 8)
    """adaptive: samples drawn at once, group after group."""
    cuts: tuple[int, ...] = (64,)
    """prune: tokens after which samples are given up."""
    keep: tuple[int, ...] = (4,)
    """prune: samples that stay at each cut."""
    keep_above: float | None = None
    """prune: in place of --keep, all with such a c stay, at least one."""
    any_restart: bool = False
    """Draw samples otherwise than those that c was trained to compare with."""
    layout: Literal["auto", "rows", "gsm8k", "question", "alpaca", "humaneval", "mbpp", "apps"] = "auto"
    """How rows are laid out."""

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        Shards.__post_init__(self)
        _check_here(self.model)
        self.check_drawn()
        check(0 < self.gamma <= 1, "gamma", "within (0, 1]", self.gamma)
        check(self.n_max >= 1, "n_max", ">= 1", self.n_max)


@dataclass(frozen=True, kw_only=True)
class Score(LoadConfig):
    """c of given answers, or of their beginnings."""

    model: Positional[str]
    """A run of train, or its model folder."""
    source: Positional[str]
    """Rows with prompt (or messages) and response; prefix_tokens, a number, where only so much of the response is shown."""
    batch_size: int = 32
    """Texts read side by side."""
    server: str | None = None
    """http://host:8000/v1#NAME: a server that has the trained model and returns log-probabilities of a prompt of token ids."""
    llm: LLMConfig = field(default_factory=lambda: LLMConfig(concurrency=4))
    """How the server is asked."""

    LOOSE: ClassVar[tuple[str, ...]] = (*LoadConfig.LOOSE, "batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_here(self.model)
        is_url = self.server is None or self.server.startswith(("http://", "https://"))
        check(is_url, "server", "a URL with the model's name, http://host:8000/v1#NAME", self.server)
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Eval(Asked, Drawn, LoadConfig, Shards):
    """Whether choosing and stopping by c pays on one's own questions, gamma by target, and calibration."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, *LoadConfig.LOOSE)

    model: Positional[str]
    """A run of train, or its model folder."""
    source: Positional[str]
    """Questions of one's own that were not trained on, as for build."""
    n_max: int = 16
    """Samples of a prompt."""
    sweep_gamma: bool = True
    """Accuracy against samples for many gammas."""
    target_mean_samples: float | None = None
    """Choose gamma on half of the prompts so that it takes so many samples on average, and report it on the other half."""
    calibrate: bool = False
    """Fit the temperature of c on the same half and store it in the run's selfeval.json; it changes no order."""
    cuts: tuple[int, ...] = ()
    """Also replay pruning to a quarter at each of these numbers of tokens."""
    seen: Literal["refuse", "drop"] = "refuse"
    """Prompts that c was trained on: an error, or left out."""
    any_restart: bool = False
    """Draw samples otherwise than those that c was trained to compare with."""

    def __post_init__(self) -> None:
        Asked.__post_init__(self)
        LoadConfig.__post_init__(self)
        Shards.__post_init__(self)
        _check_here(self.model)
        self.check_drawn()
        check(self.n_max >= 2, "n_max", ">= 2", self.n_max)
        is_judge = self.reward.startswith("judge:")
        check(
            not is_judge,
            "reward",
            "no judge: eval measures by rewards that cost nothing to ask again",
            self.reward,
        )
        wanted = self.target_mean_samples
        check(wanted is None or wanted >= 1, "target_mean_samples", ">= 1 or None", wanted)


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: choose a method and carry it out; beside it a chain in which the model cannot see its own slips."""

    parts: tuple[str, ...] = ("method",)
    """method: the replication; chain: where it fails."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("method", "chain"))


@dataclass(frozen=True, kw_only=True)
class Real(Miniature):
    """A pretrained model is taught to evaluate its own products and capitals, and measured on others by the true chances."""

    model: Positional[str]
    """A causal model that answers questions, such as embedded:smollm2."""
    lr: float = 1e-3
    """Peak learning rate of the adapters."""
    bf16: bool = False
    """Whether adapters are trained on weights in bfloat16, more than twice as fast on processors that have it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.lr > 0, "lr", "> 0", self.lr)


def _claim(
    text: str, compare: str, margin: float = 0.0, *, required: bool = True, part: str = "method"
) -> Claim:
    return Claim(text, f"{PAPER}; thresholds of the specification", compare, margin, required, part)


CLAIMS = (
    _claim("Best of N by c beats one sample by 0.10", "best of N minus one sample: c >= 0.1"),
    _claim("Samples on demand beat a fixed number at the same mean, 1.2 to 3 samples",
           "smallest margin over fixed N, 1.2-3 samples: c > 0"),
    _claim("They are never more than 0.01 below it up to 8 samples", "smallest margin over fixed N, 1.2-8 samples: c >= -0.01",
           required=False),
    _claim("80% of the gain takes at most 8 samples, annealed", "samples for 80% of the gain, annealed: c <= 8"),
    _claim("Giving up three quarters after both method tokens beats giving up at random by 0.03",
           "pruning minus random pruning: c >= 0.03"),
    _claim("It loses at most 0.03", "lost by pruning: c <= 0.03"),
    _claim("Hopeless prompts take fewer samples than hard ones",
           "samples on hopeless types minus types with 1-2 pairs: c < 0"),
    _claim("Demonstrations get at most 0.03 nats less likely", "worse on demonstrations: c <= 0.03"),
    _claim("Soft labels order samples better than pairs, at the same samples", "AUC within: token, soft > token, pair",
           required=False),
    _claim("Reserved logits are not worse than the token", "AUC within: reserved, soft >= token, soft", -0.02, required=False),
    _claim("Where slips cannot be seen, c orders samples no better than chance", "AUC within: chain <= 0.6", part="chain",
           required=False),
)  # fmt: skip
"""What the miniature tests."""

_REAL = "the specification's real run"

REAL_CLAIMS = (
    Claim("c orders the answers of a question better than what shuffled labels teach", _REAL,
          "AUC within: c > shuffled labels", 0.1),
    Claim("c orders them better than the untrained model's own Yes and No", _REAL, "AUC within: c > untrained Yes/No", 0.1),
    Claim("The best of eight by c beats one sample", f"{PAPER}: 84% to 91% on GSM8K", "best minus one sample: c > 0"),
    Claim("c is the chance of win or tie, by 32 further samples, to 0.05", _REAL, "calibration error: c <= 0.05"),
    Claim("The question alone gives a calibrated c too, which chooses nothing", "control",
          "calibration error: question only <= 0.05", required=False),
    Claim("The mean log-probability orders answers this short about as well", "expected: a draw",
          "AUC within: log-probability == c", 0.05, required=False),
)  # fmt: skip
"""What the real run tests."""
