"""New words for a model's vocabulary."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from gnomon.errors import ModelMismatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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

    known = len(tokenizer)
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
        _fill_with_mean(model, index, known)
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
def _fill_with_mean(model: PreTrainedModel, index: int, known: int) -> None:
    """Set row `index` of the embeddings to the mean of the first `known` rows; later rows are padding."""
    layers: list[Any] = [model.get_input_embeddings()]
    head = model.get_output_embeddings()
    if head is not None and head.weight is not layers[0].weight:
        layers.append(head)
    for layer in layers:
        layer.weight[index] = layer.weight[:known].float().mean(0).to(layer.weight.dtype)
        if getattr(layer, "bias", None) is not None:
            layer.bias[index] = layer.bias[:known].mean()
