"""CHAIR: the share of named objects that are not in the image; and the ground truth, from COCO's files or a plain list."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.objects import Vocabulary

_log = logging.getLogger(__name__)


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
        mentioned = vocabulary.objects(caption)
        rows.append(
            {
                "image_id": image,
                "mentions": mentioned,
                "hallucinated": [name for name in mentioned if name not in there],
                "found": sorted(there & set(mentioned)),
                "missed": sorted(there - set(mentioned)),
            }
        )
    if not rows:
        raise BadInput("There are no captions to measure. Give at least one.")
    mentions = sum(len(row["mentions"]) for row in rows)
    wrong = sum(len(row["hallucinated"]) for row in rows)
    hits = sum(len(row["found"]) for row in rows)
    return {
        "chair_i": _share(wrong, mentions),
        "chair_s": _share(sum(bool(row["hallucinated"]) for row in rows), len(rows)),
        "recall": _share(hits, hits + sum(len(row["missed"]) for row in rows)),
        "captions": len(rows),
        "mentions": mentions,
        "hallucinated": wrong,
        "rows": rows,
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


# Ground truth.

Objects = dict[str, set[str]]
"""Image id, as text -> names of the objects in it."""


def read_objects(paths: Iterable[Path], vocabulary: Vocabulary) -> Objects:
    """Objects of every image: the union of what the files say.

    Args:
        paths: any of `instances_*.json` (categories of the boxes), `captions_*.json` (what the reference captions mention),
            or one object `{image id: [names]}`.
        vocabulary: the words for objects. What it does not know is left out with a warning, since no caption can be found to
            mention it.

    Raises:
        BadInput: a file cannot be read or is none of these, or the vocabulary knows none of its names.
    """
    objects: Objects = {}
    for path in paths:
        unknown, total = Counter[str](), 0

        def name_of(text: str, unknown: Counter[str] = unknown) -> set[str]:
            name = vocabulary.name(text)
            unknown.update([text] if name is None else [])
            return set() if name is None else {name}

        for image, names in _objects(path, vocabulary, name_of):
            objects.setdefault(image, set()).update(names)
            total += len(names)
        _report_unknown(path, unknown, total)
    return objects


def _report_unknown(path: Path, unknown: Counter[str], total: int) -> None:
    """Warn of names outside the vocabulary; where it has none of them, the files do not belong together."""
    if not unknown:
        return
    some = ", ".join(f'"{name}"' for name, _ in unknown.most_common(5))
    if not total:
        raise BadInput(
            f"{path}: none of its names is in the vocabulary; they are such as {some}. Give the --synonyms that belong to it."
        )
    _log.warning("%s: %s names are not in the vocabulary and left out, such as %s.", path, len(unknown), some)


def _objects(
    path: Path, vocabulary: Vocabulary, name_of: Callable[[str], set[str]]
) -> Iterator[tuple[str, set[str]]]:
    content = _load(path)
    if "annotations" not in content:
        yield from _from_lists(path, content, name_of)
        return
    try:
        # Images without a box belong to the ground truth as well: nothing is in them.
        yield from ((str(image["id"]), set()) for image in content["images"])
        if "categories" in content:
            names = {kind["id"]: name_of(kind["name"]) for kind in content["categories"]}
            for box in content["annotations"]:
                yield str(box["image_id"]), names[box["category_id"]]
        else:
            for reference in content["annotations"]:
                yield str(reference["image_id"]), set(vocabulary.objects(reference["caption"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: not a COCO file of boxes or captions ({type(error).__name__}: {error}). "
            "Give instances_*.json, captions_*.json or {image id: [names]}."
        ) from None


def _from_lists(
    path: Path, content: Mapping[str, Any], name_of: Callable[[str], set[str]]
) -> Iterator[tuple[str, set[str]]]:
    for image, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadInput(f'{path}: image "{image}" needs a list of names; got {type(names).__name__}.')
        yield image, set().union(*(name_of(name) for name in names))


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: must hold one JSON object; got {type(content).__name__}.")
    return content
