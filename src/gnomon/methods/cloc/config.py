"""Settings of the cloc verbs and the claims its miniature tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, check
from gnomon.core.data.config import Shards
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature, check_parts
from gnomon.core.train.config import TrainConfig
from gnomon.methods.cloc.training.options import RegionLoss, Shape

PAPER = "CLOC, arXiv 2410.02746"

Format = Literal["xyxy", "xywh", "cxcywh"]


@dataclass(frozen=True, kw_only=True)
class Data(LoadConfig):
    """Images and their regions."""

    source: Positional[str]
    """Images: a folder, a JSONL list (image, caption, regions, or GRIT's ref_exps/noun_chunks), a COCO file."""
    regions: str | None = None
    """A COCO file, a folder of YOLO rows or class-index masks, Visual Genome's regions, JSONL; None: the list's own."""
    names: str | None = None
    """Names of classes by number, for YOLO rows and masks: a file, one a line, or YAML with names."""
    limit: int | None = None
    """Only so many images. None: all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.limit is None or self.limit >= 1, "limit", ">= 1 or None", self.limit)


def _training() -> TrainConfig:
    return TrainConfig(
        lr=5e-4, batch_size=256, warmup_steps=2000, schedule="cosine", weight_decay=0.2, reduction="sum"
    )


@dataclass(frozen=True, kw_only=True)
class Train(Data):
    """Train a CLIP or SigLIP with region texts: a drop-in checkpoint, and a Prompter beside it."""

    model: str
    """A CLIP or SigLIP of transformers, trained or not, or a folder of this verb."""
    freeze: tuple[Literal["vision", "text"], ...] = ()
    """Towers that stay as they are. Both: the Prompter alone is trained, on images and texts that are encoded once."""
    shape: Shape = field(default_factory=Shape)
    """Of a fresh Prompter."""
    loss: RegionLoss = field(default_factory=RegionLoss)
    """The region terms."""
    train: TrainConfig = field(default_factory=_training)
    """The training; the paper has batches of 32,768."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_trainable(len(self.freeze) < 2)
        check(
            self.train.micro_batch_size is None, "train.micro_batch_size", "None: the loss compares all of a batch",
            self.train.micro_batch_size,
        )  # fmt: skip
        check(not self.train.packing, "train.packing", "off: there are no texts to pack", self.train.packing)
        check(self.train.lora_rank is None, "train.lora_rank", "None; see --freeze", self.train.lora_rank)
        check(self.train.eval_share == 0, "train.eval_share", "0; measure with eval", self.train.eval_share)


@dataclass(frozen=True, kw_only=True)
class Apply(Data):
    """Embed boxes of images, and find phrases in them."""

    model: str
    """A folder of train."""
    boxes: str | None = None
    """JSONL rows with image_id and box; None: the regions of --regions, or the whole image."""
    format: Format = "xyxy"
    """Of the boxes in --boxes."""
    phrases: tuple[str, ...] = ()
    """Looked for in every image."""
    npz: bool = False
    """Write embeddings.npz beside the safetensors."""
    batch_size: int = 16
    """Images encoded at once."""

    LOOSE: ClassVar[tuple[str, ...]] = (*LoadConfig.LOOSE, "batch_size")

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)
        check(
            self.boxes is None or self.regions is None,
            "boxes",
            "left out where --regions is given",
            self.boxes,
        )


@dataclass(frozen=True, kw_only=True)
class Ground(LoadConfig):
    """Find phrases in images: a box for each, its score, and whether it is there."""

    source: Positional[str]
    """Images: one, a folder, or a JSONL list, whose rows may have phrases of their own."""
    model: str
    """A folder of train."""
    phrases: tuple[str, ...] = ()
    """Looked for in every image."""


@dataclass(frozen=True, kw_only=True)
class Eval(Data):
    """Measure region recognition, retrieval and grounding beside controls: shuffled boxes, crops, pooled tokens, the mean box."""

    model: str
    """A folder of train, or any CLIP or SigLIP."""
    crops: bool = True
    """Whether each box is also cut out and encoded, which takes an encoding a box."""
    store_threshold: bool = False
    """Whether the cosine from which a phrase is there, chosen on half of the phrases, is stored beside the model for ground."""

    LOOSE: ClassVar[tuple[str, ...]] = LoadConfig.LOOSE


@dataclass(frozen=True, kw_only=True)
class Label(Shards):
    """Make region texts from captions: phrases of a caption, and a detector that finds them (VESL)."""

    LOOSE: ClassVar[tuple[str, ...]] = Shards.LOOSE

    source: Positional[str]
    """Images with captions: a JSONL list, or any images with --captioner."""
    detector: str
    """An open-vocabulary detector of transformers, such as OWLv2 or Grounding DINO."""
    captioner: str | None = None
    """Writes the captions anew: any language model that sees, hf:FOLDER or an endpoint; None: the list's own."""
    threshold: float = 0.1
    """Score above which a box is kept."""
    most_phrases: int = 20
    """Of a caption, the first."""
    nested: Literal["keep", "longest", "greedy"] = "keep"
    """Phrases within longer ones: all stay, the longest alone, or none that overlaps an earlier one."""
    device: str = "auto"
    """Of the detector."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How the captioner is asked."""

    def __post_init__(self) -> None:
        Shards.__post_init__(self)
        check(0 <= self.threshold < 1, "threshold", "within [0, 1)", self.threshold)
        check(self.most_phrases >= 1, "most_phrases", ">= 1", self.most_phrases)


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: scenes of two-coloured squares; CLIP alone, the Prompter, its ablations, and RoI-Align at equal training."""

    parts: tuple[Literal["main", "context"], ...] = ("main", "context")
    """main: the replication; context: region captions that name the neighbour, where a prompter has a chance against RoI-Align."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parts(self.parts, ("main", "context"))


def _claim(
    text: str, source: str, compare: str, margin: float = 0.0, *, part: str = "main", required: bool = True
) -> Claim:
    return Claim(text, source, compare, margin, required, part)


_TABLE, _OURS = f"{PAPER}, table 1", "the specification"

CLAIMS = (
    _claim("Region recognition is far above CLIP's at equal training", _TABLE, "mAcc: prompter > clip", 0.3),
    _claim("Recognition reaches .65", _OURS, "mAcc: prompter >= 0.65"),
    _claim("Image retrieval stays within .03 of CLIP's", _TABLE, "image R@1: prompter >= clip", -0.03),
    _claim("Shuffled boxes cost it at least .30", "control", "lost by shuffled boxes: prompter >= 0.3"),
    _claim("The Prompter beats RoI-Align (70.1 against 67.1)", _TABLE, "mAcc: prompter > roi", required=False),
    _claim("Prompt tokens alone beat the mean over all tokens", _OURS, "mAcc: prompter > all tokens", required=False),
    _claim("It beats RoI-Align where the caption names the neighbour", _OURS, "mAcc, context: prompter > roi", part="context",
           required=False),
)  # fmt: skip
"""What the miniature tests."""
