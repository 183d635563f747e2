"""Settings of the interleaved-retrieval verbs and the claims its miniature and its real run test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, Short, check
from gnomon.core.data.config import Shards
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.train.config import TrainConfig

PAPER = "IDentIfy, arXiv 2410.02729"

Merging = Literal["mean", "norm_mean", "token_weighted_mean", "max_sim"]


@dataclass(frozen=True, kw_only=True)
class Writing:
    """How a section is written for a model."""

    prefix: Literal["title", "heading", "both", "none"] = "both"
    """What stands in front of a section."""
    table_format: Literal["markdown", "html", "kv"] = "markdown"
    """How a table is written: markdown; html; kv names the column in front of every cell."""
    block_order: Literal["reading", "grouped"] = "reading"
    """reading: as the document has them; grouped: images, then text, then tables, as in the paper."""
    tile_images: int = 1
    """So many images of a section become one picture; 1: each is seen by itself. The paper: 4."""
    images: Literal["seen", "captions", "none"] = "seen"
    """seen: the picture, then its caption; captions: the caption alone; none: neither."""
    tables: bool = True
    """Whether tables are shown."""

    def __post_init__(self) -> None:
        check(self.tile_images >= 1, "tile_images", ">= 1", self.tile_images)


@dataclass(frozen=True, kw_only=True)
class Import(Shards):
    """Turn notebooks, Markdown, HTML, PDF or rows with lists into documents of text, images and tables."""

    source: Positional[str]
    """A file or a folder: .ipynb, .md, .html, .pdf, .jsonl, .parquet."""
    split: Literal["file", "heading"] = "file"
    """A document is a file, or what stands below a heading of the first level."""
    ocr: bool = False
    """Read the words in pictures and put them into captions; needs the extra ocr."""
    strict: bool = False
    """A picture that is not there refuses its file; else it is left out and counted."""
    shard_rows: int = 4
    """Files per shard; a killed job repeats at most the shards it was working on."""


@dataclass(frozen=True, kw_only=True)
class Train(Writing):
    """Train a retriever, or a reranker of sections, from queries with judged documents or sections."""

    LOOSE: ClassVar[tuple[str, ...]] = ("piece_tokens", "device")

    source: Positional[str]
    """Documents: a run of `import`, or rows of documents."""
    queries: str
    """Rows with id, text and perhaps image."""
    qrels: str
    """Judgements of documents (`doc`) or sections (`doc#3`), in TREC's four columns or BEIR's table."""
    model: str
    """Vision-language model to start from: a folder or hub id, a run of `train`."""
    part: Literal["retriever", "reranker"] = "retriever"
    """What is trained."""
    retriever: str | None = None
    """For the reranker: the retriever whose best documents give negatives. None: BM25's."""
    merge: Merging = "mean"
    """How the vectors of sections become one of a document; max_sim: none, the best section counts."""
    pick: Literal["last", "before", "mean"] = "last"
    """Which state stands for a text: of the learned end token, of the last ordinary token, or the mean over all."""
    temperature: float = 0.07
    """Divides the cosine."""
    learn_temperature: bool = False
    """Train the temperature too, within 0.01..1; on one process."""
    train_max_sections: int = 4
    """Sections of a document in a step, drawn anew each time; the one with the evidence is always among them."""
    negatives: int = 0
    """Documents beside the batch's own that each query is held against, by BM25."""
    num_negatives: int = 4
    """For the reranker: sections beside the one with the evidence."""
    negative_kinds: Literal["both", "in-document", "cross-document"] = "both"
    """For the reranker: where they come from."""
    target: Literal["section", "document", "contrastive"] = "section"
    """For the reranker: 1 for the evidence; 1 for all sections of its document; or one section against the others."""
    top: int = 25
    """For the reranker: the retriever's best documents, from which sections are taken."""
    drop_query_images: bool = False
    """Take pictures that queries have out of the documents."""
    piece_tokens: int = 8192
    """Tokens computed at once; a batch is embedded piece by piece, with the loss of the whole."""
    limit: int | None = None
    """Only so many documents from the start."""
    device: str = "auto"
    """Where to train: auto, cpu or cuda."""
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            lr=1e-4, batch_size=64, schedule="cosine", warmup_ratio=0.03, lora_rank=16, max_length=4096
        )
    )
    """Optimisation. A batch counts queries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.temperature > 0, "temperature", "> 0", self.temperature)
        check(self.train_max_sections >= 1, "train_max_sections", ">= 1", self.train_max_sections)
        check(self.negatives >= 0, "negatives", ">= 0", self.negatives)
        check(self.num_negatives >= 1, "num_negatives", ">= 1", self.num_negatives)
        check(self.top >= 1, "top", ">= 1", self.top)
        check(self.piece_tokens >= 1, "piece_tokens", ">= 1", self.piece_tokens)


@dataclass(frozen=True, kw_only=True)
class Index(Writing, Shards):
    """Index documents by one vector each, and by those of their sections; with --update only what has changed is read."""

    LOOSE: ClassVar[tuple[str, ...]] = (*Shards.LOOSE, "batch_tokens")

    source: Positional[str]
    """Documents: a run of `import`, or rows of documents."""
    model: str
    """A run of `train`, a vision-language model, a published embedder, an encoder of text, or http://host/v1#name."""
    merge: Merging | None = None
    """How sections become a document. None: as the retriever says."""
    update: str | None = None
    """An earlier run of `index`: sections that have not changed are taken over from it."""
    store: Literal["f32", "f16"] = "f32"
    """Type of the stored section vectors; with f16 an update is not the same as a rebuild to the last bit."""
    exact: bool = True
    """Each section is read by itself, so that an update is a rebuild to the last bit; no: in batches, equal to about 1e-6."""
    publish: str | None = None
    """Also write section vectors to a store by reference, such as postgres://HOST/DB#NAME, qdrant:URL#NAME, faiss:FOLDER."""
    export: bool = False
    """Also write the retriever as a folder that sentence-transformers opens to the same vectors."""
    as_written: bool = True
    """Sections are written as the retriever was trained; no: as the options here say."""
    strict: bool = False
    """An image that cannot be opened, or a block that does not fit, refuses its document."""
    batch_tokens: int | None = None
    """Tokens of a batch, with --no-exact. None: 512 on a CPU, 16,384 on a GPU."""
    shard_rows: int = 16
    """Documents per shard; a killed job repeats at most the shards it was working on."""
    load: LoadConfig = field(default_factory=LoadConfig)
    """How the model is loaded."""

    def __post_init__(self) -> None:
        Writing.__post_init__(self)
        Shards.__post_init__(self)
        check(self.batch_tokens is None or self.batch_tokens >= 1, "batch_tokens", ">= 1", self.batch_tokens)


@dataclass(frozen=True, kw_only=True)
class Search:
    """Find documents and their sections for queries, with the blocks and pictures of each, and why."""

    index: Positional[str]
    """A run of `index`."""
    model: str
    """The encoder that made the index."""
    text: tuple[str, ...] = ()
    """Queries in words."""
    image: str | None = None
    """A picture that goes with every query in words, or is one by itself."""
    queries: str | None = None
    """Rows with id, text and perhaps image."""
    reranker: str | None = None
    """A run of `train --part reranker`. None: sections by their vectors."""
    source: str | None = None
    """The documents, for the reranker and for --explain."""
    k: Annotated[int, Short("-k")] = 10
    """Documents for each query, and sections."""
    top: int = 25
    """Documents whose sections are ranked."""
    alpha: float = 0.0
    """Weight of the document's score beside the reranker's."""
    explain: int = 0
    """Show why, for so many queries: what the best document loses without each of its blocks."""
    load: LoadConfig = field(default_factory=LoadConfig)
    """How models are loaded."""

    def __post_init__(self) -> None:
        check(self.k >= 1, "k", ">= 1", self.k)
        check(self.top >= 1, "top", ">= 1", self.top)
        check(0 <= self.alpha <= 1, "alpha", "in 0..1", self.alpha)
        check(self.explain >= 0, "explain", ">= 0", self.explain)


@dataclass(frozen=True, kw_only=True)
class Eval(Writing):
    """Compare all arms on judged queries: modalities and their price, merges, words, a second encoder, both stages, dilution."""

    source: Positional[str]
    """Documents: a run of `import`, or rows of documents."""
    queries: str
    """Rows with id, text and perhaps image."""
    qrels: str
    """Judgements of documents or sections."""
    model: str
    """As for `index`."""
    rivals: tuple[str, ...] = ()
    """Retrievers trained otherwise, NAME=RUN: for max-sim, on the last ordinary token, on the mean of tokens."""
    text_encoder: str | None = None
    """Encoder of text on the same serialised sections, as a rival."""
    reranker: str | None = None
    """A run of `train --part reranker`."""
    top: int = 25
    """Documents whose sections are ranked."""
    pools: tuple[int, ...] = (25, 50, 100)
    """Sizes of the pool for the dilution curve, beside all."""
    drop_query_images: bool = False
    """Take pictures that queries have out of the documents."""
    limit: int | None = None
    """Only so many documents from the start."""
    load: LoadConfig = field(default_factory=LoadConfig)
    """How models are loaded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.top >= 1, "top", ">= 1", self.top)
        check(all(size >= 1 for size in self.pools), "pools", "numbers >= 1", self.pools)
        check(all("=" in rival for rival in self.rivals), "rivals", "NAME=RUN", self.rivals)


PARTS = ("documents", "one-section", "dilution", "sections", "ablations", "index")


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: documents whose facts are a word, a colour that only a picture shows, and a cell of a table."""

    parts: tuple[str, ...] = PARTS
    """Which parts to run: documents, one-section, dilution, sections, ablations, index."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, PARTS)


@dataclass(frozen=True, kw_only=True)
class Real(Miniature):
    """Run all arms on real notebooks: sentences, rows and column names taken out of sections are the queries."""

    source: Positional[str]
    """A folder of notebooks."""
    model: str = "embedded:minilm"
    """Encoder of text: a folder, a hub id, or http://host/v1#name."""
    ocr: bool = True
    """Read the words in figures, where the extra ocr is installed."""


def _mini(
    text: str, source: str, compare: str, margin: float = 0.0, *, part: str, required: bool = True
) -> Claim:
    return Claim(text, source, compare, margin=margin, part=part, required=required)


CLAIMS = (
    _mini("Vectors of interleaved documents find them", "the specification's acceptance", "R@1: interleaved >= 0.85",
          part="documents"),
    _mini("Pictures add what only they show", f"{PAPER}: text < text and images", "R@1: interleaved > images greyed",
          0.20, part="documents"),
    _mini("All modalities add to text alone", f"{PAPER}: fully interleaved is best", "R@1: interleaved > text only",
          0.50, part="documents"),
    _mini("One merged vector finds what no single section holds", f"{PAPER}: documents beat passages",
          "R@10: interleaved > max-sim, scored alone", 0.20, part="documents"),
    _mini("It does so too where the rival was trained for max-sim", "control: no straw man",
          "R@10: interleaved > max-sim, trained for it", 0.20, part="documents"),
    _mini("With the pictures of other documents nothing is left of what pictures bring", "control: pictures swapped",
          "R@1: images swapped <= images greyed", -0.05, part="documents"),
    _mini("A perfect caption is an upper bound", "control: captions in place of pictures",
          "R@1: caption as text >= interleaved", -0.05, part="documents", required=False),
    _mini("The reranker finds the section", "the specification's acceptance", "section MRR@10: reranker >= 0.8",
          part="sections"),
    _mini("It finds it better than the retriever's own vectors", f"{PAPER}: the second stage",
          "section MRR@10: reranker > retriever's vectors", part="sections",
        required=False),
    _mini("It finds it better than words", "control: BM25 is blind to colours", "section MRR@10: reranker > BM25",
          part="sections"),
    _mini("Trained with sections of its own document alone it rejects those of others worse",
          f"{PAPER}: negatives of the top documents matter", "section MRR@10: reranker >= in-document negatives alone",
          part="sections", required=False),
    _mini("Labels of sections beat labels of documents", f"{PAPER}: section labels",
          "section MRR@10: reranker > labels of documents", part="sections"),
    _mini("An index that was updated is the one that is built anew, to the last bit", "the method's own promise",
          "bytes that differ: updated == 0", part="index"),
)  # fmt: skip

REAL_CLAIMS = (
    _mini("Tables answer questions about tables", "measured beforehand on this data",
          "R@1, table rows: with tables > without tables", 0.15, part="real"),
    _mini("Tables leave questions about sentences alone: no gain", "measured beforehand on this data",
          "R@1, sentences: with tables <= without tables", -0.02, part="real"),
    _mini("Tables leave questions about sentences alone: no loss", "measured beforehand on this data",
          "R@1, sentences: with tables >= without tables", -0.02, part="real"),
    _mini("All sections beat the beginning of a document", "measured beforehand on this data",
          "R@1, sentences: without tables > first 256 tokens", 0.08, part="real"),
)  # fmt: skip
