"""What is in an image, from COCO's own files or from a plain list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gnomon.errors import BadInput
from gnomon.methods.vl_lens.objects import Vocabulary

Objects = dict[str, set[str]]
"""Image id, as text -> names of the objects in it."""


def read_objects(paths: Iterable[Path], vocabulary: Vocabulary) -> Objects:
    """Objects of every image: the union of what the files say.

    Args:
        paths: any of `instances_*.json` (categories of the boxes), `captions_*.json` (what the reference captions mention),
            or one object `{image id: [names]}`.
        vocabulary: the words for objects. What it does not know is left out, since no caption can be found to mention it.

    Raises:
        BadInput: a file cannot be read or is none of these.
    """
    found: Objects = {}
    for path in paths:
        for image, names in _objects(path, vocabulary):
            found.setdefault(image, set()).update(names)
    return found


def _objects(path: Path, vocabulary: Vocabulary) -> Iterator[tuple[str, set[str]]]:
    content = _load(path)
    if "annotations" not in content:
        yield from _from_lists(path, content, vocabulary)
        return
    try:
        # Images without a box belong to the ground truth as well: nothing is in them.
        yield from ((str(image["id"]), set()) for image in content["images"])
        if "categories" in content:
            names = {kind["id"]: vocabulary.name(kind["name"]) for kind in content["categories"]}
            for box in content["annotations"]:
                name = names[box["category_id"]]
                yield str(box["image_id"]), set() if name is None else {name}
        else:
            for reference in content["annotations"]:
                yield str(reference["image_id"]), set(vocabulary.objects(reference["caption"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path}: not a COCO file of boxes or captions ({type(error).__name__}: {error}). "
            "Give instances_*.json, captions_*.json or {image id: [names]}."
        ) from None


def _from_lists(
    path: Path, content: Mapping[str, Any], vocabulary: Vocabulary
) -> Iterator[tuple[str, set[str]]]:
    for image, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BadInput(f'{path}: image "{image}" needs a list of names; got {type(names).__name__}.')
        yield image, {known for name in names if (known := vocabulary.name(name)) is not None}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error}).") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path}: must hold one JSON object; got {type(content).__name__}.")
    return content
