"""What hidden states would predict if they were the last: logits through the model's own head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core.models.sites import Sites
from gnomon.errors import BadInput, ModelMismatch

FORMS = ("logits", "logprobs", "probs")


def head_logits(
    model: Any, sites: Sites, hidden: Float[Tensor, "*N D"], *, normed: bool = False
) -> Float[Tensor, "*N V"]:
    """The model's own way from the last residual stream to logits, soft caps and scales included.

    Args:
        model: a transformers model with an output embedding.
        sites: its sites.
        hidden: residual stream at any block.
        normed: True when it has passed the final norm already, or shall not pass it.

    Raises:
        ModelMismatch: the model has no output embedding.
    """
    head, config, top = model.get_output_embeddings(), model.config, sites.top
    if head is None:
        raise ModelMismatch(f"{type(model).__name__} has no output embedding and predicts no tokens.")
    if not normed and top.final_norm is not None:
        # Not as a call: hooks at the site final_norm are about the model's own pass.
        hidden = top.final_norm.forward(hidden)
    if top.project is not None:
        hidden = top.project(hidden)
    if getattr(config, "scale_decoder_outputs", False):
        hidden = hidden * config.d_model**-0.5
    logits: Tensor = head(hidden)
    cap = getattr(config.get_text_config(), "final_logit_softcapping", None)
    return logits if cap is None else torch.tanh(logits / cap) * cap


def token_scores(
    model: Any,
    sites: Sites,
    hidden: Float[Tensor, "*N D"],
    token_ids: Sequence[int],
    *,
    form: str = "probs",
    normed: bool = False,
    chunk: int = 256,
) -> Float[Tensor, "*N W"]:
    """The lens of given tokens only: logits over the whole vocabulary exist for `chunk` states at a time.

    Args:
        model: a transformers model with an output embedding.
        sites: its sites.
        hidden: residual streams, of several layers if stacked.
        token_ids: the tokens asked for, W of them.
        form: `"logits"`, `"logprobs"` or `"probs"` (float32, over the whole vocabulary).
        normed: as for `head_logits`.
        chunk: states at a time.

    Raises:
        BadInput: an unknown form, or a token that the vocabulary does not have.
    """
    if form not in FORMS:
        raise BadInput(f'form must be one of {", ".join(FORMS)}; got "{form}".')
    wanted = torch.tensor(list(token_ids), dtype=torch.long, device=hidden.device)
    found = []
    for part in hidden.reshape(-1, hidden.shape[-1]).split(chunk):
        logits = head_logits(model, sites, part, normed=normed)
        if len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < logits.shape[-1]:
            raise BadInput(f"Token ids must lie in 0..{logits.shape[-1] - 1}; got {list(token_ids)}.")
        scores = logits[:, wanted]
        if form != "logits":
            scores = scores.float() - logits.float().logsumexp(-1, keepdim=True)
        found.append(scores.exp() if form == "probs" else scores)
    if not found:
        return hidden.new_zeros((*hidden.shape[:-1], len(wanted)))
    return torch.cat(found).view(*hidden.shape[:-1], len(wanted))
