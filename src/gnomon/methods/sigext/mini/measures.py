"""One seed of the miniature: a trained extractor, summaries by a writer that does not know the policy, and real text."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from gnomon.core.data.corpora import stdlib_documentation
from gnomon.core.files import write_json
from gnomon.core.llm import LLM, LLMConfig, Role
from gnomon.core.metrics.rouge import rouge
from gnomon.core.models import train_bpe
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun
from gnomon.core.train import TrainConfig
from gnomon.methods.sigext.council import TARGET
from gnomon.methods.sigext.extractor.batches import padded, window_of
from gnomon.methods.sigext.extractor.model import Settings, SigExtModel
from gnomon.methods.sigext.extractor.training import Tuned, train_extractor, tune, weighted_loss
from gnomon.methods.sigext.mini.world import (
    TEMPLATE,
    Scale,
    as_rows,
    make_rows,
    save_encoder,
    tokenizer,
    train_writer,
)
from gnomon.methods.sigext.phrases.data import Columns, Reading, Row, to_row
from gnomon.methods.sigext.phrases.phrases import Phrase
from gnomon.methods.sigext.phrases.selection import Ranks, measure
from gnomon.methods.sigext.summaries.baselines import rank_phrases
from gnomon.methods.sigext.summaries.evaluation import Evaluation, evaluate, matched_length
from gnomon.methods.sigext.summaries.summaries import Hints, Sampling, Summary, summarise

K = 4
"""Phrases shown in every arm, for every nine facts of a document: a reference tells 3 of them in the mean."""
KS = (1, 2, 3, 4, 6, 8)
"""Of the K curve, which shows phrases under the threshold too: the threshold would end it at about 4."""
DIAL = "sigext without threshold"
ARMS = (
    "none",
    "random",
    "first",
    "tf-idf",
    "textrank",
    "rake",
    "yake",
    "sigext",
    "words",
    "sentences",
    "oracle",
)
SIMULATOR = "sim:summariser?uptake=0.8&base=0.33"
"""The simulated writer."""
SETTINGS = LLMConfig(concurrency=256, cache="none")
"""Settings of the writers' requests."""


@dataclass(frozen=True)
class World:
    """Documents, phrases and extractor of one seed, shared by both writers."""

    rows: list[Row]
    """Test documents."""
    shown: dict[tuple[str, int], list[list[Phrase]]]
    """Arm and K -> phrases of each document."""
    ranks: dict[str, Ranks]
    """Order -> ranking metrics: the extractor, random order and RAKE."""
    tuned: Tuned
    """K and percentile that `tune-k` would choose on the validation documents."""
    tau: float
    """The extractor's threshold."""
    unit: int = 1
    """Nines of facts in a document: what K is multiplied by."""


def build_world(scale: Scale, seed: int, part: PartOfRun) -> World:
    """Documents, a trained extractor, and every arm's phrases."""
    rng = Rng(seed)
    words = tokenizer()
    data = {
        name: as_rows(make_rows(n, scale, TARGET, rng.child("documents", name).python(), name))
        for name, n in (("train", scale.train), ("validation", scale.validation), ("test", scale.test))
    }
    extractor = _extractor(scale, words, data, part, rng)
    rows = data["test"]
    hints = Hints(rows, extractor, rng=rng)
    unit = max(1, scale.facts // 9)
    shown = {(arm, 0 if arm == "none" else K * unit): hints.of(arm, K * unit) for arm in ARMS}
    shown |= {(DIAL, k * unit): hints.of("sigext", k * unit, tau=-math.inf) for k in KS}
    labels = [row.labels for row in rows]
    ranks = {"sigext": measure(labels, hints.scores, ks=(K * unit, 8 * unit))}
    for arm in ("random", "rake"):
        orders = rank_phrases(arm, rows, rng=rng)
        scores = [
            [-float(order.index(p)) for p in row.phrases] for row, order in zip(rows, orders, strict=True)
        ]
        ranks[arm] = measure(labels, scores, ks=(K * unit, 8 * unit))
    validation = data["validation"]
    tuned = tune(validation, extractor.score_rows(validation), [k * unit for k in KS], (0.0, 50.0, 75.0))
    return World(rows, shown, ranks, tuned, extractor.settings.tau, unit)


def _extractor(
    scale: Scale, words: Any, data: Mapping[str, list[Row]], part: PartOfRun, rng: Rng
) -> SigExtModel:
    done = part.folder / "extractor"
    if not done.exists():
        base = save_encoder(scale, words, part.folder / "encoder", rng)
        settings = Settings(max_length=scale.positions, k=K)
        extractor = SigExtModel.new(base, settings, device=scale.device)
        per_epoch = -(-scale.train // scale.batch_size)
        cfg = TrainConfig(
            lr=scale.lr,
            batch_size=scale.batch_size,
            epochs=-(-scale.extractor_steps // per_epoch),
            max_steps=scale.extractor_steps,
            reduction="token_mean",
            precision=scale.precision,
            warmup_steps=min(20, scale.extractor_steps),
            keep_best=True,
            checkpoint_every=100,
        )
        train_extractor(
            extractor,
            data["train"],
            data["validation"],
            cfg,
            run=part,
            batch_tokens=16_384,
        )
        extractor.save_pretrained(part.folder / ".extractor")
        (part.folder / ".extractor").rename(done)
        shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
        shutil.rmtree(part.folder / "best", ignore_errors=True)
    return SigExtModel.from_pretrained(done, device=scale.device)


def write_summaries(world: World, llm: LLM, seed: int, done: Path) -> list[Summary]:
    """A summary for every document and arm; those of a finished earlier attempt are read back."""
    if not done.exists():
        sampling = Sampling(max_tokens=96 * world.unit, temperature=1.0, top_p=0.8, seed=seed)
        summaries = summarise(
            world.rows, world.shown, llm, TEMPLATE, sampling, concurrency=SETTINGS.concurrency
        )
        write_json(done, [asdict(summary) for summary in summaries])
    stored = json.loads(done.read_text("utf-8"))
    return [
        Summary(**{**summary, "phrases": tuple(Phrase(**p) for p in summary["phrases"])})
        for summary in stored
    ]


def trained_writer(scale: Scale, part: PartOfRun) -> Role:
    """Train the T5; it fills the role of the writer."""
    folder = train_writer(scale, tokenizer(), part, part.folder / "writer")
    shutil.rmtree(part.folder / "checkpoints", ignore_errors=True)
    return Role(f"hf:{folder}", device=scale.device, batch_size=64)


def measure_writer(
    world: World, summaries: Sequence[Summary]
) -> tuple[Evaluation, dict[str, dict[str, Any]]]:
    """Evaluate summaries; also the scores of claims: arm -> metric -> a number per document, or one number."""
    evaluation = evaluate(world.rows, summaries)
    scores: dict[str, dict[str, Any]] = {}
    for arm in evaluation.arms.values():
        name = f"sigext, K={arm.k // world.unit}" if arm.arm == DIAL else arm.arm
        of_arm = {
            f"ROUGE-1 {what}": arm.values[f"ROUGE-1 {what}"].tolist() for what in ("recall", "precision", "F")
        }
        if arm.arm in ("sigext", "random", "oracle"):
            shares = arm.values["hint in source"]
            of_arm["shown phrases in the document"] = [float(v) / 100 for v in shares[~np.isnan(shares)]]
        scores[name] = of_arm
    _match_lengths(world, summaries, scores)
    recalls = [evaluation.arms[f"{DIAL}, K={k * world.unit}"].mean("ROUGE-1 recall") for k in KS]
    scores["sigext"]["rank correlation of K and recall"] = _spearman(KS, recalls)
    return evaluation, scores


def _match_lengths(world: World, summaries: Sequence[Summary], scores: dict[str, dict[str, Any]]) -> None:
    """Enter ROUGE-1 F of the plain and the hinted summary, both cut to the words of the shorter one."""
    texts = {
        arm: {summary.id: summary.text for summary in summaries if summary.arm == arm}
        for arm in ("none", "sigext")
    }
    cut = matched_length([[texts[arm][row.id] for row in world.rows] for arm in texts])
    for arm, row in zip(texts, cut, strict=True):
        f = rouge(row, [document.summary for document in world.rows], ("rouge1",))["rouge1"][:, 2]
        scores[arm]["ROUGE-1 F at matched length"] = (100 * f).tolist()


def _spearman(x: Sequence[float], y: Sequence[Any]) -> float:
    value = float(spearmanr(x, y).statistic) if len(set(y)) > 1 else 0.0
    return 0.0 if math.isnan(value) else value


# Real text

LEAST_WORDS = 60
"""Of a body."""
LONGEST_WORDS = 300
FEW = 30
PASSES = 2


def docstrings(n: int, rng: Rng) -> list[Row]:
    """Bodies of documentation with their first paragraphs, drawn at random; each pair shares a phrase.

    A few come from the topics of `pydoc` alone, which are quickly read.
    """
    texts = (
        list(topics.items()) if n < FEW else [(piece.name, piece.text) for piece in stdlib_documentation()]
    )
    pairs = []
    for name, text in texts:
        head, _, body = text.partition("\n\n")
        if n < FEW:  # a topic begins with its title
            head, _, body = body.partition("\n\n")
        words = body.split()
        if len(words) >= LEAST_WORDS and len(head.split()) >= 4:
            pairs.append({"id": name, "document": " ".join(words[:LONGEST_WORDS]), "summary": head})
    rng.child("docstrings").python().shuffle(pairs)
    rows: dict[str, Row] = {}
    for raw in pairs:
        row = to_row(raw, Reading(), Columns(), raw["id"])
        if row.n_positive:
            rows.setdefault(row.document, row)
        if len(rows) == n:
            break
    return list(rows.values())


def train_on_docstrings(scale: Scale, seed: int, part: PartOfRun) -> dict[str, Any]:
    """Train on some docstrings, measure on others: validation loss before and after, recall@10 beside random order."""
    rng = Rng(seed)
    rows = docstrings(scale.docstrings, rng)
    third = len(rows) // 3
    held_out, train = rows[:third], rows[third:]
    words = train_bpe([row.document for row in train], 600)
    base = save_encoder(scale, words, part.folder / "encoder", rng)
    extractor = SigExtModel.new(base, Settings(max_length=scale.positions), device=scale.device)
    before = validation_loss(extractor, held_out)
    cfg = TrainConfig(
        lr=scale.lr, batch_size=8, epochs=PASSES, warmup_steps=10, keep_best=True, checkpoint_every=100
    )
    train_extractor(extractor, train, held_out, cfg, run=part, batch_tokens=8192)
    _tidy(part.folder)
    labels = [row.labels for row in held_out]
    orders = rank_phrases("random", held_out, rng=rng)
    chance = [[-float(o.index(p)) for p in row.phrases] for row, o in zip(held_out, orders, strict=True)]
    return {
        "documents": len(rows),
        "positive rate": sum(map(sum, labels)) / sum(map(len, labels)),
        "loss before": before,
        "loss after": validation_loss(extractor, held_out),
        "recall@10": measure(labels, extractor.score_rows(held_out), ks=(10,)).recall[10],
        "recall@10, random order": measure(labels, chance, ks=(10,)).recall[10],
    }


def validation_loss(extractor: SigExtModel, rows: list[Row]) -> float:
    """Weighted cross entropy per labelled token."""
    total = targets = 0.0
    model = extractor.model.eval()
    for row in rows:
        window = extractor.encoder.encode(row.document, row.phrases)
        labels = window.labels(row.labels)
        batch = padded([window.input_ids], extractor.tokenizer.pad_token_id, window_of(model.config))
        width = batch["input_ids"].shape[1]
        batch["labels"] = torch.tensor([[*labels, *[-100] * (width - len(labels))]])
        with torch.no_grad():
            total += float(weighted_loss(model, {k: v.to(model.device) for k, v in batch.items()}))
        targets += sum(label != -100 for label in labels)
    return total / targets if targets else math.nan


def _tidy(folder: Path) -> None:
    for name in ("checkpoints", "best", "encoder"):
        shutil.rmtree(folder / name, ignore_errors=True)
