"""Evaluation of summaries: ROUGE, length, uptake of the phrases shown, and support by the document."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core import records
from gnomon.core.llm import LLM
from gnomon.core.llm.stack.stored import room_of
from gnomon.core.metrics.rouge import KINDS, Kind, rouge, rouge_tokens
from gnomon.core.metrics.stats import Interval, mean_interval, paired_difference
from gnomon.core.metrics.support import SupportScorer, content, token_support
from gnomon.core.text import sentences
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.sigext.extractor.training import Score
from gnomon.methods.sigext.phrases.data import Columns, Reading, Row, to_row
from gnomon.methods.sigext.phrases.phrases import Phrase
from gnomon.methods.sigext.summaries.prompts import Template
from gnomon.methods.sigext.summaries.summaries import Sampling, Summary, pair_up, summarise

RESAMPLES = 2000
"""Of every bootstrap."""
COPIED = 3
"""Words in a row that make a copy."""
STAND_IN = "token support (stand-in for faithfulness)"

Faithfulness = Callable[[Sequence[str], Sequence[str]], list[float]]
"""Summaries and their documents -> support of each, 0..1 or NaN."""


@dataclass(frozen=True)
class Arm:
    """Metrics of one arm, over the documents that all arms have a summary of."""

    name: str
    """As in `Summary.name`."""
    arm: str
    """Without K."""
    k: int
    """Phrases allowed, at most."""
    values: dict[str, NDArray[np.float64]] = field(repr=False)
    """Metric -> one number per document, in points where it is a share; NaN where it is not defined."""

    def mean(self, metric: str) -> float | None:
        """Mean over the documents where the metric is defined; None where it is for none."""
        defined = self.values[metric][~np.isnan(self.values[metric])]
        return float(defined.mean()) if defined.size else None

    def interval(self, metric: str) -> Interval:
        """The mean with its bootstrap interval over documents."""
        defined = self.values[metric][~np.isnan(self.values[metric])]
        return mean_interval([defined.tolist()], n_resamples=RESAMPLES)


@dataclass(frozen=True)
class Evaluation:
    """All arms on the same documents."""

    arms: dict[str, Arm]
    """Name -> metrics."""
    documents: int
    """Documents measured: those that every arm has a summary of."""
    faults: dict[str, int]
    """Why summaries are missing -> how many."""
    cut_prompts: int
    """Prompts whose document had to be cut."""
    cut_summaries: int
    """Summaries that ended at their longest length."""
    faithfulness: str
    """Name of the measure of faithfulness."""
    invented: dict[str, list[str]] = field(repr=False)
    """Arm and document, as "arm: id" -> names and numbers of the summary that the document lacks."""

    def difference(self, arm: str, other: str, metric: str) -> Interval:
        """The mean of arm - other, paired by document, with its bootstrap interval."""
        a, b = self.arms[arm].values[metric], self.arms[other].values[metric]
        both = ~(np.isnan(a) | np.isnan(b))
        return paired_difference([a[both].tolist()], [b[both].tolist()], n_resamples=RESAMPLES)


def evaluate(
    rows: Sequence[Row],
    summaries: Sequence[Summary],
    *,
    faithfulness: str = "token-support",
    language: str = "english",
    workers: int = 1,
) -> Evaluation:
    """Measure summaries against the references, which are never cut.

    Args:
        rows: documents with reference summaries.
        summaries: of several arms.
        faithfulness: `token-support`, or a checkpoint for `SupportScorer`.
        language: of the stems.
        workers: processes that measure ROUGE.

    Raises:
        BadInput: no document has a summary in every arm.
    """
    paired = pair_up(rows, summaries)
    first_arm = next(iter(paired.values()))
    chosen = [row for row in rows if row.id in first_arm]
    name, support = _faithfulness(faithfulness, language)
    arms: dict[str, Arm] = {}
    invented: dict[str, list[str]] = {}
    for label, by_id in paired.items():
        texts = [by_id[row.id].text for row in chosen]
        values = _rouge_points(texts, [row.summary for row in chosen], language, workers)
        values["words"] = np.array([len(text.split()) for text in texts], float)
        values["hint uptake"] = _points(
            uptake(by_id[row.id].phrases, by_id[row.id].text, language) for row in chosen
        )
        values["hint in source"] = _points(in_source(by_id[row.id].phrases, row.document) for row in chosen)
        values["copy rate"] = _points(
            copy_rate(text, row.document, language) for text, row in zip(texts, chosen, strict=True)
        )
        values[name] = _points(support(texts, [row.document for row in chosen]))
        lacking = [inventions(text, row.document, language) for text, row in zip(texts, chosen, strict=True)]
        values["summaries with inventions"] = np.array([100.0 * bool(words) for words in lacking])
        invented |= {f"{label}: {row.id}": words for row, words in zip(chosen, lacking, strict=True) if words}
        first = by_id[chosen[0].id]
        values["hints"] = np.array([len(by_id[row.id].phrases) for row in chosen], float)
        arms[label] = Arm(label, first.arm, first.k, values)
    _added_recall(arms)
    faults: dict[str, int] = {}
    for summary in summaries:
        if summary.fault:
            faults[summary.fault] = faults.get(summary.fault, 0) + 1
    return Evaluation(
        arms,
        len(chosen),
        faults,
        sum(summary.is_cut for summary in summaries),
        sum(summary.is_truncated for summary in summaries),
        name,
        invented,
    )


def _rouge_points(
    texts: Sequence[str], references: Sequence[str], language: str, workers: int
) -> dict[str, Any]:
    lines = [by_lines(text) for text in texts], [by_lines(text) for text in references]
    scores = rouge(*lines, KINDS, language=language, workers=workers)
    names: dict[Kind, str] = {
        "rouge1": "ROUGE-1",
        "rouge2": "ROUGE-2",
        "rougeL": "ROUGE-L",
        "rougeLsum": "ROUGE-Lsum",
    }
    return {
        f"{names[kind]} {what}": 100 * scores[kind][:, i]
        for kind in KINDS
        for i, what in enumerate(("precision", "recall", "F"))
    }


def by_lines(text: str) -> str:
    """The text with a sentence on each line, as ROUGE-Lsum wants it.

    >>> by_lines("One. Two\\nthree.")
    'One.\\nTwo three.'
    """
    return "\n".join(" ".join(text[start:end].split()) for start, end in sentences(text))


def matched_length(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    """Summaries of the same documents by several arms, each cut to as many words as the shortest of them has.

    >>> matched_length([["a b c"], ["d e"]])
    [['a b'], ['d e']]
    """
    sizes = [min(len(text.split()) for text in row) for row in zip(*texts, strict=True)]
    return [[" ".join(text.split()[:n]) for text, n in zip(row, sizes, strict=True)] for row in texts]


def uptake(phrases: Sequence[Phrase], summary: str, language: str = "english") -> float:
    """Share of the phrases shown whose stems stand in the summary, side by side; NaN when none was shown.

    >>> uptake([Phrase("new bridges", 0, 11), Phrase("a road", 20, 26)], "The New Bridge is built.")
    0.5
    """
    if not phrases:
        return math.nan
    there = f" {' '.join(rouge_tokens(summary, True, language))} "
    return sum(f" {' '.join(rouge_tokens(p.text, True, language))} " in there for p in phrases) / len(phrases)


def in_source(phrases: Sequence[Phrase], document: str) -> float:
    """Share of the phrases shown that stand in the document where they say they do; NaN when none was shown."""
    return sum(document[p.start : p.end] == p.text for p in phrases) / len(phrases) if phrases else math.nan


def copy_rate(summary: str, document: str, language: str = "english") -> float:
    """Share of the summary's runs of three words that the document has too; NaN for shorter summaries.

    >>> copy_rate("the old bridge is closed", "The old bridge was closed.")
    0.3333333333333333
    """
    written, source = (rouge_tokens(text, True, language) for text in (summary, document))
    grams = [written[i : i + COPIED] for i in range(len(written) - COPIED + 1)]
    copied = {source[i : i + COPIED] for i in range(len(source) - COPIED + 1)}
    return sum(gram in copied for gram in grams) / len(grams) if grams else math.nan


_NAME = re.compile(r"\d+(?:[.,]\d+)*|(?<![.!?\n]\s)(?<!^)\b[^\W\d_]*[A-ZÀ-Þ][\w'\u2019-]*", re.MULTILINE)


def inventions(summary: str, document: str, language: str = "english") -> list[str]:
    """Numbers, and words with a capital letter that begin no sentence, which the document lacks: likely hallucinations.

    >>> inventions("They met Ann and Bob in 1999.", "Ann met them in 1998.")
    ['Bob', '1999']
    """
    there = content(document, language=language)
    words = [match[0] for match in _NAME.finditer(summary)]
    return list(dict.fromkeys(word for word in words if not content(word, language=language) <= there))


def _points(shares: Any) -> NDArray[np.float64]:
    return 100 * np.array(list(shares), np.float64)


def _added_recall(arms: Mapping[str, Arm]) -> None:
    """Points of ROUGE-1 recall over the plain summary, per phrase shown."""
    plain = arms.get("none")
    for arm in arms.values():
        if plain is None:
            continue
        gained = arm.values["ROUGE-1 recall"] - plain.values["ROUGE-1 recall"]
        shown = arm.values["hints"]
        arm.values["added recall per hint"] = np.divide(
            gained, shown, out=np.full(len(shown), math.nan), where=shown > 0
        )


def _faithfulness(ref: str, language: str) -> tuple[str, Faithfulness]:
    if ref == "token-support":
        return STAND_IN, lambda texts, sources: [
            token_support(text, source, language=language)
            for text, source in zip(texts, sources, strict=True)
        ]
    if not ref:
        raise BadConfig('faithfulness must be "token-support" or a checkpoint; got "".')
    scorer = SupportScorer(ref)
    return scorer.name, scorer.score_many


# Summaries from files, and scores of phrases by summaries


def read_predictions(source: str, reading: Reading) -> tuple[list[Row], list[Summary]]:
    """Documents with references, and the summaries of them; a row without `arm` is of the arm "given".

    Raises:
        BadInput: a column is missing or of another type, or one arm has two summaries of a document.
    """
    rows: dict[str, Row] = {}
    summaries: dict[tuple[str, str], Summary] = {}
    for where, raw in records.read_raw(source):
        row = to_row(raw, reading, Columns(), where)
        text = raw.get("prediction")
        if not isinstance(text, str):
            raise BadInput(
                f'{where}: field "prediction" is missing or no string. It holds the summary that is measured.'
            )
        try:
            phrases = tuple(Phrase(p["text"], p["start"], p["end"]) for p in raw.get("phrases") or ())
            k = int(raw.get("k") or 0)
        except (KeyError, TypeError, ValueError):
            raise BadInput(f'{where}: a phrase has "text", "start" and "end", and "k" is a number.') from None
        fault = raw.get("fault") or (None if text.strip() else "empty")
        arm = str(raw.get("arm") or "given")
        summary = Summary(
            row.id, arm, k, phrases, text, fault, bool(raw.get("document_cut")), bool(raw.get("summary_cut"))
        )
        if (summary.name, summary.id) in summaries:
            raise BadInput(f'{where}: "{summary.id}" has a summary of the arm {summary.name} already.')
        summaries[summary.name, summary.id] = summary
        rows.setdefault(row.id, row)
    if not rows:
        raise BadInput(f"{source} holds no rows.")
    return list(rows.values()), list(summaries.values())


def score_by_summaries(
    rows: Sequence[Row], llm: LLM, template: Template, sampling: Sampling, *, concurrency: int, language: str
) -> Score:
    """A function that scores phrases by the ROUGE-1 of the summaries that a language model writes with them.

    Args:
        rows: validation documents with references.
        llm: the writer.
        template: the request.
        sampling: how summaries are sampled.
        concurrency: requests under way at once.
        language: of the stems.
    """
    limit, count = room_of(llm, sampling.max_tokens)

    def score(k: int, _: float, shown: list[list[Phrase]]) -> tuple[float, float, float] | None:
        summaries = summarise(
            rows,
            {("sigext", k): shown},
            llm,
            template,
            sampling,
            context_tokens=limit,
            count=count,
            concurrency=concurrency,
        )
        if all(summary.fault for summary in summaries):
            return None
        arm: Any = next(iter(evaluate(rows, summaries, language=language).arms.values()))
        return tuple(arm.mean(f"ROUGE-1 {what}") for what in ("precision", "recall", "F"))

    return score
