"""A tiny model, and questions of which it gets half right: their accepted answers are what it says."""

import json

import numpy as np
import pytest

from gnomon.core.models import ModelHandle, tiny_causal, whole_words
from gnomon.methods.truth_probes import Answer, Answering, Question, RepStore, collect
from gnomon.methods.truth_probes.answers import trim

LONGEST = 6


def made(
    text="Paris", gold=("Paris",), wrong=(), task="open", draw=0, seed=0, name="q", correct=None, **more
):
    """An answer that nobody had to generate."""
    fields = {
        "id": name, "question": "What is it?", "gold": list(gold), "wrong": list(wrong), "task": task,
        "prompt": "Q: What is it?\nA:",
        "prompt_ids": [5, 6, 7], "answer": text, "output_ids": [1, 2], "logprobs": [-0.5, -1.0], "logits": [2.0, 1.0],
        "finish": "eos", "draw": draw, "seed": seed, "correct": correct,
    }  # fmt: skip
    return Answer(**(fields | more))


def spanned(text, exact, **more):
    """A judged answer with its exact answer found."""
    start = text.find(exact)
    return made(text, exact_answer=exact, spans=[[start, start + len(exact)]], valid=1, **more)


def store_of(states, names, positions=("exact_last",), layers=None, key="k"):
    """States [N, layers, positions, D] as a store."""
    states = np.asarray(states, np.float16)
    layers = tuple(range(states.shape[1])) if layers is None else layers
    return RepStore(states, "model", key, "mlp", layers, positions, tuple((name, 0, 0) for name in names))


WORDS = (
    "Q:",
    "A:",
    "what",
    "is",
    "It",
    "Rome",
    "(Italy)",
    "(A",
    "(B",
    *(f"{i}?" for i in range(200)),
    *(f"w{i}" for i in range(60)),
)


@pytest.fixture(scope="session")
def truth_model(tmp_path_factory):
    """Folder of a tiny Llama that reads and writes whole words."""
    folder = tmp_path_factory.mktemp("truth-model")
    tiny_causal("llama", whole_words(WORDS, begins=True), folder, max_position_embeddings=256)
    return folder


@pytest.fixture(scope="session")
def truth_handle(truth_model):
    return ModelHandle.load(truth_model, device="cpu")


@pytest.fixture(scope="session")
def truth_questions(truth_handle, tmp_path_factory):
    """JSONL of 120 questions; every other one accepts what the model says."""
    asked = [Question(f"what is {i}?", "?", id=f"q{i}") for i in range(200)]
    answers = collect(truth_handle, None, asked, Answering(max_new_tokens=LONGEST))
    said = [(q, trim(a.answer)) for q, a in zip(asked, answers, strict=True)]
    good = [(q, text) for q, text in said if text][:120]
    assert len(good) == 120
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    rows = [
        {"question": q.question, "answer": text if i % 2 else "nothing of the kind", "id": q.id}
        for i, (q, text) in enumerate(good)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
