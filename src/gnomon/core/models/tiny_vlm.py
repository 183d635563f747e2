"""A small real LLaVA, made on the spot: CLIP tower, projector, Llama and processor of the true transformers classes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

IMAGE = "<image>"


def tiny_llava(
    tokenizer: PreTrainedTokenizerFast,
    *,
    generator: Rng,
    image_size: int = 48,
    patch: int = 8,
    vision_hidden: int = 64,
    vision_layers: int = 2,
    vision_heads: int = 4,
    hidden: int = 96,
    layers: int = 4,
    heads: int = 4,
    intermediate: int = 192,
    max_length: int = 128,
    vision_feature_layer: int = -1,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """An untrained LLaVA on the CPU and its processor; `ModelHandle(*tiny_llava(...))` is the handle on it.

    The processor resizes the short side and crops the centre, as LLaVA 1.5 does. The head is not tied to the embedding.

    Args:
        tokenizer: the words of the language model; the processor gets a copy of it that has `<image>`.
        generator: where the initial weights are drawn.
        image_size: side of the square that the tower sees, in pixels.
        patch: side of a patch in pixels; an image is (image_size / patch)² tokens.
        vision_hidden: width of the tower.
        vision_layers: its blocks.
        vision_heads: its attention heads.
        hidden: width D of the language model.
        layers: its blocks L.
        heads: its attention heads H.
        intermediate: width of its MLPs.
        max_length: its positions.
        vision_feature_layer: which of the tower's states is projected; -1 is the last.

    Returns:
        The model in evaluation mode, and the processor.

    Raises:
        BadInput: the patch does not divide the image.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    if image_size % patch:
        raise BadInput(f"Patches of {patch} pixels do not divide an image of {image_size}.")
    tokenizer = with_tokens(tokenizer, IMAGE)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=vision_hidden,
            intermediate_size=2 * vision_hidden,
            num_hidden_layers=vision_layers,
            num_attention_heads=vision_heads,
            image_size=image_size,
            patch_size=patch,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=max_length,
            tie_word_embeddings=False,
            **special,
        ),
        image_token_index=int(tokenizer.convert_tokens_to_ids(IMAGE)),  # type: ignore[arg-type]
        image_seq_length=(image_size // patch) ** 2,
        vision_feature_layer=vision_feature_layer,
        tie_word_embeddings=False,
        **special,
    )
    with seeded(generator):
        model = LlavaForConditionalGeneration(config).eval()
    return model, llava_processor(tokenizer, image_size, patch)


def llava_processor(
    tokenizer: PreTrainedTokenizerFast, image_size: int, patch: int, **image: Any
) -> LlavaProcessor:
    """The processor of a LLaVA whose tower sees squares of `image_size` pixels; more settings of its images in `image`."""
    from transformers import LlavaProcessor
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    seen = {
        "size": {"shortest_edge": image_size},
        "crop_size": {"height": image_size, "width": image_size},
    }
    return LlavaProcessor(
        LlavaImageProcessorPil(**{**seen, **image}),
        tokenizer,
        patch_size=patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )


def with_tokens(tokenizer: PreTrainedTokenizerFast, *tokens: str) -> PreTrainedTokenizerFast:
    """A copy of `tokenizer` that has these as special tokens too."""
    new = copy.deepcopy(tokenizer)
    new.add_special_tokens({"additional_special_tokens": [t for t in tokens if t not in new.get_vocab()]})
    return new
