"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.files import write_json
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.run import Run
from gnomon.errors import BadConfig, BudgetSpent, LLMFailure
from gnomon.methods.crispo import config
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
from gnomon.methods.crispo.report import pages
from gnomon.methods.crispo.scoring import evaluation
from gnomon.methods.crispo.scoring.calls import Call, Decoding, LLMs
from gnomon.methods.crispo.scoring.candidates import Candidate, History, Step
from gnomon.methods.crispo.scoring.evaluation import Setup, score_table
from gnomon.methods.crispo.scoring.metrics import open_metrics
from gnomon.methods.crispo.search import loop
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
    read_prompt,
    score_rows,
    whole,
)
from gnomon.methods.crispo.search.task import POSTSCRIPT, Task

log = logging.getLogger(__name__)

FEWEST_PROPOSALS = 3
"""With room for fewer, a search is hardly one."""


def optimize(cfg: config.Optimize, run: Run) -> None:
    """Search for a better prompt."""
    prompts = [read_prompt(path).text for path in (Path(cfg.prompt), *cfg.more_prompts)]
    rows = _read_splits(cfg, prompts)
    run.plan(**_planned(cfg, prompts[0], len(prompts), rows))
    run.page.title = "A prompt, optimised"
    near = _neighbours(cfg, prompts[0], rows.train)
    task = Task(
        prompts, cfg.answer_tag, None, cfg.critic_template, cfg.optimizer_template, near, cfg.llm.max_failed
    )
    _search(cfg, run, task, rows)


def suffix(cfg: config.Suffix, run: Run) -> None:
    """Tune a postscript behind a finished prompt, for several metrics at once."""
    main = read_prompt(Path(cfg.main)).text
    first = POSTSCRIPT if cfg.postscript is None else read_prompt(cfg.postscript).text.strip()
    rows = _read_splits(cfg, [main])
    run.plan(**_planned(cfg, main, 2, rows))
    run.page.title = "A postscript, tuned"
    near = _neighbours(cfg, main, rows.train)
    task = Task(
        ["", first],
        cfg.answer_tag,
        main,
        cfg.critic_template,
        cfg.optimizer_template,
        near,
        cfg.llm.max_failed,
    )
    _search(cfg, run, task, rows)


def evaluate(cfg: config.Evaluate, run: Run) -> None:
    """Measure finished prompts side by side."""
    if not cfg.prompts:
        raise BadConfig("prompts must name one prompt or more: text files, or folders of runs.")
    prompts = [read_prompt(path) for path in cfg.prompts]
    names = [prompt.name for prompt in prompts]
    rows = _read_rows(cfg.rows, cfg)
    calls = len(prompts) * len(rows) * cfg.repeat
    longest = max(estimated_tokens(prompt.text) for prompt in prompts) + _tokens_of(rows, prompts[0].text)
    run.plan(task_calls=calls, **cfg.llm.cost(calls, calls * longest, calls * cfg.max_tokens))
    metrics = open_metrics(
        cfg.metrics, slots=slots_in(prompts[0].text), support=cfg.support, workers=cfg.workers
    )
    near = None
    if with_examples := [prompt.text for prompt in prompts if EXAMPLES in slots_in(prompt.text)]:
        if cfg.examples is None:
            raise BadConfig(
                "A prompt has the slot INSERT_EXAMPLES_HERE. Name the rows to take them from with --examples."
            )
        near = _neighbours(cfg, with_examples[0], _read_rows(cfg.examples, cfg))
    run.page.title = "Prompts, side by side"
    with run.asking({"task": cfg.task}, cfg.llm) as models:
        measured = evaluation.evaluate(
            [Candidate(i, prompt.text, k=prompt.k or cfg.k) for i, prompt in enumerate(prompts)],
            rows,
            LLMs.of(models["task"], Decoding(cfg.max_tokens, task_temperature=cfg.task_temperature)),
            metrics,
            Setup(cfg.answer_tag, neighbours=near, repeat=cfg.repeat),
            seed=run.seed,
        )
        pages.test(run.page, score_table(names, measured, metrics))
    per_row = [
        {"prompt": name, **row}
        for name, of_prompt in zip(names, measured, strict=True)
        for row in score_rows(of_prompt)
    ]
    records.write(run.artifact("records", run.folder / "scores.parquet"), per_row)


def show(cfg: config.Show, run: Run) -> None:
    """The prompts, critiques and curve of a search, finished or not."""
    saved = SavedSearch.read(Path(cfg.source))
    run.plan(prompts=len(saved.prompts), steps=len(saved.search["steps"]) - 1)
    run.page.title = f"The search in {cfg.source}"
    if saved.search["simulated"]:
        run.page.simulated, run.page.title = True, f"SIMULATED: {run.page.title}"
    pages.search(run.page, saved, cfg.metric)


@dataclass(frozen=True)
class _Splits:
    """The rows of a search."""

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    """Empty when there are none."""


def _read_splits(cfg: Searching, prompts: Sequence[str]) -> _Splits:
    """Rows that the settings name, checked to fit every prompt and to have nothing in common."""
    train, dev = _read_rows(cfg.train, cfg), _read_rows(cfg.dev, cfg)
    test = [] if cfg.test is None else _read_rows(cfg.test, cfg)
    for prompt in prompts:
        check_slots(prompt, [*train, *dev, *test], has_encoder=cfg.encoder is not None)
    check_apart({"train": train, "dev": dev} | ({"test": test} if test else {}), slots_in(prompts[0]))
    return _Splits(train, dev, test)


def _read_rows(source: str, cfg: Measuring) -> list[Example]:
    columns = {cfg.input_column: "input", cfg.output_column: "output"}
    return read_examples(source, columns=columns, limit=cfg.limit)


def _neighbours(cfg: Measuring, text: str, train: Sequence[Example]) -> Neighbours | None:
    """What fills the example slot, where a prompt has it and an encoder is named."""
    names = slots_in(text)
    if EXAMPLES not in names or cfg.encoder is None:
        return None
    return Neighbours(cfg.encoder, train, [name for name in names if name not in MADE], k=cfg.shots)


def _planned_calls(cfg: Searching, prompts: int, rows: _Splits) -> dict[str, int]:
    """Calls by role, if every proposal is good; refused ones come on top."""
    steps = 0 if cfg.arm == "plain" else cfg.steps
    new = steps * cfg.per_step
    rounds = -(-steps // (cfg.dev_every or 5))
    on_dev = prompts + rounds * (cfg.per_step + 1) + cfg.recheck
    return {
        "task_calls": cfg.repeat * ((prompts + new) * len(rows.train) + on_dev * len(rows.dev) + 2 * len(rows.test)),
        "critic_calls": prompts + new if cfg.arm == "crispo" and steps else 0,
        "optimizer_calls": new,
    }  # fmt: skip


TEMPLATE_TOKENS, CRITIQUE_TOKENS = 400, 300
"""Tokens of a request to critic or optimiser before it is filled, and of a critique: rather many, measured on the room's own."""


def _planned(cfg: Searching, text: str, prompts: int, rows: _Splits) -> dict[str, Any]:
    """What a dry run says: calls by role, and the tokens and the money of all of them, with prompts as long as the first one."""
    calls = _planned_calls(cfg, prompts, rows)
    task, critic, optimizer = calls.values()
    instruction = estimated_tokens(text)
    row = _tokens_of([*rows.train, *rows.dev, *rows.test], text)
    answer = sum(estimated_tokens(example.references[0]) for example in rows.train) / len(rows.train)
    read = (
        task * (instruction + row)
        + critic * (TEMPLATE_TOKENS + instruction + cfg.critique_examples * (row + 2 * answer))
        + optimizer
        * (TEMPLATE_TOKENS + cfg.few_shot * (row + answer) + cfg.top_k * (instruction + CRITIQUE_TOKENS))
    )
    written = task * cfg.max_tokens + (critic + optimizer) * cfg.meta_tokens
    return calls | cfg.llm.cost(task + critic + optimizer, read, written)


def _tokens_of(rows: Sequence[Example], text: str) -> float:
    """Mean tokens of a row as a prompt holds it."""
    names = slots_in(text)
    return sum(estimated_tokens(row.source(names)) for row in rows) / len(rows)


def _search(cfg: Searching, run: Run, task: Task, rows: _Splits) -> None:
    """Run a search in its folder, measure its first and its best prompt on test, leave the files and write the page.

    Raises:
        BudgetSpent, LLMFailure: the budget ended, or too much failed; what there is stands in the folder and on the page.
    """
    roles = {"task": cfg.task, "critic": cfg.critic or cfg.task}
    roles["optimizer"] = cfg.optimizer or roles["critic"]
    metrics = open_metrics(cfg.metrics, slots=slots_in(task.filled), support=cfg.support, workers=cfg.workers)
    _warn_of_budget(cfg, task, rows)
    run.rewind(step=-1)
    # A search with more steps measures other prompts on dev: scores of an earlier run must not stay among its own.
    shutil.rmtree(run.folder / "scores", ignore_errors=True)
    with run.asking(roles, cfg.llm) as models, run.progress(cfg.steps + 1, "steps") as bar:
        llms = LLMs(**models, decoding=narrow(Decoding, cfg))
        store = Store(run.folder, task.main, task.answer_tag, run.page.simulated)

        def on_step(step: Step, history: History, calls: Sequence[Call]) -> None:
            store.save(history, calls, history.best("dev"))
            run.log(**step.row())
            bar.advance(1, dev=step.values["dev"][metrics[0].name])

        try:
            result = loop.optimize(
                task, rows.train, rows.dev, llms, metrics, narrow(SearchConfig, cfg), rng=run.rng, on_step=on_step
            )  # fmt: skip
            first = result.history.candidates[0]
            on_test = {"given": first} | ({} if result.best is first else {"found": result.best})
            table = []
            if rows.test:
                measured = evaluation.evaluate(
                    list(on_test.values()), rows.test, llms, metrics, task.setup(cfg.repeat), seed=run.seed, calls=result.calls
                )  # fmt: skip
                table = score_table(list(on_test), measured, metrics)
        except (BudgetSpent, LLMFailure) as error:
            if not (run.folder / BEST).exists():
                raise
            pages.search(run.page, SavedSearch.read(run.folder))
            raise type(error)(f"{error} The best prompt so far is in {run.folder / BEST}.") from None
        store.save(result.history, result.calls, result.best)
        saved = SavedSearch.read(run.folder)
        if cfg.arm == "plain":
            run.page.title = "The given prompt, measured"
        elif result.best is first:
            run.page.title = (
                "No better prompt found" if task.main is None else "No better postscript than none"
            )
        if result.saved_calls:
            run.page.figures({"task calls saved by racing": result.saved_calls})
        pages.search(run.page, saved)
        if table:
            pages.test(run.page, table)
    _name_files(run, saved, rows.test or rows.dev)


def _name_files(run: Run, saved: SavedSearch, rows: Sequence[Example]) -> None:
    """Name the files of a finished search, and write the prompt in the forms of other tools."""
    prompt = whole(saved.search["main"], saved.best["prompt"])
    write_json(run.artifact("promptfoo", run.folder / "promptfoo.json"), promptfoo(prompt, rows))
    write_json(run.artifact("dspy", run.folder / "dspy.json"), dspy(prompt, saved.search["answer_tag"]))
    files: dict[str, Any] = {"prompt": BEST}
    if saved.search["main"] is not None:
        files["suffix"] = SUFFIX
    files |= {"records": HISTORY, "calls": CALLS, "search": SEARCH, "scores": "scores"}
    for name, file in files.items():
        run.artifact(name, run.folder / file)


def _warn_of_budget(cfg: Searching, task: Task, rows: _Splits) -> None:
    if cfg.llm.budget_calls is None or cfg.arm == "plain":
        return
    first = len(task.prompts) * (len(rows.train) + len(rows.dev)) * cfg.repeat
    left = (cfg.llm.budget_calls - first) // max(1, len(rows.train) * cfg.repeat)
    if left < FEWEST_PROPOSALS:
        log.warning(
            "The budget of %d calls leaves room for %d proposals after the given prompts. "
            "Raise --llm.budget-calls, or take fewer rows.",
            cfg.llm.budget_calls,
            max(0, left),
        )
