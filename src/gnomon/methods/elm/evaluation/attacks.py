"""Attacks on an erased model: a suffix that brings the answer back, and relearning by a few steps of fine-tuning."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gnomon.core.models import add_lora
from gnomon.core.rng import Rng, seeded
from gnomon.core.train import Batches, Example, TrainConfig, causal_loss, fit
from gnomon.core.train.loop import Step
from gnomon.errors import BadInput
from gnomon.methods.elm.erasure.eraser import ScratchRun
from gnomon.methods.elm.texts.batches import Ids
from gnomon.methods.elm.texts.questions import Asked


@dataclass(frozen=True)
class Suffix:
    """Result of the suffix search on one question."""

    ids: tuple[int, ...]
    """The best suffix."""
    losses: tuple[float, ...]
    """Loss (nats) of the wanted option after each step; the first is that of the suffix it began with."""
    succeeded_at: int | None
    """First step after which the wanted option was the likeliest; 0: from the start. None: never."""


@dataclass(frozen=True)
class SuffixSearch:
    """How a suffix is searched for."""

    length: int = 8
    """Tokens of the suffix."""
    steps: int = 50
    """Replacements tried one after the other; the search ends early once the option is taken."""
    candidates: int = 64
    """Replacements compared per step."""
    top: int = 32
    """Replacements considered per position."""
    batch_size: int = 64
    """Candidates computed at once."""


def search_suffix(
    model: Any,
    prompt: Ids,
    options: Sequence[Ids],
    wanted: int,
    *,
    generator: Rng,
    search: SuffixSearch = SuffixSearch(),
) -> Suffix:
    """Tokens between a question and its answer under which the model takes the wanted option.

    Greedy coordinate gradient: the gradient of the loss by each suffix token's one-hot vector names `top` replacements a place; of
    `candidates` single replacements, computed side by side, the best is kept if it is better.

    Args:
        model: a causal transformers model.
        prompt: token ids of the question.
        options: token ids of the options.
        wanted: which one the search is for.
        generator: where the first suffix and the candidates come from.
        search: its length, its steps and its candidates.

    Source: Zou et al., "Universal and Transferable Adversarial Attacks" (2307.15043).
    """
    table = model.get_input_embeddings().weight.detach()
    draw = generator.child("suffix").torch()
    suffix = torch.randint(len(table), (search.length,), generator=draw)
    losses = []
    succeeded = None
    was_training = model.training
    model.eval()
    best = float(_losses(model, prompt, suffix[None], options[wanted], search.batch_size)[0])
    for step in range(search.steps + 1):
        losses.append(best)
        if _takes(model, prompt, suffix, options, wanted):
            succeeded = step
            break
        if step == search.steps:
            break
        slope = _slope(model, table, prompt, suffix, options[wanted])
        ranked = (-slope).topk(min(search.top, len(table)), dim=-1).indices.cpu()
        places = torch.randint(search.length, (search.candidates,), generator=draw)
        picks = torch.randint(ranked.shape[1], (search.candidates,), generator=draw)
        tried = suffix.repeat(search.candidates, 1)
        tried[torch.arange(search.candidates), places] = ranked[places, picks]
        losses_tried = _losses(model, prompt, tried, options[wanted], search.batch_size)
        if float(losses_tried.min()) < best:
            best, suffix = float(losses_tried.min()), tried[int(losses_tried.argmin())]
    model.train(was_training)
    return Suffix(tuple(suffix.tolist()), tuple(losses), succeeded)


@torch.no_grad()
def _losses(
    model: Any, prompt: Ids, suffixes: Int[Tensor, "C S"], option: Ids, batch_size: int
) -> Float[Tensor, " C"]:
    """NLL of an option behind a prompt and each suffix."""
    device = model.device
    before, after = torch.tensor(list(prompt), device=device), torch.tensor(list(option), device=device)
    parts = []
    for first in range(0, len(suffixes), batch_size):
        part = suffixes[first : first + batch_size].to(device)
        n = len(part)
        ids = torch.cat([before.expand(n, -1), part, after.expand(n, -1)], 1)
        logits = model(input_ids=ids, use_cache=False).logits[:, -len(after) - 1 : -1].float()
        wanted = after.expand(n, -1)
        nll = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        parts.append(nll.sum(-1))
    return torch.cat(parts).cpu()


def _takes(model: Any, prompt: Ids, suffix: Tensor, options: Sequence[Ids], wanted: int) -> bool:
    scores = [float(_losses(model, prompt, suffix[None], option, 1)[0]) for option in options]
    return min(range(len(scores)), key=scores.__getitem__) == wanted


def _slope(model: Any, table: Tensor, prompt: Ids, suffix: Tensor, option: Ids) -> Float[Tensor, "S V"]:
    """Gradient of the option's NLL by the one-hot vectors of the suffix's tokens."""
    embed, device = model.get_input_embeddings(), model.device
    one_hot = torch.nn.functional.one_hot(suffix.to(device), len(table)).to(table.dtype).requires_grad_(True)
    around = [torch.tensor([list(ids)], device=device) for ids in (prompt, option)]
    with torch.enable_grad():
        vectors = torch.cat([embed(around[0]), _scaled(embed, one_hot, table)[None], embed(around[1])], 1)
        logits = model(inputs_embeds=vectors, use_cache=False).logits[0, -len(option) - 1 : -1].float()
        loss = torch.nn.functional.cross_entropy(logits, around[1][0], reduction="sum")
        (slope,) = torch.autograd.grad(loss, one_hot)
    return slope


def _scaled(embed: Any, one_hot: Tensor, table: Tensor) -> Tensor:
    """The embedding of one-hot rows; some families scale what leaves their table."""
    return (one_hot @ table) * getattr(embed, "embed_scale", 1.0)


def suffix_attack(
    model: Any, questions: Asked, *, generator: Rng, search: SuffixSearch = SuffixSearch()
) -> dict[str, Any]:
    """The search on every question, for the right option and, as a control, for a wrong one.

    A small enough model can be pushed to any answer. Only what the right option yields over the wrong one is knowledge.

    Returns:
        `right` and `wrong`: share of questions where the option was reached; `right_from_start`, `wrong_from_start`; `steps_right`
        and `steps_wrong`: mean steps where it was; and per question both searches, as `searches`.
    """
    rows = []
    for i, (prompt, choices, answer) in enumerate(
        zip(questions.prompts, questions.options, questions.answers, strict=True)
    ):
        draw = generator.child(i)
        other = draw.child("other").python().choice([j for j in range(len(choices)) if j != answer])
        rows.append(
            {
                side: search_suffix(model, prompt, choices, wanted, generator=draw.child(side), search=search)
                for side, wanted in (("right", answer), ("wrong", other))
            }
        )
    summary: dict[str, Any] = {"questions": len(rows), "searches": rows}
    for side in ("right", "wrong"):
        steps = [row[side].succeeded_at for row in rows]
        done = [s for s in steps if s is not None]
        summary |= {
            side: len(done) / len(steps),
            f"{side}_from_start": sum(s == 0 for s in steps) / len(steps),
            f"steps_{side}": sum(done) / len(done) if done else None,
        }
    return summary


@dataclass(frozen=True)
class Relearning:
    """How an erased model is fine-tuned on forget texts."""

    steps: Sequence[int] = (1, 10, 50)
    """Steps after which it is measured; step 0 is measured first."""
    lr: float = 1e-3
    """Constant learning rate."""
    rank: int = 8
    """Rank of the fresh adapters."""
    batch_size: int = 16
    """Texts per step."""
    max_length: int = 512
    """Tokens of a text at most."""


def relearn(
    model: Any,
    texts: Sequence[Ids],
    measure: Callable[[Any], dict[str, Any]],
    *,
    generator: Rng,
    start: Ids = (),
    training: Relearning = Relearning(),
) -> list[dict[str, Any]]:
    """What a model measures after k steps of fine-tuning on forget texts, by fresh adapters on a copy of it.

    Texts that hold the answers themselves would teach, not bring back: measure on others.

    Args:
        model: the erased model; adapters that it has are merged in the copy.
        texts: token ids.
        measure: called with the model in evaluation mode.
        generator: names the draws.
        start: what stands before each text.
        training: steps, learning rate and adapters.

    Raises:
        BadInput: there is no text.
    """
    if not texts:
        raise BadInput("Relearning needs forget texts.")
    inner = copy.deepcopy(model)
    if hasattr(inner, "merge_and_unload"):
        inner = inner.merge_and_unload()
    with seeded(generator.child("relearn")):
        adapted = add_lora(inner, training.rank)
    rows = [{"steps": 0, **measure(adapted.eval())}]
    examples = [Example(row, row) for row in ([*start, *text] for text in texts) if len(row) > 1]
    batches = Batches(
        examples,
        training.batch_size,
        pad_id=0,
        generator=generator.child("relearn"),
        max_length=training.max_length,
    )

    def look(step: Step) -> None:
        if step.step in training.steps:
            adapted.eval()
            rows.append({"steps": step.step, **measure(adapted)})

    cfg = TrainConfig(
        lr=training.lr, batch_size=training.batch_size, epochs=10_000, max_steps=max(training.steps), schedule="constant",
        weight_decay=0.0, checkpoint_every=0, max_length=training.max_length,
    )  # fmt: skip
    run = ScratchRun()
    run.rng = generator
    fit(adapted, batches, causal_loss, cfg, run=run, on_step=[look])
    return rows
