"""A small world that many tests fit in: two kinds of text, a rule that tells them apart, a student that learns in milliseconds."""

from functools import partial
from pathlib import Path

from gnomon.core.data.documents import Document
from gnomon.core.rng import Rng
from gnomon.methods.sieve import Fitting, LocalJudge, SnippetStream
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.students import StudentConfig, open_student

CONFIG = StudentConfig(hash_bits=12, ngrams=1)
SEA = "ship harbour tide sail anchor captain reef gull salt mast deck wave"
LAND = "field plough barn wheat hill stone sheep fence hedge lane mill oak"


def documents(count=600, rate=0.1, seed=0):
    """Texts of 8 words; a share `rate` is mostly about the sea, the rest mostly about land."""
    draw = Rng(seed).child("texts").python()
    for i in range(count):
        own, other = (SEA, LAND) if draw.random() < rate else (LAND, SEA)
        words = [draw.choice((own if draw.random() < 0.75 else other).split()) for _ in range(7)]
        yield Document(f"d{i}", " ".join([*words, f"n{i}"]))


def is_about_the_sea(text):
    return sum(word in SEA for word in text.split()) >= 4


def stream(rows=None, seed=0):
    rows = list(documents()) if rows is None else rows
    student = open_student("hashed-linear", CONFIG)
    return SnippetStream(lambda: rows, spans_of=student.token_spans, limit=64, rng=Rng(seed).child("stream"))


def settings(**changes):
    given = {"budget": 120, "batch": 30, "window": 300, "max_seed_labels": 90, "folds": 3}
    return Selection(**(given | changes))


def fitting(folder: Path, judge=is_about_the_sea, rows=None, on_round=None, **changes):
    """A fit in `folder`, ready to run."""
    return Fitting(
        open_student("hashed-linear", CONFIG),
        judge if hasattr(judge, "ajudge") else LocalJudge(judge, "the rule"),
        stream(rows),
        folder,
        reopen=partial(open_student, config=CONFIG),
        settings=settings(**changes),
        rng=Rng(3).child("fit"),
        on_round=on_round,
    )
