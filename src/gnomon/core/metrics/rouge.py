"""ROUGE: how many words, pairs of words and common subsequences a summary shares with its reference.

The numbers are those of the package rouge-score, to the last digit, at a fraction of its time: a text is cut into tokens and
stemmed once however often it is compared, subsequences are found by the bits of whole numbers instead of a table, and rows may be
shared out over processes.

Source: Lin, "ROUGE: A package for automatic evaluation of summaries" (2004); the package rouge-score 0.1.2.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from gnomon.core.config import check
from gnomon.core.text import stemmer
from gnomon.core.text.subsequences import lcs_length, lcs_places
from gnomon.errors import BadInput

Kind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
KINDS: tuple[Kind, ...] = ("rouge1", "rouge2", "rougeL", "rougeLsum")
"""Words; pairs of words; the longest common subsequence of the texts; the union of those of their lines."""

Score = tuple[float, float, float]
"""Precision, recall, F, each 0..1."""

_NO_TOKEN = re.compile(r"[^a-z0-9]+")
_WORD = re.compile(r"\w+")
_ROWS_A_TASK = 64


def rouge(
    predictions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    kinds: Sequence[Kind] = KINDS,
    *,
    stem: bool = True,
    language: str = "english",
    workers: int = 1,
) -> dict[str, NDArray[np.float64]]:
    """Precision, recall and F of every prediction.

    Args:
        predictions: texts, [N]. For rougeLsum a line is a sentence.
        references: the text, or the texts, that each one should say, [N]; of several, the one with the best F counts, for each
            kind on its own.
        kinds: which, of `KINDS`.
        stem: whether words are compared by their stems.
        language: of the stems. In English a token is a run of a-z and 0-9, as in rouge-score; elsewhere a run of word characters.
        workers: processes; 1 computes in this one.

    Returns:
        kind -> precision, recall and F in 0..1, [N, 3].

    Raises:
        BadInput: the two are not equally many, a text is no string, a row has no reference, or a kind is unknown.

    >>> rouge(["the cat sat"], ["the cats sat down"])["rouge1"].round(3).tolist()
    [[1.0, 0.75, 0.857]]
    """
    check(workers >= 1, "workers", ">= 1", workers)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise BadInput(f"ROUGE has the kinds {', '.join(KINDS)}; got {', '.join(unknown) or 'none'}.")
    rows = _checked(predictions, references)
    work = partial(_score_rows, kinds=tuple(kinds), stem=stem, language=language)
    pieces = [rows[start : start + _ROWS_A_TASK] for start in range(0, len(rows), _ROWS_A_TASK)]
    if workers == 1 or len(pieces) == 1:
        scored = [work(piece) for piece in pieces]
    else:
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        with ProcessPoolExecutor(min(workers, len(pieces)), mp_context=get_context("spawn")) as pool:
            scored = list(pool.map(work, pieces))
    table = np.array([row for piece in scored for row in piece], np.float64).reshape(len(rows), len(kinds), 3)
    return {kind: table[:, i] for i, kind in enumerate(kinds)}


@lru_cache(maxsize=100_000)
def rouge_tokens(text: str, stem: bool = True, language: str = "english") -> tuple[str, ...]:
    """The tokens that ROUGE compares: lower-case runs of letters and digits, stemmed.

    >>> rouge_tokens("The city's meetings, 2nd.")
    ('the', 'citi', 's', 'meet', '2nd')
    """
    lowered = text.lower()
    words = _NO_TOKEN.sub(" ", lowered).split() if language == "english" else _WORD.findall(lowered)
    return tuple(map(stemmer(language), words)) if stem else tuple(words)


def f_measure(precision: float, recall: float) -> float:
    """The harmonic mean of the two; 0 when both are.

    >>> f_measure(0.5, 1.0), f_measure(0.0, 0.0)
    (0.6666666666666666, 0.0)
    """
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _checked(
    predictions: Sequence[str], references: Sequence[str | Sequence[str]]
) -> list[tuple[str, tuple[str, ...]]]:
    if isinstance(predictions, str) or isinstance(references, str):
        raise BadInput("ROUGE takes lists of texts; put a single text into a list.")
    if len(predictions) != len(references):
        raise BadInput(
            f"ROUGE needs one reference per prediction; got {len(predictions)} and {len(references)}."
        )
    rows = []
    for i, (text, reference) in enumerate(zip(predictions, references, strict=True)):
        wanted = (reference,) if isinstance(reference, str) else tuple(reference or ())
        if not wanted:
            raise BadInput(f"Row {i} has no reference. Leave it out.")
        for name, value in (("prediction", text), *(("reference", alternative) for alternative in wanted)):
            if not isinstance(value, str):
                raise BadInput(f"Row {i}: the {name} must be a string; got {type(value).__name__}.")
        rows.append((text, wanted))
    return rows


def _score_rows(
    rows: Iterable[tuple[str, tuple[str, ...]]], *, kinds: tuple[Kind, ...], stem: bool, language: str
) -> list[list[Score]]:
    cut = partial(rouge_tokens, stem=stem, language=language)

    def of(kind: Kind, text: str, wanted: str) -> Score:
        if kind == "rougeLsum":
            return _by_lines([cut(line) for line in _lines(text)], [cut(line) for line in _lines(wanted)])
        left, right = cut(text), cut(wanted)
        if kind == "rougeL":
            return _score(lcs_length(left, right), len(left), len(right))
        return _overlap(left, right, int(kind[-1]))

    return [
        [max((of(kind, text, alternative) for alternative in wanted), key=lambda s: s[2]) for kind in kinds]
        for text, wanted in rows
    ]


def _score(hits: int, predicted: int, wanted: int) -> Score:
    precision, recall = hits / max(predicted, 1), hits / max(wanted, 1)
    return precision, recall, f_measure(precision, recall)


def _overlap(predicted: tuple[str, ...], wanted: tuple[str, ...], n: int) -> Score:
    a, b = _ngrams(predicted, n), _ngrams(wanted, n)
    hits = sum(min(count, a[gram]) for gram, count in b.items() if gram in a)
    return _score(hits, max(len(predicted) - n + 1, 0), max(len(wanted) - n + 1, 0))


@lru_cache(maxsize=10_000)
def _ngrams(tokens: tuple[str, ...], n: int) -> Counter[str | tuple[str, ...]]:
    if n == 1:
        return cast("Counter[str | tuple[str, ...]]", Counter(tokens))
    return Counter(tokens[i : i + n] for i in range(len(tokens) - n + 1))


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def _by_lines(predicted: list[tuple[str, ...]], wanted: list[tuple[str, ...]]) -> Score:
    """ROUGE-Lsum: of each line of the reference the tokens that some line of the prediction has in order; none counts twice."""
    left_found = Counter(token for line in predicted for token in line)
    left_wanted = Counter(token for line in wanted for token in line)
    hits = 0
    for line in wanted:
        places = sorted(set().union(*(lcs_places(line, other) for other in predicted)))
        for token in (line[i] for i in places):
            if left_found[token] > 0 and left_wanted[token] > 0:
                hits += 1
                left_found[token] -= 1
                left_wanted[token] -= 1
    return _score(hits, sum(map(len, predicted)), sum(map(len, wanted)))
