"""How a model is loaded, shared by every verb that loads one. Imports nothing heavy: the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from gnomon.core.config import check

Quantization = Literal["none", "bnb-8bit", "bnb-4bit", "torchao-int8", "torchao-int4"]


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """How a model is loaded."""

    LOOSE: ClassVar[tuple[str, ...]] = ("device", "device_map")

    device: str = "auto"
    """"auto" takes a GPU when there is one; else a torch device, such as cuda:1."""
    dtype: str = "auto"
    """Number type of the weights; "auto" keeps the checkpoint's."""
    device_map: str | None = None
    """Spread the layers over all GPUs, then main memory: auto, balanced, balanced_low_0 or sequential. None: one device."""
    attention: str = "auto"
    """Implementation of attention: eager, sdpa, flash_attention_2 ... as transformers has it; "auto" is the library's choice."""
    quantize: Quantization = "none"
    """Weights in 8 or 4 bits, by bitsandbytes or torchao; such a model is read and given adapters, not trained itself."""
    adapter: str | None = None
    """A PEFT adapter on top of the model: a folder or a run. None: what the model's own folder says."""
    revision: str | None = None
    """Branch, tag or commit of a hub id. A token for the hub is read from HF_TOKEN alone and recorded nowhere."""

    def check_trainable(self, is_full: bool) -> None:
        """Refuse weights in 8 or 4 bits where a model's own weights are trained: what is rounded to them takes no small step.

        Args:
            is_full: whether the model itself is trained, and not adapters or blocks beside it.
        """
        check(
            not is_full or self.quantize == "none",
            "quantize",
            "none where the model's own weights are trained; adapters can be trained on one in 8 or 4 bits",
            self.quantize,
        )

    def __post_init__(self) -> None:
        maps = (None, "auto", "balanced", "balanced_low_0", "sequential")
        check(
            self.device_map in maps,
            "device_map",
            "auto, balanced, balanced_low_0, sequential or None",
            self.device_map,
        )
        kinds = get_args(Quantization)
        check(self.quantize in kinds, "quantize", f"one of {', '.join(kinds)}", self.quantize)
        check(bool(self.attention), "attention", 'a name such as "sdpa", or "auto"', self.attention)
        check(
            self.device_map is None or self.device == "auto",
            "device",
            "auto where device_map is set",
            self.device,
        )


HOW = "Make one of a text model with gnomon.core.models.new_scorer, train it on pairs or labels, and save it with save_scorer."
"""How a scorer comes to be, for messages."""

# kind -> (transformers' table of classes, its loader, words for a message)
KINDS = {
    "causal": ("MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", "AutoModelForCausalLM", "a causal text model"),
    "seq2seq": (
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
        "AutoModelForSeq2SeqLM",
        "a sequence-to-sequence text model",
    ),
    "vlm": (
        "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
        "AutoModelForImageTextToText",
        "a vision-language model",
    ),
    "dual": (
        "MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForZeroShotImageClassification",
        "a model with an image and a text encoder, such as CLIP or SigLIP",
    ),
    "masks": (
        "MODEL_FOR_MASK_GENERATION_MAPPING_NAMES",
        "AutoModelForMaskGeneration",
        "a model that draws masks from prompts, such as SAM",
    ),
    "detector": (
        "MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES",
        "AutoModelForZeroShotObjectDetection",
        "an open-vocabulary detector, such as OWLv2 or Grounding DINO",
    ),
    "image": (
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForImageClassification",
        "a classifier of images",
    ),
    "scorer": (
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "AutoModelForSequenceClassification",
        "a scorer: a sequence classifier with one output",
    ),
    "encoder": ("MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES", "AutoModelForTextEncoding", "a text encoder"),
}
