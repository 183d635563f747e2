"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.config import Shards
from gnomon.core.data.execute import Totals, has_other_settings, map_shards, rejected
from gnomon.core.llm import manner, open_completions
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.log import Advances
from gnomon.core.models import add_token, load_model, load_tokenizer, save_lora
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.rng import Rng
from gnomon.core.rollout.suites import load_suite, strip_markdown
from gnomon.core.run import Run
from gnomon.core.sandbox import Limits, SandboxPool
from gnomon.core.too_long import Long, note_long
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.lintseq import config, report
from gnomon.methods.lintseq.edits.diffs import DIFF_TOKEN
from gnomon.methods.lintseq.edits.diffs import resolve as resolve_edits
from gnomon.methods.lintseq.edits.production import AuditStep, EditRecord, Fields, LintSeqStep, RandSeqStep
from gnomon.methods.lintseq.linters import open_linter
from gnomon.methods.lintseq.models.evaluation import as_sampled, evaluate
from gnomon.methods.lintseq.models.sampling import LONG, Prompt, sample_local, sample_served
from gnomon.methods.lintseq.models.training import edit_pair, encode, matched, program_pair, train_examples
from gnomon.methods.lintseq.programs.data import SourceProgram, choose, read_programs

_NOT_IN_STEP = {
    "source", "code_field", "prompt_field", "min_lines", "max_lines", "limit", "engine", "workers", "shard_rows",
}  # fmt: skip
"""Settings of `generate` and `randseq` that say where programs come from and where they are worked on."""


def generate(cfg: config.Generate, run: Run) -> None:
    """Sample lint-clean edit sequences for every program of the source."""
    open_linter(cfg.linter)  # a misspelt name is told before anything is read
    chosen = {name: value for name, value in asdict(cfg).items() if name not in _NOT_IN_STEP}
    step = LintSeqStep(seed=run.seed, fields=Fields(cfg.code_field, cfg.prompt_field), **chosen)
    _produce(cfg, step, run)


def randseq(cfg: config.Randseq, run: Run) -> None:
    """Sample edit sequences without a linter."""
    fields = Fields(cfg.code_field, cfg.prompt_field)
    _produce(cfg, RandSeqStep(run.seed, cfg.samples, fields, cfg.normalise_indent), run)


def _produce(cfg: config.Generate | config.Randseq, step: LintSeqStep | RandSeqStep, run: Run) -> None:
    def programs() -> Iterator[SourceProgram]:
        rows = read_programs(cfg.source, code_field=cfg.code_field, prompt_field=cfg.prompt_field)
        return choose(rows, min_lines=cfg.min_lines, max_lines=cfg.max_lines, limit=cfg.limit, rng=run.rng)

    @cache
    def count() -> int:
        return sum(not program.problem for program in programs())

    run.plan(
        programs=count,
        sequences=lambda: count() * cfg.samples,
        shard_rows=cfg.shard_rows,
        workers=cfg.workers,
        engine=cfg.engine,
    )
    sink = run.artifact("records", run.folder / "edits")
    totals = _in_shards(cfg, step, programs(), sink, run.progress(cfg.limit, "programs"))
    refusals = list(rejected(sink))
    if not totals.written:
        reason = refusals[0]["reason"] if refusals else "it holds no program of the length asked for."
        raise BadInput(f"{cfg.source}: nothing can be used; {reason}")
    if refusals:
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refusals)
    run.log(**_counts(totals))
    report.production(run.page, totals, refusals, records.read(sink, EditRecord), step)


def _in_shards(
    cfg: Shards, step: Any, rows: Iterator[Any], sink: Path, progress: AbstractContextManager[Advances]
) -> Totals:
    """Run a step over rows as the settings say; the step is its own fingerprint."""
    with progress as bar:
        return map_shards(
            step,
            rows,
            sink,
            engine=cfg.engine,
            workers=cfg.workers,
            shard_rows=cfg.shard_rows,
            settings=step,
            progress=bar,
        )


def _counts(totals: Totals) -> dict[str, Any]:
    return {
        "programs": totals.read,
        "sequences": totals.written,
        "rejected": totals.rejected,
        "resumed_shards": totals.resumed,
        **totals.sums,
    }


def resolve(cfg: config.Resolve, run: Run) -> None:
    """Turn edit sequences back into programs."""
    rows = list(records.read_raw(cfg.source))
    run.plan(records=len(rows))
    done: list[dict[str, Any]] = []
    voided = malformed = hunks = 0
    for where, raw in rows:
        edits = raw.get(cfg.field, raw.get("edit_path"))
        if not isinstance(edits, (str, list)):
            raise BadInput(
                f'{where}: field "{cfg.field}" is missing. Name the column of the edits with --field.'
            )
        result = resolve_edits(edits, strict=cfg.strict)
        voided += result.code is None
        malformed += result.n_malformed
        hunks += result.n_hunks
        done.append(
            raw | {"program": result.code, "n_hunks": result.n_hunks, "n_malformed": result.n_malformed}
        )
    records.write(run.artifact("records", run.folder / "programs.jsonl"), done)
    run.page.title = f"{len(done):,} edit sequences resolved"
    run.page.figures({"records": len(done), "hunks": hunks, "malformed hunks": malformed, "voided": voided})


def check(cfg: config.Check, run: Run) -> None:
    """Audit edit sequences."""
    open_linter(cfg.linter)
    n_rows = sum(1 for _ in records.read_raw(cfg.source))
    if not n_rows:
        raise BadInput(f"{cfg.source} holds no records.")
    run.plan(sequences=n_rows, workers=cfg.workers)
    sink = run.artifact("audits", run.folder / "audits")
    step = AuditStep(cfg.linter, cfg.code_field)
    rows = records.read(cfg.source, EditRecord)
    totals = _in_shards(cfg, step, rows, sink, run.progress(n_rows, "sequences"))
    if refusals := list(rejected(sink)):
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refusals)
        if not totals.written:
            raise BadInput(f"{cfg.source}: no record can be audited; {refusals[0]['reason']}")
    run.log(**_counts(totals))
    report.audit(run.page, totals, records.read_raw(sink), cfg.linter)


def train(cfg: config.Train, run: Run) -> None:
    """Fine-tune a model on edit sequences or on whole programs."""
    pairs = _pairs(cfg)
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="lintseq train")
    if cfg.mode == "editseq":
        add_token(model, tokenizer, DIFF_TOKEN)
    keep = cfg.truncated == "keep"
    examples = encode(pairs, tokenizer, max_length=cfg.train.max_length, keep_truncated=keep)
    examples, aside = examples.set_aside(cfg.train.eval_share, run.rng.child("aside"))
    planned = matched(cfg.train, examples, cfg.passes)
    run.plan(
        examples=len(examples.rows),
        set_aside=len(aside),
        programs=examples.n_groups,
        too_long=examples.n_truncated,
        optimiser_steps=planned.max_steps or planned.epochs * -(-len(examples.rows) // planned.batch_size),
        parameters=sum(p.numel() for p in model.parameters()),
    )
    model, history = train_examples(model, tokenizer, examples, run=run, cfg=planned, aside=aside)
    if not run.is_main:
        return
    folder = run.artifact("model", run.folder / "model")
    if cfg.train.lora_rank is not None:
        save_lora(model, tokenizer, folder)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    report.training(run.page, history, examples, cfg.mode, planned.epochs)


def _pairs(cfg: config.Train) -> list[Any]:
    """The examples in words."""
    column, prompt_column = f"source_{cfg.code_field}", f"source_{cfg.prompt_field}"
    pairs = []
    groups: dict[tuple[Any, Any], int] = {}
    for number, (where, raw) in enumerate(records.read_raw(cfg.data)):
        program = raw.get("source_file"), raw.get("index", number)
        is_new = program not in groups
        group = groups.setdefault(program, len(groups))
        prompt = raw.get(prompt_column, raw.get(cfg.prompt_field, ""))
        if not isinstance(prompt, str):
            raise BadInput(f'{where}: field "{cfg.prompt_field}" must be a string; got {prompt!r}.')
        if cfg.mode == "editseq":
            if not isinstance(raw.get("edit_path"), list):
                raise BadInput(
                    f'{where}: field "edit_path" is missing. Make edit sequences with `gnomon lintseq generate`.'
                )
            pairs.append(edit_pair(prompt, raw["edit_path"], group))
        elif is_new:
            code = raw.get(column, raw.get(cfg.code_field))
            if not isinstance(code, str):
                raise BadInput(
                    f'{where}: neither "{column}" nor "{cfg.code_field}" holds a program. Use --code-field.'
                )
            pairs.append(program_pair(prompt, strip_markdown(code), group))
    return pairs


def sample(cfg: config.Sample, run: Run) -> None:
    """Write programs for instructions."""
    prompts = _prompts(cfg)
    n, longest = len(prompts) * cfg.gen.n, cfg.gen.max_new_tokens
    read = sum(estimated_tokens(prompt.text) for prompt in prompts) * cfg.gen.n
    cost = {} if cfg.writer is None else cfg.llm.cost(n, read, n * longest)
    run.plan(prompts=len(prompts), completions=n, longest=longest, **cost)
    sink = run.artifact("records", run.folder / "samples")
    settings = {name: value for name, value in asdict(cfg).items() if name != "llm"}
    parameters = None
    # More completions are asked for, or some failed and are tried for again: what a server wrote already is in the cache.
    has_failed = cfg.writer is not None and any(rejected(sink))
    if has_failed or has_other_settings(sink, settings, shard_rows=16):
        shutil.rmtree(sink)
    with run.progress(len(prompts), "prompts") as bar:
        if cfg.writer is not None:
            source = partial(open_completions, cfg.writer, manner(cfg.llm))
            with run.asking({"writer": source}, cfg.llm) as models:
                step = partial(_served, models["writer"], cfg, run.seed)
                map_shards(step, prompts, sink, shard_rows=16, settings=settings, progress=bar)
        else:
            model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="lintseq sample")
            step = partial(
                _local,
                model,
                load_tokenizer(cfg.model, narrow(LoadConfig, cfg)),
                cfg,
                run.rng.child("sample"),
            )
            map_shards(step, prompts, sink, shard_rows=16, settings=settings, progress=bar)
            parameters = sum(p.numel() for p in model.parameters())
    rows = [raw for _, raw in records.read_raw(sink)]
    long = [Long(**raw["record"]) for raw in rejected(sink) if raw["reason"] == LONG]
    note_long(run, long, len(prompts), "prompts")
    report.samples(run.page, rows, cfg.mode, parameters)


def _served(llm: Any, cfg: config.Sample, seed: int, rows: Iterator[Prompt]) -> Iterator[Any]:
    width = cfg.llm.concurrency
    yield from sample_served(
        llm, list(rows), cfg.mode, cfg.gen, seed=seed, concurrency=width, strict=cfg.strict
    )


def _local(model: Any, tokenizer: Any, cfg: config.Sample, rng: Rng, rows: Iterator[Prompt]) -> Iterator[Any]:
    strict, too_long = cfg.strict, cfg.too_long
    yield from sample_local(
        model, tokenizer, list(rows), cfg.mode, cfg.gen, rng=rng, strict=strict, too_long=too_long
    )


def _prompts(cfg: config.Sample) -> list[Any]:

    if cfg.suite != "records":
        problems = load_suite(cfg.suite, cfg.prompts, skip=cfg.skip)
        if cfg.style == "continue":
            if cfg.suite != "humaneval" or cfg.mode != "program":
                raise BadConfig("style continue goes with --suite humaneval and --mode program.")
            return [Prompt(problem.task_id, problem.head) for problem in problems]
        return [Prompt(problem.task_id, problem.instruction) for problem in problems]
    prompts = []
    for number, (where, raw) in enumerate(records.read_raw(cfg.prompts)):
        text = raw.get(cfg.prompt_field)
        if not isinstance(text, str) or not text:
            raise BadInput(f'{where}: field "{cfg.prompt_field}" is missing or empty. Use --prompt-field.')
        prompts.append(Prompt(str(raw.get("task_id", number)), text))
    if len(prompts) <= cfg.skip:
        raise BadInput(f"{cfg.prompts} holds no prompts after the first {cfg.skip}.")
    return prompts[cfg.skip :]


def eval(cfg: config.Eval, run: Run) -> None:
    """Run generated programs against a suite's tests."""
    if not cfg.allow_code_execution:
        raise BadConfig(
            "allow_code_execution must be given: `lintseq eval` runs programs that a model wrote. "
            "Read about the sandbox's walls in docs/sandbox.md, then repeat with --allow-code-execution."
        )
    problems = load_suite(cfg.suite, cfg.data)
    samples = [as_sampled(raw, n, where) for n, (where, raw) in enumerate(records.read_raw(cfg.samples))]
    if not samples:
        raise BadInput(f"{cfg.samples} holds no samples.")
    wanted = {sample.task_id for sample in samples}
    problems = [problem for problem in problems if problem.task_id in wanted] or problems
    run.plan(tasks=len(problems), programs=len(samples), workers=cfg.workers, longest_s=cfg.timeout_s)
    linter = open_linter(cfg.linter)
    limits = Limits(timeout_s=cfg.timeout_s, memory_mb=cfg.memory_mb)
    with SandboxPool(cfg.workers, limits=limits) as pool:
        evaluated = evaluate(problems, samples, pool=pool, linter=linter, ks=cfg.k)
    records.write(run.artifact("tasks", run.folder / "tasks.jsonl"), evaluated.tasks)
    run.log(**evaluated.summary(cfg.k))
    report.evaluation(run.page, evaluated, cfg.k, cfg.parameters)


__all__: Sequence[str] = ("check", "eval", "generate", "randseq", "resolve", "sample", "train")
