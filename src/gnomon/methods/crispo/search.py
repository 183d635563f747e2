"""The two searches: for a whole prompt, and for a postscript behind a finished one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnomon.core.llm.stack.loop import run_async
from gnomon.core.rng import Rng
from gnomon.methods.crispo.asking import Asker, LLMs
from gnomon.methods.crispo.config import SearchConfig
from gnomon.methods.crispo.loop import Search
from gnomon.methods.crispo.neighbours import Neighbours
from gnomon.methods.crispo.rows import Example
from gnomon.methods.crispo.scoring import Metric
from gnomon.methods.crispo.task import POSTSCRIPT, OnStep, Result, Task


def optimize(
    task: Task,
    train: Sequence[Example],
    dev: Sequence[Example],
    llms: LLMs,
    metrics: Sequence[Metric],
    cfg: SearchConfig | None = None,
    *,
    rng: Rng | None = None,
    max_tokens: int = 512,
    meta_tokens: int = 1024,
    temperature: float = 1.0,
    neighbours: Neighbours | None = None,
    on_step: OnStep | None = None,
) -> Result:
    """Search for a better prompt, or with `task.main` for a postscript.

    Every choice is a function of `rng` and every answer of its request and draw: with models that remember what they said (see
    `gnomon.core.llm.connect`), a search that was stopped repeats itself without paying and goes on where it was.

    Args:
        task: prompts to begin with, and what they are for.
        train: rows that prompts are scored and criticised on.
        dev: rows that the result is chosen by; none of them is ever shown to critic or optimiser.
        llms: the three models.
        metrics: what is measured; several are weighed by `cfg.select`.
        cfg: how to search; None takes the paper's numbers.
        rng: every random choice.
        max_tokens: longest answer to the task.
        meta_tokens: longest critique or proposal.
        temperature: of critic and optimiser.
        neighbours: fills the example slot.
        on_step: told of every step.

    Raises:
        BadInput: rows or prompts cannot be used; the message names the row.
        LLMFailure: a model did not answer.
        BudgetSpent: the budget ended; what was answered is in the cache.
    """
    search = Search(
        task,
        train,
        dev,
        Asker(
            llms,
            seed=(rng or Rng(0)).seed,
            max_tokens=max_tokens,
            meta_tokens=meta_tokens,
            temperature=temperature,
        ),
        metrics,
        cfg or SearchConfig(),
        rng or Rng(0),
        neighbours,
        on_step,
    )
    return run_async(search.run())


def tune_suffix(
    main: str,
    train: Sequence[Example],
    dev: Sequence[Example],
    llms: LLMs,
    metrics: Sequence[Metric],
    cfg: SearchConfig | None = None,
    *,
    postscripts: Sequence[str] | None = None,
    answer_tag: str | None = "summary",
    critic: str | Path | None = None,
    optimizer: str | Path | None = None,
    **more: Any,
) -> Result:
    """Search for a postscript behind a finished prompt: automatic suffix tuning.

    The empty postscript is always the first candidate, so that "none" can win.

    Args:
        main: the finished prompt; not a byte of it changes.
        train: as in `optimize`.
        dev: as in `optimize`.
        llms: as in `optimize`.
        metrics: the metric to keep, then those to raise.
        cfg: how to search.
        postscripts: to begin with; None takes a plain request to stay faithful.
        answer_tag: as in `Task`.
        critic: as in `Task`.
        optimizer: as in `Task`.
        **more: as in `optimize`.
    """
    first = list(postscripts) if postscripts is not None else [POSTSCRIPT]
    task = Task(["", *(text for text in first if text)], answer_tag, main, critic, optimizer)
    return optimize(task, train, dev, llms, metrics, cfg, **more)
