"""What the verbs have in common: rows read, a search run in its folder, prompts measured on test."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.config import narrow
from gnomon.core.files import write_json
from gnomon.core.run import Run
from gnomon.errors import BudgetSpent
from gnomon.methods.crispo.config import Measuring, SearchConfig, Searching
from gnomon.methods.crispo.examples.data import (
    EXAMPLES,
    MADE,
    Example,
    check_apart,
    check_slots,
    read_examples,
    slots_in,
)
from gnomon.methods.crispo.examples.neighbours import Neighbours
from gnomon.methods.crispo.scoring.calls import Call, LLMs
from gnomon.methods.crispo.scoring.candidates import History, Measured, Step
from gnomon.methods.crispo.scoring.evaluation import compare, evaluate
from gnomon.methods.crispo.scoring.metrics import Metric, open_metrics
from gnomon.methods.crispo.search.loop import optimize
from gnomon.methods.crispo.search.store import (
    BEST,
    CALLS,
    HISTORY,
    SEARCH,
    SUFFIX,
    SavedSearch,
    Store,
    dspy,
    promptfoo,
    whole,
)
from gnomon.methods.crispo.search.task import Result, Task

log = logging.getLogger(__name__)

FEWEST_PROPOSALS = 3
"""With room for fewer, a search is hardly one."""


@dataclass(frozen=True)
class Data:
    """The rows of a search."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    """Empty when there are none."""

    @classmethod
    def read(cls, cfg: Searching, prompts: Sequence[str]) -> Data:
        """The rows that the settings name, checked to fit every prompt and to have nothing in common."""
        train, dev = read_rows(cfg.train, cfg), read_rows(cfg.dev, cfg)
        test = [] if cfg.test is None else read_rows(cfg.test, cfg)
        for prompt in prompts:
            check_slots(prompt, [*train, *dev, *test], has_encoder=cfg.encoder is not None)
        check_apart({"train": train, "dev": dev} | ({"test": test} if test else {}), slots_in(prompts[0]))
        return cls(train, dev, test)


def read_rows(source: str, cfg: Measuring) -> list[Example]:
    """Rows of one source."""
    columns = {cfg.input_column: "input", cfg.output_column: "output"}
    return read_examples(source, columns=columns, limit=cfg.limit)


def planned_calls(cfg: SearchConfig, prompts: int, data: Data) -> dict[str, int]:
    """Calls by role, if every proposal is good; refused ones come on top."""
    steps = 0 if cfg.arm == "plain" else cfg.steps
    new = steps * cfg.per_step
    every = cfg.dev_every or 5
    rounds = -(-steps // every)
    on_dev = prompts + rounds * (cfg.per_step + 1) + cfg.recheck
    return {
        "task_calls": cfg.repeat * ((prompts + new) * len(data.train) + on_dev * len(data.dev) + 2 * len(data.test)),
        "critic_calls": prompts + new if cfg.arm == "crispo" and steps else 0,
        "optimizer_calls": new,
    }  # fmt: skip


def neighbours_for(cfg: Measuring, text: str, train: Sequence[Example]) -> Neighbours | None:
    """What fills the example slot, where a prompt has it and an encoder is named."""
    names = slots_in(text)
    if EXAMPLES not in names or cfg.encoder is None:
        return None
    rows = [name for name in names if name not in MADE]
    return Neighbours(cfg.encoder, train, rows, k=cfg.shots)


def searched(cfg: Searching, run: Run, task: Task, data: Data) -> None:
    """Run a search in its folder, measure the given and the best prompt on test, leave the files and write the page.

    Raises:
        BudgetSpent: the budget ended; what there is stands in the folder.
    """
    from gnomon.methods.crispo.report import pages

    refs = {"task": cfg.task, "critic": cfg.critic or cfg.task}
    refs["optimizer"] = cfg.optimizer or refs["critic"]
    metrics = open_metrics(cfg.metrics, slots=slots_in(task.filled), support=cfg.support, workers=cfg.workers)
    _warn_of_budget(cfg, task, data)
    run.rewind(step=-1)
    near = neighbours_for(cfg, task.filled, data.train)
    with run.asking(refs, cfg.llm) as llms, run.progress(cfg.steps + 1, "steps") as bar:
        store = Store(run.folder, task.main, task.answer_tag, run.page.simulated)

        def on_step(step: Step, history: History, calls: Sequence[Call]) -> None:
            store.save(history, calls, history.best("dev"))
            run.log(**step.row())
            bar.advance(1, dev=step.values["dev"][metrics[0].name])

        try:
            result = optimize(
                task,
                data.train,
                data.dev,
                LLMs(**llms),
                metrics,
                narrow(SearchConfig, cfg),
                rng=run.rng,
                max_tokens=cfg.max_tokens,
                meta_tokens=cfg.meta_tokens,
                temperature=cfg.temperature,
                neighbours=near,
                on_step=on_step,
            )
            table = _on_test(cfg, llms["task"], task, data.test, result, metrics, near, run.seed)
        except BudgetSpent as error:
            so_far = run.folder / BEST
            kept = f" The best prompt so far is in {so_far}." if so_far.exists() else ""
            raise BudgetSpent(f"{error}{kept}") from None
        store.save(result.history, result.calls, result.best)
        told = SavedSearch.read(run.folder)
        if result.saved_calls:
            run.page.figures({"task calls saved by racing": result.saved_calls})
        pages.search(run.page, told)
        if table:
            pages.test(run.page, table)
    _leave(run, told, data.test or data.dev)


def _on_test(
    cfg: Searching,
    llm: Any,
    task: Task,
    rows: Sequence[Example],
    result: Result,
    metrics: Sequence[Metric],
    near: Neighbours | None,
    seed: int,
) -> list[dict[str, Any]]:
    """The given prompt and the best one on rows that nothing was chosen by, as a table; nothing without rows."""
    if not rows:
        return []
    given = result.history.candidates[0]
    several = {"given": given, "found": result.best} if result.best is not given else {"given": given}
    found = evaluate(
        list(several.values()),
        rows,
        llm,
        metrics,
        answer_tag=task.answer_tag,
        main=task.main,
        neighbours=near,
        repeat=cfg.repeat,
        max_tokens=cfg.max_tokens,
        seed=seed,
        calls=result.calls,
    )
    return score_table(list(several), found, metrics)


def _leave(run: Run, told: SavedSearch, rows: Sequence[Example]) -> None:
    """Name the files of a finished search, and write the prompt in the forms of other tools."""
    prompt = whole(told.search["main"], told.best["prompt"])
    write_json(run.artifact("promptfoo", run.folder / "promptfoo.json"), promptfoo(prompt, rows))
    write_json(run.artifact("dspy", run.folder / "dspy.json"), dspy(prompt, told.search["answer_tag"]))
    run.artifact("prompt", run.folder / BEST)
    if told.search["main"] is not None:
        run.artifact("suffix", run.folder / SUFFIX)
    run.artifact("records", run.folder / HISTORY)
    run.artifact("calls", run.folder / CALLS)
    run.artifact("search", run.folder / SEARCH)
    run.artifact("scores", run.folder / "scores")


def score_table(
    names: Sequence[str], found: Sequence[Measured], metrics: Sequence[Metric]
) -> list[dict[str, Any]]:
    """A row per prompt and metric: score, and the difference from the first prompt with its interval."""
    rows = []
    for name, one in zip(names, found, strict=True):
        for metric in metrics:
            row: dict[str, Any] = {
                "prompt": name,
                "metric": metric.name,
                "score": metric.aggregate(one.scores[metric.name]),
            }
            if one is not found[0]:
                by = compare(one, found[0], metric)
                row["better than the first by"] = (by.estimate, by.low, by.high)
            rows.append(row)
    return rows


def _warn_of_budget(cfg: Searching, task: Task, data: Data) -> None:
    if cfg.llm.budget_calls is None or cfg.arm == "plain":
        return
    first = len(task.prompts) * (len(data.train) + len(data.dev)) * cfg.repeat
    left = (cfg.llm.budget_calls - first) // max(1, len(data.train) * cfg.repeat)
    if left < FEWEST_PROPOSALS:
        log.warning(
            "The budget of %d calls leaves room for %d proposals after the given prompts. "
            "Raise --llm.budget-calls, or take fewer rows.",
            cfg.llm.budget_calls,
            max(0, left),
        )
