"""A small real model of the room `sieve`: hashed-linear, trained to tell cats from cars."""

import atexit
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from gnomon.core.rng import Rng
from gnomon.methods.sieve import Card, SieveModel
from gnomon.methods.sieve.judging.filters import Filter
from gnomon.methods.sieve.students import StudentConfig, open_student

CATS = "the cat purrs on a warm windowsill", "my kitten chased the tail of another cat", "cats sleep all day"
CARS = (
    "the engine of the car needs oil",
    "he parked his car by the road",
    "the gearbox and the clutch wore out",
)
FILTER = Filter("cats", "texts about cats", "a cat matters", "no cat")


def card(**changes):
    """The card of the model."""
    plain = {
        "filter": FILTER.to_raw(),
        "student": "hashed-linear",
        "snippet_tokens": 8,
        "threshold": 0.5,
        "objective": "f1",
        "base_rate": 0.5,
        "score_range": [0.1, 0.9],
        "judge": "rule:cats",
        "is_simulated": False,
        "labels": {"seed": 6},
    }
    return Card(**(plain | changes))


def student():
    """A fitted student."""
    found = open_student("hashed-linear", StudentConfig(hash_bits=12, l2=0.01))
    found.fit(list(CATS + CARS), [1, 1, 1, 0, 0, 0], [1.0] * 6, Rng(0))
    return found


@cache
def saved_model() -> Path:
    """Folder of the model, saved once a session."""
    folder = Path(mkdtemp(prefix="sieve-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    SieveModel(student(), card()).save(folder)
    return folder


def generated(n, words=30):
    """`n` rows of about `words` words, made as they are asked for; every third is about cats."""
    for number in range(n):
        kind = CATS if number % 3 == 0 else CARS
        text = " ".join(f"{kind[(number + turn) % 3]} {number + turn}" for turn in range(words // 7))
        yield {"id": number, "text": text}
