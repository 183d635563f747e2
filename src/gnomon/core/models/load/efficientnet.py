"""EfficientNet-Lite, an image classifier without squeeze-and-excitation, as a model of transformers.

Source: Tan and Le, EfficientNet (arXiv 1905.11946), table 1, in the "lite" form of its authors: ReLU6 in the place of swish, no
squeeze-and-excitation. transformers' own EfficientNet has both and cannot hold these weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

MODEL_TYPE = "efficientnet_lite"

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride of the first, expansion, channels out: table 1 of the paper, which is Lite0 as it stands."""

STEM, HEAD, EPS = 32, 1280, 1e-3


class EfficientNetLiteConfig(PreTrainedConfig):
    """Sizes of an EfficientNet-Lite.

    Args:
        image_size: side of an image in pixels; images are cut to its centre after the short side was made 8/7 of it.
        num_labels: number of classes.
    """

    model_type = MODEL_TYPE

    def __init__(self, image_size: int = 224, num_labels: int = 1000, **more: Any):
        self.image_size = image_size
        super().__init__(**({"num_labels": num_labels} | more))


class EfficientNetLite(PreTrainedModel):
    """The classifier; `features` gives what its last layer reads."""

    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__(config)
        self.stem = _Convolution(3, STEM, 3, 2)
        blocks, width = [], STEM
        for repeats, kernel, stride, expansion, out in STAGES:
            for i in range(repeats):
                blocks.append(_Block(width, out, kernel, stride if i == 0 else 1, expansion))
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(width, HEAD, 1, 1)
        self.classifier = nn.Linear(HEAD, int(config.num_labels or 0))
        self.post_init()

    def features(self, pixel_values: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """The mean of the last feature map, 1,280 numbers an image.

        Args:
            pixel_values: colours (v - 127) / 128 with v in 0..255, as `image_processor` gives them.
        """
        hidden = self.stem(pixel_values)
        for block in self.blocks:
            hidden = block(hidden)
        means: Tensor = self.head(hidden).mean((2, 3))
        return means

    def forward(self, pixel_values: Float[Tensor, "B 3 S S"]) -> ImageClassifierOutputWithNoAttention:
        """The logits of every class; see `features`."""
        return ImageClassifierOutputWithNoAttention(logits=self.classifier(self.features(pixel_values)))

    def load_published(self, weights: Mapping[str, Tensor]) -> None:
        """Take the published weights, which have the names of the TensorFlow release.

        Raises:
            RuntimeError: a name or a shape is another one.
        """
        self.load_state_dict({_own_name(name): tensor for name, tensor in weights.items()}, strict=True)


class _Convolution(nn.Module):
    """Convolution, batch norm and, but for the last of a block, ReLU6."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, *, groups: int = 1, is_linear: bool = False
    ):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(after, eps=EPS)
        self.is_linear = is_linear

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = self.norm(self.conv(_padded(hidden, self.conv.kernel_size[0], self.conv.stride[0])))
        return hidden if self.is_linear else nn.functional.relu6(hidden)


class _Block(nn.Module):
    """Widen, filter each channel by itself, narrow; the input is added where the shapes agree."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = before * expansion
        self.expand = _Convolution(before, wide, 1, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _Convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _Convolution(wide, after, 1, 1, is_linear=True)
        self.adds = stride == 1 and before == after

    def forward(self, hidden: Tensor) -> Tensor:
        written: Tensor = self.project(self.depthwise(self.expand(hidden)))
        return written + hidden if self.adds else written


def _padded(hidden: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same" padding: the output has ceil(size / stride) places; an odd pixel goes to the right and below."""
    sides = []
    for size in (hidden.shape[-1], hidden.shape[-2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    return nn.functional.pad(hidden, sides)


_OUTER = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
_INNER = {
    "_expand_conv": "expand.conv",
    "_depthwise_conv": "depthwise.conv",
    "_project_conv": "project.conv",
}
_NORMS = ("expand.norm", "depthwise.norm", "project.norm")


def _own_name(name: str) -> str:
    """Our name of a published weight: `_blocks.3._bn0.bias` -> `blocks.3.expand.norm.bias`."""
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([_OUTER[first], *rest])
    number, part, *rest = rest
    own = _NORMS[int(part.removeprefix("_bn"))] if part.startswith("_bn") else _INNER[part]
    return ".".join(["blocks", number, own, *rest])


def image_processor(size: int) -> Any:
    """What prepares images for a model of so many pixels a side: short side 8/7 of that, centre cut, (v - 127) / 128."""
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(
        size={"shortest_edge": size * 8 // 7},
        crop_size={"height": size, "width": size},
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )


def register() -> None:
    """Let the `Auto` classes of transformers open such a folder."""
    from transformers import AutoConfig, AutoModelForImageClassification

    AutoConfig.register(MODEL_TYPE, EfficientNetLiteConfig, exist_ok=True)
    AutoModelForImageClassification.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)


__all__ = ["EfficientNetLite", "EfficientNetLiteConfig", "image_processor", "register"]
