"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from pathlib import Path

from gnomon.core.run import Run
from gnomon.errors import BadConfig
from gnomon.methods.crispo import config


def optimize(cfg: config.Optimize, run: Run) -> None:
    """Search for a better prompt."""
    from gnomon.methods.crispo.pipeline import Data, planned_calls, searched
    from gnomon.methods.crispo.search.store import read_prompt
    from gnomon.methods.crispo.search.task import Task

    given = [read_prompt(path).text for path in (Path(cfg.prompt), *cfg.more_prompts)]
    data = Data.read(cfg, given)
    run.plan(**planned_calls(cfg, len(given), data))
    run.page.title = "A prompt, optimised"
    task = Task(given, cfg.answer_tag, critic=cfg.critic_template, optimizer=cfg.optimizer_template)
    searched(cfg, run, task, data)


def suffix(cfg: config.Suffix, run: Run) -> None:
    """Tune a postscript behind a finished prompt, for several metrics at once."""
    from gnomon.methods.crispo.pipeline import Data, planned_calls, searched
    from gnomon.methods.crispo.search.store import read_prompt
    from gnomon.methods.crispo.search.task import POSTSCRIPT, Task

    main = read_prompt(Path(cfg.main))
    first = POSTSCRIPT if cfg.postscript is None else read_prompt(cfg.postscript).text.strip()
    data = Data.read(cfg, [main.text])
    run.plan(**planned_calls(cfg, 2, data))
    run.page.title = "A postscript, tuned"
    task = Task(["", first], cfg.answer_tag, main.text, cfg.critic_template, cfg.optimizer_template)
    searched(cfg, run, task, data)


def evaluate(cfg: config.Evaluate, run: Run) -> None:
    """Measure finished prompts side by side."""
    from gnomon.core import records
    from gnomon.methods.crispo.examples.data import EXAMPLES, slots_in
    from gnomon.methods.crispo.pipeline import neighbours_for, read_rows, score_table
    from gnomon.methods.crispo.report import pages
    from gnomon.methods.crispo.scoring import evaluation
    from gnomon.methods.crispo.scoring.candidates import Candidate
    from gnomon.methods.crispo.scoring.metrics import open_metrics
    from gnomon.methods.crispo.search.store import read_prompt, score_rows

    if not cfg.prompts:
        raise BadConfig("prompts must name one prompt or more: text files, or folders of runs.")
    given = [read_prompt(path) for path in cfg.prompts]
    rows = read_rows(cfg.rows, cfg)
    run.plan(task_calls=len(given) * len(rows) * cfg.repeat)
    names = [one.name for one in given]
    metrics = open_metrics(
        cfg.metrics, slots=slots_in(given[0].text), support=cfg.support, workers=cfg.workers
    )
    if any(EXAMPLES in slots_in(one.text) for one in given):
        if cfg.examples is None:
            raise BadConfig(
                "A prompt has the slot INSERT_EXAMPLES_HERE. Name the rows to take them from with --examples."
            )
        near = neighbours_for(
            cfg, next(o.text for o in given if EXAMPLES in slots_in(o.text)), read_rows(cfg.examples, cfg)
        )
    else:
        near = None
    run.page.title = "Prompts, side by side"
    with run.asking({"task": cfg.task}, cfg.llm) as llms:
        found = evaluation.evaluate(
            [Candidate(i, one.text, k=one.k or cfg.k) for i, one in enumerate(given)],
            rows,
            llms["task"],
            metrics,
            answer_tag=cfg.answer_tag,
            neighbours=near,
            repeat=cfg.repeat,
            max_tokens=cfg.max_tokens,
            seed=run.seed,
        )
        pages.test(run.page, score_table(names, found, metrics))
    every = [
        {"prompt": name, **row} for name, one in zip(names, found, strict=True) for row in score_rows(one)
    ]
    records.write(run.artifact("records", run.folder / "scores.parquet"), every)


def show(cfg: config.Show, run: Run) -> None:
    """The prompts, critiques and curve of a search, finished or not."""
    from gnomon.methods.crispo.report import pages
    from gnomon.methods.crispo.search.store import SavedSearch

    told = SavedSearch.read(Path(cfg.source))
    run.plan(prompts=len(told.prompts), steps=len(told.search["steps"]) - 1)
    run.page.title = f"The search in {cfg.source}"
    if told.search["simulated"]:
        run.page.simulated, run.page.title = True, f"SIMULATED: {run.page.title}"
    pages.search(run.page, told, cfg.metric)
