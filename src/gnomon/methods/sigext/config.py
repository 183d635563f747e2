"""Settings of the sigext verbs and the claims its miniature tests. Defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Encoder, Positional, Short, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.train.config import TrainConfig

PAPER = "SigExt, arXiv 2410.02741"

PAPER_TRAINING = TrainConfig(
    lr=1e-4,
    batch_size=1,
    epochs=10,
    max_length=4096,
    reduction="sum",
    weight_decay=0.01,
    warmup_steps=100,
    grad_clip=None,
    keep_best=True,
    checkpoint_every=200,
)
"""The paper's optimisation: one document a step, the loss summed over its tokens, and the best epoch kept."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Documents with reference summaries."""

    source: Positional[str]
    """Rows: JSONL, Parquet, a folder, a run folder, or hf://name:split."""
    document_field: str = "document"
    """Column of the document."""
    summary_field: str = "summary"
    """Column of the reference summary."""
    id_field: str = "id"
    """Column of the row's name; a hash of the document where it is missing."""
    limit: int | None = None
    """Only so many rows from the start. None: all."""

    def __post_init__(self) -> None:
        check(self.limit is None or self.limit >= 1, "limit", ">= 1", self.limit)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How phrases are found and labelled."""

    language: str = "english"
    """Language of the stop words and stems."""
    scientific: bool = False
    """Collapse white space and fold markers such as @xcite12, as in the arXiv and PubMed sets."""
    rule: Literal["code", "paper"] = "code"
    """Labels by stemmed ROUGE-1 as in the released code, or by the longest common subsequence of characters as in the paper."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How summaries are asked for."""

    writer: TextModel
    """Who writes: openai:MODEL, http://host:8000/v1#MODEL, hf:FOLDER, serve:FOLDER, tape:FILE, sim:summariser or
    script:module:function."""
    template: str = "general"
    """The request: general, samsum, cnn, meetingbank, arxiv, arxiv-short, or a file with <text> and, in a line of its own,
    <phrases>."""
    max_tokens: int = 512
    """Longest summary in tokens."""
    temperature: float = 1.0
    """0 takes the likeliest summary."""
    top_p: float = 0.8
    """Sample from the likeliest tokens that together reach this."""
    context_tokens: int | None = None
    """Longest prompt: longer documents are cut, never their phrases. None: what a local model's positions allow, else no limit."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the writer is asked."""

    def __post_init__(self) -> None:
        check(self.max_tokens >= 1, "max_tokens", ">= 1", self.max_tokens)
        check(self.temperature >= 0, "temperature", ">= 0", self.temperature)
        check(0 < self.top_p <= 1, "top_p", "above 0 and at most 1", self.top_p)
        check(
            self.context_tokens is None or self.context_tokens >= 1,
            "context_tokens",
            ">= 1",
            self.context_tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Prepare(Rows, Finding, Shards):
    """Find the candidate phrases of every document and label them by its summary."""

    def __post_init__(self) -> None:
        Rows.__post_init__(self)
        Shards.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class Labels(Rows, Finding):
    """Look at labels: how many phrases are positive under either rule, and examples to read."""

    show: int = 3
    """Documents to show."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.show >= 0, "show", ">= 0", self.show)


@dataclass(frozen=True, kw_only=True)
class Train(Rows, Finding):
    """Train an extractor on documents with reference summaries; with --more on a mix of sets, for domains never seen."""

    LOOSE: ClassVar[tuple[str, ...]] = ("batch_tokens",)

    model: Encoder
    """Encoder to start from, with a token-classification class: allenai/longformer-large-4096, ModernBERT, BigBird, RoBERTa."""
    more: tuple[str, ...] = ()
    """Further sources with the same columns; each gives an equal share of the rows."""
    validation: str | None = None
    """Source of the validation rows. None: rows that are not trained on."""
    n_train: int = 1000
    """Rows to train on, drawn with the run's seed."""
    n_validation: int = 200
    """Rows to choose the epoch and the threshold by; 0: the last epoch, and no threshold."""
    tokenisation: Literal["offsets", "pieces"] = "offsets"
    """offsets: the whole document at once; pieces: phrases and what is between them apart, as the released code does."""
    stride: int | None = None
    """Tokens from window to window when documents longer than train.max_length are scored. None: one window."""
    percentile: float = 75.0
    """Share of the validation phrases, in percent, that the threshold cuts off."""
    k: Annotated[int, Short("-k")] = 20
    """Phrases shown, at most; `tune-k` finds a better number."""
    batch_tokens: int = 16_384
    """Tokens computed at once; the documents of a step are accumulated."""
    device: str = "auto"
    """Where to train: auto, cpu or cuda."""
    train: TrainConfig = field(default_factory=lambda: PAPER_TRAINING)
    """Optimisation. A token_mean reduction needs another learning rate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.n_train >= 1, "n_train", ">= 1", self.n_train)
        check(self.n_validation >= 0, "n_validation", ">= 0", self.n_validation)
        check(0 <= self.percentile < 100, "percentile", "in 0..100", self.percentile)
        check(self.k >= 1, "k", ">= 1", self.k)
        check(self.batch_tokens >= 1, "batch_tokens", ">= 1", self.batch_tokens)
        check(self.train.lora_rank is None, "train.lora_rank", "None", self.train.lora_rank)


@dataclass(frozen=True, kw_only=True)
class Score(Shards):
    """Score the phrases of documents and say which a prompt would show; reads a pipe when no source is given."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, "batch_tokens", "device")

    extractor: Positional[str]
    """A run of `train`, or its model."""
    source: Positional[str] = "-"
    """Rows with documents; - reads JSONL from stdin and writes every row to stdout as it comes."""
    document_field: str = "document"
    """Column of the document."""
    summary_field: str = "summary"
    """Column of the reference summary, which goes through."""
    id_field: str = "id"
    """Column of the row's name."""
    k: Annotated[int | None, Short("-k")] = None
    """Phrases kept, at most. None: the extractor's own number."""
    stride: int | None = None
    """Tokens from window to window in long documents. None: one window."""
    batch_tokens: int = 16_384
    """Tokens scored at once."""
    device: str = "auto"
    """Where to score: auto, cpu or cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.k is None or self.k >= 1, "k", ">= 1", self.k)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Write the prompts for scored rows, for those who ask a language model by other means."""

    source: Positional[str]
    """Scored rows: a run of `score`, or its file."""
    template: str = "general"
    """The request: general, samsum, cnn, meetingbank, arxiv, arxiv-short, or a file with <text> and, in a line of its own,
    <phrases>."""
    document_field: str = "document"
    """Column of the document."""


@dataclass(frozen=True, kw_only=True)
class Summarize(Rows, Asking):
    """Summarise documents without and with phrases, and measure both against the references."""

    LOOSE: ClassVar[tuple[str, ...]] = ("workers",)
    GROWS: ClassVar = ("limit", "arms", "curve")

    extractor: str | None = None
    """A run of `train`, or its model; needed for the arms sigext, words and sentences."""
    k: Annotated[int | None, Short("-k")] = None
    """Phrases shown, at most. None: the extractor's own number, else 20."""
    arms: tuple[str, ...] = ("none", "sigext")
    """What is compared: none, random, first, tf-idf, textrank, rake, yake, keybert, oracle, sigext, and of the extractor's scores
    words and sentences of as many words in all."""
    curve: tuple[int, ...] = ()
    """Further numbers of phrases to summarise with, for the K curve."""
    encoder: str | None = None
    """Text encoder of the arm keybert: a folder or hub id."""
    language: str = "english"
    """Language of stop words and stems where there is no extractor."""
    faithfulness: str = "token-support"
    """token-support (share of the summary's content words that the document has; a stand-in), or a folder with AlignScore's
    checkpoint or a classifier of natural-language inference."""
    workers: int = 1
    """Processes that measure ROUGE."""

    def __post_init__(self) -> None:
        Rows.__post_init__(self)
        Asking.__post_init__(self)
        check(self.k is None or self.k >= 1, "k", ">= 1", self.k)
        check(all(k >= 1 for k in self.curve), "curve", "numbers >= 1", self.curve)
        check(bool(self.arms), "arms", "one arm or more", self.arms)
        check(self.workers >= 1, "workers", ">= 1", self.workers)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure summaries that are there already: a run of `summarize`, or rows with a prediction."""

    LOOSE: ClassVar[tuple[str, ...]] = ("workers",)

    source: Positional[str]
    """Rows with document, summary (the reference), prediction, and where there are several ways: arm, k and phrases."""
    faithfulness: str = "token-support"
    """token-support, or a folder with AlignScore's checkpoint or a classifier of natural-language inference."""
    language: str = "english"
    """Language of the stems."""
    workers: int = 1
    """Processes that measure ROUGE."""

    def __post_init__(self) -> None:
        check(self.workers >= 1, "workers", ">= 1", self.workers)


@dataclass(frozen=True, kw_only=True)
class TuneK(Rows):
    """Choose the number of phrases and the threshold on validation rows, by summaries or by the phrases themselves."""

    GROWS: ClassVar = ("limit", "ks", "percentiles")

    extractor: str
    """A run of `train`, or its model."""
    ks: tuple[int, ...] = (5, 10, 15, 20, 30, 40)
    """Numbers of phrases to try."""
    percentiles: tuple[float, ...] = (0.0, 50.0, 75.0)
    """Thresholds to try, as the share of phrases that they cut off, in percent."""
    writer: str | None = None
    """Who writes summaries to choose by. None: the ROUGE-1 of the phrases themselves, which asks nobody."""
    template: str = "general"
    """The request, as for `summarize`."""
    max_tokens: int = 512
    """Longest summary in tokens."""
    temperature: float = 1.0
    """0 takes the likeliest summary."""
    top_p: float = 0.8
    """Sample from the likeliest tokens that together reach this."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the writer is asked."""
    save: bool = False
    """Write what was chosen into the extractor's sigext.json."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.ks) and min(self.ks) >= 1, "ks", "one or more numbers >= 1", self.ks)
        check(
            bool(self.percentiles) and all(0 <= p < 100 for p in self.percentiles),
            "percentiles",
            "one or more numbers in 0..100",
            self.percentiles,
        )


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: references that follow a policy which the summariser does not know and the extractor can learn."""

    parts: tuple[str, ...] = ("trained", "simulated", "docstrings")
    """Which parts to run: trained (a tiny T5 writes the summaries), simulated (a simulator writes them), docstrings (real text, no
    claims)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("trained", "simulated", "docstrings"))


CLAIMS = (
    Claim(
        "The extractor's phrases raise the recall of the references' content",
        f"{PAPER}: recall rises most",
        "ROUGE-1 recall: sigext > none",
        margin=5.0,
        part="trained",
    ),
    Claim(
        "They raise ROUGE-1 F",
        f"{PAPER}: ROUGE-1 F rises on all sets and models",
        "ROUGE-1 F: sigext > none",
        margin=2.0,
        part="trained",
    ),
    Claim(
        "It is the choice of phrases that helps, not that there are some",
        "control: as many random phrases",
        "ROUGE-1 F: sigext > random",
        margin=3.0,
        part="trained",
    ),
    Claim(
        "The gain is not one of length: it stays when both summaries are cut to the same number of words",
        "control: matched length",
        "ROUGE-1 F at matched length: sigext > none",
        part="trained",
    ),
    Claim(
        "Phrases that the references do say are at least as good",
        "control: the oracle is the ceiling",
        "ROUGE-1 F: oracle >= sigext",
        margin=-1.0,
        part="trained",
    ),
    Claim(
        "Recall does not fall as more phrases are shown",
        f"{PAPER}: K trades recall against precision",
        "rank correlation of K and recall: sigext >= 0.9",
        part="trained",
    ),
    Claim(
        "Precision falls when too many phrases are shown",
        f"{PAPER}: K trades recall against precision",
        "ROUGE-1 precision: sigext, K=2 > sigext, K=8",
        part="trained",
    ),
    Claim(
        "RAKE, which cannot see the policy, is no better than random phrases",
        "control: the world leaks nothing",
        "ROUGE-1 F: rake <= random",
        margin=-3.0,
        part="trained",
    ),
    Claim(
        "RAKE, which cannot see the policy, is no worse than random phrases",
        "control: the world leaks nothing",
        "ROUGE-1 F: rake >= random",
        margin=-3.0,
        required=False,
        part="trained",
    ),
    Claim(
        "YAKE, which cannot see the policy, is no better than random phrases",
        "control: the world leaks nothing",
        "ROUGE-1 F: yake <= random",
        margin=-3.0,
        part="trained",
    ),
    Claim(
        "YAKE, which cannot see the policy, is no worse than random phrases",
        "control: the world leaks nothing",
        "ROUGE-1 F: yake >= random",
        margin=-3.0,
        required=False,
        part="trained",
    ),
    Claim(
        "Every phrase shown stands in its document, letter by letter",
        "the method's own promise",
        "shown phrases in the document: sigext == 1.0",
        part="trained",
    ),
)
"""What the miniature tests, in points of ROUGE; the thresholds are the specification's."""
