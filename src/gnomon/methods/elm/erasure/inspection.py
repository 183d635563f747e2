"""What an erased model would predict, shown: likeliest tokens before and after reweighting, and how eta changes the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from gnomon.errors import BadInput
from gnomon.methods.elm.erasure.design import Reweighting
from gnomon.methods.elm.erasure.target import Target, frozen_logits, target_of
from gnomon.methods.elm.texts.batches import text_mask
from gnomon.methods.elm.texts.personas import Personas, start_ids, text_ids


def _passes(model: Any, tokenizer: Any, text: str, personas: Personas) -> tuple[list[int], list[Any]]:
    ids = text_ids(tokenizer, text)
    if not ids:
        raise BadInput("The text has no tokens.")
    experts, novices = personas.encode(tokenizer)
    return ids, frozen_logits(model, [ids], [[start_ids(tokenizer)], [experts[0]], [novices[0]]])


def _target(ids: Sequence[int], passes: Sequence[Any], design: Reweighting, eta: float) -> Target:
    mask = text_mask([ids]).to(passes[0].device)
    within = replace(design, eta=eta, top_k=min(design.top_k, passes[0].shape[-1]))
    return target_of(passes, mask, within, noise=torch.Generator().manual_seed(0))


def along(
    model: Any, tokenizer: Any, text: str, personas: Personas, design: Reweighting, *, shown: int = 5
) -> list[dict[str, Any]]:
    """Per token of a text what may follow it: likeliest tokens before and after, entropy and support of both.

    Args:
        model: the frozen model in evaluation mode.
        tokenizer: its tokenizer.
        text: about the concept.
        personas: the first expert and the first novice are used.
        design: how the target is made.
        shown: tokens named.

    Raises:
        BadInput: the text has no tokens.
    """
    ids, passes = _passes(model, tokenizer, text, personas)
    target = _target(ids, passes, design, design.eta)
    before = passes[0][0].double().log_softmax(-1)
    entropy = torch.special.entr(before.exp()).sum(-1)
    edit = (passes[2] - passes[1])[0].double()
    rows = []
    for i, token in enumerate(ids):
        was, now = before[i].topk(min(shown, before.shape[-1])), target.value[0, i]
        places = now.topk(min(shown, len(now))).indices
        rows.append(
            {
                "token": tokenizer.decode([token]),
                "before": _named(tokenizer, was.indices, was.values.exp()),
                "after": _named(tokenizer, target.index[0, i][places], now[places]),
                "entropy before": float(entropy[i]),
                "entropy after": float(target.entropy[0, i]),
                "support": float(target.support[0, i]),
                "edit": float(edit[i, was.indices[0]] - edit[i].mean()),
            }
        )
    return rows


def eta_table(
    model: Any,
    tokenizer: Any,
    text: str,
    personas: Personas,
    design: Reweighting,
    etas: Sequence[float],
) -> list[dict[str, Any]]:
    """Per eta: mean support of q, share of places where it is one-hot, and how often the text's own next token is its likeliest."""
    ids, passes = _passes(model, tokenizer, text, personas)
    own = torch.tensor(ids[1:], device=passes[0].device)
    rows = []
    for eta in etas:
        target = _target(ids, passes, design, eta)
        index, value = target.index[0, :-1], target.value[0, :-1]
        likeliest = index.gather(-1, value.argmax(-1, keepdim=True)).squeeze(-1)
        mass = (value * (index == own[:, None])).sum(-1)
        rows.append(
            {
                "eta": eta,
                "mean support": target.mean_support,
                "one-hot": float((target.support[0] < 1.05).float().mean()),
                "own token likeliest": float((likeliest == own).float().mean()) if len(own) else None,
                "own token's probability": float(mass.mean()) if len(own) else None,
            }
        )
    return rows


def _named(tokenizer: Any, ids: Any, probabilities: Any) -> str:
    pairs = zip(ids.tolist(), probabilities.tolist(), strict=True)
    return "  ".join(f"{tokenizer.decode([i])!r} {p:.3f}" for i, p in pairs)
