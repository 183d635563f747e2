"""CHAIR: how often captions name objects that are not in the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gnomon.errors import BadInput
from gnomon.methods.vl_lens.objects import Vocabulary


def chair(
    captions: Iterable[tuple[Any, str]],
    objects_by_image: Mapping[Any, Iterable[str]],
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """The CHAIR metrics of captions, each a share in 0..1.

    Args:
        captions: image id and caption, one pair per caption.
        objects_by_image: image id -> what is in it. Ids are compared as text, so 42 and "42" are the same image.
        vocabulary: the words for objects.

    Returns:
        `chair_i` (hallucinated mentions over all mentions), `chair_s` (captions with a hallucinated mention over all
        captions), `recall` (true objects mentioned over true objects, both distinct), the counts behind them (`captions`,
        `mentions`, `hallucinated`), and `rows`: one per caption with what it mentions. A share of nothing is NaN.

    Raises:
        BadInput: there is no caption, or an image has no list of objects.

    Source: Rohrbach et al., "Object Hallucination in Image Captioning" (2018), as the paper uses it.

    >>> found = chair([(1, "A cat and a dog.")], {1: ["cat", "cup"]}, Vocabulary.of([["cat"], ["dog"], ["cup"]]))
    >>> found["chair_i"], found["chair_s"], found["recall"]
    (0.5, 1.0, 0.5)
    """
    truth = {str(image): set(objects) for image, objects in objects_by_image.items()}
    rows: list[dict[str, Any]] = []
    for image, caption in captions:
        if str(image) not in truth:
            raise BadInput(
                f"Image {image} has a caption and no list of objects. Add it to the ground truth or leave it out."
            )
        there = truth[str(image)]
        said = vocabulary.objects(caption)
        rows.append(
            {
                "image_id": image,
                "mentions": said,
                "hallucinated": [name for name in said if name not in there],
                "found": sorted(there & set(said)),
                "missed": sorted(there - set(said)),
            }
        )
    if not rows:
        raise BadInput("There are no captions to measure. Give at least one.")
    mentions = sum(len(row["mentions"]) for row in rows)
    wrong = sum(len(row["hallucinated"]) for row in rows)
    found = sum(len(row["found"]) for row in rows)
    return {
        "chair_i": _share(wrong, mentions),
        "chair_s": _share(sum(bool(row["hallucinated"]) for row in rows), len(rows)),
        "recall": _share(found, found + sum(len(row["missed"]) for row in rows)),
        "captions": len(rows),
        "mentions": mentions,
        "hallucinated": wrong,
        "rows": rows,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
