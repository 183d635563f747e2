"""The rivals as arms: each prepares a model and gives the loss that it is trained with, on the same batches as ELM."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from gnomon.core.train import History, TrainConfig, fit
from gnomon.core.train.loop import TrainRun
from gnomon.core.train.optim import decay_groups
from gnomon.methods.elm.erasure.design import Constants, Rival
from gnomon.methods.elm.erasure.eraser import ScratchRun
from gnomon.methods.elm.rivals.likelihood import NPO, WHP, Ascent, SimNPO, reinforce
from gnomon.methods.elm.rivals.representation import RMU, RepNoise
from gnomon.methods.elm.texts.batches import Feed, Texts

Loss = Callable[[Any, Mapping[str, Tensor]], Tensor]


def train_baseline(
    model: Any,
    texts: Texts,
    method: Rival,
    constants: Constants,
    cfg: TrainConfig,
    *,
    run: TrainRun,
    reinforced_run: TrainRun | None = None,
    **watchers: Any,
) -> History:
    """Train `model` in place with a baseline; all of its weights, but RMU's three maps.

    Args:
        model: a causal transformers model.
        texts: the data; fluent texts are not used.
        method: `rmu`, `repnoise`, `whp` (simplified), `ga`, `graddiff`, `npo` or `simnpo`.
        constants: the baselines' own.
        cfg: the training.
        run: folder, random numbers, log.
        reinforced_run: the same for WHP's reinforced model; None: a folder for the moment.
        **watchers: as in `gnomon.core.train.fit`.

    Raises:
        BadInput: there is no text of a kind that is needed.
    """
    model.requires_grad_(True)
    loss = loss_of(model, texts, method, constants, cfg, run, reinforced_run or ScratchRun(run.rng.seed))
    feed = Feed(
        replace(texts, fluent=()),
        cfg.batch_size,
        generator=run.rng.child("feed"),
        micro_batch_size=cfg.micro_batch_size,
    )
    return fit(model, feed, loss, cfg, run=run, groups=decay_groups(model, cfg.weight_decay), **watchers)


def loss_of(
    model: Any,
    texts: Texts,
    method: Rival,
    constants: Constants,
    cfg: TrainConfig,
    run: TrainRun,
    reinforced_run: TrainRun,
) -> Loss:
    """What a baseline minimises; it may freeze a part of `model`, and keeps a copy of it where it needs one."""
    if method == "ga":
        return Ascent(0.0)
    if method == "graddiff":
        return Ascent(constants.retain_weight)
    if method == "repnoise":
        return RepNoise(
            model, alpha=constants.repnoise_alpha, beta=constants.repnoise_beta, generator=run.rng
        )
    if method == "simnpo":
        return SimNPO(constants.simnpo_beta, constants.simnpo_gamma, constants.retain_weight)
    reference = copy.deepcopy(model).requires_grad_(False)
    if method == "npo":
        return NPO(reference, constants.npo_beta, constants.retain_weight)
    if method == "rmu":
        return RMU(
            model,
            reference,
            c=constants.rmu_c,
            alpha=constants.rmu_alpha,
            generator=run.rng,
            layer=constants.rmu_layer,
        )
    more = replace(cfg, lr=constants.whp_lr, epochs=1_000, max_steps=constants.whp_steps, track=())
    together = [text for i, some in enumerate(texts.forget) if _is_first(texts, i) for text in some]
    taught = reinforce(reference, together, texts.start, more, rank=constants.whp_rank, run=reinforced_run)
    return WHP(taught, constants.whp_strength)


def _is_first(texts: Texts, i: int) -> bool:
    return all(texts.forget[j] is not texts.forget[i] for j in range(i))
