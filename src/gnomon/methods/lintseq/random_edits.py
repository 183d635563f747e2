"""RandSeq: the ablation without a linter. Random lines leave in chunks of random size."""

from __future__ import annotations

import random

from gnomon.core.rng import Rng
from gnomon.methods.lintseq.edits import EditPath, as_random
from gnomon.methods.lintseq.source import Rejected, normalise, split_lines


def randseq(code: str, rng: Rng | random.Random, *, normalise_indent: bool = True) -> EditPath:
    """A random edit path that no linter has seen; its `lint_clean` is empty.

    Each deletion takes k random lines of those left, k uniform in 1..(left - 1); the last line goes on its
    own.

    Raises:
        Rejected: the program is empty.

    Source: D.15.
    """
    lines = split_lines(normalise(code, indent=normalise_indent))
    if not lines:
        raise Rejected("empty", "The program is empty.")
    draws = as_random(rng)
    left = list(range(len(lines)))
    deletions: list[list[int]] = []
    while left:
        size = draws.randint(1, len(left) - 1) if len(left) > 1 else 1
        chunk = sorted(draws.sample(left, size))
        deletions.append(chunk)
        left = sorted(set(left).difference(chunk))
    return EditPath(lines, deletions[::-1], [], 0)
