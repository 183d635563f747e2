"""Settings of the smart-slic verbs and the claims its miniature tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, check
from gnomon.core.llm.config import LLMConfig
from gnomon.core.study import Miniature

PAPER = "SMART-SLIC, arXiv 2410.02721"


@dataclass(frozen=True, kw_only=True)
class Expand:
    """Grow a corpus from core papers along what they cite and what cites them."""

    GROWS: ClassVar[tuple[str, ...]] = ("requests",)

    source: Positional[str]
    """Core papers: JSONL, Parquet or CSV with id, title, abstract, year, authors, references, citations, ..."""
    provider: str
    """Where further papers come from: openalex, s2 (keys in OPENALEX_API_KEY, S2_API_KEY), or a file of the same form."""
    requests: int | None = None
    """Requests to a service that this command may make; None: any number. What came is kept, and never asked for again."""
    hops: int = 1
    """How often links are followed."""
    by: tuple[Literal["references", "citations"], ...] = ("references", "citations")
    """Which links: what a paper cites, what cites it."""
    max_papers: int | None = None
    """New papers of a hop, at most; None: all."""
    priority: Literal["frequency", "random"] = "frequency"
    """Which are kept then: those that most papers of the hop before point to, or any."""

    def __post_init__(self) -> None:
        check(self.requests is None or self.requests >= 1, "requests", ">= 1 or None", self.requests)
        check(self.hops >= 1, "hops", ">= 1", self.hops)
        check(bool(self.by), "by", "references, citations or both", self.by)
        check(self.max_papers is None or self.max_papers >= 1, "max_papers", ">= 1 or None", self.max_papers)


@dataclass(frozen=True, kw_only=True)
class Prune:
    """Tell papers about the core's subject from others, with a reason for each; core papers stay."""

    source: Positional[str]
    """Papers: a run of expand, whose first papers are the core, or a file."""
    core: str | None = None
    """File with the ids of core papers, one a line; None: those of hop 0."""
    encoder: str = "embedded:minilm"
    """Of title and abstract."""
    rule: Literal["relative", "knn", "centroid"] = "relative"
    """relative: nearness to the core less that to the rest; knn: nearness to the core; centroid: the paper's rule."""
    neighbours: int = 5
    """Nearest papers that are looked at."""
    background: int = 300
    """relative: papers of the pool that are drawn."""
    quantile: float = 0.05
    """relative, knn: share of the core that the threshold would drop."""
    deviations: float = 3.0
    """centroid: standard deviations above the core's mean distance that are kept."""
    device: str = "auto"
    """Of the encoder."""


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Clean titles and abstracts for counting words; the raw texts stay beside them."""

    source: Positional[str]
    """Papers: a run, or a file."""
    steps: tuple[str, ...] = ()
    """Names of steps; none: all, in their order."""
    frozen: tuple[str, ...] = ()
    """Terms that no step alters."""
    english: bool = True
    """Whether papers that are not in English are left out."""


@dataclass(frozen=True, kw_only=True)
class Topics:
    """Find topics, and how many there are, by non-negative factorisation of perturbed copies (NMFk)."""

    source: Positional[str]
    """A run of clean, or papers, which are then cleaned by all steps."""
    k_from: int = 2
    """Smallest number of topics that is tried."""
    k_to: int = 15
    """Largest."""
    copies: int = 20
    """Perturbed copies of the matrix."""
    iterations: int = 1000
    """Multiplicative updates of each."""
    init: Literal["nnsvd", "random"] = "nnsvd"
    """Starting values."""
    noise: float = 0.3
    """Entries are multiplied by numbers in 1 - noise .. 1 + noise."""
    threshold: float = 0.8
    """Smallest silhouette from which a number of topics is stable."""
    min_df: int = 5
    """Papers that a word must be in."""
    max_df: float = 0.5
    """Share of papers that it may be in."""
    split: bool = False
    """Whether topics are common to words by papers and to words by words (SPLIT)."""
    depth: int = 1
    """Levels of topics: 2 divides each topic again (HNMFk)."""
    workers: int = 1
    """Threads; their number changes nothing."""

    def __post_init__(self) -> None:
        check(1 <= self.k_from <= self.k_to, "k_from", "within 1..k_to", self.k_from)
        check(self.depth >= 1, "depth", ">= 1", self.depth)
        check(not (self.split and self.depth > 1), "split", "off where --depth is above 1", self.split)
        check(self.workers >= 1, "workers", ">= 1", self.workers)


@dataclass(frozen=True, kw_only=True)
class Build:
    """Write the graph and the passages of papers. No language model is asked."""

    source: Positional[str]
    """Papers: a run, or a file."""
    topics: str | None = None
    """A run of topics; None: the graph has none."""
    encoder: str | None = "embedded:minilm"
    """Of the passages; None: they are found by words alone."""
    graph: str | None = None
    """Where the graph is: a folder, or postgres://HOST/DB#NAME; None: in the run's folder."""
    affiliations: Literal["aligned", "document", "auto"] = "auto"
    """Whose an affiliation is: the n-th author's, the paper's, or aligned in venues where every paper has as many as authors."""
    same_as: str | None = None
    """CSV with name, same_as: forms of one author's name."""
    different: str | None = None
    """CSV with name, paper, author: two people of one name."""
    update: str | None = None
    """An earlier run of build: only passages that are new or say something else are encoded; the graph is written whole."""
    passage_words: int = 120
    """Words of a passage of a paper's text."""
    device: str = "auto"
    """Of the encoder."""

    def __post_init__(self) -> None:
        check(self.passage_words >= 1, "passage_words", ">= 1", self.passage_words)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How questions are answered."""

    planner: str | None = None
    """A language model that plans, by reference; None: rules do, and no language model is asked."""
    steps: int = 6
    """Tool calls of a question at most."""
    hits: int = 3
    """Passages that a search shows."""
    device: str = "auto"
    """Of the encoder."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the planner is asked."""

    def check_numbers(self) -> None:
        """Refuse numbers below 1."""
        check(self.steps >= 1, "steps", ">= 1", self.steps)
        check(self.hits >= 1, "hits", ">= 1", self.hits)


@dataclass(frozen=True, kw_only=True)
class Ask(Asking):
    """Answer questions from graph and passages; every sentence cites, every number lists what was counted."""

    source: Positional[str]
    """A run of build."""
    question: str | None = None
    """One question."""
    questions: str | None = None
    """A file of questions: JSONL with question, or a text with one a line."""

    def __post_init__(self) -> None:
        self.check_numbers()

    def check_asked(self) -> None:
        """Refuse none and both of --question and --questions."""
        is_one = (self.question is None) != (self.questions is None)
        check(is_one, "question", "given, or --questions, and not both", self.question)


@dataclass(frozen=True, kw_only=True)
class Eval(Asking):
    """Measure answers against gold ones: exact match, routes, citations, abstention."""

    source: Positional[str]
    """A run of build."""
    questions: Positional[str]
    """JSONL with question, answer (a number, a name, or null where nothing in the corpus answers), perhaps route and evidence."""

    def __post_init__(self) -> None:
        self.check_numbers()


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Answer questions on a page of this machine, with sources and the graph around them, until it is interrupted."""

    source: Positional[str]
    """A run of build."""
    port: int = 8765
    """Of the loopback address; 0: any that is free."""
    minutes: float | None = None
    """Ends after so long; None: when it is interrupted."""
    hits: int = 3
    """Passages that a search shows."""
    device: str = "auto"
    """Of the encoder."""

    def __post_init__(self) -> None:
        check(0 <= self.port < 65536, "port", "within 0..65535", self.port)
        check(self.minutes is None or self.minutes >= 0, "minutes", ">= 0 or None", self.minutes)
        check(self.hits >= 1, "hits", ">= 1", self.hits)


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: papers of six topics among three foreign ones, pruned, factorised, written as a graph and asked."""


@dataclass(frozen=True, kw_only=True)
class Real(Miniature):
    """Real papers of several fields: pruning, the number of topics, questions that a table answers, and sentences to be found."""

    source: Positional[str]
    """The papers."""
    field: str = "field"
    """Column with the field of a paper."""
    encoder: str = "embedded:minilm"
    """Of titles with abstracts."""


def _claim(text: str, compare: str, *, required: bool = True) -> Claim:
    return Claim(text, f"{PAPER}; thresholds of the specification", compare, 0.0, required)


CLAIMS = (
    _claim("Expansion and pruning: precision .9", "precision: knn >= 0.9"),
    _claim("At recall .9", "recall: knn >= 0.9"),
    _claim("NMFk finds the six topics", "distance to six topics: NMFk <= 0"),
    _claim("And places the papers", "adjusted Rand index: NMFk >= 0.95"),
    _claim("Questions that are routed are answered", "exact match: routed >= 0.85"),
    _claim(
        "In words that the rules do not expect, too", "exact match, far words: routed >= 0.85", required=False
    ),
    _claim("What is answered is right", "wrong and not withheld: routed <= 0.05"),
    _claim("Passages alone do not count", "exact match, counting: passages <= 0.2"),
    _claim("The graph alone says nothing of what papers say", "exact match, content: graph <= 0.2"),
    _claim("What nothing answers is not answered", "abstention: routed >= 0.9"),
    _claim("Citations hold", "citation precision: routed >= 0.95"),
)
"""What the miniature tests."""

_REAL = "the specification's real run"

REAL_CLAIMS = (
    Claim("Pruning against a background is more precise at equal recall, in every field", _REAL,
          "smallest gain in precision at the recall of knn: relative > 0"),
    Claim("Questions that the rules plan are answered as a table answers them", _REAL, "exact where planned: graph >= 0.98"),
    Claim("What is not in the table is not answered", _REAL, "withheld outside: graph >= 0.9"),
    Claim("Words and vectors together find more than either", _REAL, "R@1: both > words", required=False),
    Claim("NMFk finds the four fields", _REAL, "k: NNSVD, noise .3 == 4", required=False),
)  # fmt: skip
"""What the real run tests."""
