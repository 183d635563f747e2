"""The arms of a comparison: what a section shows, how its vectors are merged, and what finds documents by words alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from gnomon.core.retrieval.fusion import fuse
from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.terms import Terms
from gnomon.methods.interleaved_retrieval.documents.rows import Document
from gnomon.methods.interleaved_retrieval.documents.serialise import Form, plain_text
from gnomon.methods.interleaved_retrieval.encoding.vectors import MERGES, Encoded, Floats, rank_documents
from gnomon.methods.interleaved_retrieval.evaluation.judged import Judged

K = 100
"""Documents ranked for each query."""


def forms_of(form: Form) -> dict[str, Form]:
    """What is compared of a way to write sections: name -> form."""
    return {
        "all": form,
        "without images": form.without("images"),
        "without tables": form.without("tables"),
        "text alone": form.without("images", "tables"),
        "captions in place of images": replace(form, images="captions"),
        "grouped": replace(form, block_order="grouped"),
        "four images in a picture": replace(form, tile_images=4),
    }


class Arms:
    """Rows of a comparison over judged queries, with the tokens and the seconds that each arm takes.

    Args:
        judged: documents, queries and judgements.
        k: documents ranked for each query.
    """

    def __init__(self, judged: Judged, *, k: int = K):
        self.judged, self.k = judged, k
        self.rows: list[dict[str, Any]] = []
        self.hits: dict[str, list[list[Hit]]] = {}
        """Arm -> per query its ranking."""

    def encoded(
        self, arm: str, encoder: Any, queries: Floats, *, documents: Sequence[Document] | None = None,
        merges: Sequence[str] = ("mean",),
    ) -> Encoded:  # fmt: skip
        """Encode all sections and add a row for each merge; returns the sections.

        Args:
            arm: name of the row; a merge that is not the encoder's own stands behind it.
            encoder: see `EncodesSections`.
            queries: [Q, D].
            documents: in place of the judged ones, under the same ids.
            merges: names of `MERGES`, or max_sim.
        """
        started = time.process_time()
        encoded: Encoded = encoder.encode_sections(self.judged.documents if documents is None else documents)
        seconds = time.process_time() - started
        for merge in merges:
            name = arm if merge == encoder.merge else f"{arm}, {merge}"
            self.add(
                name,
                rank_documents(queries, encoded, merge, self.k),
                tokens=int(encoded.tokens.sum()),
                image_tokens=encoded.image_tokens,
                seconds=seconds,
            )
        return encoded

    def add(self, arm: str, hits: list[list[Hit]], **more: Any) -> None:
        """Add a row of a ranking."""
        self.hits[arm] = hits
        self.rows.append(self.judged.row(arm, hits, **more))

    def terms(self, arm: str, form: Form) -> None:
        """Add BM25 over whole documents, written in the same way."""
        with TemporaryDirectory() as folder:
            texts = {d.id: plain_text(d, form=form) or " " for d in self.judged.documents}
            index = Terms.build(Path(folder) / "terms", texts)
            self.add(arm, index.search([query.text or " " for query in self.judged.queries], self.k))

    def fused(self, arm: str, *sources: str) -> None:
        """Add the reciprocal rank fusion of arms that are there."""
        lists = [self.hits[source] for source in sources]
        self.add(
            arm,
            [fuse(dict(zip(sources, hits, strict=True)))[: self.k] for hits in zip(*lists, strict=True)],
        )

    def gains(self, whole: str, without: Sequence[str]) -> list[dict[str, Any]]:
        """What each modality brings against what it costs: the row of all less that without it."""
        by_arm = {row["arm"]: row for row in self.rows}
        table = []
        for arm in without:
            if arm not in by_arm or whole not in by_arm:
                continue
            full, less = by_arm[whole], by_arm[arm]
            table.append(
                {
                    "left out": arm,
                    **{name: full[name][0] - less[name][0] for name in ("success@1", "success@10", "MRR@10")},
                    "tokens more": full["tokens"] - less["tokens"],
                    "CPU seconds more": full["seconds"] - less["seconds"],
                }
            )
        return table


MERGE_ARMS = (*MERGES, "max_sim")
"""All ways to compare a query with the sections of a document."""
