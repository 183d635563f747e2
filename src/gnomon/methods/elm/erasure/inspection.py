"""What an erased model would predict, shown: likeliest tokens before and after reweighting, and how eta changes the target.

Whether a model tells experts from novices at all, asked before it is trained.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gnomon.core.models.sampling.text import token_texts
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.elm.erasure.design import Reweighting
from gnomon.methods.elm.erasure.target import Target, frozen_logits, target_of
from gnomon.methods.elm.texts.batches import Texts, text_mask
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
    for i, token in enumerate(token_texts(tokenizer, ids)):
        was, now = before[i].topk(min(shown, before.shape[-1])), target.value[0, i]
        places = now.topk(min(shown, len(now))).indices
        rows.append(
            {
                "token": token,
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


# Whether a model tells experts from novices at all, asked before it is trained.

log = logging.getLogger(__name__)

TEXTS, PART = 32, 8
"""Forget texts that personas are tried on, and how many are read at once."""

IDLE, SLIGHT = 0.01, 0.05
"""Share of q's mass that eta moves: below the first training is refused, below the second it is warned of."""


@dataclass(frozen=True)
class PersonaEffect:
    """How differently a model goes on with forget texts behind the expert's prefix and the novice's."""

    divergence: float
    """KL(novice || expert) per token, in nats."""
    moved: float
    """Total variation between q and what q would be if the personas agreed, per token: 0 erases nothing, 1 changes everything."""
    spread: float | None
    """KL between two wordings of the expert, per token, in nats: what words alone do. None: the expert has one wording."""

    @property
    def is_slight(self) -> bool:
        """Whether the personas nearly agree, or differ no more than two wordings of one of them do."""
        return self.moved < SLIGHT or (self.spread is not None and self.divergence <= self.spread)

    @property
    def numbers(self) -> str:
        """The numbers in words."""
        words = "" if self.spread is None else f", {self.spread:.2g} between two wordings of the expert"
        return (
            f"KL {self.divergence:.2g} nats a token{words}; eta moves {self.moved:.1%} of what is predicted"
        )


@torch.no_grad()
def persona_effect(model: Any, texts: Texts, design: Reweighting) -> PersonaEffect:
    """The effect of the personas on the first forget texts of each set.

    Args:
        model: the frozen model, without adapters; it is asked in evaluation mode.
        texts: with personas.
        design: how q is made.
    """
    sets = list({id(some): some for some in texts.forget}.values())
    rows = [text for some in sets for text in some[: max(1, TEXTS // len(sets))]]
    was_training = model.training
    model.eval()
    divergence, moved, spread, count = 0.0, 0.0, 0.0, 0
    for first in range(0, len(rows), PART):
        part = rows[first : first + PART]
        places = range(first, first + len(part))
        experts, novices, again = (
            [side[(i + shift) % len(side)] for i in places]
            for side, shift in ((texts.experts, 0), (texts.novices, 0), (texts.experts, 1))
        )
        passes = frozen_logits(model, part, [[texts.start] * len(part), experts, novices, again])
        bare, expert, novice, other = passes
        mask = text_mask(part).to(bare.device)
        within = replace(design, top_k=min(design.top_k, bare.shape[-1]))
        q, still = (target_of((bare, left, novice), mask, within) for left in (expert, novice))
        divergence += _divergence(novice[mask], expert[mask])
        spread += _divergence(other[mask], expert[mask])
        moved += _total_variation(q, still, mask)
        count += int(mask.sum())
    model.train(was_training)
    return PersonaEffect(
        divergence / count, moved / count, spread / count if len(texts.experts) > 1 else None
    )


def _divergence(logits: Tensor, other: Tensor) -> float:
    """KL of two rows of logits `[N, V]`, summed over the tokens."""
    p, q = logits.double().log_softmax(-1), other.double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum())


def _total_variation(target: Target, other: Target, mask: Tensor) -> float:
    """Half the summed difference of two sparse distributions, over the texts' tokens."""
    same = target.index[mask][:, :, None] == other.index[mask][:, None, :]  # [N, k, k]
    p, q = target.value[mask], other.value[mask]
    shared = torch.minimum(p, (same * q[:, None, :]).sum(-1)).sum(-1)
    return float((1 - shared).sum())


def check_personas(model: Any, texts: Texts, design: Reweighting) -> PersonaEffect:
    """The effect of the personas, where there is one: else training would take long and erase nothing.

    Raises:
        ModelMismatch: expert and novice agree.
    """
    effect = persona_effect(model, texts, design)
    advice = (
        "Write personas that this model tells apart (--personas FILE), name the concept in words of the forget texts, or raise "
        "--eta; gnomon elm target shows the effect."
    )
    if effect.moved < IDLE:
        raise ModelMismatch(
            "The model goes on with the forget texts as a novice just as it does as an expert "
            f"({effect.numbers}), so nothing would be erased. " + advice
        )
    if effect.is_slight:
        log.warning(
            "Expert and novice hardly differ on the forget texts (%s): little may be erased. %s",
            effect.numbers,
            advice,
        )
    return effect
