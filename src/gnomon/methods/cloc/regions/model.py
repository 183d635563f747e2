"""A dual encoder with a Prompter: one encoding of an image, then any box of it as an embedding and any phrase as a box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from gnomon.core.files import write_json
from gnomon.core.models import load_model
from gnomon.core.models.images.processors import load_processor
from gnomon.core.models.load import LoadConfig, model_at
from gnomon.core.rng import Rng, seeded
from gnomon.core.vision.boxes import Form, Unit, clean, convert
from gnomon.core.vision.frames import Frame
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.cloc.regions.prompter import Prompter
from gnomon.methods.cloc.regions.towers import Seen, Towers, unit
from gnomon.methods.cloc.training.options import Shape

if TYPE_CHECKING:
    from PIL.Image import Image

WEIGHTS, SETTINGS = "prompter.safetensors", "cloc_config.json"
"""What stands beside the files of the dual encoder."""


@dataclass
class ClocImage:
    """Images that were encoded once."""

    embeds: Float[Tensor, "B D"]
    """Unit embeddings of the whole images."""
    tokens: Float[Tensor, "B T d"]
    frames: list[Frame]
    """What each underwent, and the way back."""


@dataclass
class Grounded:
    """Where a phrase is."""

    box: tuple[float, float, float, float]
    """Corners in pixels of the original, within it."""
    score: float
    """Cosine of the phrase and the region that the box encloses; see `ClocModel.threshold`."""
    is_there: bool
    """Whether the score reaches the threshold; True where there is none."""


@dataclass
class Outputs:
    """What the losses of a batch are taken from; vectors have length 1."""

    images: Float[Tensor, "B D"]
    captions: Float[Tensor, "B D"]
    regions: Float[Tensor, "R D"]
    texts: Float[Tensor, "R D"]
    boxes: Float[Tensor, "R 4"]
    """Predicted from the texts."""


class ClocModel(nn.Module):
    """A CLIP or SigLIP of transformers and a Prompter.

    Args:
        model: the dual encoder.
        processor: its processor.
        prompter: a trained one; None: a fresh one.
        shape: of a fresh one.
        rng: where a fresh one's weights are drawn.
        threshold: cosine below which a phrase is "not there"; None: not chosen.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        prompter: Prompter | None = None,
        *,
        shape: Shape | None = None,
        rng: Rng | None = None,
        threshold: float | None = None,
    ):
        super().__init__()
        self.towers = Towers(model, processor)
        if prompter is None:
            with seeded((rng or Rng(0)).child("prompter")):
                prompter = Prompter(self.towers.width, self.towers.joint, shape)
        self.model, self.prompter, self.threshold = model, prompter, threshold
        if prompter.shape.class_token and not self.towers.n_extra:
            raise ModelMismatch(f"{type(model).__name__} has no class token. Leave --shape.class-token out.")

    @property
    def processor(self) -> Any:
        """Of the dual encoder."""
        return self.towers.processor

    def see(self, pixels: Float[Tensor, "B 3 S S"]) -> Seen:
        """Embeddings and tokens, with a graph where gradients are on."""
        return self.towers.see(pixels, class_token=self.prompter.shape.class_token)

    @torch.no_grad()
    def encode_image(self, images: Sequence[Image]) -> ClocImage:
        """Images, each encoded once.

        Args:
            images: upright, RGB.
        """
        self.eval()
        pixels, frames = self.towers.pixels(images)
        seen = self.see(pixels)
        return ClocImage(unit(seen.embeds), seen.tokens, frames)

    @torch.no_grad()
    def encode_regions(
        self,
        image: ClocImage,
        boxes: Sequence[Any],
        format: Form = "xyxy",
        normalized: bool = False,
    ) -> list[Float[Tensor, "k D"]]:
        """Unit embeddings of the boxes of each image.

        Args:
            image: of `encode_image`.
            boxes: [k, 4] of each image, on the original.
            format: of the boxes.
            normalized: whether they are in shares of the original's width and height, not in pixels.

        Raises:
            BadInput: a box cannot be used; the message names its image and number.
        """
        units: tuple[Unit, Unit] = ("unit" if normalized else "pixels", "pixels")
        results = []
        for i, (own, frame) in enumerate(zip(boxes, image.frames, strict=True)):
            corners = convert(own, format, "xyxy", units=units, size=frame.size)
            cleaned = clean(corners, frame.size)
            if cleaned.dropped:
                number, reason = next(iter(cleaned.dropped.items()))
                raise BadInput(
                    f"Image {i}, box {number}: {reason}. Boxes are left, top, right, bottom on an image of {frame.size}."
                )
            shares = self.shares(frame, cleaned.boxes, image.tokens)
            if not len(shares):
                results.append(image.embeds.new_zeros(0, self.prompter.joint))
                continue
            prompts = self.prompter.box_prompts(shares)
            results.append(unit(self.prompter(prompts[None], image.tokens[i : i + 1])[0]))
        return results

    def forward(self, batch: Mapping[str, Tensor]) -> Outputs:
        """What the losses need of a batch of `ClocBatches`; all that is trained runs in here, also where there are no regions."""
        if "tokens" in batch:
            seen = Seen(batch["embeds"], batch["tokens"])
            captions, texts = batch["captions"], batch["texts"]
        else:
            seen = self.see(batch["pixels"])
            captions = self.towers.read(_ids(batch, "caption"))
            own = _ids(batch, "text")
            texts = self.towers.read(own) if own else captions[:0]
        regions = self.prompter.regions(seen.tokens, batch["boxes"], batch["image_of"], unit(texts))
        return Outputs(unit(seen.embeds), unit(captions), *regions)

    def shares(self, frame: Frame, boxes: Any, like: Tensor) -> Float[Tensor, "k 4"]:
        """Boxes of an original as shares of the padded square that the network sees."""
        inside = frame.into(boxes) / self.towers.side
        return torch.tensor(inside, dtype=torch.float32, device=like.device)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Unit embeddings of texts."""
        self.eval()
        return self.towers.texts(texts)

    @torch.no_grad()
    def ground(self, image: ClocImage, phrases: Sequence[Sequence[str]]) -> list[list[Grounded]]:
        """Where each phrase is on its image; a box comes back for every phrase, also for what is not there: see its score.

        Args:
            image: of `encode_image`.
            phrases: of each image.
        """
        results: list[list[Grounded]] = []
        for i, (own, frame) in enumerate(zip(phrases, image.frames, strict=True)):
            if not own:
                results.append([])
                continue
            texts = self.encode_text(own)
            tokens = image.tokens[i : i + 1]
            shares = self.prompter.boxes_of(self.prompter(self.prompter.phrase_prompts(texts)[None], tokens))[
                0
            ]
            low, high = (
                torch.minimum(shares[:, :2], shares[:, 2:]),
                torch.maximum(shares[:, :2], shares[:, 2:]),
            )
            boxes = frame.back((torch.cat([low, high], 1) * self.towers.side).cpu().numpy())
            limits = [*frame.size, *frame.size]
            boxes = np.clip(boxes, 0, limits)
            regions = unit(
                self.prompter(self.prompter.box_prompts(self.shares(frame, boxes, tokens))[None], tokens)[0]
            )
            scores = (regions * texts).sum(-1).tolist()
            results.append(
                [
                    Grounded((b[0], b[1], b[2], b[3]), s, self.threshold is None or s >= self.threshold)
                    for b, s in zip(boxes.tolist(), scores, strict=True)
                ]
            )
        return results

    def classify_regions(
        self, image: ClocImage, boxes: Sequence[Any], class_names: Sequence[str], template: str = "{}"
    ) -> list[NDArray[np.float64]]:
        """Cosine of each box of each image with each class, [k, C].

        Args:
            image: of `encode_image`.
            boxes: [k, 4] of each image, corners in pixels of the original.
            class_names: as they stand.
            template: puts a name into a sentence.
        """
        names = self.encode_text([template.format(name) for name in class_names])
        return [(rows @ names.T).double().cpu().numpy() for rows in self.encode_regions(image, boxes)]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a checkpoint that plain transformers opens (`CLIPModel`, `CLIPVisionModel`, ...), and the Prompter beside it."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = self.model.config
        if hasattr(self.model, "visual_projection"):  # or the classes with a projection do not open it
            config.vision_config.projection_dim = config.text_config.projection_dim = config.projection_dim
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        weights = {
            name: value.detach().contiguous().cpu() for name, value in self.prompter.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS)
        settings = {
            "shape": asdict(self.prompter.shape), "width": self.prompter.width, "joint": self.prompter.joint,
            "threshold": self.threshold, "frame": "letterbox",
        }  # fmt: skip
        write_json(folder / SETTINGS, settings)


def _ids(batch: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}_"): value for key, value in batch.items() if key.startswith(f"{name}_")}


def load_dual(ref: str, load: LoadConfig | None = None, *, asked_by: str = "cloc") -> tuple[Any, Any]:
    """A dual encoder and its processor."""
    return load_model(ref, load, kind="dual", asked_by=asked_by), load_processor(ref)


def load_cloc(
    ref: str,
    load: LoadConfig | None = None,
    *,
    shape: Shape | None = None,
    rng: Rng | None = None,
    asked_by: str = "cloc",
) -> ClocModel:
    """A saved model; of a plain CLIP or SigLIP, one with a fresh Prompter.

    Args:
        ref: a folder, a run of `train`, or a hub id.
        load: how it is loaded.
        shape: of a fresh Prompter; a saved one has its own.
        rng: where a fresh Prompter's weights are drawn.
        asked_by: for messages.

    Raises:
        BadInput: nothing is there, or the Prompter's file is missing.
        ModelMismatch: it is no dual encoder with such towers, or the Prompter is of another width.
    """
    model, processor = load_dual(ref, load, asked_by=asked_by)
    folder = Path(model_at(ref))
    file = folder / SETTINGS
    if not file.is_file():
        return ClocModel(model, processor, shape=shape, rng=rng).eval()
    settings = json.loads(file.read_text("utf-8"))
    if not (folder / WEIGHTS).is_file():
        raise BadInput(f"{folder} has {SETTINGS} and no {WEIGHTS}. Copy the folder whole.")
    from safetensors.torch import load_file

    prompter = Prompter(settings["width"], settings["joint"], Shape(**settings["shape"]))
    prompter.load_state_dict(load_file(folder / WEIGHTS))
    towers = Towers(model, processor)
    if (towers.width, towers.joint) != (prompter.width, prompter.joint):
        raise ModelMismatch(
            f"{folder}: the Prompter is for tokens of {prompter.width} and embeddings of {prompter.joint}; the model has "
            f"{towers.width} and {towers.joint}."
        )
    device = next(model.parameters()).device
    return ClocModel(model, processor, prompter.to(device), threshold=settings["threshold"]).eval()


def has_prompter(ref: str) -> bool:
    """Whether a trained Prompter stands beside a model."""
    return (Path(model_at(ref)) / SETTINGS).is_file()
