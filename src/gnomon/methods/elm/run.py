"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.config import narrow
from gnomon.core.files import write_json
from gnomon.core.models import describe, load_model, load_tokenizer, read_family
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.run import Run
from gnomon.core.too_long import note_long
from gnomon.errors import BadInput
from gnomon.methods.elm import config
from gnomon.methods.elm import report as pages
from gnomon.methods.elm.erasure.design import Constants, Erasure
from gnomon.methods.elm.erasure.eraser import attach, encode_all, train_eraser
from gnomon.methods.elm.erasure.fluency import Guidance, make_fluent
from gnomon.methods.elm.erasure.inspection import along, check_personas, eta_table
from gnomon.methods.elm.erasure.store import base_key, merged, open_pair, save_adapter, save_checkpoint
from gnomon.methods.elm.evaluation.attacks import Relearning, SuffixSearch, relearn, suffix_attack
from gnomon.methods.elm.evaluation.measures import FORGET, Exam, evaluate_erasure
from gnomon.methods.elm.evaluation.seamlessness import perplexity
from gnomon.methods.elm.rivals.arms import train_baseline
from gnomon.methods.elm.texts.passages import encode_texts, read_fluent, read_passages
from gnomon.methods.elm.texts.personas import concept_text, read_personas, start_ids, topics
from gnomon.methods.elm.texts.questions import ask, encode_questions, fit_questions, read_questions

if TYPE_CHECKING:
    from gnomon.methods.elm.texts.questions import Question, Style

SAMPLE = 64
"""Forget texts whose perplexity is measured before and after."""

SHOWN = 5
"""Likeliest tokens that are shown of a distribution."""


def target(cfg: config.Target, run: Run) -> None:
    """What an erased model would predict along a text, and how one-hot that is at several strengths."""
    personas = read_personas(cfg.concept, cfg.personas)
    text = _text(cfg.text)[: cfg.max_chars]
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    run.plan(tokens=len(tokenizer(text)["input_ids"]), passes=3, etas=len(cfg.etas))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="elm target")
    rows = along(model, tokenizer, text, personas, cfg, shown=SHOWN)
    table = eta_table(model, tokenizer, text, personas, cfg, cfg.etas)
    for row in rows:
        run.log(**row)
    write_json(run.artifact("target", run.folder / "target.json"), {"positions": rows, "etas": table})
    pages.targets(run.page, cfg.eta, rows, table)


def fluency_data(cfg: config.FluencyData, run: Run) -> None:
    """Fluent texts without the concept, by guided sampling from the frozen model."""
    personas = read_personas(cfg.concept, cfg.personas)
    texts = [text for source in _sources(cfg.forget) for text in read_passages(
        source, text_field=cfg.text_field, max_chars=cfg.chars[1], min_chars=cfg.chars[0])]  # fmt: skip
    run.plan(texts=cfg.count, forget_texts=len(texts), tokens_at_most=cfg.count * cfg.tokens[1], streams=3)
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="elm fluency-data")
    path = make_fluent(
        model,
        tokenizer,
        texts,
        Guidance(
            personas,
            topics() if cfg.topics else (),
            gamma=cfg.gamma,
            chars=cfg.chars,
            tokens=cfg.tokens,
            batch_size=cfg.batch_size,
        ),
        count=cfg.count,
        generator=run.rng.child("fluency"),
        folder=run.folder,
        bar=run.progress(cfg.count, "fluent texts"),
    )
    run.artifact("records", path)
    pages.fluent(run.page, read_fluent(path), cfg.keywords)


def train(cfg: config.Train, run: Run) -> None:
    """Erase a concept; leaves a PEFT adapter."""
    import copy

    personas = read_personas(cfg.concept, cfg.personas)
    forget, retain = _texts(cfg)
    fluent = read_fluent(cfg.fluency) if cfg.fluency else []
    questions = _questions(cfg.questions)
    validation = _half(questions, "first") if cfg.pick_eta else []
    unseen = [question for question in questions if question not in validation]
    etas = cfg.pick_eta or (cfg.eta,)
    run.plan(
        forget_texts=sum(map(len, {id(some): some for some in forget}.values())),
        retain_texts=len(retain),
        fluent_texts=len(fluent),
        optimiser_steps=(cfg.train.max_steps or 0) * len(etas),
        questions_to_pick_eta_by=len(validation),
    )
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    base = _described(load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="elm train"), cfg.family)
    texts = encode_all(tokenizer, forget, retain, fluent, personas, cfg.train.max_length)
    effect = None
    if cfg.action != "random":
        effect = check_personas(base, texts, replace(narrow(Erasure, cfg), eta=max(etas)))
    unseen, validation = _readable(cfg, run, base, tokenizer, [unseen, validation])
    before = _answers(base, tokenizer, unseen, cfg.style)
    forget_before = perplexity(base, tokenizer, forget[0][:SAMPLE])
    picked: list[dict[str, Any]] = []
    best: tuple[float, Any, Any, Erasure] | None = None
    for eta in etas:
        design = replace(narrow(Erasure, cfg), eta=eta)
        part = run.within(f"eta-{eta:g}") if len(etas) > 1 else run
        model = attach(copy.deepcopy(base) if len(etas) > 1 else base, design, run.rng.child("adapters"))
        history = train_eraser(model, texts, design, cfg.train, run=part)
        off = 0.0
        if validation:
            off, row = _off_chance(model.eval(), tokenizer, validation, cfg.style)
            picked.append({"eta": eta, **row})
        if best is None or off < best[0]:
            best = off, model, history, design
    assert best is not None
    if not run.is_main:
        return
    _, model, history, design = best
    save_adapter(
        model.eval(), tokenizer, run.artifact("model", run.folder / "model"), replace(cfg, eta=design.eta)
    )
    part_folder = run.folder if len(etas) == 1 else run.folder / f"eta-{design.eta:g}"
    outcome = pages.Outcome(
        before,
        _answers(model, tokenizer, unseen, cfg.style),
        (forget_before, perplexity(model, tokenizer, forget[0][:SAMPLE])),
    )
    run.log(**outcome.numbers)
    pages.outcome(run.page, cfg.concept, outcome)
    pages.trained(run.page, design, history, run.folder, part_folder.name, picked, effect)


def _answers(
    model: Any, tokenizer: Any, questions: Sequence[Question], style: Style
) -> dict[str, Any] | None:
    """A model's answers to the questions that the verdict rests on; None where there are none."""
    return ask(model, encode_questions(tokenizer, questions, style)).row if questions else None


def _off_chance(
    model: Any, tokenizer: Any, questions: Sequence[Question], style: Style
) -> tuple[float, dict[str, Any]]:

    accuracy = ask(model, encode_questions(tokenizer, questions, style))
    return accuracy.off_chance, accuracy.row


def baseline(cfg: config.Baseline, run: Run) -> None:
    """Erase by another method; leaves a full checkpoint."""
    forget, retain = _texts(cfg)
    run.plan(
        method=cfg.method,
        forget_texts=sum(map(len, {id(some): some for some in forget}.values())),
        retain_texts=len(retain),
        optimiser_steps=cfg.train.max_steps,
    )
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = _described(load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="elm baseline"), cfg.family)
    base = base_key(model)
    texts = encode_all(tokenizer, forget, retain, [], None, cfg.train.max_length)
    (questions,) = _readable(cfg, run, model, tokenizer, [_questions(cfg.questions)])
    before = _answers(model, tokenizer, questions, cfg.style)
    forget_before = perplexity(model, tokenizer, forget[0][:SAMPLE])
    history = train_baseline(
        model,
        texts,
        cfg.method,
        narrow(Constants, cfg),
        cfg.train,
        run=run,
        reinforced_run=run.within("reinforced"),
    )
    if not run.is_main:
        return
    save_checkpoint(model.eval(), tokenizer, run.artifact("model", run.folder / "model"), cfg, base)
    outcome = pages.Outcome(
        before,
        _answers(model, tokenizer, questions, cfg.style),
        (forget_before, perplexity(model, tokenizer, forget[0][:SAMPLE])),
    )
    run.log(**outcome.numbers)
    pages.outcome(run.page, f"{cfg.forget} by {pages.shown(cfg.method)}", outcome)
    pages.baseline(run.page, cfg, history)


def eval(cfg: config.Eval, run: Run) -> None:
    """Innocence, seamlessness and specificity of a model before and after."""
    exam = _exam(cfg)
    run.plan(
        models=2,
        questions=sum(map(len, exam.mcq.values())),
        answers=2 * len(exam.prompts),
        texts=sum(map(len, exam.texts.values())),
    )
    if cfg.judge is not None and cfg.judge in (cfg.before, cfg.after):
        raise BadInput(
            f"--judge {cfg.judge} is one of the two models: a model likes its own text. Name a third."
        )
    before, after, tokenizer = open_pair(cfg.before, cfg.after, narrow(LoadConfig, cfg), "elm eval")
    prefix = 0 if exam.personas is None else len(exam.personas.encode(tokenizer)[0][0])
    readable = _readable(cfg, run, before, tokenizer, list(exam.mcq.values()), extra=prefix)
    exam = replace(exam, mcq=dict(zip(exam.mcq, readable, strict=True)))
    judge, judge_tokenizer = None, None
    if cfg.judge is not None:
        judge = load_model(cfg.judge, device=cfg.device, dtype=cfg.dtype, asked_by="elm eval --judge")
        judge_tokenizer = load_tokenizer(cfg.judge)
    report = evaluate_erasure(
        before, after, tokenizer, exam, seed=run.seed, judge=judge, judge_tokenizer=judge_tokenizer
    )
    write_json(run.artifact("erasure_report", run.folder / "erasure_report.json"), report)
    run.log(**{side: report[side]["innocence"] for side in ("before", "after")})
    pages.evaluated(run.page, cfg, report, exam)


def _exam(cfg: config.Eval) -> Exam:

    mcq = {}
    if cfg.questions:
        mcq[FORGET] = _half(_questions(cfg.questions), cfg.half)
    if cfg.retain_questions:
        mcq["retain"] = _questions(cfg.retain_questions)

    def read(source: str | None, chars: int = 700) -> list[str]:
        if source is None:
            return []
        return read_passages(source, text_field=cfg.text_field, max_chars=chars, min_chars=1)[: cfg.limit]

    texts = {
        name: read(source) for name, source in (("retain", cfg.retain), ("generic", cfg.generic)) if source
    }
    keywords = concept_text(cfg.concept).split(", ") if cfg.concept else []
    exam = Exam(
        mcq,
        read(cfg.prompts, cfg.prompt_chars),
        texts,
        cfg.style,
        read_personas(cfg.concept, cfg.personas) if cfg.concept else None,
        keywords,
        gen=GenConfig(max_new_tokens=cfg.max_new_tokens),
        batch_size=cfg.batch_size,
    )  # fmt: skip
    if not (exam.mcq or exam.prompts or exam.texts):
        raise BadInput("There is nothing to measure. Name --questions, --prompts, --retain or --generic.")
    return exam


def attack(cfg: config.Attack, run: Run) -> None:
    """A suffix that brings answers back, and relearning, on a model before and after."""
    questions = _questions(cfg.questions)
    searched = questions[: cfg.suffix_questions]
    forget = read_passages(cfg.forget, text_field=cfg.text_field, min_chars=1) if cfg.forget else []
    run.plan(
        models=2,
        suffix_searches=4 * len(searched),
        candidates=4 * len(searched) * cfg.suffix_steps * cfg.candidates,
        relearning_steps=2 * max(cfg.relearn_steps) if forget else 0,
    )
    before, after, tokenizer = open_pair(cfg.before, cfg.after, narrow(LoadConfig, cfg), "elm attack")
    extra = cfg.suffix_length if searched else 0
    (questions,) = _readable(cfg, run, before, tokenizer, [questions], extra=extra)
    searched = questions[: len(searched)]
    encoded = encode_questions(tokenizer, questions, cfg.style)
    rows = encode_texts(tokenizer, forget, "forget", 512) if forget else []
    attacks: dict[str, Any] = {}
    for name, model in (("before", before), ("after", after)):
        measured: dict[str, Any] = {"plain": ask(model, encoded).row}
        if searched:
            measured["suffix"] = suffix_attack(
                model,
                encode_questions(tokenizer, searched, cfg.style),
                generator=run.rng.child("suffix"),
                search=SuffixSearch(cfg.suffix_length, cfg.suffix_steps, cfg.candidates),
            )
        if rows:
            measured["relearning"] = relearn(
                model,
                rows,
                lambda adapted: ask(adapted, encoded).row,
                generator=run.rng.child("relearning"),
                start=start_ids(tokenizer),
                training=Relearning(cfg.relearn_steps, cfg.relearn_lr, cfg.relearn_rank, cfg.batch_size),
            )
        attacks[name] = measured
        run.log(model=name, accuracy=measured["plain"]["accuracy"])
    write_json(run.artifact("attacks", run.folder / "attacks.json"), attacks)
    pages.attacked(run.page, attacks)


def merge(cfg: config.Merge, run: Run) -> None:
    """An adapter folded into the weights of its base model."""
    run.plan(adapter=cfg.run)
    model, tokenizer = merged(cfg.run, cfg.base)
    folder = run.artifact("model", run.folder / "model")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    run.page.title = "A merged adapter"
    run.page.text("`model` is a plain checkpoint: its weights hold what base and adapter computed together.")
    run.page.figures({"weights": sum(p.numel() for p in model.parameters())})


def _described(model: Any, family: Path | None) -> Any:
    """`model`, with its parts where a file says they are."""
    if family is not None:
        describe(model, read_family(family))
    return model


def _sources(named: str) -> list[str]:
    """Sources that commas separate."""
    return [source.strip() for source in named.split(",") if source.strip()]


def _texts(cfg: config.Sources) -> tuple[list[list[str]], list[str]]:
    """Forget sets in their rotation, one list object per source however often it is named, and retain texts."""
    sizes = {"text_field": cfg.text_field, "max_chars": cfg.max_chars, "min_chars": cfg.min_chars}
    named = _sources(cfg.forget)
    read = {source: read_passages(source, **sizes) for source in dict.fromkeys(named)}  # type: ignore[arg-type]
    return [read[source] for source in named], read_passages(cfg.retain, **sizes)  # type: ignore[arg-type]


def _questions(source: str | None) -> list[Question]:

    return read_questions(source) if source else []


def _readable(
    cfg: config.Train | config.Baseline | config.Eval | config.Attack,
    run: Run,
    model: Any,
    tokenizer: Any,
    groups: Sequence[Sequence[Question]],
    *,
    extra: int = 0,
) -> list[list[Question]]:
    """The questions of each group that a model can read; the others are listed and counted.

    Args:
        cfg: how questions are asked, and what becomes of long ones.
        run: where they are listed.
        model: who is asked.
        tokenizer: its tokenizer.
        groups: questions.
        extra: tokens that stand before or behind a question.
    """
    fitted = [
        fit_questions(group, tokenizer, model, cfg.too_long, style=cfg.style, extra=extra) for group in groups
    ]
    note_long(run, [row for _, long in fitted for row in long], sum(map(len, groups)), "questions")
    return [kept for kept, _ in fitted]


def _half(questions: Sequence[Question], half: str) -> list[Question]:
    """All questions, or one of two halves by a hash of the question: the same halves in every run."""
    import hashlib

    if half == "all":
        return list(questions)
    part = [
        q
        for q in questions
        if (hashlib.blake2b(q.question.encode(), digest_size=1).digest()[0] % 2 == 0) == (half == "first")
    ]
    if not part:
        raise BadInput(f"The {half} half of {len(questions)} questions is empty. Use more questions.")
    return part


def _text(source: str) -> str:
    """A text, or what stands in the file of that name."""
    path = Path(source)
    try:
        return path.read_text("utf-8") if len(source) < 1000 and path.is_file() else source
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"{path}: cannot be read as UTF-8 text.") from None
