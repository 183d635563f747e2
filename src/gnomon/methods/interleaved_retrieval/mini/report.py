"""The miniature's page."""

from __future__ import annotations

from typing import Any

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.methods.interleaved_retrieval.documents.tables import linear_table

TABLES = (
    "documents", "one section", "sections of a document", "size of the pool", "rerankers", "ablations", "index",
)  # fmt: skip

BEST = dict.fromkeys(("success@1", "success@10", "MRR@10"), "max")


def write(page: Page, results: Results) -> None:
    """Write the page, as far as parts ran."""
    if "documents" in results.shown:
        page.section("The world")
        page.text(
            "Every document has a word, a colour that only a picture shows, and a cell of a table, each in a section of its own; a "
            "query is the three words. No section answers it alone. The first document:"
        )
        for section in results.shown["documents"].sections:
            for block in section.blocks:
                if block.type == "image":
                    page.image(block.image.resize((96, 96)))
                else:
                    page.table([{block.type: linear_table(block) if block.type == "table" else block.text}])
    _table(
        page,
        results,
        "documents",
        "Documents",
        "means over seeds; each arm but the controls trained by itself",
        "arm",
    )
    _table(
        page, results, "one section", "Queries that one section answers",
        "means over seeds; relevant is every document with the word", "arm",
    )  # fmt: skip
    if rows := results.rows.get("sections of a document"):
        page.section("Dilution")
        table = means(rows, "arm", "sections")
        page.lines(_curves(table, "sections"), x_label="sections of a document", y_label="success at 1")
        page.table(table, caption="means over seeds")
        pools = means(results.rows["size of the pool"], "pool")
        page.lines(
            {"mean": [(float(row["pool"]), row["success@1"]) for row in pools]},
            x_label="documents in the pool", y_label="success at 1",
        )  # fmt: skip
    _table(
        page, results, "rerankers", "Sections",
        "means over seeds; among the sections of ten documents, but for those directly", "arm",
    )  # fmt: skip
    _table(page, results, "ablations", "Ablations, trained for fewer steps", "means over seeds", "arm")
    _table(page, results, "index", "An updated index against a rebuilt one", "vectors, byte by byte")
    rows = results.rows.get("documents")
    if rows:
        first = means(rows, "arm")[0]
        page.figures({f"success@1, {first['arm']}": first["success@1"]})


def _table(page: Page, results: Results, name: str, title: str, caption: str, *by: str) -> None:
    if rows := results.rows.get(name):
        page.section(title)
        # Seconds are of one machine at one time and would make pages of the same seed differ.
        table = [{k: v for k, v in row.items() if k != "seconds"} for row in means(rows, *by)]
        page.table(table, caption=caption, best={k: v for k, v in BEST.items() if k in table[0]})


def _curves(rows: list[dict[str, Any]], x: str) -> dict[str, list[tuple[float, float]]]:
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        curves.setdefault(row["arm"], []).append((float(row[x]), row["success@1"]))
    return curves
