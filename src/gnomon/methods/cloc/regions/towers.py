"""A CLIP or SigLIP of transformers: pixels, tokens and texts, by the one path that training and application share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.vision.frames import Frame
from gnomon.errors import ModelMismatch

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Seen:
    """Images as the vision tower leaves them."""

    embeds: Float[Tensor, "B D"]
    """One embedding an image, as the checkpoint itself makes it, not normalised."""
    tokens: Float[Tensor, "B T d"]
    """The patches, row by row, behind the tower's last norm; the class token first where it is asked for."""
    frames: Sequence[Frame] = ()
    """What each image underwent on its way in."""


@dataclass
class Towers:
    """Both towers of a dual encoder.

    Args:
        model: a transformers model with `vision_model` and `text_model`, such as `CLIPModel` or `SiglipModel`.
        processor: its processor, with a tokenizer and an image processor.

    Raises:
        ModelMismatch: the model has no such towers, or its patches do not fill a square.
    """

    model: Any
    processor: Any
    is_normed: bool = field(init=False)
    """Whether the last hidden states have passed the tower's last norm: SigLIP's have, of CLIP only the pooled token has."""
    n_extra: int = field(init=False)
    """Tokens before the patches: CLIP's class token."""
    n_cut: int = field(default=0, init=False)
    """Texts that were longer than the text tower reads and were cut."""

    def __post_init__(self) -> None:
        vision = getattr(self.model, "vision_model", None)
        norm = getattr(vision, "post_layernorm", None)
        if vision is None or norm is None or not hasattr(self.model, "text_model"):
            raise ModelMismatch(
                f"{type(self.model).__name__} has no vision_model with a post_layernorm beside a text_model. Take a model such as "
                "CLIPModel or SiglipModel."
            )
        self._check_ends()
        ranks: list[int] = []
        watch = norm.register_forward_pre_hook(lambda _, inputs: ranks.append(inputs[0].ndim))
        try:
            with torch.no_grad():
                blank = torch.zeros(1, 3, self.side, self.side, device=self.device, dtype=self.dtype)
                count = vision(pixel_values=blank).last_hidden_state.shape[1]
        finally:
            watch.remove()
        # A norm that is given rows has seen the pooled token alone; one that is given sequences has seen every token.
        self.is_normed = 3 in ranks
        self.n_extra = count - self.grid**2
        if self.n_extra not in (0, 1):
            raise ModelMismatch(
                f"{type(self.model).__name__} makes {count} tokens of {self.grid} x {self.grid} patches."
            )

    def _check_ends(self) -> None:
        """CLIP's text tower is read at the end token: a tokenizer that writes none would have its first word read alone."""
        end = getattr(self.model.config.text_config, "eos_token_id", None)
        # 2 stands in old checkpoints for the largest id of a text.
        if self.has_bias or end in (None, 2):
            return
        if end not in self.processor.tokenizer("a")["input_ids"]:
            raise ModelMismatch(
                f"The text tower is read at token {end}, which this tokenizer does not put behind its texts: of each text the "
                "first token alone would count. Save the tokenizer with a post-processor that adds it."
            )

    @property
    def vision_config(self) -> Any:
        """Settings of the vision tower."""
        return self.model.config.vision_config

    @property
    def side(self) -> int:
        """Pixels of the square input."""
        return int(self.vision_config.image_size)

    @property
    def grid(self) -> int:
        """Patches across."""
        return self.side // int(self.vision_config.patch_size)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of its weights."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def width(self) -> int:
        """Channels of a token, d."""
        return int(self.vision_config.hidden_size)

    @property
    def joint(self) -> int:
        """Channels of an embedding, D."""
        projection = getattr(self.model, "visual_projection", None)
        return int(projection.out_features) if projection is not None else self.width

    @property
    def has_bias(self) -> bool:
        """Whether it was trained with a sigmoid loss and a bias, as SigLIP: its texts are lower case and padded to full length."""
        return hasattr(self.model, "logit_bias")

    def frame(self, size: tuple[int, int]) -> Frame:
        """What an image of this size undergoes: the longer side resized to the input, then padded at right and bottom."""
        return Frame.letterbox(size, self.side)

    def pixels(self, images: Sequence[Image]) -> tuple[Float[Tensor, "B 3 S S"], list[Frame]]:
        """Images as the network reads them, and their frames; padding has the mean colour."""
        settings = getattr(self.processor, "image_processor", self.processor)
        mean, std = (np.asarray(getattr(settings, name)) for name in ("image_mean", "image_std"))
        fill = tuple(round(255 * value) for value in mean)
        frames = [self.frame(image.size) for image in images]
        arrays = [
            (np.asarray(frame.apply(image, fill), np.float32) / 255 - mean) / std
            for frame, image in zip(frames, images, strict=True)
        ]
        return torch.tensor(np.stack(arrays), dtype=torch.float32).permute(0, 3, 1, 2).contiguous(), frames

    def see(self, pixels: Float[Tensor, "B 3 S S"], *, class_token: bool = False) -> Seen:
        """Embeddings and tokens of images.

        Args:
            pixels: of `pixels`.
            class_token: whether the class token stands before the patches.

        Raises:
            ModelMismatch: a class token is asked for where there is none.
        """
        if class_token and not self.n_extra:
            raise ModelMismatch(f"{type(self.model).__name__} has no class token. Leave class_token out.")
        vision = self.model.vision_model
        output = vision(pixel_values=pixels.to(self.device, self.dtype))
        projection = getattr(self.model, "visual_projection", None)
        embeds = output.pooler_output if projection is None else projection(output.pooler_output)
        tokens = output.last_hidden_state if class_token else output.last_hidden_state[:, self.n_extra :]
        return Seen(embeds, tokens if self.is_normed else vision.post_layernorm(tokens))

    def ids_of(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts as the text tower reads them: cut where they are longer, which is counted, and of SigLIP padded and lower case."""
        tokenizer = self.processor.tokenizer
        most = int(self.model.config.text_config.max_position_embeddings)
        shown = [text.lower() for text in texts] if self.has_bias else list(texts)
        self.n_cut += sum(len(ids) > most for ids in tokenizer(shown)["input_ids"])
        encoded = tokenizer(
            shown, padding="max_length" if self.has_bias else True, max_length=most, truncation=True, return_tensors="pt"
        )  # fmt: skip
        names = ("input_ids",) if self.has_bias else ("input_ids", "attention_mask")
        return {name: encoded[name] for name in names}

    def read(self, encoded: dict[str, Tensor]) -> Float[Tensor, "N D"]:
        """Embeddings of texts, not normalised."""
        output = self.model.get_text_features(**{name: ids.to(self.device) for name, ids in encoded.items()})
        embeds: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        return embeds

    @torch.no_grad()
    def texts(self, texts: Sequence[str], batch_size: int = 256) -> Float[Tensor, "N D"]:
        """Unit embeddings of texts, equal ones read once."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))
        rows = [
            self.read(self.ids_of(distinct[start : start + batch_size]))
            for start in range(0, len(distinct), batch_size)
        ]
        places = {text: i for i, text in enumerate(distinct)}
        return unit(torch.cat(rows))[[places[text] for text in texts]]


def unit(vectors: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Vectors of length 1, in float32."""
    return torch.nn.functional.normalize(vectors.float(), dim=-1)
