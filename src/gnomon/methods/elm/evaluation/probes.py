"""What a linear probe still finds: the answer, read from the state of a question's last token, layer by layer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gnomon.core.models.batch import pad
from gnomon.core.models.handle import as_handle
from gnomon.errors import BadInput
from gnomon.methods.elm.texts.batches import Ids

log = logging.getLogger(__name__)

FOLDS = 5

Floats = NDArray[np.float64]


@torch.no_grad()
def layer_states(
    model: Any, tokenizer: Any, prompts: Sequence[Ids], *, batch_size: int = 32
) -> list[NDArray[np.float32]]:
    """The last token's state before the first block and after each, L + 1 arrays `[N, D]`."""
    handle = as_handle(model, tokenizer)
    sites = ["embed", *(f"{i}.resid_post" for i in range(len(handle.sites.top.blocks)))]
    parts: list[list[NDArray[np.float32]]] = [[] for _ in sites]
    for first in range(0, len(prompts), batch_size):
        batch = pad(prompts[first : first + batch_size], 0, "left").to(handle.model.device)
        states = handle.capture(batch, sites, where="last")
        for part, site in zip(parts, sites, strict=True):
            part.append(states[site].float().cpu().numpy())
    return [np.concatenate(part) for part in parts]


def probe_accuracy(
    states: NDArray[np.float32], labels: Sequence[int], groups: Sequence[str], *, folds: int = FOLDS
) -> float:
    """Accuracy of logistic regression from states `[N, D]`, over folds that keep each group together.

    Groups matter: a probe that has seen one question about a thing knows the answers of all others about it.

    Raises:
        BadInput: there are fewer groups than folds, or there is one label only.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wanted = np.asarray(labels)
    if len(set(groups)) < folds:
        raise BadInput(
            f"A probe in {folds} folds needs questions about at least as many things; got {len(set(groups))}."
        )
    if len(set(labels)) < 2:
        raise BadInput("A probe needs at least two different answers; all are the same.")
    right = 0
    for train, test in GroupKFold(folds).split(states, wanted, list(groups)):
        if len(set(wanted[train].tolist())) < 2:
            right += int((wanted[test] == wanted[train][0]).sum())
            continue
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(states[train], wanted[train])
        right += int((probe.predict(states[test]) == wanted[test]).sum())
    return right / len(wanted)


def leakage(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Ids],
    labels: Sequence[int],
    groups: Sequence[str],
    *,
    folds: int = FOLDS,
    batch_size: int = 32,
) -> list[float]:
    """Probe accuracy at the embedding and after each block, from the bottom to the top. Errors as in `probe_accuracy`.

    At the embedding the last token knows nothing of those before it: a probe that finds something there reads it off the questions.
    """
    states = layer_states(model, tokenizer, prompts, batch_size=batch_size)
    return [probe_accuracy(layer, labels, groups, folds=folds) for layer in states]


def majority(labels: Sequence[int]) -> float:
    """Share of the commonest label: the accuracy of a probe without information.

    >>> majority([0, 1, 1, 2])
    0.5
    """
    return max(np.bincount(np.unique(np.asarray(labels), return_inverse=True)[1])) / len(labels)  # type: ignore[no-any-return]
