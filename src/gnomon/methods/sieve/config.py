"""Settings of the sieve verbs and the claims its miniature tests. Defaults are the paper's where it states them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, Short, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.methods.sieve.students.config import StudentConfig

PAPER = "SIEVE, arXiv 2410.02755"

Rule = Literal["any", "mean", "first"]
"""How a document's snippets decide for it: one passes, their mean score passes, or the first one decides."""


@dataclass(frozen=True)
class Selection:
    """How the labels are spent."""

    GROWS: ClassVar = ("budget", "max_seed_labels")

    strategy: Literal["trm", "uncertainty", "random", "margin-quantile"] = "trm"
    """trm: around the true risk minimiser; the others are what it is compared with."""
    shrink: Literal["bound", "halving"] = "bound"
    """How trm narrows its interval: an empirical Bernstein bound, or halving and then the nearest in rank to the estimate. Both
    look at the order of scores only."""
    budget: int = 6000
    """Snippets judged in all. A larger one continues a finished fit in its folder; a smaller one ends it with what it has."""
    batch: int = 500
    """Snippets judged per round (B); the student is trained anew after each round."""
    chunk: int | None = None
    """Labels between two changes of the interval. None: a tenth of the batch."""
    uniform_fraction: float = 0.1
    """Share of every round's labels that is drawn uniformly, for base rate, threshold and drift."""
    bound_scale: float = 0.3
    """Factor of the bound; 1 keeps the guarantee, which rounds of fewer than about 1,000 labels are too small to use."""
    delta: float = 0.1
    """Chance that the bound fails, at bound_scale 1."""
    window: int = 20_000
    """Most snippets scored in one round."""
    max_seed_labels: int = 2000
    """Most uniform labels spent on finding both classes before the first training."""
    adapt: int = 0
    """Unlabelled snippets that the student learns from first, if its settings say how. 0: none."""
    objective: Literal["balanced-accuracy", "f1", "pass-rate", "precision"] = "balanced-accuracy"
    """What the final threshold aims at; pass-rate keeps as large a share as the judge passes, by the fitted curve."""
    precision: float = 0.9
    """Least share of the kept that passes, for the objective precision."""
    folds: int = 5
    """Trainings that give the threshold scores of labels which the student has not seen. 0: scores from when they were chosen."""

    def __post_init__(self) -> None:
        for name in ("budget", "batch", "window", "max_seed_labels"):
            check(getattr(self, name) >= 1, f"selection.{name}", ">= 1", getattr(self, name))
        check(
            self.batch <= self.budget, "selection.batch", f"<= selection.budget ({self.budget})", self.batch
        )
        check(
            self.max_seed_labels >= self.batch,
            "selection.max_seed_labels",
            f">= selection.batch ({self.batch})",
            self.max_seed_labels,
        )
        check(
            self.chunk is None or 1 <= self.chunk <= self.batch,
            "selection.chunk",
            f"in 1..selection.batch ({self.batch})",
            self.chunk,
        )
        check(0 <= self.uniform_fraction <= 1, "selection.uniform_fraction", "in 0..1", self.uniform_fraction)
        check(self.bound_scale > 0, "selection.bound_scale", "> 0", self.bound_scale)
        check(0 < self.delta < 1, "selection.delta", "within (0, 1)", self.delta)
        check(self.adapt >= 0, "selection.adapt", ">= 0", self.adapt)
        check(0 < self.precision <= 1, "selection.precision", "above 0 and at most 1", self.precision)
        check(self.folds == 0 or self.folds >= 2, "selection.folds", "0 or >= 2", self.folds)


@dataclass(frozen=True, kw_only=True)
class Text:
    """Where documents come from and how they are cut."""

    source: Positional[str]
    """Documents: records (.jsonl, .jsonl.gz, .jsonl.zst, .json, .parquet), a folder or a pattern of those, hf://name[:split], plain
    text (.txt, .md, .rst: one document a file), or stdlib:docs, the documentation of this Python installation."""
    text_field: str = "text"
    """Column of the text."""
    id_field: str | None = None
    """Column of the document's name. None: a hash of the text."""
    snippet_tokens: int = 512
    """Longest snippet, in tokens of the student; judge and student both see exactly the snippet."""

    def __post_init__(self) -> None:
        check(self.snippet_tokens >= 1, "snippet_tokens", ">= 1", self.snippet_tokens)


@dataclass(frozen=True, kw_only=True)
class Label(Text):
    """Let the judge label uniformly drawn snippets: a test set, or the base rate of a filter before anything is trained."""

    GROWS: ClassVar = ("n", "repeat")

    filter: str
    """A filter file (.yaml), or a built-in one: politics, climate, artificial-intelligence, mainstream-knowledge, text-quality."""
    judge: TextModel
    """Who judges: an LLM (openai:MODEL, http://host:8000/v1#name, hf:FOLDER, serve:FOLDER, tape:FILE, sim:NAME), or
    rule:FILE.py:function, labels:FILE, classifier:FOLDER."""
    n: Annotated[int, Short("-n")] = 1000
    """Snippets to label."""
    repeat: int = 1
    """Judge every snippet this often; with 2 or more the report shows how far the judge agrees with itself."""
    temperature: float = 0.0
    """Sampling temperature of the judge; repeats need one above 0 to differ."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """Requests to a language model as the judge: concurrency, attempts, prices, limits."""

    def __post_init__(self) -> None:
        Text.__post_init__(self)
        check(self.n >= 1, "n", ">= 1", self.n)
        check(self.repeat >= 1, "repeat", ">= 1", self.repeat)
        check(self.temperature >= 0, "temperature", ">= 0", self.temperature)


@dataclass(frozen=True, kw_only=True)
class Fit(Text):
    """Train a light filter on few, well-chosen verdicts of the judge."""

    filter: str
    """A filter file (.yaml), or a built-in one: politics, climate, artificial-intelligence, mainstream-knowledge, text-quality."""
    judge: TextModel
    """Who judges: an LLM (openai:MODEL, http://host:8000/v1#name, hf:FOLDER, serve:FOLDER, tape:FILE, sim:NAME), or
    rule:FILE.py:function, labels:FILE, classifier:FOLDER."""
    model: str
    """The student: hashed-linear, t5-encoder:FOLDER_OR_ID, a T5 id such as google-t5/t5-large, or any sequence classifier."""
    mode: Literal["sync", "async"] = "sync"
    """sync: bit-reproducible; async: judge and trainer work in the background, and scoring waits for neither."""
    rule: Rule = "any"
    """How a document's snippets decide for it when the model is applied."""
    test: int = 0
    """Snippets of documents set aside that the judge labels for a test of the finished model. 0: none."""
    selection: Selection = field(default_factory=Selection)
    """How the labels are spent."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """How the student is trained."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """Requests to a language model as the judge: concurrency, attempts, prices, limits."""

    def __post_init__(self) -> None:
        Text.__post_init__(self)
        check(self.test >= 0, "test", ">= 0", self.test)


@dataclass(frozen=True, kw_only=True)
class Apply(Shards):
    """Filter documents with a trained model: every row comes back with its score and verdict."""

    source: Positional[str]
    """Documents, as for `fit`."""
    model: str
    """What `fit` left: a run folder or its model folder."""
    text_field: str = "text"
    """Column of the text."""
    keep: Literal["all", "pass"] = "all"
    """Write every row with its verdict, or only those that pass."""
    rule: Rule | None = None
    """How a document's snippets decide for it. None: as the model says."""
    threshold: float | None = None
    """Scores of this and above pass, 0..1. None: as the model says."""
    keep_share: float | None = None
    """In place of a threshold: share of the snippets of the fit's stream that is to pass, 0..1; no new fit is needed."""
    shard_rows: int = 2048
    """Records per shard; a killed job repeats at most the shards it was working on."""
    shards: int = 1
    """Over how many independent commands the source is spread (one per machine)."""
    shard: int = 0
    """Which of them this one is, from 0."""

    def __post_init__(self) -> None:
        Shards.__post_init__(self)
        check(self.threshold is None or 0 <= self.threshold <= 1, "threshold", "in 0..1", self.threshold)
        check(
            self.keep_share is None or 0 < self.keep_share <= 1,
            "keep_share",
            "above 0 and at most 1",
            self.keep_share,
        )
        check(self.shards >= 1, "shards", ">= 1", self.shards)
        check(0 <= self.shard < self.shards, "shard", f"in 0..{self.shards - 1}", self.shard)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Compare a trained model with labels, and export what it and the judge disagree on for human rating."""

    source: Positional[str]
    """Labelled snippets: what `label` wrote, or records with a text and a label."""
    model: str
    """What `fit` left: a run folder or its model folder."""
    text_field: str = "text"
    """Column of the text."""
    label_field: str = "label"
    """Column of the judge's label: 1, 0, or null for none."""
    truth_field: str | None = None
    """Column of the true label, where known."""
    disagreements: int = 0
    """Write up to this many disagreements as a rating sheet."""
    ratings: Path | None = None
    """A rating sheet that people have filled in, from an earlier run of this verb; its key lies beside it."""

    def __post_init__(self) -> None:
        check(self.disagreements >= 0, "disagreements", ">= 0", self.disagreements)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What filtering a corpus costs with the student and with the judge alone, and from which size on the student pays."""

    snippets: Positional[int]
    """Size of the corpus, in snippets."""
    run: Path | None = None
    """A fit whose measured tokens and seconds are used in place of the numbers below."""
    labels: int = 6000
    """Snippets judged for the training."""
    tokens_in: float = 700.0
    """Tokens of one judge request."""
    tokens_out: float = 150.0
    """Tokens of one judge answer."""
    price_in: float = 2.5
    """USD per million tokens of request."""
    price_out: float = 10.0
    """USD per million tokens of answer."""
    snippets_per_s: float = 500.0
    """Snippets that the student scores per second."""
    training_s: float = 3600.0
    """Seconds of all trainings together."""
    usd_per_hour: float = 2.0
    """Price of the machine that scores and trains."""

    def __post_init__(self) -> None:
        check(self.snippets >= 1, "snippets", ">= 1", self.snippets)
        check(self.snippets_per_s > 0, "snippets_per_s", "> 0", self.snippets_per_s)
        for name in (
            "labels",
            "tokens_in",
            "tokens_out",
            "price_in",
            "price_out",
            "training_s",
            "usd_per_hour",
        ):
            check(getattr(self, name) >= 0, name, ">= 0", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: TRM sampling against uncertainty, random and full labelling, on generated and on real text."""

    parts: tuple[str, ...] = ("topics", "hard", "batch", "encoder", "docs")
    """Which comparisons to run: topics (generated text, hashed-linear), hard (a miscalibrated student, a noisy judge), batch
    (rounds of other sizes), encoder (a T5 encoder), docs (documentation of this Python installation)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("topics", "hard", "batch", "encoder", "docs"))


CLAIMS = (
    Claim(
        "500 labels chosen by TRM are worth more than 800 drawn at random",
        f"{PAPER}: more than 5 times fewer judge calls than random selection",
        "AP: trm@500 >= random@800",
        part="topics",
    ),
    Claim(
        "800 labels chosen by TRM come within 0.02 of labelling all 9,000 snippets",
        f"{PAPER}: judge quality at 1% of the cost",
        "AP: trm@800 >= all labels",
        margin=-0.02,
        part="topics",
    ),
    Claim(
        "Labels chosen by TRM hold at least four times as many passes as the stream",
        f"{PAPER}: balanced classes although passes are rare",
        "pass share over base rate: trm >= 4",
        part="topics",
    ),
    Claim(
        "With a calibrated threshold TRM is at least as accurate as random selection",
        f"{PAPER}, balanced accuracy on five filters",
        "balanced accuracy: trm@800 >= random@800",
        margin=-0.005,
        part="topics",
    ),
    Claim(
        "TRM beats sampling at score 0.5",
        f"{PAPER}: the threshold of least risk need not be 0.5",
        "AP: trm@800 > uncertainty@800",
        required=False,
        part="topics",
    ),
    Claim(
        "TRM beats sampling at score 0.5 when the student is miscalibrated",
        f"{PAPER}: invariance to re-weighted and focal training",
        "AP, miscalibrated student: trm@800 > uncertainty@800",
        required=False,
        part="hard",
    ),
    Claim(
        "On real text, 500 labels chosen by TRM are worth more than 800 drawn at random",
        f"{PAPER}: more than 5 times fewer judge calls than random selection",
        "AP, docs: trm@500 >= random@800",
        required=False,
        part="docs",
    ),
    Claim(
        "On real text, 800 labels chosen by TRM come within 0.02 of labelling the whole stream",
        f"{PAPER}: judge quality at 1% of the cost",
        "AP, docs: trm@800 >= all labels",
        margin=-0.02,
        required=False,
        part="docs",
    ),
    Claim(
        "A T5 encoder, too, learns more from 500 labels chosen by TRM than from 800 drawn at random",
        f"{PAPER}: the student is a T5",
        "AP, encoder: trm@500 >= random@800",
        required=False,
        part="encoder",
    ),
)
"""What the miniature tests; thresholds were set before the recorded seeds were run. Uncertainty sampling is reported, not required
to lose."""
