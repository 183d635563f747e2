"""Settings of the vl-lens verbs and the claims its miniature tests. Defaults are the paper's, for LLaVA-1.5-7B."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gnomon.core.claims import Claim
from gnomon.core.config import Positional, check
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.study import Miniature

PAPER = (
    "Interpreting and Editing Vision-Language Representations to Mitigate Hallucinations, arXiv 2410.02762"
)

PRESETS = {"none": None, "llava-1.5": 50}
"""Preset -> how many largest logits of each place the published code keeps for that model; None for all."""


@dataclass(frozen=True, kw_only=True)
class _Seeing(LoadConfig):
    """Images, model and prompt, for verbs that show images to a model."""

    images: Positional[str]
    """An image, a folder of images, or a JSONL file of rows with "image" (a path beside the file) and, if wanted, "image_id"."""
    model: str
    """A vision-language model: a folder or a hub id."""
    prompt: str = "Write a detailed description."
    """The question about the image."""
    family: Path | None = None
    """A JSON or YAML table of where the model keeps its parts, for one in which they are not found; see docs/models.md."""
    batch_size: int = 8
    """Images at once, and between two places at which an interrupted run goes on."""
    too_long: Literal["skip", "error"] = "skip"
    """Images that take, with the prompt and a caption from the list, more tokens than the model reads. skip: left out, listed and
    counted; error: the run ends. Nothing is cut, since a cut would take away image tokens."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.batch_size >= 1, "batch_size", ">= 1", self.batch_size)


@dataclass(frozen=True, kw_only=True)
class _Writing(_Seeing):
    """Captions, for verbs that have some written."""

    beams: int = 5
    """Beams of the search; 1 takes the likeliest token at every step."""
    max_new_tokens: int = 512
    """Longest caption, in tokens."""
    synonyms: Path | None = None
    """Objects and the words for them: a line per object, its name first, commas between; or the CHAIR vocabulary in JSON.
    None: the 80 names of COCO."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.beams >= 1, "beams", ">= 1", self.beams)
        check(self.max_new_tokens >= 1, "max_new_tokens", ">= 1", self.max_new_tokens)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How image tokens are read as words."""

    lens: Literal["raw", "norm"] = "raw"
    """raw: the residual stream goes straight into the output embedding, as in the paper; norm: through the final norm first."""
    preset: Literal["none", "llava-1.5"] = "none"
    """llava-1.5: only the 50 likeliest words of each place count, as in the paper's code for that model; overruled by topk."""
    topk: int | None = None
    """Only so many likeliest words of each place count; all others get 0. None: as the preset says."""
    pieces: Literal["max", "first", "mean"] = "max"
    """The score of a word of several tokens: that of the highest, of the first, or their mean."""
    layers: tuple[int, ...] = ()
    """Layers to read, 0 (embeddings) to L. Empty: all."""

    def __post_init__(self) -> None:
        check(self.topk is None or self.topk >= 1, "read.topk", ">= 1", self.topk)
        check(len(set(self.layers)) == len(self.layers), "read.layers", "different numbers", self.layers)

    @property
    def kept(self) -> int | None:
        """Likeliest words of each place that count; None for all."""
        return self.topk if self.topk is not None else PRESETS[self.preset]


@dataclass(frozen=True, kw_only=True)
class Editing:
    """Where and how strongly words are erased."""

    text_layer: int = 21
    """l_T: the layer whose vector stands for a word; 0 is the plain embedding."""
    edit_layer: int = 19
    """l_I: the block, counted from 0, behind which image tokens are edited."""
    alpha: float = 3.5
    """Strength: 1 leaves nothing of the word's direction, more pushes past it."""
    joint: bool = False
    """Project several words out together rather than one after another."""

    def __post_init__(self) -> None:
        check(self.text_layer >= 0, "edit.text_layer", ">= 0", self.text_layer)
        check(self.edit_layer >= 0, "edit.edit_layer", ">= 0", self.edit_layer)
        check(self.alpha > 0, "edit.alpha", "> 0", self.alpha)


@dataclass(frozen=True, kw_only=True)
class Caption(_Writing):
    """Captions of images."""


@dataclass(frozen=True, kw_only=True)
class Lens(_Seeing):
    """How strongly and where the image tokens carry words, layer by layer."""

    words: tuple[str, ...] = ()
    """The words to look for, one or more."""
    read: Reading = Reading()
    """How image tokens are read."""
    shown: int = 6
    """Images that the report's page lets one explore."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _words(self.words)
        check(self.shown >= 0, "shown", ">= 0", self.shown)


@dataclass(frozen=True, kw_only=True)
class Detect(_Writing):
    """Objects in captions that the image tokens do not support."""

    objects: tuple[Path, ...] = ()
    """What is in the images, to measure against: instances_*.json, captions_*.json or {image id: [names]}."""
    threshold: float = 0.1
    """Objects with less internal confidence than this are reported as not supported, 0..1."""
    read: Reading = Reading()
    """How image tokens are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.threshold <= 1, "threshold", "in 0..1", self.threshold)


@dataclass(frozen=True, kw_only=True)
class Erase(_Writing):
    """Captions before and after words are erased from the image tokens."""

    words: tuple[str, ...] = ()
    """The words to erase, one or more."""
    prompt: str = "Give a detailed description."
    """The question about the image."""
    edit: Editing = Editing()
    """Where and how strongly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _words(self.words)


@dataclass(frozen=True, kw_only=True)
class Mitigate(_Writing):
    """Captions without the objects that the image tokens do not support, found and erased without ground truth."""

    prompt: str = "Give a detailed description."
    """The question about the image."""
    threshold: float = 0.1
    """Objects with less internal confidence than this are erased, 0..1."""
    iterations: int = 1
    """How often to look again at the new caption, at most."""
    read: Reading = Reading()
    """How image tokens are read."""
    edit: Editing = Editing()
    """Where and how strongly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.threshold <= 1, "threshold", "in 0..1", self.threshold)
        check(self.iterations >= 1, "iterations", ">= 1", self.iterations)


@dataclass(frozen=True, kw_only=True)
class Segment(_Seeing):
    """Masks of what a word names."""

    word: str
    """What to find."""
    threshold: str = "mean"
    """Cells above it belong to the mask: mean, otsu, a number in 0..1, or a quantile such as q0.8."""

    read: Reading = Reading()
    """How image tokens are read."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.word.strip()), "word", "a word", self.word)


@dataclass(frozen=True, kw_only=True)
class Sweep(_Writing):
    """The setting that erases most hallucinated objects and few others, from images whose objects are known."""

    objects: tuple[Path, ...] = ()
    """What is in the images, one or more of instances_*.json, captions_*.json or {image id: [names]}."""
    prompt: str = "Give a detailed description."
    """The question about the image."""
    text_layers: tuple[int, ...] = (2, 8, 15, 21, 27)
    """Values of l_T to try."""
    edit_layers: tuple[int, ...] = (1, 7, 13, 19, 25)
    """Values of l_I to try."""
    alphas: tuple[float, ...] = (1.5, 2.5, 3.5)
    """Strengths to try."""
    mentions: int = 200
    """Mentions of each kind to erase, hallucinated and correct, one at a time."""
    bound: float = 0.05
    """Share of the other correct objects that a setting may lose."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("text_layers", 0), ("edit_layers", 0)):
            values = getattr(self, name)
            check(bool(values) and min(values) >= least, name, f"numbers >= {least}", values)
        check(bool(self.alphas) and min(self.alphas) > 0, "alphas", "numbers > 0", self.alphas)
        check(self.mentions >= 1, "mentions", ">= 1", self.mentions)
        check(0 <= self.bound <= 1, "bound", "in 0..1", self.bound)


@dataclass(frozen=True, kw_only=True)
class Chair:
    """CHAIR: how often captions name objects that are not in the image."""

    captions: Positional[str]
    """JSONL with an image id and a caption on every line, or the folder of a caption run."""
    objects: tuple[Path, ...] = ()
    """What is in the images, one or more of instances_*.json, captions_*.json or {image id: [names]}."""
    synonyms: Path | None = None
    """Objects and the words for them: a line per object, its name first, commas between; or the CHAIR vocabulary in JSON.
    None: the 80 names of COCO."""
    id_key: str = "image_id"
    """The column that holds the image id."""
    caption_key: str = "caption"
    """The column that holds the caption."""


@dataclass(frozen=True, kw_only=True)
class Mini(Miniature):
    """The miniature: a small LLaVA aligned in two stages on scenes whose objects are known."""


def _words(words: tuple[str, ...]) -> None:
    check(all(word.strip() for word in words), "words", "words that are not empty", words)


CLAIMS = (
    Claim(
        "Internal confidence tells hallucinated mentions better than the output probability does",
        f"{PAPER}: hallucination detection",
        "AUC of hallucinated mentions: internal confidence >= output probability",
        margin=0.03,
    ),
    Claim(
        "Internal confidence tells hallucinated mentions",
        f"{PAPER}: hallucination detection",
        "AUC of hallucinated mentions: internal confidence >= 0.65",
    ),
    Claim(
        "Image tokens say where an object is, without a word of supervision about places",
        f"{PAPER}: zero-shot segmentation",
        "mIoU: heat map >= 0.35",
    ),
    Claim(
        "Erasing removes at least 35 % of hallucinated mentions",
        f"{PAPER}: hallucination reduction",
        "removed: hallucinated >= 0.35",
    ),
    Claim(
        "Other objects stay in the caption",
        f"{PAPER}: hallucination reduction",
        "kept: hallucinated >= 0.9",
    ),
    Claim(
        "A random direction of the same length removes no more than a third as many",
        "control: the edit is not mere damage",
        "removed less 3 x the random direction's: hallucinated >= 0",
    ),
    Claim(
        "Correctly mentioned objects are harder to erase than hallucinated ones",
        f"{PAPER}: correctly mentioned objects",
        "removed: hallucinated > correct",
    ),
)
"""What the miniature tests; the thresholds are the specification's."""
