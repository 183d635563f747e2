"""The comparisons of the miniature: which corpus, which student, which arms, at which size."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gnomon.core.rng import Rng
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.mini.trial import ALL_LABELS, Trial
from gnomon.methods.sieve.mini.world import Corpus, Errors, docs_corpus, topic_corpus
from gnomon.methods.sieve.students import StudentConfig, open_student
from gnomon.methods.sieve.students.networks import new_t5, word_tokenizer

MAIN_ARMS = ("random", "uncertainty", "margin-quantile", "trm", "trm, c = 1", "trm, halving", ALL_LABELS)
FEW_ARMS = ("random", "uncertainty", "trm", "trm, halving")


@dataclass(frozen=True)
class Scale:
    """How large the miniature is."""

    documents: int
    """Generated documents, those for testing included."""
    tests: int
    """Of these, for testing."""
    batch: int
    """Labels a round."""
    rounds: int
    """Rounds, the seed round included."""
    window: int
    """Most snippets scored a round."""
    encoder_documents: int
    """Generated documents for the T5 encoder."""
    adapt_steps: int
    """Span-corruption steps of the T5 encoder on the unlabelled stream, the stand-in for pre-training."""
    encoder: tuple[int, int, int]
    """Width, layers and heads of the T5 encoder."""
    encoder_steps: int
    """Its optimiser steps in each fit."""
    encoder_lr: float = 3e-3
    """Its peak learning rate in fits."""
    device: str = "cpu"
    """Device of the encoder."""

    @property
    def budget(self) -> int:
        """Labels of an arm in all."""
        return self.batch * self.rounds


SCALES = {
    "smoke": Scale(700, 200, 50, 2, 500, 500, 10, (32, 1, 2), 15),
    "mini": Scale(12_000, 3_000, 100, 8, 9_000, 6_000, 300, (64, 1, 4), 150),
    "gpu": Scale(1_020_000, 20_000, 100, 8, 100_000, 1_020_000, 4000, (768, 12, 12), 400, 3e-4, "cuda"),
}


@dataclass(frozen=True)
class Comparison:
    """One comparison."""

    key: str
    """Name for files and metrics."""
    title: str
    """Heading of its section."""
    arms: tuple[str, ...]
    """Arms that are run."""
    batch: int | None = None
    """Labels a round, where it is not the scale's."""
    gamma: float = 2.0
    """Focusing exponent of the focal loss."""
    errors: Errors = field(default_factory=Errors)
    """The judge's error rates."""
    corpus: str = "topics"
    """`topics` or `docs`."""
    student: str = "hashed-linear"
    """`hashed-linear` or `t5-encoder`."""
    folds: int = 5
    """Trainings for the threshold."""


COMPARISONS: dict[str, tuple[Comparison, ...]] = {
    "topics": (Comparison("topics", "Generated text, hashed-linear student", MAIN_ARMS),),
    "hard": (
        Comparison("gamma-5", "Miscalibrated student: focal exponent 5", FEW_ARMS, gamma=5.0),
        Comparison("batch-60", "60 seed labels and 60 a round", FEW_ARMS, batch=60),
        Comparison(
            "noise-15", "Judge misses 15% and passes 0.6% wrongly", FEW_ARMS, errors=Errors(0.15, 0.006)
        ),
    ),
    "batch": (
        Comparison("batch-50", "50 labels a round", ("random", "trm", "trm, halving"), batch=50),
        Comparison("batch-200", "200 labels a round", ("random", "trm", "trm, halving"), batch=200),
    ),
    "encoder": (
        Comparison(
            "encoder", "Generated text, T5 encoder", (*FEW_ARMS, ALL_LABELS), student="t5-encoder", folds=2
        ),
    ),
    "docs": (Comparison("docs", "Documentation of this Python installation", MAIN_ARMS, corpus="docs"),),
}
"""Setting `parts` -> its comparisons."""


def prepare(comparison: Comparison, scale: Scale, rng: Rng, folder: Path) -> Trial:
    """Corpus and adapted student of a comparison, the same for all of its arms.

    Args:
        comparison: which one.
        scale: its size.
        rng: of the seed; comparisons of one seed share the generated corpus.
        folder: where an encoder to begin from is saved.
    """
    corpus = _corpus(comparison, scale, rng)
    config = _student_config(comparison, scale)
    student = open_student(_reference(comparison, scale, corpus, rng, folder), config)
    student.adapt([s.text for s in corpus.stream], rng.child("adapt"))
    batch = comparison.batch or scale.batch
    # A seed round goes on until both classes are there: at one pass in 25, 50 labels can miss them.
    selection = Selection(
        budget=scale.budget,
        batch=batch,
        window=scale.window,
        max_seed_labels=max(10 * batch, 500),
        folds=comparison.folds,
    )
    return Trial(corpus, student, selection, rng.child("fit"), partial(open_student, config=config))


def _corpus(comparison: Comparison, scale: Scale, rng: Rng) -> Corpus:
    if comparison.corpus == "docs":
        return docs_corpus(rng.child("docs"))
    documents = scale.encoder_documents if comparison.student == "t5-encoder" else scale.documents
    return topic_corpus(documents, min(scale.tests, documents // 3), rng.child("corpus"), comparison.errors)


def _student_config(comparison: Comparison, scale: Scale) -> StudentConfig:
    if comparison.student == "t5-encoder":
        return StudentConfig(
            gamma=comparison.gamma,
            max_tokens=64,
            adapt_steps=scale.adapt_steps,
            device=scale.device,
            lr=scale.encoder_lr,
            epochs=1000,
            max_steps=scale.encoder_steps,
            held_out=0.0,  # of 100 labels four pass: too few to keep any back
        )
    if comparison.corpus == "docs":  # real words are too many and too rare for a few dimensions
        return StudentConfig(gamma=comparison.gamma, hash_bits=18, ngrams=2, idf=True)
    # The penalty is the one of a sweep on seeds 10 to 12 under which all arms do well, random selection among them.
    lsa = min(48, scale.documents // 20)
    return StudentConfig(gamma=comparison.gamma, hash_bits=16, ngrams=1, idf=True, lsa_dim=lsa, l2=30.0)


def _reference(comparison: Comparison, scale: Scale, corpus: Corpus, rng: Rng, folder: Path) -> str:
    """What the student is opened from; for the encoder an untrained T5 of whole words, saved to `folder`."""
    if comparison.student != "t5-encoder":
        return comparison.student
    width, layers, heads = scale.encoder
    tokenizer = word_tokenizer((s.text for s in corpus.stream), 4096)
    model = new_t5(tokenizer, width, layers, heads, dropout=0.0, generator=rng.child("t5"))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"t5-encoder:{folder}"
