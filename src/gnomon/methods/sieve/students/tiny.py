"""A T5 of a few hundred thousand weights and a tokenizer of whole words, for miniatures and tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

PAD, EOS, UNK = "<pad>", "</s>", "<unk>"
SENTINELS = tuple(f"<extra_id_{i}>" for i in range(100))


def word_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer of lower-cased words and runs of punctuation, with T5's special tokens and 100 sentinels.

    Args:
        texts: where words are counted; the commonest get an id.
        vocab_size: ids in all, at least 104: 103 are special. Fewer texts may need fewer.

    Raises:
        BadInput: `vocab_size` is too small.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = [PAD, EOS, UNK, *SENTINELS]
    if vocab_size <= len(special):
        raise BadInput(f"A word vocabulary needs at least {len(special) + 1} ids; got {vocab_size}.")
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, special.index(EOS))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        additional_special_tokens=list(SENTINELS),
        clean_up_tokenization_spaces=False,
    )


def new_t5(
    tokenizer: PreTrainedTokenizerFast,
    d_model: int = 96,
    layers: int = 2,
    heads: int = 4,
    *,
    dropout: float = 0.1,
    generator: Rng,
) -> T5ForConditionalGeneration:
    """An untrained T5 on the CPU, a function of its sizes and `generator` alone.

    Args:
        tokenizer: gives the vocabulary and the special ids.
        d_model: width D; the MLP is four times as wide.
        layers: blocks of the encoder and of the decoder each.
        heads: attention heads; must divide `d_model`.
        dropout: within the blocks; drawing it takes a quarter of a training's time.
        generator: where the initial weights are drawn.

    Raises:
        BadInput: `heads` does not divide `d_model`.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    if d_model % heads:
        raise BadInput(f"{heads} heads do not divide a width of {d_model}. Choose a width that they divide.")
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_kv=d_model // heads,
        d_ff=4 * d_model,
        num_layers=layers,
        num_heads=heads,
        dropout_rate=dropout,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,  # type: ignore[call-arg]
    )
    with seeded(generator):
        return T5ForConditionalGeneration(config)
