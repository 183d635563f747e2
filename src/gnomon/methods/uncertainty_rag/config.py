"""Settings of the uncertainty-rag verbs and the claims its miniature tests. Defaults are the paper's where they are certain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from gnomon.core.config import Encoder, Positional, Short, TextModel, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.train.config import TrainConfig
from gnomon.methods.uncertainty_rag.options import CLAIMS as CLAIMS
from gnomon.methods.uncertainty_rag.options import Choice, Contrast, Cut, Layout, Pool, Span

PAPER_TRAINING = TrainConfig(lr=2e-5, batch_size=64, epochs=1, max_length=302, warmup_ratio=0.1)
"""BERT-base, 300 tokens and two special ones."""


@dataclass(frozen=True, kw_only=True)
class Documents:
    """A corpus and how it is cut."""

    source: Positional[str]
    """Documents: JSONL, Parquet, a folder of text files, a run, hf://name, stdlib:docs."""
    text_field: str = "text"
    """Column of the text."""
    id_field: str | None = None
    """Column of the document's name; None: a hash of its text. BEIR: _id."""
    cut: Cut = field(default_factory=lambda: Cut("tokens", 300))
    """How documents are cut: blindly, at a fixed length. Tokens are those of the model or of the encoder."""
    near: float = 0.9
    """Similarity from which two chunks say the same and one is left out."""
    limit: int | None = None
    """Only so many documents from the start. None: all."""

    def __post_init__(self) -> None:
        check(0 < self.near <= 1, "near", "within (0, 1]", self.near)
        check(self.limit is None or self.limit >= 2, "limit", ">= 2", self.limit)


@dataclass(frozen=True, kw_only=True)
class Score(Documents, LoadConfig, Shards):
    """Score pairs of chunks by a language model's own certainty, after a self-check that says which score works on this corpus."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, *LoadConfig.LOOSE, "batch_tokens")

    model: TextModel
    """Who scores: a folder, a hub id, embedded:smollm2; http://host:8000/v1#NAME, a server with log-probabilities of a prompt."""
    tokenizer: str | None = None
    """Tokenizer of a served model: a folder or hub id."""
    by: Literal["span", "span_other", "nll_all", "nll_cond", "gain", "gain_centred", "bm25", "cosine"] = (
        "span"
    )
    """The score that the self-check judges; the table holds all of them."""
    span: Span = field(default_factory=Span)
    """Windows, threshold and direction of the span score."""
    layout: Layout = field(default_factory=Layout)
    """How a pair is put to the model."""
    pool: Pool = field(default_factory=Pool)
    """Anchors and candidates."""
    encoder: str | None = None
    """Encoder for --pool.n-encoder, the samplings kmeans and knn_spread, and the score cosine. None: without."""
    language: str = "english"
    """Of BM25's stop words and stems."""
    held_out: float = 0.0
    """Share of the documents set aside, to evaluate on; none of their chunks is an anchor or a candidate."""
    qrels: str | None = None
    """Judgements (TREC, BEIR) whose documents are set aside as well."""
    calibration_pairs: int = 200
    """Pairs that the threshold is taken from."""
    batch_tokens: int = 4096
    """Tokens computed at once."""
    self_check: bool = True
    """Try every score on 200 pairs of pieces of this corpus first."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How a served model is asked."""

    def __post_init__(self) -> None:
        Documents.__post_init__(self)
        LoadConfig.__post_init__(self)
        Shards.__post_init__(self)
        check(0 <= self.held_out < 1, "held_out", "in 0..1", self.held_out)
        check(self.calibration_pairs >= 2, "calibration_pairs", ">= 2", self.calibration_pairs)
        check(self.batch_tokens >= 1, "batch_tokens", ">= 1", self.batch_tokens)
        is_served = self.model.startswith(("http://", "https://"))
        check(
            not is_served or self.tokenizer is not None,
            "tokenizer",
            "given with a served model",
            self.tokenizer,
        )
        check(
            not is_served or (self.engine, self.workers) == ("local", 1),
            "workers",
            "1 and engine local with a served model, which is asked side by side anyway (--llm.concurrency)",
            self.workers,
        )


@dataclass(frozen=True, kw_only=True)
class Mine(Choice):
    """Choose positives and hard negatives from a table of scored pairs, and see whether few chunks are everybody's positives."""

    source: Positional[str]
    """A run of score."""
    more: tuple[str, ...] = ()
    """Further runs of score, made with the same model and settings."""


@dataclass(frozen=True, kw_only=True)
class Train(Contrast):
    """Train a retriever on mined pairs, without a label."""

    LOOSE: ClassVar[tuple[str, ...]] = ("device",)

    source: Positional[str]
    """A run of mine, or its records."""
    model: Encoder
    """Encoder to start from: BERT, MPNet, ModernBERT, MiniLM; a folder, a hub id, embedded:minilm."""
    pooling: str | None = None
    """cls, mean, lasttoken ...; None: as the folder says, else mean."""
    device: str = "auto"
    """Where to train: auto, cpu or cuda."""
    train: TrainConfig = field(default_factory=lambda: PAPER_TRAINING)
    """Optimisation. micro_batch_size: texts embedded at once; it changes no result, and adds no negatives either."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.train.lora_rank is None, "train.lora_rank", "None", self.train.lora_rank)
        check(
            not self.train.packing,
            "train.packing",
            "off: vectors are read from single texts",
            self.train.packing,
        )


@dataclass(frozen=True, kw_only=True)
class Index(Documents):
    """Index a corpus for search: chunks, vectors and words."""

    LOOSE: ClassVar[tuple[str, ...]] = ("device",)

    retriever: Encoder
    """A run of train, or any encoder."""
    store: str | None = None
    """Where vectors lie: None: in the run's folder; else postgres://HOST/DB#NAME, qdrant:..., lance:..., faiss:FOLDER."""
    language: str = "english"
    """Of BM25's stop words and stems."""
    device: str = "auto"
    """Where to encode: auto, cpu or cuda."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """How an index is searched."""

    index: Positional[str]
    """A run of index."""
    mode: Literal["dense", "terms", "both"] = "both"
    """By the retriever's vectors, by words, or by both."""
    fuse: Literal["rrf", "entropy"] = "rrf"
    """How both become one: by ranks, or by scores, the surer list counting more."""
    rerank: str | None = None
    """A causal model: hits are ordered by what a passage tells it about the question (gain). None: as found."""
    start: Literal["bos", "eos", "none"] = "bos"
    """Token in front of what the reranker reads."""
    candidates: int = 100
    """Hits taken from each source."""
    device: str = "auto"
    """Where models run: auto, cpu or cuda."""

    def __post_init__(self) -> None:
        check(self.candidates >= 1, "candidates", ">= 1", self.candidates)


@dataclass(frozen=True, kw_only=True)
class Search(Finding):
    """Search an index."""

    LOOSE: ClassVar[tuple[str, ...]] = ("device",)

    query: str | None = None
    """One question."""
    queries: str | None = None
    """Rows of questions, such as BEIR's queries.jsonl; their rankings go into a TREC run."""
    query_field: str = "text"
    """Column of the question."""
    id_field: str = "_id"
    """Column of its name."""
    k: Annotated[int, Short("-k")] = 10
    """Hits a question."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.k >= 1, "k", ">= 1", self.k)

    def check_asked(self) -> None:
        """Refuse a search for nothing, or for two things."""
        is_one = (self.query is None) != (self.queries is None)
        check(is_one, "query", "given, or --queries, and not both", self.query)


@dataclass(frozen=True, kw_only=True)
class Ask(Finding):
    """Answer questions from an index with any language model: as many passages as fit, in the order of their documents."""

    LOOSE: ClassVar[tuple[str, ...]] = ("device",)
    GROWS: ClassVar = ("limit",)

    answerer: TextModel
    """Who answers: openai:MODEL, http://host:8000/v1#MODEL, hf:FOLDER, embedded:smollm2, serve:FOLDER, script:module:function."""
    question: str | None = None
    """One question."""
    questions: str | None = None
    """Rows of questions; a column of references is kept for eval."""
    query_field: str = "question"
    """Column of the question."""
    answer_field: str = "answers"
    """Column of the references: a text or a list."""
    id_field: str = "id"
    """Column of its name."""
    limit: int | None = None
    """Only so many questions. None: all."""
    k: Annotated[int, Short("-k")] = 50
    """Passages taken from the search, at most."""
    budget: int | None = None
    """Tokens of a prompt; None: what a model of this process reads, else 4,096."""
    order: Literal["score", "document", "reverse"] = "document"
    """Of the passages in the prompt: best first, as they stand in their documents, or best last."""
    max_tokens: int = 64
    """Longest answer, in tokens."""
    template: str = "answer"
    """answer, or a file with <passages> and <question>."""
    gain: str | None = None
    """A causal model whose gain of the question is a signal of confidence. None: without."""
    confidence: str | None = None
    """A run of eval over labelled answers, whose fit says how sure an answer is. None: no percentage, raw signals alone."""
    abstain_below: float = 0.0
    """Answers less likely to be right are withheld."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the answerer is asked."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("k", "max_tokens"):
            check(getattr(self, name) >= 1, name, ">= 1", getattr(self, name))
        check(self.budget is None or self.budget >= 1, "budget", ">= 1", self.budget)
        check(0 <= self.abstain_below <= 1, "abstain_below", "in 0..1", self.abstain_below)

    def check_asked(self) -> None:
        """Refuse no question, and two kinds of them."""
        is_one = (self.question is None) != (self.questions is None)
        check(is_one, "question", "given, or --questions, not both", self.question)


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Measure what a run did: a table of scores, an index, or answers; which of them it is, its folder says."""

    source: Positional[str]
    """A run of score (calibration), of index (retrieval, with --queries and --qrels), or of ask (answers)."""
    queries: str | None = None
    """For an index: BEIR's queries.jsonl."""
    qrels: str | None = None
    """For an index: judgements of documents, TREC or BEIR."""
    by: Literal["span", "span_other", "nll_all", "nll_cond", "gain", "gain_centred", "bm25", "cosine"] = (
        "span"
    )
    """For a table: the score whose calibration is checked."""
    reference: Literal["none", "cosine", "bm25"] = "none"
    """For a table: a similarity to correlate with."""
    right: Literal["exact", "contains", "f1"] = "contains"
    """For answers: which count as right: equal words, one that names a reference, or a token F1 of at least 0.5."""
    fit: Literal["logistic", "isotonic"] = "logistic"
    """For answers: how confidence is fitted on them."""
    device: str = "auto"
    """Where models run: auto, cpu or cuda."""


@dataclass(frozen=True, kw_only=True)
class Explain(LoadConfig):
    """Look at a pair: its tokens by what they cost, the windows that are kept, and what the first chunk tells about the second."""

    model: TextModel
    """A causal model: a folder, a hub id, embedded:smollm2."""
    first: str | None = None
    """Text of the first chunk; with --second."""
    second: str | None = None
    """Text of the second chunk."""
    table: str | None = None
    """In their place a run of score, whose settings are then used."""
    anchor: str | None = None
    """With --table: id of the anchor. None: the pair that the score likes best."""
    candidate: str | None = None
    """With --table and --anchor: id of the candidate."""
    span: Span = field(default_factory=lambda: Span(sigma=1.0))
    """Windows and threshold; of a table, the table's."""
    layout: Layout = field(default_factory=Layout)
    """How the pair is put to the model; of a table, the table's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        has_anchor = self.candidate is None or self.anchor is not None
        check(has_anchor, "anchor", "given with --candidate", self.anchor)

    def check_asked(self) -> None:
        """Refuse half a pair, and a pair beside a table."""
        n_texts = (self.first is not None) + (self.second is not None)
        wanted = 0 if self.table else 2
        check(n_texts == wanted, "first", "given with --second, or --table in their place", self.first)


PARTS = ("world", "docstrings", "gap", "papers", "retriever", "reranker")


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature; and the real run, on a real model and data that you name."""

    parts: tuple[str, ...] = ("world",)
    """world: the miniature. docstrings: its table on this Python's documentation. gap, papers, retriever, reranker: the real
    run, its control first."""
    model: str = "embedded:smollm2"
    """Causal model of the real run."""
    encoder: str = "embedded:minilm"
    """Encoder of the real run."""
    papers: str | None = None
    """For gap and papers: rows with abstract and field."""
    beir: str | None = None
    """For retriever and reranker: a folder with corpus.jsonl, queries.jsonl and qrels.tsv."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, PARTS)
        reads = {"gap", "papers"} & set(self.parts)
        check(
            not reads or self.papers is not None, "papers", "given for the parts gap and papers", self.papers
        )
        needs = {"retriever", "reranker"} & set(self.parts)
        check(
            not needs or self.beir is not None,
            "beir",
            f"given for the part {min(needs, default='')}",
            self.beir,
        )
