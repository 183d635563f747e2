"""Finished prompts measured and compared, row by row."""

from __future__ import annotations

from collections.abc import Sequence

from gnomon.core.llm.base import LLM
from gnomon.core.llm.stack.loop import run_async
from gnomon.core.metrics.stats import Interval, paired_difference
from gnomon.methods.crispo.asking import Asker, Call, LLMs
from gnomon.methods.crispo.candidates import Candidate, Measured
from gnomon.methods.crispo.evaluation import Evaluator, needed_slots
from gnomon.methods.crispo.neighbours import Neighbours
from gnomon.methods.crispo.rows import Example, check_slots
from gnomon.methods.crispo.scoring import Metric
from gnomon.methods.crispo.together import side_by_side


def evaluate(
    prompts: Sequence[str | Candidate],
    rows: Sequence[Example],
    llm: LLM,
    metrics: Sequence[Metric],
    *,
    answer_tag: str | None = "summary",
    main: str | None = None,
    neighbours: Neighbours | None = None,
    k: int = 15,
    repeat: int = 1,
    max_tokens: int = 512,
    seed: int = 0,
    calls: list[Call] | None = None,
) -> list[Measured]:
    """What each prompt does on the rows, all pairs of prompt and row asked side by side.

    Args:
        prompts: texts with slots, or candidates of a search.
        rows: what to measure on.
        llm: the task model.
        metrics: what is measured.
        answer_tag: the answer stands inside this tag; None: it is the whole reply.
        main: the fixed prompt, where `prompts` are postscripts.
        neighbours: fills the example slot.
        k: key phrases, for prompts that are texts.
        repeat: how often each row is asked.
        max_tokens: longest answer.
        seed: of the search, so that what it asked is known; for endpoints that know seeds.
        calls: every call is entered here.

    Raises:
        BadInput: a prompt cannot be filled from every row.
        LLMFailure: the model did not answer.
    """
    candidates = [
        one if isinstance(one, Candidate) else Candidate(number, one, k=k)
        for number, one in enumerate(prompts)
    ]
    for text in {one.text for one in candidates} if main is None else {main}:
        check_slots(text, rows, has_encoder=neighbours is not None)
    asker = Asker(LLMs.of(llm), seed=seed, max_tokens=max_tokens)
    evaluator = Evaluator(
        asker,
        {"test": rows},
        metrics,
        answer_tag=answer_tag,
        main=main,
        slots=needed_slots(candidates[0].text if main is None else main),
        neighbours=neighbours,
        repeat=repeat,
    )
    run_async(side_by_side([evaluator.measure(one, "test") for one in candidates]))
    if calls is not None:
        calls += asker.close_step()
    return [one.measured["test"] for one in candidates]


def compare(one: Measured, other: Measured, metric: Metric) -> Interval:
    """By how much `one` is better than `other`, a paired bootstrap over rows; above 0 is better whichever way the metric goes."""
    a, b = ([metric.better(value) for value in side.scores[metric.name]] for side in (one, other))
    return paired_difference([a], [b])
