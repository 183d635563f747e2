"""The detector, and the data step that labels images with the phrases of their captions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import torch

from gnomon.core.data.execute import Rejected
from gnomon.core.models import load_model
from gnomon.core.models.images.processors import load_processor
from gnomon.core.models.load import LoadConfig
from gnomon.core.vision.boxes import clean, iou
from gnomon.core.vision.outlines import Region
from gnomon.core.vision.rows import ImageRow, pictures_of
from gnomon.errors import BadInput
from gnomon.methods.cloc.labelling.phrases import phrases, thinned

if TYPE_CHECKING:
    from PIL.Image import Image

OVERLAP = 0.5
"""IoU from which a box counts as the place of an earlier one, where boxes are thinned greedily."""


@dataclass
class Detector:
    """An open-vocabulary detector of transformers, such as OWLv2 or Grounding DINO.

    Args:
        ref: a folder or hub id.
        load: how it is loaded.

    Raises:
        ModelMismatch: it is none.
    """

    ref: str
    load: LoadConfig = field(default_factory=LoadConfig)
    n_queries: int = field(default=0, init=False)
    """Texts that were asked for."""

    def __post_init__(self) -> None:
        self.model = load_model(self.ref, self.load, kind="detector", asked_by="cloc label")
        self.processor = load_processor(self.ref)
        self.takes_sentence = (
            "input_ids" in inspect.signature(self.processor.post_process_grounded_object_detection).parameters
        )  # Grounding DINO reads its phrases as one text

    @torch.no_grad()
    def detect(self, image: Image, texts: Sequence[str], threshold: float) -> list[Region]:
        """Boxes with a score above the threshold, each with its best-scoring phrase, in pixels of the image.

        Args:
            image: upright, RGB.
            texts: phrases, all in one call.
            threshold: of the score.
        """
        if not texts:
            return []
        self.n_queries += len(texts)
        query: Any = ". ".join(texts) + "." if self.takes_sentence else [list(texts)]
        inputs = self.processor(
            text=query,
            images=image,
            return_tensors="pt",
            **({} if self.takes_sentence else {"padding": True}),
        )
        outputs = self.model(**inputs.to(self.model.device))
        size = [(image.height, image.width)]
        more = {"input_ids": inputs["input_ids"]} if self.takes_sentence else {"text_labels": [list(texts)]}
        (result,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=threshold, target_sizes=size, **more
        )
        labels = result.get("text_labels")
        cleaned = clean(result["boxes"].double().cpu().numpy(), image.size)
        scores = result["scores"].tolist()
        return [
            Region((box[0], box[1], box[2], box[3]), labels[i], scores[i])
            for box, i in zip(cleaned.boxes.tolist(), cleaned.kept, strict=True)
            if labels[i]
        ]


def greedy(regions: Sequence[Region]) -> list[Region]:
    """Regions by falling score, each that is not at the place of one that stays already."""
    kept: list[Region] = []
    for region in sorted(regions, key=lambda r: -(r.score or 0)):
        if not kept or float(iou(region.box, [r.box for r in kept]).max()) < OVERLAP:
            kept.append(region)
    return kept


@lru_cache(maxsize=1)
def _opened(ref: str, load: LoadConfig) -> Detector:
    return Detector(ref, load)


@dataclass(frozen=True)
class LabelStep:
    """A data step from captioned images to rows with regions. It holds names and numbers alone; each process opens the detector."""

    detector: str
    load: LoadConfig
    threshold: float
    most: int
    nested: Literal["keep", "longest", "greedy"]
    tagger: str

    def __call__(self, rows: Iterator[ImageRow]) -> Iterator[dict[str, Any] | Rejected]:
        """Rows in order; an image that cannot be read, or whose caption has no phrase, is rejected with its reason."""
        detector = _opened(self.detector, self.load)
        for row in rows:
            texts = phrases(row.caption or "", most=self.most)
            texts = thinned(texts, "longest" if self.nested == "longest" else "keep")
            try:
                if not texts:
                    raise BadInput(f'Image "{row.image_id}": its caption has no noun phrase.')
                (image,) = pictures_of([row])
            except BadInput as error:
                yield Rejected(str(error), {"image_id": row.image_id})
                continue
            regions = detector.detect(image, texts, self.threshold)
            if self.nested == "greedy":
                regions = greedy(regions)
            yield {
                "image_id": row.image_id, "image": row.path, "caption": row.caption, "phrases": texts, "width": image.width,
                "height": image.height,
                "regions": [{"box": list(r.box), "text": r.text, "score": r.score} for r in regions],
            }  # fmt: skip
