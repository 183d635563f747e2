"""Small real models, made on the spot: a byte-level BPE tokenizer and models of true transformers classes.

The tests save them and load them back through `from_pretrained`, as a user's checkpoint would be; the
miniatures train `new_llama` from nothing.

A small real LLaVA, made on the spot: CLIP tower, projector, Llama and processor of the true transformers classes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.rng import Rng, seeded
from gnomon.core.train import TrainConfig, causal_loss, fit
from gnomon.core.train.batches import BatchSource
from gnomon.core.train.loop import TrainRun
from gnomon.errors import BadInput, nearest

if TYPE_CHECKING:
    from transformers import (
        LlamaForCausalLM,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedModel,
        PreTrainedTokenizerFast,
    )

BOS, EOS, PAD, UNK = "<s>", "</s>", "<pad>", "<unk>"

# What a family's config needs beside the common sizes. Windows are short so that tests cross them.
_WINDOW = {"sliding_window": 16}
_GEMMA = {**_WINDOW, "head_dim": 8, "query_pre_attn_scalar": 8}
FAMILIES: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 8},
    "gemma2": _GEMMA,
    "gemma3_text": {**_GEMMA, "sliding_window_pattern": 2},
    "gpt2": {},
    "gpt_neox": {},
    "llama": {},
    "mistral": _WINDOW,
    "olmo": {},
    "opt": {"word_embed_proj_dim": 32},
    "phi3": {},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "t5": {},
}

# Families that name a size their own way; `None` where they have no such size.
_NAMES: dict[str, dict[str, str | None]] = {
    "gpt2": {"num_key_value_heads": None, "intermediate_size": "n_inner"},
    "gpt_neox": {"num_key_value_heads": None},
    "opt": {"num_key_value_heads": None, "intermediate_size": "ffn_dim"},
    "t5": {
        "num_key_value_heads": None,
        "max_position_embeddings": None,
        "hidden_size": "d_model",
        "intermediate_size": "d_ff",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
    },
}


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`, with `<s>`, `</s>` and `<pad>` as its first three ids.

    Any text encodes and decodes back exactly. No special token is added by itself.

    Args:
        texts: the training text.
        vocab_size: number of ids in all; at least 259 (256 bytes and three special tokens).

    Raises:
        BadInput: `vocab_size` is too small.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    if vocab_size < len(alphabet) + 3:
        raise BadInput(f"A byte-level vocabulary needs at least {len(alphabet) + 3} ids; got {vocab_size}.")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )


def whole_words(
    words: Sequence[str], *, special: Sequence[str] = (BOS, EOS, PAD, UNK), begins: bool = False
) -> PreTrainedTokenizerFast:
    """A tokenizer of the words between spaces, one token each, for worlds whose every word is known.

    Args:
        words: the vocabulary, in the order of its ids.
        special: the four special tokens in the order of theirs, which are the first.
        begins: whether every text begins with `<s>`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    table = {word: i for i, word in enumerate((*special, *words))}
    tokenizer = Tokenizer(models.WordLevel(table, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if begins:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, table[BOS])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )


def new_llama(
    tokenizer: PreTrainedTokenizerFast | int,
    hidden: int,
    layers: int,
    heads: int,
    max_length: int,
    generator: Rng,
    *,
    intermediate: int | None = None,
    is_tied: bool = True,
) -> LlamaForCausalLM:
    """An untrained Llama on the CPU, a function of its sizes and `generator` alone.

    Args:
        tokenizer: gives the vocabulary and the special ids; or the size V of a vocabulary of bare numbers.
        hidden: width D of the residual stream.
        layers: number of blocks L.
        heads: number of attention heads H; must divide `hidden`.
        max_length: positions.
        generator: where the initial weights are drawn.
        intermediate: width of the MLPs; None takes 8/3 of `hidden`, rounded up to a multiple of 32.
        is_tied: whether the output embedding is the input's.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary = tokenizer if isinstance(tokenizer, int) else len(tokenizer)
    special = (
        dict.fromkeys(("bos_token_id", "eos_token_id"))
        if isinstance(tokenizer, int)
        else _special_ids(tokenizer)
    )
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=-(-hidden * 8 // 96) * 32 if intermediate is None else intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=is_tied,
        **special,
    )
    with seeded(generator):
        return LlamaForCausalLM(config)


def train_tiny(
    model: Any,
    batches: BatchSource,
    cfg: TrainConfig,
    run: TrainRun,
    *,
    device: str = "cpu",
    tokenizer: PreTrainedTokenizerFast | None = None,
    folder: Path | None = None,
) -> Any:
    """A model of one's own making, trained to predict the labels of its batches, and saved where a user would load it from.

    Args:
        model: a causal transformers model.
        batches: what it reads.
        cfg: how it is trained.
        run: the run or part that the training is recorded in.
        device: where it is trained.
        tokenizer: saved beside it.
        folder: where the two are saved, on the CPU; None: nowhere.

    Returns:
        The model in evaluation mode; on `device`, or on the CPU when it was saved.
    """
    fit(model.to(device), batches, causal_loss, cfg, run=run)
    model.eval()
    if folder is not None:
        model.cpu().save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    return model


def tiny_causal(
    family: str,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    *,
    generator: Rng | None = None,
    **size: Any,
) -> PreTrainedModel:
    """A text model of `family` with less than 100,000 parameters, saved with its tokenizer to `folder`.

    All are causal but T5, which has an encoder and a decoder.

    Args:
        family: one of `FAMILIES`.
        tokenizer: saved beside the weights; gives the vocabulary size unless `vocab_size` is in `size`.
        folder: where to save.
        generator: where the weights are drawn.
        **size: config fields that replace the tiny ones, e.g. `num_hidden_layers=3`.

    Returns:
        The model that was saved, in evaluation mode.

    Raises:
        BadInput: `family` is not in the table.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    if family not in FAMILIES:
        raise BadInput(f'No tiny model of family "{family}". {nearest(family, FAMILIES)}')
    fields = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        **FAMILIES[family],
        **_special_ids(tokenizer),
        **size,
    }
    for common, own in _NAMES.get(family, {}).items():
        value = fields.pop(common)
        if own is not None:
            fields.setdefault(own, value)
    if family == "t5":  # The decoder begins with padding; heads are 64 wide unless one says otherwise.
        fields = {"d_kv": 8, "decoder_start_token_id": tokenizer.pad_token_id, **fields}
    config = AutoConfig.for_model(family, **fields)
    loader: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with seeded(generator or Rng(0).child("tiny", family)):
        model = loader.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


# A small real LLaVA, made on the spot: CLIP tower, projector, Llama and processor of the true transformers classes.

IMAGE = "<image>"


@dataclass(frozen=True)
class LlavaSizes:
    """How large a LLaVA is."""

    image_size: int = 48
    """Side of the square that the tower sees, in pixels."""
    patch: int = 8
    """Side of a patch in pixels; an image is (image_size / patch)² tokens."""
    vision_hidden: int = 64
    """Width of the tower; its MLPs are twice as wide."""
    vision_layers: int = 2
    """Blocks of the tower."""
    vision_heads: int = 4
    """Attention heads of the tower."""
    hidden: int = 96
    """Width D of the language model."""
    layers: int = 4
    """Blocks L of the language model."""
    heads: int = 4
    """Attention heads H of the language model."""
    intermediate: int = 192
    """Width of the language model's MLPs."""
    max_length: int = 128
    """Positions of the language model."""
    vision_feature_layer: int = -1
    """Which of the tower's states is projected; -1 is the last."""

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise BadInput(f"Patches of {self.patch} pixels do not divide an image of {self.image_size}.")


def tiny_llava(
    tokenizer: PreTrainedTokenizerFast,
    sizes: LlavaSizes = LlavaSizes(),
    *,
    generator: Rng,
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """An untrained LLaVA on the CPU and its processor; `ModelHandle(*tiny_llava(...))` is the handle on it.

    The processor resizes the short side and crops the centre, as LLaVA 1.5 does. The head is not tied to the embedding.

    Args:
        tokenizer: the words of the language model; the processor gets a copy of it that has `<image>`.
        sizes: how large it is.
        generator: where the initial weights are drawn.

    Returns:
        The model in evaluation mode, and the processor.

    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    tokenizer = with_tokens(tokenizer, IMAGE)
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=sizes.vision_hidden,
            intermediate_size=2 * sizes.vision_hidden,
            num_hidden_layers=sizes.vision_layers,
            num_attention_heads=sizes.vision_heads,
            image_size=sizes.image_size,
            patch_size=sizes.patch,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=sizes.hidden,
            intermediate_size=sizes.intermediate,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            num_key_value_heads=sizes.heads,
            max_position_embeddings=sizes.max_length,
            tie_word_embeddings=False,
            **special,
        ),
        image_token_index=int(tokenizer.convert_tokens_to_ids(IMAGE)),  # type: ignore[arg-type]
        image_seq_length=(sizes.image_size // sizes.patch) ** 2,
        vision_feature_layer=sizes.vision_feature_layer,
        tie_word_embeddings=False,
        **special,
    )
    with seeded(generator):
        model = LlavaForConditionalGeneration(config).eval()
    return model, llava_processor(tokenizer, sizes.image_size, sizes.patch)


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
