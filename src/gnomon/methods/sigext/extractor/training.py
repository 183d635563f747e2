"""Training of an extractor, and the choice of its threshold and number of phrases on validation rows.

The loss is weighted, the epoch with the best recall is kept, and the threshold is a percentile of the validation scores.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from gnomon.core.metrics.rouge import rouge
from gnomon.core.run import Run
from gnomon.core.train import Evaluation, Example, History, TrainConfig, fit
from gnomon.core.train.loop import TrainRun
from gnomon.errors import BadInput
from gnomon.methods.sigext.config import PAPER_TRAINING
from gnomon.methods.sigext.extractor.batches import IGNORED, DocumentBatches, window_of
from gnomon.methods.sigext.extractor.encoding import DocumentEncoder
from gnomon.methods.sigext.phrases.data import Row
from gnomon.methods.sigext.phrases.phrases import Phrase
from gnomon.methods.sigext.phrases.selection import Ranks, measure, select, threshold

log = logging.getLogger(__name__)

WEIGHTS = (0.1, 1.0)
"""Weight of a token that is not salient and of one that is."""
LEAST_TRAIN, LEAST_VALIDATION = 1, 3
"""Positive phrases that a document must have to be trained on, and to choose the epoch by."""
AT = 20
"""K of the recall that chooses the epoch."""
BEST = f"validation recall@{AT}", "validation R-precision"
"""What says which epoch is best: by recall, and by R-precision where that is the same."""


class Trainable(Protocol):
    """What training needs of an extractor, see `SigExtModel`."""

    model: Any
    tokenizer: Any
    settings: Any
    """Its `Settings`; `tau` is set after training."""
    encoder: DocumentEncoder
    batch_tokens: int

    def score_rows(self, rows: Sequence[Row]) -> list[list[float]]:
        """The score of each phrase of each row, NaN for those beyond the encoder's reach."""
        ...


def weighted_loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Cross entropy summed over labelled tokens, weighted 0.1 for negative and 1 for positive ones.

    Args:
        model: a token classifier.
        batch: its inputs and `labels`, [B, T], -100 for tokens that do not count.

    Source: the paper's weighted loss, with the weights of the released code.
    """
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    logits = model(**inputs).logits.float()
    weight = torch.tensor(WEIGHTS, device=logits.device)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch["labels"].flatten(), weight=weight, ignore_index=IGNORED, reduction="sum"
    )


@dataclass(frozen=True)
class Trained:
    """Curves and figures of a training."""

    history: History
    """Loss per step, and validation per epoch."""
    validation: Ranks | None
    """Of the epoch that was kept; None without a validation set."""
    best_epoch: float | None
    """Epoch that was kept; None: the last."""
    dropped_train: int
    """Documents left out because too few phrases within the encoder's reach are positive."""
    dropped_validation: int
    """The same of the validation set."""
    unscored: int
    """Training phrases beyond the encoder's reach."""


def train_extractor(
    extractor: Trainable,
    rows: Sequence[Row],
    validation: Sequence[Row],
    cfg: TrainConfig,
    *,
    run: TrainRun,
    batch_tokens: int,
) -> Trained:
    """Train in place and set the threshold.

    A training that was killed goes on from its last checkpoint to bit for bit the same extractor.

    Args:
        extractor: untrained, or trained on something else.
        rows: documents with labels.
        validation: documents with labels that are not among them; empty: the last epoch is kept and nothing is cut off by score.
        cfg: optimisation; with `keep_best` the best epoch's weights are put back.
        run: folder, random numbers, log.
        batch_tokens: tokens computed at once.

    Raises:
        BadInput: no document has a positive phrase that the encoder reaches.
    """
    examples, dropped, unscored = _examples(extractor, rows)
    chosen = [row for row in validation if row.n_positive >= LEAST_VALIDATION]
    model = extractor.model
    _freeze_global_attention(model)
    batches = DocumentBatches(
        examples,
        cfg.batch_size,
        batch_tokens=batch_tokens,
        pad_id=extractor.tokenizer.pad_token_id,
        multiple=window_of(model.config),
        generator=run.rng.child("batches"),
    )

    def evaluate(_: Any) -> dict[str, float]:
        ranks = measure([row.labels for row in chosen], extractor.score_rows(chosen), ks=(5, 10, AT))
        figures = {name: float(value) for name, value in ranks.figures().items() if value is not None}
        return {f"validation {name}": value for name, value in figures.items()}

    if validation and not chosen:
        log.warning(
            "No validation document has %d positive phrases: the last epoch is kept.", LEAST_VALIDATION
        )
    evaluation = Evaluation(evaluate, BEST, is_loss=False)
    if not chosen:
        cfg = replace(cfg, keep_best=False)
    history = fit(model, batches, weighted_loss, cfg, run=run, eval=evaluation if chosen else None)
    _set_threshold(extractor, validation)
    ranks = (
        measure([row.labels for row in validation], extractor.score_rows(validation)) if validation else None
    )
    return Trained(
        history,
        ranks,
        _best_epoch(history) if cfg.keep_best else None,
        dropped,
        len(validation) - len(chosen),
        unscored,
    )


def fit_rows(
    extractor: Trainable,
    rows: Sequence[Row],
    validation: Sequence[Row],
    *,
    train: TrainConfig | None,
    folder: Path | None,
    seed: int,
) -> None:
    """`train_extractor` without a run; see `SigExtModel.fit`."""
    with tempfile.TemporaryDirectory() if folder is None else nullcontext(str(folder)) as where:
        run = Run(
            Path(where) / "run" if folder is None else Path(where),
            method="sigext",
            verb="fit",
            seed=seed,
            quiet=True,
        )
        try:
            train_extractor(
                extractor,
                rows,
                validation,
                train or PAPER_TRAINING,
                run=run,
                batch_tokens=extractor.batch_tokens,
            )
        finally:
            run.close()


def _examples(extractor: Trainable, rows: Sequence[Row]) -> tuple[list[Example], int, int]:
    """Documents as tokens with labels; how many were dropped, and how many phrases are beyond reach."""
    examples, unscored = [], 0
    for row in rows:
        if not row.labels and row.phrases:
            raise BadInput(
                f'Row "{row.id}" has no reference summary: nothing says which phrases are salient.'
            )
        encoded = extractor.encoder.encode(row.document, row.phrases)
        unscored += encoded.n_missing
        labels = encoded.labels(row.labels)
        if labels.count(1) and row.n_positive >= LEAST_TRAIN:
            examples.append(Example(encoded.input_ids, labels))
    if not examples:
        raise BadInput(
            f"None of the {len(rows)} training documents has a phrase that its summary says. Do the columns belong together?"
        )
    return examples, len(rows) - len(examples), unscored


def _freeze_global_attention(model: Any) -> None:
    """Longformer's weights of global attention, which no token has here: without gradients they would stop several processes."""
    for name, weight in model.named_parameters():
        if ".query_global." in name or ".key_global." in name or ".value_global." in name:
            weight.requires_grad_(False)


def _set_threshold(extractor: Trainable, validation: Sequence[Row]) -> None:
    settings = extractor.settings
    if not validation:
        log.warning("There is no validation set: no phrase is cut off by its score (tau = -inf).")
    tau = threshold(extractor.score_rows(validation), settings.percentile)
    extractor.settings = replace(settings, tau=tau)


def _best_epoch(history: History) -> float | None:
    validated = [record for record in history.records if BEST[0] in record]
    best = max(validated, key=lambda record: tuple(record[name] for name in BEST), default=None)
    return None if best is None else best["epoch"]


# The number of phrases and the threshold

Score = Callable[[int, float, list[list[Phrase]]], tuple[float, float, float] | None]
"""K, percentile and the phrases shown -> precision, recall and F in points; None where they could not be measured."""


@dataclass(frozen=True)
class Tuned:
    """The chosen number of phrases and threshold, and all trials."""

    k: int
    """Phrases shown, at most."""
    percentile: float
    """Share of phrases that the threshold cuts off, in percent."""
    tau: float
    """The threshold itself."""
    tried: list[dict[str, Any]]
    """A row per K and percentile: `K`, `percentile`, `tau`, `phrases` (mean number shown), `precision`, `recall`, `F`."""


def tune(
    rows: Sequence[Row],
    scores: Sequence[Sequence[float]],
    ks: Sequence[int],
    percentiles: Sequence[float],
    score: Score | None = None,
) -> Tuned:
    """The K and percentile with the best F; of equals the fewer phrases, then the higher threshold.

    Args:
        rows: validation documents with references.
        scores: of their phrases.
        ks: numbers to try.
        percentiles: thresholds to try.
        score: how a choice is measured; None: by the ROUGE-1 of the phrases themselves against the reference.

    Raises:
        BadInput: nothing could be measured.
    """
    score = score or proxy(rows)
    tried: list[dict[str, Any]] = []
    for percentile in percentiles:
        tau = threshold(scores, percentile)
        for k in ks:
            shown = [
                [row.phrases[i] for i in select(row.phrases, values, k, tau=tau)]
                for row, values in zip(rows, scores, strict=True)
            ]
            measured = score(k, percentile, shown)
            if measured is not None:
                mean = sum(map(len, shown)) / len(shown)
                numbers = dict(zip(("precision", "recall", "F"), measured, strict=True))
                tried.append({"K": k, "percentile": percentile, "tau": tau, "phrases": mean, **numbers})
    if not tried:
        raise BadInput("No number of phrases could be measured: there were no summaries.")
    best = max(tried, key=lambda row: (row["F"], -row["K"], row["percentile"]))
    return Tuned(best["K"], best["percentile"], best["tau"], tried)


def proxy(rows: Sequence[Row]) -> Score:
    """Score phrases by their own ROUGE-1 against the reference, without a language model."""

    def score(_: int, __: float, shown: list[list[Phrase]]) -> tuple[float, float, float]:
        texts = ["; ".join(phrase.text for phrase in phrases) for phrases in shown]
        table = rouge(texts, [row.summary for row in rows], ("rouge1",))["rouge1"]
        precision, recall, f = (100 * table.mean(axis=0)).tolist()
        return precision, recall, f

    return score
