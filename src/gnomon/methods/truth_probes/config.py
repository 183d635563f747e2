"""Settings of the truth-probes verbs and the claims its miniature tests. Defaults are the paper's where it states them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.too_long import RowLength

PAPER = "LLMs Know More Than They Show, arXiv 2410.02707"

Site = Literal["mlp", "mlp_input", "attention", "residual"]


@dataclass(frozen=True, kw_only=True)
class Reference(LoadConfig):
    """The model."""

    model: TextModel
    """A causal model: a folder or a hub id."""


@dataclass(frozen=True, kw_only=True)
class Looking(Reference):
    """The model, for verbs that read its hidden states."""

    family: Path | None = None
    """A JSON or YAML table of where the model keeps its parts, for one in which they are not found; see docs/models.md."""


@dataclass(frozen=True, kw_only=True)
class Asking(Shards, RowLength):
    """Questions, prompts and lengths of answers."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, "batch_size")

    task: str = "open"
    """Kind of questions: open, number, choice, or a known data set: triviaqa, hotpotqa, hotpotqa-context, nq-context, winobias,
    winogrande, nli, imdb, math, movies."""
    columns: tuple[str, ...] = ()
    """Columns of a table of one's own, field=column, such as question=Question,answer=Answer; fields: question, answer,
    wrong_answer, context, id. Empty: these names, in any case, or those of the task's data set."""
    limit: int | None = None
    """Only so many questions. None: all."""
    template: Literal["auto", "chat", "plain", "none"] = "auto"
    """The chat template; "Q: ..." and "A:" for base models; none: the question alone, to be continued. auto: the chat template
    where the tokenizer has one, else plain."""
    max_new_tokens: int | None = None
    """Longest answer in tokens. None: 200 for numbers, else 100."""
    stop: str | None = None
    """A text that ends an answer. None: a line break after a plain prompt, nothing in a chat."""
    batch_size: int = 32
    """Answers written side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)
        check(
            self.max_new_tokens is None or self.max_new_tokens >= 1,
            "max_new_tokens",
            ">= 1",
            self.max_new_tokens,
        )
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class Labelling:
    """Labels of answers."""

    label: str = "match"
    """match: an accepted answer stands there before a wrong one; rule:module:function; or a language model as the judge, such as
    hf:FOLDER or openai:MODEL."""
    match: Literal["boundary", "substring"] = "boundary"
    """boundary: whole words and numbers; substring: anywhere, as the paper compares."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """Requests to a language model: concurrency, attempts, prices, limits."""


@dataclass(frozen=True, kw_only=True)
class Extracting:
    """Location of the exact answer."""

    extract: str = "auto"
    """known (the accepted answer or a known wrong one), line, regex:PATTERN, rule:module:function, or a language model such as
    hf:FOLDER. auto: known for closed tasks, else line."""


@dataclass(frozen=True, kw_only=True)
class Probing:
    """Fit of the probes."""

    c: float = 1.0
    """Inverse strength of the L2 penalty."""
    scale: bool = True
    """Bring every feature to mean 0 and variance 1 first."""
    max_iter: int = 1000
    """Steps of the solver."""

    def __post_init__(self) -> None:
        check(self.c > 0, "c", "> 0", self.c)
        check(self.max_iter >= 1, "max_iter", ">= 1", self.max_iter)


@dataclass(frozen=True, kw_only=True)
class Answer(Reference, Asking, Labelling):
    """Greedy answers of a model to questions, each labelled right or wrong."""

    source: Positional[str]
    """Questions: JSONL, Parquet or CSV with question and answer; hf://name:split; or the name of a known task."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Asking.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class Extract(Extracting, Labelling):
    """The part of each answer that is the answer."""

    source: Positional[str]
    """Answers: a run of `answer` or `resample`, or its file."""


@dataclass(frozen=True, kw_only=True)
class Represent(Looking, RowLength):
    """Hidden states of answers, by layer and token."""

    LOOSE: ClassVar[tuple[str, ...]] = ("batch_tokens",)

    source: Positional[str]
    """Answers with exact answers: a run of `extract`, or its file."""
    site: Site = "mlp"
    """mlp, mlp_input, attention or residual: which tensor of a block."""
    layers: tuple[int, ...] = ()
    """Blocks, counted from 0. Empty: all."""
    positions: tuple[str, ...] = ("all",)
    """Named tokens: last_q, first_answer, second_answer, exact_before_first, exact_first, exact_last, exact_after_last, -1 to -8.
    all: all of these."""
    batch_tokens: int = 16_384
    """Tokens read at once."""


@dataclass(frozen=True, kw_only=True)
class Heatmap(Probing):
    """AUC of a probe at every layer and token."""

    LOOSE: ClassVar[tuple[str, ...]] = ("jobs",)

    source: Positional[str]
    """A run of `represent`."""
    limit: int | None = 1000
    """Only so many answers. None: all."""
    seeds: tuple[int, ...] = (0,)
    """One split of the questions each."""
    jobs: int = 1
    """Processes side by side."""


@dataclass(frozen=True, kw_only=True)
class Train(Probing, Looking, Asking, Extracting, Labelling):
    """Fit an error detector on questions with answers, and save it."""

    source: Positional[str]
    """Questions, or a run of `answer`, `extract` or `represent`."""
    site: Site = "mlp"
    """mlp, mlp_input, attention or residual: which tensor of a block."""
    layers: tuple[int, ...] = ()
    """Blocks to choose from, counted from 0. Empty: all."""
    position: str = "exact_last"
    """The named token that is read."""
    test: float = 0.2
    """Share of the questions that is set aside to measure the detector."""
    seeds: tuple[int, ...] = (0, 5, 26, 42, 63)
    """Splits over which the measurement is repeated; the saved probe is that of the first."""
    ask_p_true: bool = True
    """Also ask the model whether its answers are true, as a baseline."""

    def __post_init__(self) -> None:
        LoadConfig.__post_init__(self)
        Probing.__post_init__(self)
        Asking.__post_init__(self)
        check(0 < self.test < 1, "test", "within (0, 1)", self.test)
        check(bool(self.seeds), "seeds", "one or more numbers", self.seeds)


@dataclass(frozen=True, kw_only=True)
class Eval(Looking, Asking, Extracting, Labelling):
    """Measure a saved detector on other answers, beside the model's own probabilities."""

    probe: Positional[str]
    """A run of `train`, or its probe."""
    source: Positional[str]
    """Questions, or a run of `answer`, `extract` or `represent`; not those of the training."""
    ask_p_true: bool = True
    """Also ask the model whether its answers are true, as a baseline."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Asking.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class Generalise(Probing):
    """Train on each task, test on each: where one detector serves for another task."""

    tasks: tuple[Path, ...] = ()
    """Runs of `represent`, one per task, of one model."""
    baseline: str = "logits-min-exact"
    """The model's own score whose AUC is subtracted."""
    test: float = 0.2
    """Share of each task's questions that is tested on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 < self.test < 1, "test", "within (0, 1)", self.test)


@dataclass(frozen=True, kw_only=True)
class Resample(Reference, Asking, Extracting, Labelling):
    """Many sampled answers to each question, labelled, with exact answers."""

    source: Positional[str]
    """Questions, as for `answer`."""
    k: int = 30
    """Samples of each question. Runs with other seeds add more."""
    temperature: float = 1.0
    """Sampling temperature."""
    top_p: float = 1.0
    """Sample from the likeliest tokens that together reach this."""

    def __post_init__(self) -> None:
        Asking.__post_init__(self)
        super().__post_init__()
        check(self.k >= 1, "k", ">= 1", self.k)
        check(self.temperature > 0, "temperature", "> 0", self.temperature)
        check(0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self.top_p)


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Thresholds of the kinds of errors, and which wrong answers are the same."""

    rule: Literal["code", "paper"] = "code"
    """Thresholds of the published code, or of the paper's text."""
    normalise: str = "auto"
    """Form in which wrong answers are compared: exact, text (without case, an article and marks around), number (by value), or
    rule:module:function of question and exact answer. auto: the label of a closed set, else number or text, by the task."""
    aliases: Path | None = None
    """JSON object {name: [other names]} of answers that are the same. None: no aliases."""


@dataclass(frozen=True, kw_only=True)
class Taxonomy(Clustering):
    """What kinds of errors a model makes, question by question."""

    source: Positional[str]
    """A run of `resample`."""
    more: tuple[Path, ...] = ()
    """Further runs of `resample` over the same questions, with other seeds."""


@dataclass(frozen=True, kw_only=True)
class Types(Probing):
    """Tell the kind of error from the greedy answer's hidden state."""

    source: Positional[str]
    """A run of `represent` over greedy answers."""
    types: Positional[str]
    """A run of `taxonomy` over the same questions."""
    layer: int | None = None
    """The block that is read. None: the middle one."""
    position: str = "exact_last"
    """The named token that is read."""


@dataclass(frozen=True, kw_only=True)
class Choose(Looking, Clustering):
    """Give the sampled answer that the detector trusts most, against greedy, random and majority."""

    probe: Positional[str]
    """A run of `train`, or its probe; trained on other questions."""
    source: Positional[str]
    """A run of `resample`."""
    greedy: Positional[str]
    """A run of `answer` or `extract` over the same questions."""
    more: tuple[Path, ...] = ()
    """Further runs of `resample` over the same questions, with other seeds."""


@dataclass(frozen=True, kw_only=True)
class Score(Looking, RowLength):
    """Answers with their exact answer and the probability that they are right, row by row."""

    LOOSE: ClassVar[tuple[str, ...]] = ("llm",)

    probe: Positional[str]
    """A run of `train`, or its probe."""
    source: Positional[str] = "-"
    """JSONL with question, and completion where the answer is there already; - reads from stdin and answers line by line."""
    extract: str = "as trained"
    """How the exact answer is found; see `extract`. as trained: in the way the probe was trained with."""
    max_new_tokens: int | None = None
    """Longest answer in tokens. None: as for the task of the probe."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """Requests to the language model that finds the exact answer, where one does."""


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: a small world in which a model can know better than it says, its control, and arithmetic."""

    parts: tuple[str, ...] = ("world", "control", "arithmetic")
    """Which parts to run: world (with cues), control (the same without cues), arithmetic (real questions, no claims)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("world", "control", "arithmetic"))


CLAIMS = (
    Claim(
        "Errors are read best at the exact answer: better than at the question's end, before the answer or at the text's end",
        f"{PAPER}: probes at the exact answer tokens",
        "AUC on greedy answers: exact answer >= best other token",
        margin=0.10,
        part="world",
    ),
    Claim(
        "At the exact answer a probe beats the best of the model's own probabilities",
        f"{PAPER}: table of detectors",
        "AUC on greedy answers: exact answer >= best logit baseline",
        margin=0.05,
        part="world",
    ),
    Claim(
        "Detectors carry over between tasks of one skill and not between skills",
        f"{PAPER}: generalisation matrix",
        "AUC on another task: same skill >= other skill",
        margin=0.15,
        part="world",
    ),
    Claim(
        "Of many samples the probe chooses right answers more often than the majority",
        f"{PAPER}: answer choice",
        "right answers: probe >= majority",
        margin=0.05,
        part="world",
    ),
    Claim(
        "Its gain is largest where the model knows and does not say: mostly wrong, two competing, or many answers",
        f"{PAPER}: answer choice on C2, D and E2",
        "right answers on C2, D and E2: probe >= majority",
        margin=0.15,
        part="world",
    ),
    Claim(
        "The state of the greedy answer tells questions on which the model is consistently right",
        f"{PAPER}: error types, B",
        "AUC of error types: type B >= 0.65",
        part="world",
    ),
    Claim(
        "The state of the greedy answer tells questions on which the model is consistently wrong",
        f"{PAPER}: error types, C",
        "AUC of error types: type C >= 0.65",
        part="world",
    ),
    Claim(
        "Without cues the probe loses most of its lead over the answer's log-probability",
        "control: the world's construction taken away",
        "lead over log-probability: without cues <= half of that with cues",
        part="world and control",
    ),
)
"""What the miniature tests; the thresholds are the specification's."""
