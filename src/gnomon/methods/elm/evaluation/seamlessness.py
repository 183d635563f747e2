"""How an erased model writes when it is asked about the concept: judged by an independent model, and by counting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gnomon.core.metrics.lm import Score, token_nll
from gnomon.core.models import generate
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.elm.texts.personas import continuations, start_ids, text_ids

Words = Sequence[str]


def write_answers(
    model: Any, tokenizer: Any, prompts: Sequence[str], gen: GenConfig, *, generator: Rng
) -> list[str]:
    """One answer to each prompt. Each prompt draws from a stream of its own, whichever model answers."""
    start = start_ids(tokenizer)
    ids = [[*start, *text_ids(tokenizer, prompt)] for prompt in prompts]
    streams = [generator.child("answer", i) for i in range(len(prompts))]
    completions = generate(model, tokenizer, ids, gen, generator=streams)
    return [samples[0].text for samples in completions]


def judged_perplexity(
    judge: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str], *, batch_size: int = 16
) -> float:
    """R-PPL: exp of the mean NLL per token of the answers under an independent model; its own tokenizer reads the texts.

    Only tokens of the answers count. Empty answers have none; where all are empty there is no perplexity, which is nan.
    """
    start = start_ids(tokenizer)
    pairs = []
    for prompt, answer in zip(prompts, answers, strict=True):
        read, (written,) = continuations(tokenizer, prompt, [answer])
        pairs.append(([*start, *read], written if answer else []))
    pairs = [(before or after[:1], after) for before, after in pairs if after]
    nll, count = 0.0, 0
    for first in range(0, len(pairs), batch_size):
        part = pairs[first : first + batch_size]
        losses, scored = token_nll(
            judge, [before + after for before, after in part], [len(before) for before, _ in part]
        )
        nll, count = nll + float(losses.sum()), count + scored
    return math.exp(min(nll / count, 700.0)) if count else math.nan


def distinct(answers: Sequence[Words], n: int = 2) -> float:
    """Different n-grams over all n-grams of the answers; nan where there is none.

    >>> distinct([["a", "b", "a", "b"]])
    0.6666666666666666
    """
    grams = [gram for words in answers for gram in _grams(words, n)]
    return len(set(grams)) / len(grams) if grams else math.nan


def repeated(answers: Sequence[Words], n: int = 4) -> float:
    """Share of n-grams that stood earlier in the same answer; nan where there is none.

    >>> repeated([["a", "b", "a", "b", "a"]], 2)
    0.5
    """
    again = total = 0
    for words in answers:
        grams = _grams(words, n)
        again, total = again + len(grams) - len(set(grams)), total + len(grams)
    return again / total if total else math.nan


def naming(answers: Sequence[str], keywords: Sequence[str]) -> float:
    """Share of answers that hold a keyword, whatever the case."""
    wanted = [word.lower() for word in keywords if word.strip()]
    return sum(any(word in answer.lower() for word in wanted) for answer in answers) / len(answers)


def _grams(words: Words, n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def seamlessness(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    generator: Rng,
    judge: Any = None,
    judge_tokenizer: Any = None,
    keywords: Sequence[str] = (),
    gen: GenConfig | None = None,
) -> dict[str, Any]:
    """What a model writes for forget prompts, in numbers, and the answers.

    Args:
        model: the model under test.
        tokenizer: its tokenizer.
        prompts: texts.
        generator: names the draws.
        judge: an independent model; None: no R-PPL.
        judge_tokenizer: its tokenizer.
        keywords: words of the concept.
        gen: how answers are sampled; None: 100 tokens at temperature 1.

    Raises:
        BadInput: there is no prompt.
        BadConfig: the judge is the model under test.
    """
    if not prompts:
        raise BadInput("Seamlessness needs prompts about the concept.")
    if judge is not None and judge is model:
        raise BadConfig(
            "The judge must not be the model under test: a model likes its own text. Name another with --judge."
        )
    answers = write_answers(
        model, tokenizer, prompts, gen or GenConfig(max_new_tokens=100), generator=generator
    )
    words = [answer.split() for answer in answers]
    measured: dict[str, Any] = {"distinct-2": distinct(words), "repeated 4-grams": repeated(words)}
    if judge is not None:
        measured["R-PPL"] = judged_perplexity(judge, judge_tokenizer, prompts, answers)
    if keywords:
        measured["names the concept"] = naming(answers, keywords)
    return measured | {"answers": answers}


def perplexity(
    model: Any, tokenizer: Any, texts: Sequence[str], *, max_length: int = 512, batch_size: int = 16
) -> float:
    """Perplexity per token of texts.

    Raises:
        BadInput: no text has two tokens.
    """
    start = start_ids(tokenizer)
    rows = [[*start, *text_ids(tokenizer, text)][:max_length] for text in texts]
    rows = [row for row in rows if len(row) > 1]
    if not rows:
        raise BadInput("Perplexity needs a text of at least two tokens.")
    nll, count = 0.0, 0
    for first in range(0, len(rows), batch_size):
        losses, scored = token_nll(model, rows[first : first + batch_size])
        nll, count = nll + float(losses.sum()), count + scored
    return Score(min(nll, 700.0 * count), count, 0).perplexity
