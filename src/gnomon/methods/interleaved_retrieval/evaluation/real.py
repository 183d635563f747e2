"""The real run: notebooks with tables and figures, an encoder of text, and queries that were taken out of sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core.config import fingerprint
from gnomon.core.data.execute import map_shards
from gnomon.core.files import user_folder, write_json
from gnomon.core.report import Page
from gnomon.core.results import means
from gnomon.core.retrieval.encoders import TextEncoder
from gnomon.core.run import PartOfRun
from gnomon.core.study import Out, Part, Results, Study
from gnomon.methods.interleaved_retrieval.config import REAL_CLAIMS, Real
from gnomon.methods.interleaved_retrieval.documents.importers import ImportStep, files_below
from gnomon.methods.interleaved_retrieval.documents.ocr import Reader, with_words, words_of
from gnomon.methods.interleaved_retrieval.documents.rows import Document, read_documents
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, plain_text
from gnomon.methods.interleaved_retrieval.encoding.texts import TextSections
from gnomon.methods.interleaved_retrieval.encoding.vectors import Encoded, rank_documents
from gnomon.methods.interleaved_retrieval.evaluation.arms import Arms
from gnomon.methods.interleaved_retrieval.evaluation.cloze import KINDS, cloze
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged, judged
from gnomon.methods.interleaved_retrieval.evaluation.sections import section_stage

SIDES = {"without tables": False, "with tables": True}
FIGURES = "with tables and words in figures"
METRICS = ("success@1", "success@10", "MRR@10")


@dataclass(frozen=True)
class Size:
    """How much of the data is read."""

    files: int | None = None
    """Only so many files; None: all."""
    device: str = "cpu"
    """Where vectors are computed."""


class Memo:
    """An encoder of text that computes each text once: seeds and sides share most sections.

    Args:
        encoder: computes vectors.
    """

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder
        self.fingerprint, self.dim = encoder.fingerprint, encoder.dim
        self._vectors: dict[tuple[str, str], Any] = {}

    def encode(self, texts: Sequence[str], role: str = "passage") -> Any:
        """As `TextEncoder.encode`."""
        new = [text for text in dict.fromkeys(texts) if (role, text) not in self._vectors]
        for text, vector in zip(new, self.encoder.encode(new, role), strict=True):
            self._vectors[role, text] = vector
        return np.stack([self._vectors[role, text] for text in texts]) if texts else self.encoder.encode([])


def study(cfg: Real) -> Study:
    """The study over the notebooks that the settings name."""
    loaded: dict[str, Any] = {}
    command = f"gnomon interleaved-retrieval real NOTEBOOKS --model {cfg.model} --seeds {cfg.seeds}"

    def run_part(size: Size, seed: int, part: PartOfRun, out: Out) -> None:
        if not loaded:
            loaded.update(_load(cfg, size, part))
        _one_seed(loaded, seed, part, out)

    def summary(results: Results) -> Mapping[str, Any]:
        tables = {name: results.rows.get(name, []) for name in ("arms", "sections", "data")}
        return {"command": command, "about": results.shown.get("about", {}), **tables}

    return Study(
        title="interleaved-retrieval on real notebooks",
        claims=REAL_CLAIMS,
        scales={"smoke": Size(files=3), "mini": Size(), "gpu": Size(device="cuda")},
        parts={"real": Part(run_part)},
        plan=lambda cfg, size: {"files": size.files or "all", "model": cfg.model},
        page=write_page,
        summary=summary,
    )


def _load(cfg: Real, size: Size, part: PartOfRun) -> dict[str, Any]:
    """Documents, and the words in their figures where they can be read."""
    root, names = files_below(Path(cfg.source))
    names = names[: size.files]
    sink = part.folder.parent / "documents"
    with part.progress(len(names), "files") as bar:
        map_shards(
            ImportStep(str(root), str(sink), "heading"), names, sink,
            shard_rows=4, settings=names, progress=bar,
        )  # fmt: skip
    documents = [d for d in read_documents(sink) if isinstance(d, Document) and plain_text(d).strip()]
    words = _words(documents, part) if cfg.ocr else {}
    memo = Memo(TextEncoder.load(cfg.model))
    beginning = Memo(TextEncoder.load(cfg.model, too_long="cut"))
    return {"documents": documents, "words": words, "encoder": memo, "beginning": beginning}


def _words(documents: Sequence[Document], part: PartOfRun) -> dict[str, str]:
    """Words in figures, kept for later runs by the content of the figures; none where the extra is not installed."""
    from gnomon.errors import MissingExtra

    keys = sorted({b.key for d in documents for s in d.sections for b in s.blocks if b.type == "image"})
    path = user_folder() / "figure-words" / f"{fingerprint(keys, length=16)}.json"
    if path.is_file():
        import json

        stored: dict[str, str] = json.loads(path.read_text("utf-8"))
        return stored
    try:
        reader = Reader()
    except MissingExtra as error:
        part.page.text(f"Figures were not read: {error}")
        return {}
    with part.progress(len(documents), "figures") as bar:
        words = words_of(documents, reader.words, bar)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, words)
    return words


def _one_seed(loaded: Mapping[str, Any], seed: int, part: PartOfRun, out: Out) -> None:
    documents, queries, qrels, kinds = cloze(loaded["documents"], part.rng.child("cloze"))
    both = judged(documents, queries, qrels)
    figured = with_words(documents, loaded["words"])
    encoder = TextSections(loaded["encoder"], merge="mean")
    arms = Arms(both)
    vectors = encoder.encode_queries(both.queries)
    encoded: dict[str, Encoded] = {}
    for side, tables in SIDES.items():
        plain = Form(images="captions", tables=tables)
        encoded[side] = arms.encoded(
            side,
            encoder.with_form(plain),
            vectors,
            merges=("mean", "norm_mean", "token_weighted_mean", "max_sim"),
        )
        arms.terms(f"{side}, BM25", plain)
        arms.fused(f"{side}, max-sim and BM25 fused", f"{side}, max_sim", f"{side}, BM25")
        if not tables:
            whole = [plain_text(d, form=plain) or d.title or " " for d in documents]
            _beginning(arms, [d.id for d in documents], whole, loaded["beginning"], vectors)
    if loaded["words"]:
        captions = Form(images="captions")
        encoded[FIGURES] = arms.encoded(
            FIGURES, encoder.with_form(captions), vectors, documents=figured, merges=("mean", "max_sim")
        )
    for arm, hits in arms.hits.items():
        for kind in KINDS:
            numbers = _of_kind(both, kinds, kind, hits)
            for metric in ("R@1", "R@10"):
                out.score(arm, f"{metric}, {kind}", numbers[metric])
            row = {"arm": arm, "queries": kind, "count": len(numbers["R@1"])}
            out.add(
                "arms", {**row, **{name: float(np.mean(list(v.values()))) for name, v in numbers.items()}}
            )
    for side, vectors_of_side in encoded.items():
        ways = section_stage(both, vectors_of_side, vectors, merge="mean")
        for way, hits in ways.items():
            names = {q.id: [h.id for h in own] for q, own in zip(both.queries, hits, strict=True)}
            scores = both.scored(names, sections=True)
            means_of = {m: scores[m].mean for m in METRICS}
            out.add("sections", {"arm": side, "way": way, **means_of})
    counts = {kind: sum(k == kind for k in kinds.values()) for kind in KINDS}
    data = {
        "documents": len(documents),
        "sections": sum(len(d.sections) for d in documents),
        "figures read": len(loaded["words"]),
        **counts,
    }
    out.add("data", data)
    out.log(**data)


def _beginning(arms: Arms, names: Sequence[str], texts: Sequence[str], encoder: Any, queries: Any) -> None:
    """One vector of the first tokens that the encoder reads: what most people have."""
    vectors = encoder.encode(list(texts))
    beginnings = Encoded(
        list(names), np.arange(len(names) + 1), [(0, 0)] * len(names), [()] * len(names),
        np.ones(len(names), np.int64), vectors,
    )  # fmt: skip
    arms.add("first 256 tokens", rank_documents(queries, beginnings, "mean", arms.k))


def _of_kind(
    both: Judged, kinds: Mapping[str, str], kind: str, hits: Sequence[Sequence[Any]]
) -> dict[str, dict[str, float]]:
    """Per metric and query of one kind, its value."""
    rankings = {
        query.id: [hit.id for hit in own]
        for query, own in zip(both.queries, hits, strict=True)
        if kinds[query.id] == kind
    }
    some = Judged(both.documents, [], {name: both.qrels[name] for name in rankings}, {})
    scores = some.scored(rankings)
    return {
        short: dict(scores[name].per_query)
        for short, name in (("R@1", "success@1"), ("R@10", "success@10"), ("MRR@10", "MRR@10"))
    }


def write_page(page: Page, results: Results) -> None:
    """Write the page of the real run."""
    page.text(
        "Every query was taken out of a section: a sentence, a row of a table; or it is the names of a table's columns, which stay "
        "and leak into code and prose, so they are shown apart. No pretrained vision-language model is at hand: figures enter as "
        "the words in them, and what pictures themselves bring is tested in the miniature only."
    )
    rows = means(results.rows["arms"], "queries", "arm")
    for kind in KINDS:
        own = [{k: v for k, v in row.items() if k != "queries"} for row in rows if row["queries"] == kind]
        page.section(f"Documents for {kind}")
        page.table(
            own, caption=f"means over seeds, {kind}", best=dict.fromkeys(("R@1", "R@10", "MRR@10"), "max")
        )
    page.section("Sections")
    page.table(means(results.rows["sections"], "arm", "way"), caption="means over seeds, all queries")
    page.figures(means(results.rows["data"])[0])
