"""The images of a batch: processed text by text, put side by side."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool
from torch import Tensor

from gnomon.core.models.architectures.parts import ImageLayout, Seeing
from gnomon.core.vision import open_image
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from PIL.Image import Image

TOKENWISE = ("token_type_ids", "mm_token_type_ids")
"""Names of what processors say about the kind of every token."""


@dataclass(frozen=True)
class Images:
    """What the texts of a batch show."""

    pixels: Mapping[str, Tensor]
    """All that the model takes beside ids and mask: pixels, their masks, sizes and grids, kinds of tokens."""
    mask: Bool[Tensor, "B T"]
    """True at image tokens."""
    layouts: tuple[tuple[ImageLayout, ...], ...]
    """Where the tokens of each text's images lie."""

    def to(self, device: torch.device | str) -> Images:
        """The same on `device`."""
        return Images({k: v.to(device) for k, v in self.pixels.items()}, self.mask.to(device), self.layouts)


@dataclass(frozen=True)
class SeenText:
    """One text with its images, processed."""

    ids: list[int]
    """Token ids, the image tokens among them."""
    pixels: Mapping[str, Tensor]
    """As in `Images`, for this text alone."""
    layouts: tuple[ImageLayout, ...]
    """One per image."""

    def longer(self, tokens: Sequence[int]) -> SeenText:
        """The same text with more tokens behind it."""
        pixels = dict(self.pixels)
        for name, value in self.pixels.items() if tokens else ():
            if name in TOKENWISE:  # 0 is text
                pixels[name] = torch.cat([value, value.new_zeros(len(value), len(tokens))], 1)
            elif _is_tokenwise(
                name, value, len(self.ids)
            ):  # what the last token looks at, the next ones look at
                pixels[name] = torch.cat([value, *[value[:, -1:]] * len(tokens)], 1)
        return SeenText([*self.ids, *tokens], pixels, self.layouts)

    def fingerprint(self) -> tuple[str, ...]:
        """A name of what the images show."""
        digest = hashlib.blake2b(digest_size=8)
        for tensor in self.pixels.values():
            digest.update(tensor.contiguous().numpy().tobytes())
        return (digest.hexdigest(),)


def have_images(seen: Sequence[SeenText]) -> bool:
    """Whether texts have images, all of them or none.

    Raises:
        BadInput: some have images and some have none.
    """
    count = sum(bool(text.layouts) for text in seen)
    if count not in (0, len(seen)):
        raise BadInput("Texts with images and texts without cannot be in one batch. Gather them apart.")
    return count > 0


def open_images(entries: Sequence[Any], texts: int) -> list[list[Image]]:
    """The images of each text, in colours.

    Args:
        entries: per text one image or a list of them; a PIL image or a path.
        texts: how many texts there are.

    Raises:
        BadInput: not one entry per text, or an image that cannot be read; it is named.
    """
    if len(entries) != texts:
        raise BadInput(
            f"{texts} texts need as many entries in images, one or a list each; got {len(entries)}."
        )
    return [
        [open_image(source, f"Image {k} of text {i}") for k, source in enumerate(_listed(entry))]
        for i, entry in enumerate(entries)
    ]


def see_text(
    processor: Any, config: Any, sees: Seeing, token: int, text: str, images: Sequence[Image], name: str
) -> SeenText:
    """A text and its images as the model takes them.

    Each text is processed by itself, so that it does not depend on its company.

    Args:
        processor: the model's.
        config: the model's.
        sees: its family.
        token: the id of an image token.
        text: with the processor's image token where each image goes, if the family has places for them.
        images: in the order of their places.
        name: what an error calls the text.

    Raises:
        BadInput: places and images do not go together.
        ModelMismatch: the number of image tokens is not what the family's layout says.
    """
    sign = image_sign(processor)
    places = text.count(sign) if sees.placeholder else 1
    if places != len(images) or not images:
        where = f'"{sign}"' if sees.placeholder else "a fixed place before the text"
        raise BadInput(
            f"{name} has {places} places for images ({where}) and {len(images)} images. "
            "handle.prompt(text, images=...) puts them in."
        )
    inputs = processed(processor, text, images)
    ids = inputs["input_ids"][0].tolist()
    pixels = {k: v for k, v in inputs.items() if k not in ("input_ids", "attention_mask", "labels")}
    if sees.lay_out is None:
        layouts = _counted(processor, config, sees, token, images, inputs)
    else:
        layouts = tuple(
            sees.lay_out(processor, config, image.size, pixels, k) for k, image in enumerate(images)
        )
    counted, expected = ids.count(token), sum(layout.n_tokens for layout in layouts)
    if counted != expected:
        raise ModelMismatch(
            f"{name} has {counted} image tokens (id {token}) and its images take {expected}. Check that the config's image "
            f"token is the processor's \"{sign}\", and that the processor's sizes are the model's."
        )
    return SeenText(ids, pixels, layouts)


def _counted(
    processor: Any,
    config: Any,
    sees: Seeing,
    token: int,
    images: Sequence[Image],
    inputs: Mapping[str, Tensor],
) -> tuple[ImageLayout, ...]:
    """How many tokens each image has, by what the processor makes of it alone, and where they lie if that was measured.

    Raises:
        ModelMismatch: alone they have other numbers of tokens than side by side, and of different sizes.
    """

    def count(inputs: Mapping[str, Tensor]) -> int:
        return int((inputs["input_ids"] == token).sum())

    alone, whole = [inputs], count(inputs)
    if len(images) > 1:
        prompt = question(processor, sees, "", 1)
        alone = [processed(processor, prompt, [image]) for image in images]
    counts, sizes = [count(of_image) for of_image in alone], [image.size for image in images]
    if sum(counts) != whole:
        if len(set(sizes)) > 1 or whole % len(images):
            raise ModelMismatch(
                f"The processor makes {whole} tokens of {len(images)} images together and {counts} of each alone, so that it is "
                "not known which tokens are whose. Give one image to a text, or images of one size."
            )
        return (ImageLayout(sizes[0], whole // len(images)),) * len(images)
    layouts = []
    for size, n, pixels in zip(sizes, counts, alone, strict=True):
        layout = None if sees.grid is None else sees.grid(processor, config, size, pixels, n)
        is_right = layout is not None and layout.n_tokens == n
        layouts.append(layout if layout is not None and is_right else ImageLayout(size, n))
    return tuple(layouts)


def processed(processor: Any, text: str, images: Sequence[Image]) -> Mapping[str, Tensor]:
    """What a processor makes of a text and its images."""
    begin = processor.tokenizer.bos_token
    # A prompt from a chat template may bring its own begin-of-text token.
    begins = bool(begin) and text.startswith(begin)
    with warnings.catch_warnings():
        # One of the library's processors turns its tensors into arrays in a way that NumPy 2 will drop.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        inputs: Mapping[str, Tensor] = processor(
            images=list(images),
            text=[text],
            return_tensors="pt",
            **({"add_special_tokens": False} if begins else {}),
        )
    return inputs


def image_sign(processor: Any) -> str:
    """What stands for an image in a text; empty where its place is fixed."""
    return str(getattr(processor, "image_token", None) or "")


def question(processor: Any, sees: Seeing, text: str, images: int) -> str:
    """`text` in the form in which a model was taught to answer, with a place for each of so many images.

    By the processor's chat template, or the family's plain form where it has none.
    """
    if getattr(processor, "chat_template", None):
        content = [*[{"type": "image"}] * images, {"type": "text", "text": text}]
        turns = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(turns, add_generation_prompt=True))
    placeholder = sees.placeholder.format(token=image_sign(processor))
    return sees.prompt.format(images=placeholder * images, text=text)


def samples(model: Any, processor: Any) -> tuple[int | None, str, dict[str, Tensor], dict[str, Tensor]]:
    """One prompt with two images of noise, for a traced pass.

    Returns:
        The id of an image token as config or processor name it, what stands for an image in a prompt (see `Seeing`), and the two.
    """
    import numpy as np
    from PIL import Image

    noise = [np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8) for i in range(2)]
    images, token = [Image.fromarray(pixels) for pixels in noise], named_token(model.config, processor)
    words = "one two three four five six"
    placeholder = Seeing().placeholder if image_sign(processor) else ""
    if not getattr(processor, "chat_template", None) and _adds_images(processor, words, images[0], token):
        placeholder = ""
    prompt = question(processor, Seeing(placeholder=placeholder), words, 1)
    both = [
        {
            name: (value.to(model.dtype) if value.is_floating_point() else value).to(model.device)
            for name, value in processed(processor, prompt, [image]).items()
            if isinstance(value, Tensor) and name != "labels"
        }
        for image in images
    ]
    return token, placeholder, both[0], both[1]


def _adds_images(processor: Any, words: str, image: Image, token: int | None) -> bool:
    """Whether a processor writes the image's tokens into a text that has no place for it."""
    try:
        ids = processed(processor, words, [image])["input_ids"]
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError):  # it wants a place
        return False
    return token is not None and bool((ids == token).any())


def named_token(config: Any, processor: Any) -> int | None:
    """The id of an image token by the config, or else by the processor; None where neither names one."""
    owners = (config, config.get_text_config(), processor)
    ids = (getattr(owner, name, None) for owner in owners for name in ("image_token_id", "image_token_index"))
    return next((int(token) for token in ids if token is not None), None)


def put_together(
    seen: Sequence[SeenText], ids: Tensor, mask: Bool[Tensor, "B T"], token: int, dtype: torch.dtype
) -> Images:
    """The images of several texts as one.

    Args:
        seen: the texts.
        ids: their padded ids.
        mask: True at real tokens.
        token: the id of an image token.
        dtype: that of the model, which floating-point tensors get.
    """
    pixels: dict[str, Tensor] = {}
    for key in seen[0].pixels:
        parts = [text.pixels[key] for text in seen]
        if all(_is_tokenwise(key, part, len(text.ids)) for part, text in zip(parts, seen, strict=True)):
            rows = _stack([part[0] for part in parts])
            pixels[key] = rows.new_zeros((*ids.shape, *rows.shape[1:]))
            pixels[key][mask] = rows
        else:
            pixels[key] = _stack(parts)
        if pixels[key].is_floating_point():
            pixels[key] = pixels[key].to(dtype)
    return Images(pixels, (ids == token) & mask, tuple(text.layouts for text in seen))


def _is_tokenwise(name: str, value: Tensor, n_tokens: int) -> bool:
    """Whether a processor's tensor has a row for each token: its kind, or which images it looks at."""
    return name in TOKENWISE or (name.endswith("attention_mask") and value.shape[:2] == (1, n_tokens))


def _stack(parts: Sequence[Tensor]) -> Tensor:
    """One after the other along the first axis, with zeros where another part is larger along one of the rest."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    whole = parts[0].new_zeros((sum(map(len, parts)), *shape))
    start = 0
    for part in parts:
        whole[(slice(start, start + len(part)), *(slice(0, n) for n in part.shape[1:]))] = part
        start += len(part)
    return whole


def _listed(entry: Any) -> list[Any]:
    return list(entry) if isinstance(entry, list | tuple) else [entry]
