"""Settings of the crispo verbs and the claims its miniature tests. Defaults are the paper's where it states them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, TextModel, check
from gnomon.core.llm.config import LLMConfig
from gnomon.core.study import Miniature, check_parts

PAPER = "CriSPO, arXiv 2410.02748"


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How prompts are searched for."""

    arm: Literal["crispo", "opro", "plain"] = "crispo"
    """crispo: critiques and suggestions; opro: the baseline, scores alone; plain: the given prompts, no search."""
    critiques: Literal["own", "shuffled"] = "own"
    """own: each prompt is shown with its own critique; shuffled: with that of another prompt, as a control."""
    steps: int = 100
    """Rounds of proposals."""
    per_step: int = 3
    """New prompts in a round."""
    max_retry: int = 5
    """Refused proposals after which a round goes on with what it has."""
    top_k: int = 20
    """Prompts, the best so far, that the optimiser is shown."""
    few_shot: int = 2
    """Pairs of input and output that it is shown."""
    examples_by: Literal["random", "current_lowest", "accumulated_lowest"] = "random"
    """Which pairs: any, those on which the newest prompts do worst, or those on which all do."""
    critique_examples: int = 10
    """Rows that the critic is shown."""
    pick: Literal["auto", "random", "lowest"] = "auto"
    """Which rows: any, or the lowest scores among those that are not right; auto: lowest where a row is right or wrong."""
    dev_every: int | None = None
    """Rounds between measurements on dev. None: 5, and 1 where a row is right or wrong."""
    dev_floor: float | None = None
    """Prompts with a lower score on train are not measured on dev. None: all are."""
    select: Literal["rank", "zsum", "pareto"] = "rank"
    """Several metrics: mean rank; sum of z-scores; or pareto: lose at most eps on the first one and gain most on the others."""
    eps: float = 0.0
    """What `pareto` may lose on the first metric against the first prompt, in the metric's unit."""
    weights: tuple[float, ...] | None = None
    """Weights of the metrics, for `zsum`. None: all alike."""
    repeat: int = 1
    """Times each row is asked: endpoints answer differently even at temperature 0. Scores are means."""
    recheck: int = 3
    """Prompts, the best on dev, that are measured there once more before one is returned; 0: none."""
    racing: bool = False
    """Drop a prompt after a third of train when it can hardly reach the best top_k any more."""
    k: int = 15
    """Key phrases that the first prompt is filled with, where it has the slot; searched within 3..60 from there."""
    forbid_copies: bool = False
    """Refuse prompts that hold a reference of train word for word; the paper allows them, the report shows them."""
    context_tokens: int | None = None
    """Longest request to critic and optimiser, in tokens. None: what a model in this process can hold, else no limit."""
    critic_template: Path | None = None
    """A Jinja file in place of the critic's."""
    optimizer_template: Path | None = None
    """A Jinja file in place of the optimiser's."""

    def __post_init__(self) -> None:
        for name in ("per_step", "max_retry", "top_k", "critique_examples", "repeat"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        for name in ("steps", "few_shot", "recheck", "eps"):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))
        check(self.dev_every is None or self.dev_every >= 1, "dev_every", ">= 1", self.dev_every)
        check(3 <= self.k <= 60, "k", "between 3 and 60", self.k)
        check(
            self.context_tokens is None or self.context_tokens >= 100,
            "context_tokens",
            ">= 100",
            self.context_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What is measured, and how rows are read."""

    LOOSE: ClassVar[tuple[str, ...]] = ("workers",)
    GROWS: ClassVar = ("limit",)

    metrics: tuple[str, ...] = ("rouge1",)
    """One or several of rouge1, rouge2, rougeL, rougeLsum (F; with .recall or .precision one side), em, f1, accuracy, faithfulness,
    command:"PROGRAM ...", module:function or path/to/file.py:function."""
    support: str | None = None
    """Checkpoint for faithfulness: AlignScore's folder or an NLI classifier. None: token support, a stand-in, named so."""
    answer_tag: str | None = "summary"
    """The answer stands between <TAG> and </TAG>; without them the whole reply is the answer. None: always the whole."""
    encoder: str | None = None
    """An encoder that finds near examples for INSERT_EXAMPLES_HERE: a folder, embedded:minilm, or http://host/v1#name."""
    shots: int = 3
    """Examples in that slot."""
    input_column: str = "input"
    """Column that holds the inputs."""
    output_column: str = "output"
    """Column that holds the outputs."""
    limit: int | None = None
    """Only so many rows of each file."""
    max_tokens: int = 512
    """Longest answer of the task model, in tokens."""
    task_temperature: float | None = None
    """Of the task model; the paper's is 0, the likeliest answer. None: not sent, the endpoint takes its own."""
    workers: int = 1
    """Processes for ROUGE."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the models are asked. A budget holds for each model by itself."""

    def __post_init__(self) -> None:
        for name in ("shots", "max_tokens", "workers"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        check(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)
        _check_temperatures(self)


def _check_temperatures(settings: Any) -> None:
    for role in ("task", "critic", "optimizer"):
        value = getattr(settings, f"{role}_temperature", None)
        check(value is None or value >= 0, f"{role}_temperature", ">= 0", value)


@dataclass(frozen=True, kw_only=True)
class Searching(SearchConfig, Measuring):
    """What the two searches share."""

    GROWS: ClassVar = (*Measuring.GROWS, "steps", "recheck", "test")  # type: ignore[assignment]

    train: Positional[str]
    """Rows that prompts are scored and criticised on: JSONL, Parquet or hf://name:split with input and output."""
    dev: str
    """Rows that the best prompt is chosen by."""
    test: str | None = None
    """Rows that are touched once, at the end. None: no test score."""
    task: TextModel
    """The model that does the task, such as openai:MODEL, http://host:8000/v1#MODEL or hf:FOLDER."""
    critic: str | None = None
    """The model that compares predictions with references. None: the task's."""
    optimizer: str | None = None
    """The model that writes prompts. None: the critic's, else the task's."""
    meta_tokens: int = 1024
    """Longest critique or proposal, in tokens."""
    critic_temperature: float | None = None
    """Of the critic. None: not sent, the endpoint takes its own; a model in this process takes 1."""
    optimizer_temperature: float | None = None
    """Of the optimiser. None: as for the critic. At 0 it would write the same prompt again and again."""

    def __post_init__(self) -> None:
        SearchConfig.__post_init__(self)
        Measuring.__post_init__(self)
        check(self.meta_tokens >= 1, "meta_tokens", ">= 1", self.meta_tokens)


@dataclass(frozen=True, kw_only=True)
class Optimize(Searching):
    """Search for a better prompt."""

    prompt: str
    """The manual prompt to begin with: a text file with INSERT_INPUT_HERE where the input goes."""
    more_prompts: tuple[Path, ...] = ()
    """Further prompts to begin with."""


@dataclass(frozen=True, kw_only=True)
class Suffix(Searching):
    """Tune a postscript behind a finished prompt, for several metrics at once."""

    main: str
    """The finished prompt, kept byte for byte: a text file, or the folder of an `optimize` run."""
    postscript: Path | None = None
    """The postscript to begin with. None: a plain request to stay faithful to the input."""
    metrics: tuple[str, ...] = ("rouge1", "faithfulness")
    """The metric to keep and those to raise; see `optimize`."""


@dataclass(frozen=True, kw_only=True)
class Evaluate(Measuring):
    """Measure finished prompts side by side."""

    GROWS: ClassVar = (*Measuring.GROWS, "prompts", "metrics", "repeat")  # type: ignore[assignment]

    rows: Positional[str]
    """Rows to measure on."""
    prompts: tuple[Path, ...] = ()
    """Prompts: text files, or folders of runs. Each is compared with the first one."""
    task: TextModel
    """The model that does the task."""
    examples: str | None = None
    """Rows that near examples are taken from, for INSERT_EXAMPLES_HERE."""
    repeat: int = 1
    """Times each row is asked."""
    k: int = 15
    """Key phrases, for text files with that slot; a run's best prompt has its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.repeat >= 1, "repeat", ">= 1", self.repeat)
        check(3 <= self.k <= 60, "k", "between 3 and 60", self.k)


@dataclass(frozen=True, kw_only=True)
class Show:
    """The prompts, critiques and curve of a search, finished or not."""

    source: Positional[str]
    """Folder of an `optimize` or `suffix` run."""
    metric: str | None = None
    """The metric to draw. None: the first."""


PARTS = ("search", "doses", "suffix", "keyphrases", "model")


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: a hidden house style searched for by critiques, by scores alone, and with useless critics."""

    parts: tuple[str, ...] = PARTS
    """Which parts to run: search (CriSPO, OPRO and controls), doses (better and worse critics), suffix (AST), keyphrases (four
    arms), model (a trained task model)."""
    checkpoint: Path | None = None
    """Folder of an instruct model that plays all three roles in one more part, without claims: 10 steps on 100 rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, PARTS)


AT_5, LATE = "score after 5 steps", "score after 20 steps"
MODEL_AT_5 = "score of the trained model after 5 steps"
TOLERANCE = 0.10
CLAIMS = (
    Claim(
        "After 5 steps critiques have gained more than scores alone, with the same number of task calls",
        f"{PAPER}: CriSPO against OPRO; simulated critic and optimiser",
        f"{AT_5}: crispo >= opro",
        margin=0.15,
        part="search or doses",
    ),
    Claim(
        "A critic that sees nothing brings no more than scores alone",
        "control: detection 0",
        f"{AT_5}: crispo, blind critic <= opro",
        margin=-TOLERANCE,
        part="search or doses",
    ),
    Claim(
        "A critic that sees nothing costs little",
        "control: detection 0",
        f"{AT_5}: crispo, blind critic >= opro",
        margin=-TOLERANCE,
        part="search or doses",
    ),
    Claim(
        "Critiques that were written for other tasks bring no more than scores alone",
        "control: critiques shuffled between tasks",
        f"{AT_5}: crispo, critiques of other tasks <= opro",
        margin=-TOLERANCE,
        part="search",
    ),
    Claim(
        "More is gained the more the critic sees: detection 0.7 against 0.3",
        "dose of the critic",
        f"{AT_5}: crispo > detection 0.3",
        part="search and doses",
    ),
    Claim(
        "More is gained the more the critic sees: detection 0.3 against none",
        "dose of the critic",
        f"{AT_5}: detection 0.3 > crispo, blind critic",
        part="search and doses",
    ),
    Claim(
        "A tuned postscript raises the second metric",
        f"{PAPER}: automatic suffix tuning",
        "second metric: with postscript >= without",
        margin=0.05,
        part="suffix",
    ),
    Claim(
        "A tuned postscript keeps the first metric",
        f"{PAPER}: automatic suffix tuning",
        "first metric: with postscript >= without",
        margin=-0.02,
        part="suffix",
    ),
    Claim(
        "The postscript with the best mean rank on dev is the one that is returned",
        "the published code returns its first postscript always",
        "returned is best ranked: with postscript == 1.0",
        part="suffix",
    ),
    Claim(
        "A postscript chosen under the constraint keeps the first metric",
        "alternative of the specification: Pareto front with a constraint",
        "first metric: with constrained postscript >= without",
        margin=-0.02,
        required=False,
        part="suffix",
    ),
    Claim(
        "A trained task model gains more by critiques than by scores alone",
        f"{PAPER}: CriSPO against OPRO; trained task model, simulated critic and optimiser",
        f"{MODEL_AT_5}: crispo >= opro",
        margin=0.08,
        part="model",
    ),
    Claim(
        "Critiques of many aspects gain more than those of a single one",
        f"{PAPER}: multi-aspect critiques",
        f"{AT_5}: crispo > single-aspect critic",
        required=False,
        part="search",
    ),
    Claim(
        "Critiques shuffled between the prompts of one task lose what is each prompt's own",
        "control: critiques shuffled within the task",
        f"{AT_5}: crispo > crispo, shuffled critiques",
        required=False,
        part="search",
    ),
    Claim(
        "Key phrases in the prompt and critiques add up",
        "reading B: keyphrase-guided prompts",
        "ROUGE-1 F: both > crispo only",
        required=False,
        part="keyphrases",
    ),
)
"""What the miniature tests; the thresholds are the specification's."""
