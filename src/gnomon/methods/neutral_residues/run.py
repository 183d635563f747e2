"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gnomon.core.config import check, narrow
from gnomon.core.data.documents import read_documents
from gnomon.core.files import write_json
from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.sampling.text import token_texts
from gnomon.core.run import Run
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.neutral_residues import config, report
from gnomon.methods.neutral_residues.evaluation import activity, by_layer, gates_along
from gnomon.methods.neutral_residues.extension.design import Design
from gnomon.methods.neutral_residues.extension.extension import Extended
from gnomon.methods.neutral_residues.extension.store import merge, open_trained, save, save_extension
from gnomon.methods.neutral_residues.training.data import Corpus, corpus, pack
from gnomon.methods.neutral_residues.training.study import Study, compared

SHOWN = 200
"""Tokens of a coloured text."""

ROWS = 64
"""Rows of a text on which blocks are watched."""


def train(cfg: config.Train, run: Run) -> None:
    """Teach a model a new domain."""
    study = _study(cfg, run)
    arm = study.train(cfg.method, narrow(Design, cfg), cfg.train, run)
    if not run.is_main:
        return
    save(arm.model, study.tokenizer, run.artifact("model", run.folder / "model"), cfg.method, cfg.model)
    row = study.measure(arm)
    run.log(**{name: value for name, value in row.items() if isinstance(value, int | float)})
    write_json(run.artifact("summary", run.folder / "summary.json"), {"method": cfg.method, **row})
    report.trained(run.page, cfg, row, arm)


def sweep(cfg: config.Sweep, run: Run) -> None:
    """Train every method at several learning rates and draw the trade-off."""
    from dataclasses import replace

    study = _study(cfg, run, arms=len(cfg.methods) * len(cfg.lr))
    rows = []
    for method in cfg.methods:
        for lr in cfg.lr:
            part = run.within(f"{method}-{lr:g}")
            row = study.arm(method, narrow(Design, cfg), replace(cfg.train, lr=lr), part)
            rows.append({"method": method, "lr": lr, **row})
            run.log(**rows[-1])
    if run.is_main:
        write_json(run.artifact("points", run.folder / "points.json"), rows)
        report.swept(run.page, cfg, rows)


def _study(cfg: config.Domains, run: Run, arms: int = 1) -> Study:
    """The backbone and both domains' texts; stops here in a dry run."""
    from accelerate import PartialState

    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="neutral-residues train")

    def study(folder: Path | None) -> Study:
        new, old = _packed(cfg, tokenizer, folder)
        return Study(model, tokenizer, new, old, p=cfg.p, length=cfg.train.max_length)

    run.plan(arms=arms, work=lambda: study(None).costs(narrow(Design, cfg), cfg.train, arms))
    with PartialState(cpu=model.device.type == "cpu").main_process_first():
        return study(run.folder / "data")


def _packed(cfg: config.Domains, tokenizer: Any, folder: Path | None) -> tuple[Corpus, Corpus]:
    """The new domain and the old one, as settings name them.

    Raises:
        BadConfig: no text of the old domain is named, to train on unless p is 0 and to measure on.
    """
    check(
        cfg.p == 0 or cfg.original is not None,
        "original",
        "text of the old domain unless p is 0",
        cfg.original,
    )
    old = cfg.original or cfg.original_held
    if old is None:
        raise BadConfig(
            "Forgetting needs text of the old domain to measure on. Name some with --original-held."
        )
    new, original = (
        corpus(
            source, tokenizer, folder, name, measure=held, held_out=cfg.held_out, text_field=cfg.text_field
        )
        for name, source, held in (("new", cfg.new, cfg.new_held), ("original", old, cfg.original_held))
    )
    return new, original


def eval(cfg: config.Eval, run: Run) -> None:
    """Bits per byte of a trained model and its backbone on both domains."""
    trained, texts = _opened(cfg, run)
    row = compared(trained, texts, cfg.length, batch_size=cfg.batch_size)
    run.log(**row)
    write_json(run.artifact("summary", run.folder / "summary.json"), row)
    report.compared(run.page, trained, row)


def inspect(cfg: config.Inspect, run: Run) -> None:
    """What the blocks add to each domain, and when their gates open."""
    trained, texts = _opened(cfg, run)
    if not isinstance(trained.model, Extended):
        raise BadInput(f"{cfg.run} was trained with {trained.method}: there are no blocks to look at.")
    length = min(cfg.length, *(len(stream.ids) for stream in texts.values()))
    active = {
        name: activity(trained.model, stream.rows(length)[:ROWS], batch_size=cfg.batch_size)
        for name, stream in texts.items()
    }
    shown = (
        {"the text": trained.tokenizer(cfg.text)["input_ids"][:SHOWN]}
        if cfg.text
        else {name: stream.ids[:SHOWN].tolist() for name, stream in texts.items()}
    )
    coloured = {
        name: list(
            zip(
                token_texts(trained.tokenizer, ids),
                gates_along(trained.model, ids).mean(1).tolist(),
                strict=True,
            )
        )
        for name, ids in shown.items()
    }
    rows = by_layer(active)
    for row in rows:
        run.log(**row)
    write_json(run.artifact("layers", run.folder / "layers.json"), rows)
    report.inspected(run.page, rows, list(active), coloured)


def _opened(cfg: config.Eval, run: Run) -> tuple[Any, dict[str, Any]]:
    """The trained model and both texts, packed."""
    trained = open_trained(cfg.run, narrow(LoadConfig, cfg), base=cfg.base)
    texts = {}
    for name, source in (("original", cfg.original), ("new", cfg.new)):
        documents = read_documents(source, text_field=cfg.text_field)
        texts[name] = pack(
            (d.text for d in documents), trained.tokenizer, name=f"texts of the {name} domain in {source}"
        )
    run.plan(**{f"{name}_tokens": len(stream.ids) for name, stream in texts.items()})
    return trained, texts


def export(cfg: config.Export, run: Run) -> None:
    """An extension on its own, or merged into a plain checkpoint."""
    run.plan(merge=cfg.merge)
    trained = open_trained(cfg.run, LoadConfig(device="cpu"), base=cfg.base)
    if not isinstance(trained.model, Extended):
        raise BadInput(f"{cfg.run} was trained with {trained.method}; only an extension is exported here.")
    folder = run.folder / "model"
    if cfg.merge:
        model = merge(trained.model)
        model.save_pretrained(folder)
        trained.tokenizer.save_pretrained(folder)
        note = (
            "a plain checkpoint: its feed-forward networks are wider and compute what network and block did"
        )
    else:
        save_extension(trained.model, folder, base=trained.base, tokenizer=trained.tokenizer)
        note = f"the extension alone; it is loaded beside `{trained.base}`"
    run.artifact("model", folder)
    run.page.title = "An exported extension"
    run.page.text(f"`model` is {note}.")
    run.page.figures({"merged": cfg.merge, "weights": sum(p.numel() for p in trained.model.parameters())})
