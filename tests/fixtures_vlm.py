"""Tiny checkpoints of the real vision-language classes, with real processors, saved once a session."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from PIL import Image

WORDS = "a cat sat on the mat while a dog ran in the park and a bird sang"
TEXT = {"intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = {"model_type": "llama", "hidden_size": 32, **TEXT}
OPT = {
    "model_type": "opt",
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
QFORMER = {**VISION, "encoder_hidden_size": 16, "vocab_size": 300, "cross_attention_frequency": 1}
SIDE, PATCH = 24, 8

# What the tests call each, with variants after a dash.
FAMILIES = (
    "llava",
    "llava-padded",
    "llava-siglip",
    "llava_next",
    "instructblip",
    "blip2",
    "paligemma",
    "paligemma2",
    "qwen2_vl",
    "qwen2_5_vl",
    "idefics2",
    "idefics2-split",
    "idefics3",
)
GRIDLESS = ("instructblip", "blip2", "idefics2", "idefics2-split")


def picture(seed, width=40, height=30):
    """Noise of any shape."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@cache
def tokenizer():
    from gnomon.core.models import train_bpe

    return train_bpe([WORDS], 300)


def with_tokens(*tokens):
    from gnomon.core.models.tiny import with_tokens

    return with_tokens(tokenizer(), *tokens)


def text_config(base, words, **other):
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    return {
        **base,
        "vocab_size": len(words),
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        **special,
        **other,
    }


def clip(**other):
    return {"model_type": "clip_vision_model", **VISION, "image_size": SIDE, "patch_size": PATCH, **other}


def siglip(**other):
    return {**clip(**other), "model_type": "siglip_vision_model"}


def make_llava(**image):
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    from gnomon.core.models.tiny import llava_processor

    words = with_tokens("<image>")
    config = LlavaConfig(
        vision_config=clip(),
        text_config=text_config(LLAMA, words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=False,
    )
    return LlavaForConditionalGeneration(config), llava_processor(words, SIDE, PATCH, **image)


def make_llava_siglip():
    """A tower without a class token, all of whose states are kept."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    words = with_tokens("<image>")
    config = LlavaConfig(
        vision_config=siglip(),
        text_config=text_config(OPT, words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=False,
    )
    image = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    processor = LlavaProcessor(
        image, words, patch_size=PATCH, vision_feature_select_strategy="full", num_additional_image_tokens=0
    )
    return LlavaForConditionalGeneration(config), processor


def make_llava_next():
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextProcessor
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    words = with_tokens("<image>")
    pinpoints = [[a * SIDE, b * SIDE] for a, b in ((1, 2), (2, 1), (2, 2), (1, 3), (3, 1))]
    config = LlavaNextConfig(
        vision_config=clip(),
        text_config=text_config(LLAMA, words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=False,
    )
    image = LlavaNextImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaNextProcessor(
        image,
        words,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return LlavaNextForConditionalGeneration(config), processor


def make_blip(kind):
    import transformers as tf
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    words, queries = with_tokens("<image>"), 5
    is_instruct = kind == "instructblip"
    name = "InstructBlip" if is_instruct else "Blip2"
    config = getattr(tf, f"{name}Config")(
        vision_config={**VISION, "image_size": SIDE, "patch_size": PATCH},
        qformer_config=QFORMER,
        text_config=text_config(LLAMA if is_instruct else OPT, words),
        num_query_tokens=queries,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    image = BlipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    if is_instruct:
        processor = tf.InstructBlipProcessor(image, words, bert(), num_query_tokens=queries)
    else:
        processor = tf.Blip2Processor(image, words, num_query_tokens=queries)
    return getattr(tf, f"{name}ForConditionalGeneration")(config), processor


def bert():
    """A word tokenizer for a Q-Former."""
    from transformers import BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(WORDS.split()))]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)})


def make_paligemma(text):
    from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    words = with_tokens("<image>")
    image = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
    image.image_seq_length = (SIDE // PATCH) ** 2
    processor = PaliGemmaProcessor(image, words)
    base = {"model_type": text, "hidden_size": 32, **TEXT, "head_dim": 16}
    if text == "gemma2":
        base |= {"sliding_window": 16, "query_pre_attn_scalar": 16}
    config = PaliGemmaConfig(
        vision_config=siglip(vision_use_head=False, projection_dim=32),
        text_config=text_config(base, processor.tokenizer, tie_word_embeddings=True),
        image_token_index=processor.image_token_id,
        projection_dim=32,
        hidden_size=32,
    )
    return PaliGemmaForConditionalGeneration(config), processor


def make_qwen(kind):
    import transformers as tf
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from gnomon.core.models.images import without_videos

    words = with_tokens(
        "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"
    )
    ids = {
        f"{name}_token_id": words.convert_tokens_to_ids(f"<|{sign}|>")
        for name, sign in (
            ("image", "image_pad"),
            ("video", "video_pad"),
            ("vision_start", "vision_start"),
            ("vision_end", "vision_end"),
        )
    }
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    text = text_config({"hidden_size": 32, **TEXT}, words, rope_parameters=rope)
    if kind == "qwen2_vl":
        vision = {
            "depth": 2,
            "embed_dim": 16,
            "hidden_size": 32,
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": 4,
        }
        name = "Qwen2VL"
    else:
        vision = {
            "depth": 2,
            "hidden_size": 16,
            "out_hidden_size": 32,
            "intermediate_size": 24,
            "num_heads": 2,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [1],
        }
        name = "Qwen2_5_VL"
    config = getattr(tf, f"{name}Config")(
        vision_config=vision, text_config=text, tie_word_embeddings=False, **ids
    )
    image = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 16 * 16, "longest_edge": 40 * 40})
    processor = without_videos(getattr(tf, f"{name}Processor"))(image, words)
    return getattr(tf, f"{name}ForConditionalGeneration")(config), processor


IDEFICS = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")


def make_idefics2(split):
    from transformers import Idefics2Config, Idefics2ForConditionalGeneration, Idefics2Processor
    from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

    words = with_tokens(*IDEFICS)
    image = Idefics2ImageProcessorPil(
        size={"shortest_edge": 16, "longest_edge": 40}, do_image_splitting=split
    )
    processor = Idefics2Processor(image, words, image_seq_len=4)
    config = Idefics2Config(
        vision_config={**VISION, "image_size": 40, "patch_size": 4},
        perceiver_config={
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
        text_config=text_config({**LLAMA, "model_type": "mistral"}, processor.tokenizer),
        image_token_id=processor.image_token_id,
        tie_word_embeddings=False,
    )
    return Idefics2ForConditionalGeneration(config), processor


def make_idefics3():
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    words = with_tokens(*IDEFICS, *(f"<row_{i}_col_{j}>" for i in range(1, 5) for j in range(1, 5)))
    image = Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16})
    processor = Idefics3Processor(image, words, image_seq_len=4)
    config = Idefics3Config(
        vision_config={**VISION, "image_size": 16, "patch_size": 4},
        text_config=text_config(LLAMA, processor.tokenizer),
        image_token_id=processor.image_token_id,
        scale_factor=2,
        tie_word_embeddings=False,
    )
    return Idefics3ForConditionalGeneration(config), processor


MAKERS = {
    "llava": make_llava,
    "llava-padded": lambda: make_llava(do_pad=True),
    "llava-siglip": make_llava_siglip,
    "llava_next": make_llava_next,
    "instructblip": lambda: make_blip("instructblip"),
    "blip2": lambda: make_blip("blip2"),
    "paligemma": lambda: make_paligemma("gemma"),
    "paligemma2": lambda: make_paligemma("gemma2"),
    "qwen2_vl": lambda: make_qwen("qwen2_vl"),
    "qwen2_5_vl": lambda: make_qwen("qwen2_5_vl"),
    "idefics2": lambda: make_idefics2(False),
    "idefics2-split": lambda: make_idefics2(True),
    "idefics3": make_idefics3,
}


@cache
def saved_vlm(name) -> Path:
    """Folder of a tiny checkpoint: random weights, large enough that states differ."""
    import torch
    import transformers

    from gnomon.core.rng import Rng, seeded

    transformers.utils.logging.disable_progress_bar()
    folder = Path(mkdtemp(prefix="vlm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with seeded(Rng(0).child("vlm", name)):
        model, processor = MAKERS[name]()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1 or not parameter.any():
                    parameter.normal_(0, 0.2)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@cache
def vlm(name):
    """The loaded handle of a tiny checkpoint, shared; leave it as it is."""
    from gnomon.core.models import ModelHandle

    return ModelHandle.load(saved_vlm(name), device="cpu")
