"""Classifiers from a model folder or a hub id: safetensors only, and never code from the checkpoint.

Among them the encoder half of T5 with one logit on top, and a small untrained T5 for miniatures and tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import T5EncoderModel
from transformers.modeling_outputs import SequenceClassifierOutput

from gnomon.core.models.load import load_config, load_weights, model_at
from gnomon.core.models.load.conversion import quiet
from gnomon.core.rng import Rng, seeded
from gnomon.errors import BadInput, ModelMismatch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration


# The T5 encoder with one logit.


HEAD = "head.safetensors"
"""File of the head beside the encoder: `weight`, [1, D], and `bias`, [1]."""


class T5EncoderClassifier(nn.Module):
    """Masked mean of the encoder's last states, dropout, and a linear head with one logit.

    The head begins at 0, so that an untrained classifier says 1/2 to everything and no random choice is in it.

    Args:
        encoder: becomes part of the classifier.
        dropout: on the pooled text, while training.
    """

    def __init__(self, encoder: T5EncoderModel, dropout: float) -> None:
        super().__init__()
        self.transformer, self.config = encoder, encoder.config
        self.dropout = nn.Dropout(dropout)
        with torch.random.fork_rng(devices=[]):  # the layer draws before it is set to 0
            self.head = nn.Linear(encoder.config.d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.train(False)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dropout: float = 0.1) -> T5EncoderClassifier:
        """The classifier that `save_pretrained` wrote to a folder, float32, on the CPU.

        Raises:
            BadInput: the folder holds no encoder or no head.
        """
        from safetensors.torch import load_file

        if not (Path(folder) / HEAD).is_file():
            raise BadInput(f"{folder} holds no {HEAD}. Copy the whole folder of the student.")
        model = cls(_load(T5EncoderModel, folder), dropout)
        model.head.load_state_dict(load_file(Path(folder) / HEAD))
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as transformers does, for `T5EncoderModel.from_pretrained(folder)`, and the head beside it."""
        from safetensors.torch import save_file

        self.transformer.save_pretrained(folder)
        save_file(
            {name: value.detach().cpu() for name, value in self.head.state_dict().items()},
            Path(folder) / HEAD,
        )

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Logits of a pass, [B, 1], from token ids and their mask (1 at real tokens), [B, T]; padding may be on either side."""
        hidden = self.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        return SequenceClassifierOutput(logits=self.head(self.dropout(pooled)))


# Checkpoints.

T5, SEQUENCE = "t5-encoder", "sequence-classifier"
NEW_WEIGHTS = Rng(0).child("sieve", "new weights")  # of heads and decoders that a checkpoint does not have


def find_kind(ref: str | Path, kind: str | None = None) -> str:
    """Which student a checkpoint makes: `T5` for a plain T5, `SEQUENCE` for what transformers can put a classifier on.

    Args:
        ref: a model folder or hub id.
        kind: the kind it must be; None takes what fits.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: it is a model of another kind.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    config = read_config(ref)
    if config.model_type == "t5" and (kind == T5 or not _has_head(config)):
        return T5
    architectures = ", ".join(config.architectures or [config.model_type])
    if kind == T5:
        raise ModelMismatch(
            f'Model "{ref}" is {architectures}; t5-encoder needs a T5. Leave out "t5-encoder:" for others.'
        )
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelMismatch(
            f'Model "{ref}" is {architectures}, which cannot classify text. Name an encoder such as BERT or T5.'
        )
    return SEQUENCE


def read_config(ref: str | Path) -> Any:
    """The configuration of the model at `ref`.

    Raises:
        BadInput: nothing is at `ref`.
        ModelMismatch: transformers does not know the model, or it brings its own code.
    """
    return load_config(ref)


def load_classifier(ref: str | Path, kind: str, dropout: float) -> Any:
    """A classifier with one or two logits, float32, on the CPU; a head that the checkpoint lacks is new.

    Args:
        ref: a model folder or hub id.
        kind: `T5` or `SEQUENCE`.
        dropout: on the pooled text of a new T5 head.

    Raises:
        BadInput: nothing is at `ref`, or it has no safetensors weights.
    """
    from transformers import AutoModelForSequenceClassification

    config = read_config(ref)
    ref = model_at(ref)
    if (Path(ref) / HEAD).is_file():
        return T5EncoderClassifier.from_pretrained(ref, dropout)
    if kind == T5:
        return T5EncoderClassifier(_load(T5EncoderModel, ref), dropout)
    if _has_head(config) and config.num_labels in (1, 2):
        return _load(AutoModelForSequenceClassification, ref)
    return _load(AutoModelForSequenceClassification, ref, num_labels=1, ignore_mismatched_sizes=True)


def load_t5(ref: str | Path) -> Any:
    """The whole T5 at `ref`, float32, on the CPU; a decoder that the checkpoint lacks is new."""
    from transformers import T5ForConditionalGeneration

    return _load(T5ForConditionalGeneration, ref)


def longest_input(model: Any, tokenizer: Any, wanted: int) -> int:
    """Tokens that the model can read, at most `wanted`; T5 counts positions relatively and knows no limit."""
    positions = getattr(model.config, "max_position_embeddings", None)
    if model.config.model_type == "t5" or not positions:
        return wanted
    for name, module in model.named_modules():
        # Models of RoBERTa's family begin to count behind the padding id.
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1
    return int(min(wanted, positions, tokenizer.model_max_length))


def _has_head(config: Any) -> bool:
    return any("SequenceClassification" in name for name in config.architectures or [])


def _load(loader: Any, ref: str | Path, **more: Any) -> Any:
    # That a head is new is what is wanted here, no news.
    with quiet(), seeded(NEW_WEIGHTS):
        model = load_weights(loader, ref, dtype=torch.float32, **more)
    # Weights may lie anywhere in the mapped file, and where they lie changes the rounding of products; copies are aligned.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model.eval()


# A small T5 for miniatures and tests.

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
