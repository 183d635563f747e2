"""What each verb shows on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.report import Page
from gnomon.core.study import Results, means
from gnomon.core.vision.draw import overlay
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.rows import ImageRow, pictures_of

if TYPE_CHECKING:
    from gnomon.methods.cloc.evaluation.evaluation import Table

SHOWN = 24
"""Pictures on a page."""
NEAREST = 5
"""Texts shown for a box."""


def trained(page: Page, figures: Mapping[str, Any], losses: Sequence[float]) -> None:
    """Page of `train`."""
    page.title = "A CLIP that knows regions"
    page.figures(figures)
    page.lines({"loss": list(enumerate(losses, 1))}, x_label="step", y_label="loss")
    page.text(
        "The folder `model` is a checkpoint that plain transformers opens, with `prompter.safetensors` beside it. Run `eval` on "
        "images that were not trained on."
    )


def made_labels(page: Page, written: Sequence[Mapping[str, Any]], figures: Mapping[str, Any]) -> None:
    """Page of `label`: images with the boxes of their captions' phrases."""
    page.title = f"{figures['regions']:,} regions on {figures['images']:,} images"
    page.figures(figures)
    page.text(f"The first {min(SHOWN, len(written))} of {len(written)} images.")
    for row in written[:SHOWN]:
        (picture,) = pictures_of([ImageRow(row["image_id"], row["image"])])
        regions = [Region(tuple(r["box"]), r["text"], r["score"]) for r in row["regions"]]
        page.image(overlay(picture, regions=regions), caption=f"{row['image_id']}: {row['caption']}")
        page.table([{"phrases": ", ".join(row["phrases"])}])


def applied(
    page: Page,
    rows: Sequence[ImageRow],
    written: Sequence[Mapping[str, Any]],
    table: Any,
    texts: Mapping[str, Any],
    grounded_rows: Sequence[Mapping[str, Any]],
) -> None:
    """Page of `apply`: boxes with the texts that are nearest, and the boxes that the model gives back for the phrases."""
    page.title = f"{len(written):,} regions of {len(rows):,} images"
    page.text(f"The first {min(SHOWN, len(rows))} of {len(rows)} images are shown.")
    names = list(texts)
    for row in rows[:SHOWN]:
        places = [i for i, entry in enumerate(written) if entry["image_id"] == row.image_id]
        (picture,) = pictures_of([row])
        numbered = [Region(tuple(written[i]["box"]), str(n)) for n, i in enumerate(places, 1)]
        page.image(overlay(picture, regions=numbered), caption=f"{row.image_id}: {len(places)} boxes")
        entries = []
        for n, i in enumerate(places, 1):
            entry = {"box": n, "text": written[i]["text"] or ""}
            if names:
                scores = {name: float(table[i] @ vector.cpu()) for name, vector in texts.items()}
                best = sorted(scores, key=lambda name: -scores[name])[:NEAREST]
                entry["nearest"] = ", ".join(f"{name} {scores[name]:.2f}" for name in best)
            entries.append(entry)
        page.table(entries)
        own = [entry for entry in grounded_rows if entry["image_id"] == row.image_id]
        if own:
            page.image(overlay(picture, regions=_boxes(own)), caption=f"{row.image_id}: boxes of the phrases")


def grounded(page: Page, rows: Sequence[ImageRow], written: Sequence[Mapping[str, Any]]) -> None:
    """Page of `ground`."""
    page.title = f"{len(written):,} phrases in {len(rows):,} images"
    page.text(
        f"A box comes back for every phrase; the score says whether it is there. The first {min(SHOWN, len(rows))} are shown."
    )
    for row in rows[:SHOWN]:
        own = [entry for entry in written if entry["image_id"] == row.image_id]
        (picture,) = pictures_of([row])
        page.image(overlay(picture, regions=_boxes([e for e in own if e["is_there"]])), caption=row.image_id)
        page.table([{name: entry[name] for name in ("phrase", "score", "is_there")} for entry in own])


def evaluated(page: Page, table: Table, n_images: int) -> None:
    """Page of `eval`."""
    page.title = "How well are regions known?"
    page.figures({"images": n_images, "regions": table.n_regions, "image to text R@1": table.images[0],
                  "text to image R@1": table.images[1]})  # fmt: skip
    page.table(
        table.rows,
        caption="accuracy over regions, its mean and 95% interval over images, mean over classes (mAcc), recall@10 over all",
        best={"accuracy": "max", "mAcc": "max"},
    )
    page.text(
        "A row that is as good with **shuffled boxes** does not look at its box. **crop and encode** takes an encoding a box. "
        "Recall is counted strictly (the own text alone) and with every text that reads the same."
    )
    if table.grounding:
        page.section("Boxes of phrases")
        page.table(
            table.grounding,
            caption=f"{table.n_ambiguous} phrases with several instances on their image are left out",
        )
        page.text("A Prompter that ignores its image predicts the mean box.")


def mini(page: Page, results: Results) -> None:
    """Page of the miniature: means over seeds."""
    page.text(
        "Two squares of two colours each on a dull background; a region's text names both colours, so that one colour is not "
        "enough. All arms see the same images as often."
    )
    for name, caption in (
        ("arms", "regions by class; image retrieval over all test images; boxes of phrases"),
        ("context", "the same where a region's text also names its neighbour"),
        ("noise", "the two best arms trained on boxes that are off by half of their side"),
    ):
        if rows := results.rows.get(name):
            page.section(name)
            page.table(means(rows, "arm"), caption=caption, best={"mAcc": "max"})


def _boxes(rows: Sequence[Mapping[str, Any]]) -> list[Region]:
    return [Region(tuple(row["box"]), row["phrase"], row["score"]) for row in rows]
