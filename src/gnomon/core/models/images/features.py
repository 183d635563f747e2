"""What a vision tower makes of images, kept by their content: a picture that stands in many texts goes through it once."""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gnomon.core.models.sampling.states import body

MOST_BYTES = 256 << 20
"""Features beyond this go, those first that were used longest ago."""
INSTEAD = "mm_encoder_outputs"
"""What the body of a model takes in place of pixels, in classes that can."""
PLAIN = {"last_hidden_state", "pooler_output", "hidden_states", "attentions"}
"""Parts of an output of which the language model reads only `pooler_output`, one tensor an image."""


class ImageFeatures:
    """Inputs in which pixels have become features.

    A model whose class takes no features, whose tower has more to say than one tensor an image, or that makes something else of
    features than of pixels, gets its pixels as they are.
    Weights that have changed since empty the store.

    Args:
        model: a vision-language model, with or without adapters.
        most_bytes: as in `MOST_BYTES`.
    """

    def __init__(self, model: Any, most_bytes: int = MOST_BYTES):
        self.body, self.most_bytes = body(model), most_bytes
        self.seen = self.computed = 0
        """Images that were asked for, and that went through the tower."""
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._bytes, self._is_checked, self._is_stacked = 0, False, False
        self._weights: tuple[tuple[int, int], ...] = ()
        self._output: Any = None
        takes = inspect.signature(self.body.forward).parameters
        tower = getattr(self.body, "get_image_features", None)
        self.is_possible = INSTEAD in takes and tower is not None
        self._args = tuple(inspect.signature(tower).parameters) if tower is not None else ()

    @torch.inference_mode()
    def read(self, inputs: Mapping[str, Any], *, alone: bool = False) -> dict[str, Any]:
        """The inputs with features where there were pixels.

        Args:
            inputs: of the body, without gradients.
            alone: each image goes through the tower by itself, so that its features are the same to the last bit whatever stands
                beside it; else those that are new go together.
        """
        tensors = {name: inputs[name] for name in self._args if isinstance(inputs.get(name), Tensor)}
        images = _per_image(tensors)
        if not self.is_possible or not images:
            return dict(inputs)
        self._forget_old()
        keys = [_key(image) for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self._kept}
        fresh: dict[bytes, Tensor] = {}
        for together in [[key] for key in new] if alone else [list(new)] if new else []:
            output = self.body.get_image_features(
                **{name: torch.cat([new[key][name] for key in together]) for name in tensors},
                return_dict=True,
            )
            features: Any = getattr(output, "pooler_output", None)
            if features is None or len(features) != len(together) or not set(output.keys()) <= PLAIN:
                self.is_possible = False
                return dict(inputs)
            fresh |= dict(zip(together, features, strict=True))
            self._output, self._is_stacked = type(output), isinstance(features, Tensor)
        self.seen, self.computed = self.seen + len(keys), self.computed + len(new)
        whole = [fresh[key] if key in fresh else self._kept[key] for key in keys]
        self._keep(fresh, keys)
        rest = {name: value for name, value in inputs.items() if name != "pixel_values"}
        features = torch.stack(whole) if self._is_stacked else tuple(whole)
        changed = rest | {INSTEAD: {"image": self._output(pooler_output=features)}}
        if not self._is_checked:
            self.is_possible, self._is_checked = self._agree(inputs, changed), True
        return changed if self.is_possible else dict(inputs)

    def _agree(self, inputs: Mapping[str, Any], changed: Mapping[str, Any]) -> bool:
        """Whether the model makes of features what it makes of pixels; asked of the first batch."""
        try:
            of_pixels, of_features = (
                self.body(**dict(i), use_cache=False).last_hidden_state for i in (inputs, changed)
            )
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
            return False  # it was not made for this, and sees pixels then
        tolerance = 1e-4 if of_pixels.dtype == torch.float32 else 5e-2
        mask = inputs["attention_mask"].bool()
        return bool(torch.allclose(of_pixels[mask], of_features[mask], rtol=tolerance, atol=tolerance))

    def _keep(self, fresh: Mapping[bytes, Tensor], used: list[bytes]) -> None:
        for key, feature in fresh.items():
            self._kept[key] = feature
            self._bytes += feature.nbytes
        for key in used:
            self._kept.move_to_end(key)
        while self._bytes > self.most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def _forget_old(self) -> None:
        # An optimiser writes in place, which counts a version; a folder that is loaded brings other memory.
        weights = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.body.parameters())
        if weights != self._weights:
            self._kept.clear()
            self._bytes, self._weights = 0, weights


def _per_image(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """What the tower is shown, image by image: a row of each tensor, or as many patches as an image's grid has; empty: neither."""
    pixels, grids = tensors.get("pixel_values"), tensors.get("image_grid_thw")
    if pixels is None:
        return []
    sizes = [1] * len(pixels) if grids is None else grids.prod(-1).tolist()
    others = {len(tensor) for name, tensor in tensors.items() if name != "pixel_values"}
    if sum(sizes) != len(pixels) or not others <= {len(sizes)}:
        return []
    parts = {name: tensor.split(1) for name, tensor in tensors.items()} | {
        "pixel_values": pixels.split(sizes)
    }
    return [dict(zip(parts, image, strict=True)) for image in zip(*parts.values(), strict=True)]


def _key(image: Mapping[str, Tensor]) -> bytes:
    """A name of all that the tower is shown of an image."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(image.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.digest()
