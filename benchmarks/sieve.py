"""How fast students score, against what one would write otherwise, and how fast a trained filter goes from file to file.

    python benchmarks/sieve.py      writes docs/results/bench-sieve.json; with --only it prints a part

Every way scores the same real texts, the documentation strings of the standard library and the `pydoc` topics, in one run.
Times of scoring are CPU seconds of this process on one thread, so that other work on the machine counts little; ratios are what
to look at. What ways take turns at is reported as the median of their rounds. Times from file to file are wall clock.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common.apply_memory import measure
from common.timing import take_turns

from gnomon.core.data.corpora import stdlib_modules
from gnomon.core.env import describe, version
from gnomon.core.rng import Rng
from gnomon.methods.sieve.students import open_student

Numbers = dict[str, Any]

RECORD = Path("docs/results/bench-sieve.json")
"""Where a whole run is recorded."""

ONE_WORKER, TWO_WORKERS = (10_000, 100_000, 1_000_000), (10_000, 100_000)
"""Snippets that are filtered from file to file."""


def documentation() -> list[str]:
    """Documentation strings of modules, classes and functions, and help topics, shuffled."""
    from pydoc_data.topics import topics

    found = dict.fromkeys(topics.values())
    for module in stdlib_modules():
        for node in ast.walk(ast.parse(module.code)):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                found[ast.get_docstring(node) or ""] = None
    found.pop("", None)
    texts = sorted(found)
    Rng(0).child("documentation").python().shuffle(texts)
    return texts


def snippets(texts: list[str], n_words: tuple[int, int], count: int) -> list[str]:
    """The texts end to end, cut into snippets of so many words and repeated until there are enough."""
    words = " ".join(texts).split()
    draw = Rng(0).child("cuts").python()
    cut, at = [], 0
    while at < len(words) and len(cut) < count:
        size = draw.randint(*n_words)
        cut.append(" ".join(words[at : at + size]))
        at += size
    return (cut * (-(-count // len(cut))))[:count]


def hashed_linear(texts: list[str]) -> Numbers:
    """hashed-linear against HashingVectorizer + SGDClassifier: scoring on one core, and training."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline

    def pipeline(norm: str | None, *more: Any) -> Any:
        words = HashingVectorizer(
            token_pattern=r"\w+", ngram_range=(1, 2), alternate_sign=False, norm=norm, n_features=1 << 20
        )
        return make_pipeline(words, *more, SGDClassifier(loss="log_loss", random_state=0))

    train = snippets(texts[::2], (15, 20), 1000)
    labels = [int("return" in text.lower() or "raise" in text.lower()) for text in train]
    ours = open_student("hashed-linear")
    same = pipeline(None, TfidfTransformer(use_idf=False, sublinear_tf=True))
    lighter = pipeline("l2")
    training = take_turns(
        {
            "hashed-linear": partial(ours.fit, train, labels, [1.0] * len(train), Rng(0)),
            "scikit-learn, same features": partial(same.fit, train, labels),
            "scikit-learn, plain counts": partial(lighter.fit, train, labels),
        },
        rounds=3,
    )
    record: Numbers = {
        "same_work": "lower-case, words of one or more letters, digits or underscores, single words and pairs, 2^20 buckets, "
        "1 + log of the count, rows of length 1, logistic score. The pipeline with plain counts leaves out the logarithm.",
        "labels": len(train),
        "training_seconds": training,
        "scoring": [],
    }
    for n_words, count in (((15, 20), 20_000), ((60, 60), 8_000)):
        fresh = snippets(texts[1::2], n_words, count)
        found = take_turns(
            {
                "hashed-linear": partial(ours.predict, fresh),
                "scikit-learn, same features": partial(same.predict_proba, fresh),
                "scikit-learn, plain counts": partial(lighter.predict_proba, fresh),
            },
            rounds=5,
        )
        record["scoring"].append(
            {
                "words": f"{n_words[0]}-{n_words[1]}",
                "snippets": count,
                "snippets_per_s": {name: count / seconds for name, seconds in found.items()},
                "times_same_features": found["scikit-learn, same features"] / found["hashed-linear"],
                "times_plain_counts": found["scikit-learn, plain counts"] / found["hashed-linear"],
            }
        )
    return record


def t5_encoder(texts: list[str], n_texts: int = 192, rows_at_once: int = 32) -> Numbers:
    """An encoder of the size of T5-small with random weights: batches by length against batches as texts come."""
    import torch
    from transformers import T5Config, T5EncoderModel

    from gnomon.core.models import train_bpe
    from gnomon.methods.sieve.students import (
        CPU_BUDGET,
        T5EncoderClassifier,
        Tokens,
        pass_logits,
        plan_batches,
        score_rows,
    )

    torch.set_num_threads(1)
    config = T5Config(vocab_size=32_128, d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
    torch.manual_seed(0)
    model = T5EncoderClassifier(T5EncoderModel(config), 0.1).eval()
    torch.nn.init.normal_(model.head.weight, std=512**-0.5)
    tokens = Tokens(train_bpe(texts, 8192), longest=512)
    rows = tokens.encode(texts[:n_texts])
    lengths = [len(row) for row in rows]
    scores: dict[str, Any] = {}

    def in_batches(name: str, order: list[int]) -> None:
        found = np.empty(len(rows))
        with torch.inference_mode():
            for start in range(0, len(order), rows_at_once):
                batch = order[start : start + rows_at_once]
                found[batch] = pass_logits(model, tokens.pad([rows[i] for i in batch])).numpy()
        scores[name] = found

    def by_budget() -> None:
        scores["student"] = score_rows(model, tokens, rows, budget=None, precision="float32")

    by_length = sorted(range(len(rows)), key=lambda i: lengths[i])
    plain = f"{rows_at_once} rows in input order"
    ways: dict[str, Callable[[], object]] = {
        plain: lambda: in_batches(plain, list(range(len(rows)))),
        f"{rows_at_once} rows by length": lambda: in_batches("sorted", by_length),
        f"student: by length, {CPU_BUDGET} tokens at once": by_budget,
    }
    score_rows(model, tokens, rows[:8], budget=None, precision="float32")
    seconds = take_turns(ways, rounds=2)
    in_order = [lengths[start : start + rows_at_once] for start in range(0, len(rows), rows_at_once)]
    bucketed = [[lengths[i] for i in batch] for batch in plan_batches(lengths, CPU_BUDGET)]
    return {
        "model": "T5 encoder, width 512, 6 layers, 8 heads, MLP 2048, vocabulary 32128, random weights, float32",
        "texts": "documentation strings and help topics, whole, cut at 512 tokens",
        "n_texts": len(rows),
        "tokens": {
            "mean": statistics.fmean(lengths),
            "quartiles": statistics.quantiles(lengths, n=4),
            "longest": max(lengths),
        },
        "padding_share": {
            "in input order": padding_share(in_order),
            "student": padding_share(bucketed),
        },
        "texts_per_s_one_thread": {name: len(rows) / value for name, value in seconds.items()},
        "times_input_order": {name: seconds[plain] / value for name, value in seconds.items()},
        "largest_difference_of_logits": max(
            float(np.abs(scores[name] - scores[plain]).max()) for name in scores
        ),
        "at_128_tokens": throughput(model, tokens),
    }


def padding_share(batches: list[list[int]]) -> float:
    """Share of the computed tokens that are padding."""
    computed = sum(len(batch) * max(batch) for batch in batches)
    return 1 - sum(map(sum, batches)) / computed


def throughput(model: Any, tokens: Any, count: int = 32, length: int = 128) -> Numbers:
    """Texts of equal length per second on one thread (CPU time) and on two (wall time), and what the machine could do."""
    import torch

    from gnomon.methods.sieve.students import score_rows

    rows = np.random.default_rng(0).integers(3, 8000, (count, length)).tolist()
    left, right = torch.randn(2048, 512), torch.randn(512, 2048)
    record: Numbers = {}
    for name, threads, clock in (
        ("1_thread", 1, time.process_time),
        ("2_threads_wall", 2, time.perf_counter),
    ):
        torch.set_num_threads(threads)
        times, products = [], []
        for _ in range(3):
            began = clock()
            score_rows(model, tokens, rows, budget=None, precision="float32")
            times.append(clock() - began)
            began = clock()
            for _ in range(10):
                left @ right
            products.append((clock() - began) / 10)
        record[f"texts_per_s_{name}"] = count / min(times)
        record[f"matrix_gflop_per_s_{name}"] = 2 * 2048 * 512 * 2048 / min(products) / 1e9
    torch.set_num_threads(1)
    # Multiplications and additions of the linear layers alone: 2 (4 D^2 + 2 D F) per layer and token.
    record["gflop_per_text"] = 2 * 6 * (4 * 512**2 + 2 * 512 * 2048) * length / 1e9
    return record


def apply(
    texts: list[str], one_worker: Sequence[int] = ONE_WORKER, two_workers: Sequence[int] = TWO_WORKERS
) -> Numbers:
    """hashed-linear from a file of rows to files of rows with verdicts, by size of the corpus and by engine.

    Args:
        texts: what the snippets are cut from; a row holds one snippet.
        one_worker: numbers of snippets for a single local process.
        two_workers: numbers of snippets for two local processes, and for two on Ray.
    """
    from gnomon.methods.sieve import Card, SieveModel
    from gnomon.methods.sieve.judging.filters import Filter

    learned = snippets(texts[::2], (15, 20), 1000)
    labels = [int("return" in text.lower() or "raise" in text.lower()) for text in learned]
    student = open_student("hashed-linear")
    student.fit(learned, labels, [1.0] * len(labels), Rng(0))
    card = Card(
        filter=Filter("results", "what a call gives or raises", "it says so", "it does not").to_raw(),
        student="hashed-linear",
        snippet_tokens=512,
        threshold=0.5,
        objective="balanced-accuracy",
        base_rate=statistics.fmean(labels),
        score_range=[0.0, 1.0],
        judge="rule:return or raise",
        is_simulated=False,
        labels={"seed": len(labels)},
    )
    jobs = [(1, "local", one_worker), (2, "local", two_workers), (2, "ray", two_workers)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        SieveModel(student, card).save(Path(folder))
        for workers, engine, sizes in jobs:
            for size in sizes:
                fresh = snippets(texts[1::2], (15, 20), size)
                rows = ({"id": number, "text": text} for number, text in enumerate(fresh))
                found.append(measure(Path(folder), rows, workers=workers, engine=engine))
    return {"words": "15-20", "shard_rows": 2048, "jobs": found}


# What is measured, in order; a further section is a function of the texts and a line here.
SECTIONS: dict[str, Callable[..., Numbers]] = {
    "hashed-linear": hashed_linear,
    "t5-encoder": t5_encoder,
    "apply": apply,
}


def lines(record: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """The record as text for a terminal."""
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for row in value:
                yield f"{indent}{name}:"
                yield from lines(row, indent + "  ")
        elif isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {f'{value:.4g}' if isinstance(value, float) else value}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="sections to run; nothing is recorded")
    parser.add_argument("--out", type=Path, help=f"where to write; a whole run writes {RECORD}")
    sizes = {"type": int, "nargs": "*", "metavar": "N"}
    parser.add_argument("--one-worker", **sizes, default=ONE_WORKER, help="apply: snippets for one process")
    parser.add_argument(
        "--two-workers", **sizes, default=TWO_WORKERS, help="apply: snippets for two, and for Ray"
    )
    options = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = documentation()
    given = {"apply": {"one_worker": options.one_worker, "two_workers": options.two_workers}}
    record: Numbers = {"command": " ".join(["python benchmarks/sieve.py", *sys.argv[1:]]), **describe()}
    record["packages"] |= {name: version(name) for name in ("scikit-learn", "scipy", "ray")}
    record |= {name: SECTIONS[name](texts, **given.get(name, {})) for name in options.only or SECTIONS}
    if out := options.out or (None if options.only else RECORD):
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print("\n".join(lines(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
