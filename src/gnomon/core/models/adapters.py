"""Low-rank adapters through PEFT, in PEFT's own folder format.

New words for a model's vocabulary.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gnomon.core.models.load import without_deprecations
from gnomon.errors import BadConfig, BadInput, ModelMismatch

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def add_lora(
    model: PreTrainedModel,
    rank: int,
    *,
    alpha: int | None = None,
    targets: Sequence[str] | None = None,
    layers: tuple[int, int] | None = None,
    dropout: float = 0.0,
    new_tokens: Sequence[int] = (),
) -> PeftModel:
    """`model` with trainable low-rank adapters; its own weights are frozen.

    Args:
        model: a text model; PEFT is told its kind.
        rank: rank of the update of each adapted matrix.
        alpha: the update is scaled by `alpha / rank`; `None` takes twice the rank.
        targets: names of the adapted modules; `None` adapts every linear layer but the output embedding.
        layers: first block adapted and the first that is not, counted from 0 in the stack that writes; `None` takes all.
        dropout: share of an adapter's inputs set to zero in training.
        new_tokens: ids whose embedding rows, in and out, are trained and saved too: tokens that the model has
            never seen, see `add_token`.

    Raises:
        BadInput: no module has a name in `targets`.
        BadConfig: `layers` is no range of the model's blocks.
    """
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    named = list(targets) if targets else "all-linear"
    config = LoraConfig(
        task_type=_task(model),
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        lora_dropout=dropout,
        target_modules=named if layers is None else _linear_maps(model, layers, targets),
        trainable_token_indices=_embedding_rows(model, new_tokens) if new_tokens else None,
        # GPT-2 keeps its matrices transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    try:
        with without_deprecations():
            return get_peft_model(model, config)
    except ValueError as error:
        raise BadInput(f"No adapter fits {type(model).__name__}: {error}") from error


def save_lora(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Save adapters, the rows of new tokens and the tokenizer to `folder`; other embeddings are left out.

    `load_model(folder)` and `AutoPeftModelForCausalLM.from_pretrained(folder)` give the model back.
    """
    model.save_pretrained(str(folder), save_embedding_layers=False)
    tokenizer.save_pretrained(folder)


def _task(model: PreTrainedModel) -> str:
    """PEFT's word for the model's kind."""
    if model.get_output_embeddings() is None:
        return "FEATURE_EXTRACTION"
    return "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM"


def _linear_maps(model: PreTrainedModel, layers: tuple[int, int], targets: Sequence[str] | None) -> list[str]:
    """Full names of the linear maps within a range of blocks."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    from gnomon.core.models.architectures.sites import find_sites

    blocks = find_sites(model).top.blocks
    first, end = layers
    if not 0 <= first < end <= len(blocks):
        raise BadConfig(
            f"layers must be a range within 0..{len(blocks)}, the blocks of the model; got {first}..{end}."
        )
    within = {id(module) for block in blocks[first:end] for module in block.modules()}
    names = [
        name
        for name, module in model.named_modules()
        if id(module) in within
        and isinstance(module, nn.Linear | Conv1D)
        and (targets is None or name.rpartition(".")[2] in targets)
    ]
    if not names:
        raise BadInput(f"Blocks {first}..{end} of {type(model).__name__} have no linear map of such a name.")
    return names


def _embedding_rows(model: PreTrainedModel, new_tokens: Sequence[int]) -> dict[str, list[int]]:
    """Module name -> rows to train; a head that is tied follows the input embedding by itself."""
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    wanted = [into] if out is None or out.weight is into.weight else [into, out]
    return {
        name: list(new_tokens) for name, module in model.named_modules() if any(module is m for m in wanted)
    }


# New words for a model's vocabulary.

log = logging.getLogger(__name__)


def add_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """Teach tokenizer and model one ordinary token; returns its id.

    The token is not special: text decoded with special tokens skipped still has it. Its embedding starts as
    the mean of all others. Embeddings grow only when they have no spare row, and tied ones stay tied. A token
    that the tokenizer has already is left as it is.

    Args:
        model: a causal model, changed in place; adapters are added after the token, not before.
        tokenizer: its tokenizer, changed in place.
        token: the new token's text.

    Raises:
        ModelMismatch: the token is special in this tokenizer, or it does not stay one id and intact.
    """
    from transformers import AddedToken

    size = len(tokenizer)
    if token in tokenizer.all_special_tokens:
        raise ModelMismatch(
            f'"{token}" is a special token of "{tokenizer.name_or_path}" and vanishes from decoded text. '
            "Choose another, or a tokenizer in which it is ordinary."
        )
    is_new = token not in tokenizer.get_vocab()
    if is_new:
        tokenizer.add_tokens([AddedToken(token, special=False, normalized=False)])
    index = int(tokenizer.convert_tokens_to_ids(token))  # type: ignore[arg-type]
    _check_intact(tokenizer, token, index)
    rows: Any = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if is_new:
        _fill_with_mean(model, index, size)
        log.info('Added the token "%s" with id %d.', token, index)
    return index


def _check_intact(tokenizer: PreTrainedTokenizerBase, token: str, index: int) -> None:
    for before, after in (("", ""), ("x\n", "@@ -0,0 +1 @@\n+y"), ("x", " y"), (token, token)):
        ids = tokenizer(before + token + after, add_special_tokens=False)["input_ids"]
        times = (before + token + after).count(token)
        back = tokenizer.decode(ids, skip_special_tokens=True)
        if ids.count(index) != times or back.count(token) != times:
            raise ModelMismatch(
                f'The tokenizer of "{tokenizer.name_or_path}" does not keep "{token}" as one ordinary token: '
                f"{before + token + after!r} becomes {back!r}. Use another token or another model."
            )


@torch.no_grad()
def _fill_with_mean(model: PreTrainedModel, index: int, size: int) -> None:
    """Set row `index` of the embeddings to the mean of the first `known` rows; later rows are padding."""
    layers: list[Any] = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not layers[0].weight:
        layers.append(head)
    for layer in layers:
        layer.weight[index] = layer.weight[:size].float().mean(0).to(layer.weight.dtype)
        if getattr(layer, "bias", None) is not None:
            layer.bias[index] = layer.bias[:size].mean()
