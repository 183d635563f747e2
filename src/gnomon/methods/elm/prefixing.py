"""Texts behind prefixes of different lengths, their tokens in the same columns of every row.

    pad pad BOS x1 x2 x3 pad          the bare text
    BOS c-1 c-2 x1 x2 x3 pad          behind the expert's prefix
    pad BOS c+1 x1 x2 x3 pad          behind the novice's

Prefixes are padded on the left and texts on the right, so that the last T columns belong to the text in all rows: row i of each
pass predicts the same token. The text's ids are the same in every row because they are joined as ids.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gnomon.core.models.batch import Batch
from gnomon.errors import BadInput

Ids = Sequence[int]


def join(prefixes: Sequence[Ids], texts: Sequence[Ids], pad_id: int = 0) -> tuple[Batch, int]:
    """Texts behind prefixes, one each, as a batch; and T, the number of columns at the right that belong to the texts.

    Raises:
        BadInput: a text has no token, or there is not one prefix per text.
    """
    if len(prefixes) != len(texts):
        raise BadInput(f"{len(texts)} texts need as many prefixes; got {len(prefixes)}.")
    for i, text in enumerate(texts):
        if not len(text):
            raise BadInput(f"Text {i} has no tokens. Leave empty texts out.")
    left, right = max(map(len, prefixes)), max(map(len, texts))
    ids = torch.full((len(texts), left + right), pad_id, dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, (prefix, text) in enumerate(zip(prefixes, texts, strict=True)):
        whole = torch.tensor([*prefix, *text])
        start = left - len(prefix)
        ids[row, start : start + len(whole)] = whole
        mask[row, start : start + len(whole)] = True
    return Batch(ids, mask), right


def text_mask(texts: Sequence[Ids]) -> Bool[Tensor, "B T"]:
    """True at the tokens of each text, in the columns of `join`."""
    lengths = torch.tensor([len(text) for text in texts])
    found: Tensor = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    return found


def text_logits(model: Any, batch: Batch, width: int) -> Float[Tensor, "B T V"]:
    """Logits at the last `width` columns; those at other columns are not made where the model can leave them out."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    can = "logits_to_keep" in inspect.signature(base.forward).parameters
    options = {"logits_to_keep": width} if can else {}
    logits: Tensor = model(**batch.inputs("causal"), **options, use_cache=False).logits
    return logits[:, -width:]
