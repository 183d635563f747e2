"""How near a finished filter's pass rate comes to the judge's, at several base rates.

    python benchmarks/sieve_pass_rate.py      writes docs/results/bench-sieve-pass-rate.json; --seeds and --out for less

Filters are fitted with the objective `pass-rate` on 9,000 generated snippets with 800 labels, and applied to 20,000 new ones. What
is recorded is the share that the filter passes over the share that the judge passes, and the same for the base rate on the page.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core.env import describe
from gnomon.core.rng import Rng
from gnomon.methods.sieve import Fitting, LocalJudge, Selection, StudentConfig, open_student
from gnomon.methods.sieve.mini.world import topic_corpus

RECORD = Path("docs/results/bench-sieve-pass-rate.json")
STREAM, NEW = 9_000, 20_000
BASE_RATES = (0.02, 0.04, 0.06)
ARMS = {
    "trm": {"strategy": "trm"},
    "trm, halving": {"strategy": "trm", "shrink": "halving"},
    "random": {"strategy": "random"},
}
STUDENT = StudentConfig(hash_bits=16, ngrams=1, idf=True, lsa_dim=48, l2=30.0)
"""The miniature's."""


def ratios(seed: int, rate: float) -> dict[str, dict[str, float]]:
    """Arm -> `passed` and `base rate`, each over the judge's own pass rate."""
    rng = Rng(seed).child("pass rate", rate)
    corpus = topic_corpus(STREAM + NEW, NEW, rng.child("corpus"), share=rate)
    new, right = [s.text for s in corpus.test], corpus.labels(corpus.test + corpus.stream).mean()
    judge = LocalJudge(lambda snippet: corpus.verdicts[snippet.snippet_id], "the corpus's judge")
    measured = {}
    for arm, strategy in ARMS.items():
        student = open_student("hashed-linear", STUDENT)
        student.adapt([s.text for s in corpus.stream], rng.child("adapt"))
        settings = Selection(
            budget=800, batch=100, window=STREAM, max_seed_labels=1000, objective="pass-rate", **strategy
        )  # type: ignore[arg-type]
        reopen = partial(open_student, config=STUDENT)
        with tempfile.TemporaryDirectory() as folder:
            fit = Fitting(
                student, judge, corpus, Path(folder), reopen=reopen, settings=settings, rng=rng.child("fit")
            )
            outcome = fit.run()
        passed = (outcome.student.predict(new) >= outcome.threshold).mean()
        measured[arm] = {"passed": float(passed / right), "base rate": float(outcome.base_rate / right)}
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    record: dict[str, Any] = {
        "command": " ".join(["python benchmarks/sieve_pass_rate.py", *sys.argv[1:]]),
        **describe(),
    }
    for rate in BASE_RATES:
        rows = [ratios(seed, rate) for seed in range(options.seeds)]
        record[f"base rate {rate:.0%}"] = {
            arm: {
                name: {
                    "mean": float(np.mean(values := [row[arm][name] for row in rows])),
                    "sd": float(np.std(values, ddof=1)),
                    "least": min(values),
                    "most": max(values),
                    "seeds": values,
                }
                for name in ("passed", "base rate")
            }
            for arm in ARMS
        }
        print(rate, json.dumps(record[f"base rate {rate:.0%}"]), flush=True)
    options.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
