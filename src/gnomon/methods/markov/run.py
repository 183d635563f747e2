"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gnomon.core.config import narrow
from gnomon.core.env import free_memory
from gnomon.core.files import write_json
from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.models.load import load_config
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.run import Run
from gnomon.errors import BadInput
from gnomon.methods.markov import bounds, config, report
from gnomon.methods.markov.chain.forget import forgetting
from gnomon.methods.markov.chain.lm import MarkovLM, save
from gnomon.methods.markov.chain.scores import prefix_ids, token_ids
from gnomon.methods.markov.chain.states import StateSpace
from gnomon.methods.markov.icl.evaluation import evaluate
from gnomon.methods.markov.icl.series import generate


def chain(cfg: config.Chain, run: Run) -> None:
    """The exact chain of a small or restricted model."""
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    vocab = token_ids(tokenizer, [name.strip() for name in cfg.tokens.split(",")]) if cfg.tokens else None
    size = len(vocab) if vocab else int(load_config(cfg.model, cfg.revision).get_text_config().vocab_size)
    space = StateSpace(size, cfg.window, cfg.limit)
    front = prefix_ids(tokenizer, cfg.prefix, cfg.bos)
    run.plan(
        states=len(space),
        transitions=space.numbers,
        memory_gib=round(space.memory / 2**30, 3),
        memory_free_gib=lambda: round((free_memory() or 0) / 2**30, 3) or "unknown",
        tokens_scored=len(space),
        temperatures=list(cfg.temperature),
        prefix_tokens=len(front),
    )

    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="markov chain")
    names = [str(tokenizer.decode([token])) for token in (vocab or range(size))]
    lm = MarkovLM(
        model,
        vocab,
        cfg.window,
        front,
        cfg.batch_size,
        names=names,
        cache=run.folder / "logits.safetensors",
        limit=cfg.limit,
    )
    texts = None if cfg.text is None else _runs_of(tokenizer, cfg.text, lm.vocab)
    analyses = lm.analyse(cfg.temperature, steps=cfg.steps, texts=texts, top_k=cfg.top_k, top_p=cfg.top_p)
    for path in save(lm, run.folder / "chain", analyses, top_k=cfg.top_k, top_p=cfg.top_p):
        run.artifact(path.stem, path)
    run.artifact("logits", run.folder / "logits.safetensors")
    for analysis in analyses:
        run.log(**analysis.row)
    begins = tokenizer.bos_token_id is not None and front[:1] == [tokenizer.bos_token_id]
    report.chain(run.page, lm, analyses, top_k=cfg.top_k, top_p=cfg.top_p, begins=begins)


def _runs_of(tokenizer: Any, path: Path, vocab: Sequence[int]) -> list[list[int]]:
    """A text as stretches of the chain's tokens, with everything else left out."""
    allowed, runs = set(vocab), [[]]  # type: tuple[set[int], list[list[int]]]
    for token in tokenizer(_text(path), add_special_tokens=False)["input_ids"]:
        if token in allowed:
            runs[-1].append(token)
        elif runs[-1]:
            runs.append([])
    return runs


def forget(cfg: config.Forget, run: Run) -> None:
    """How fast a model forgets which of two prompts it began with."""
    texts = [_text(Path(name)).rstrip("\n") for name in (cfg.a, cfg.b)]
    run.plan(
        samples=2 * cfg.samples * len(cfg.temperature),
        tokens=2 * cfg.samples * cfg.steps * len(cfg.temperature),
    )
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="markov forget")
    ids = [tokenizer(text)["input_ids"] for text in texts]
    curves = forgetting(
        model,
        (ids[0], ids[1]),
        temperatures=cfg.temperature,
        samples=cfg.samples,
        steps=cfg.steps,
        top=cfg.top,
        generator=run.rng,
    )
    rows = [
        {"temperature": curve.temperature, "n": n, "distance": float(d), "floor": float(f)}
        for curve in curves
        for n, (d, f) in enumerate(zip(curve.distance, curve.floor, strict=True))
    ]
    run.artifact("curves", _write_csv(run.folder / "curves.csv", rows))
    report.forgotten(run.page, curves)


def bound(cfg: config.Bound, run: Run) -> None:
    """The paper's generalisation bounds, as numbers."""
    run.plan(kind=cfg.kind)

    if cfg.model:
        read = bounds.from_model(cfg.model)
        sizes = {"paper: T sqrt(r)": read.paper_b_u, f"measured: {read.tensor}": read.b_u}
        vocab, width = read.vocab, read.width
    else:
        vocab, width = cfg.vocab, cfg.width
        sizes = {"paper: T sqrt(r)": bounds.paper_b_u(vocab, width)}
    rows: list[dict[str, Any]] = []
    for name, size in sizes.items():
        b_u = size * cfg.feature_norm
        row: dict[str, Any] = {"B_U": name, "value": b_u}
        if cfg.kind == "icl":
            limit = bounds.icl(
                bounds.ChainConstants(cfg.states, cfg.t_min, cfg.p_min),
                b_u,
                cfg.length,
                temperature=cfg.temperature,
                delta=cfg.delta,
                empirical=cfg.empirical,
            )
        else:
            b = bounds.b_bar(vocab, b_u, temperature=cfg.temperature, c0=cfg.c0, gamma=cfg.gamma)
            limit = bounds.pretraining(b, cfg.n_train, delta=cfg.delta, empirical=cfg.empirical)
            row["L1 error e"] = bounds.l1_error(b, cfg.n_train, delta=cfg.delta)
            row["tokens for e = 0.1"] = bounds.sample_size(b, 0.1, delta=cfg.delta)
        rows.append(
            row
            | {"B_bar": limit.b_bar, "gap": limit.gap, "risk at most": limit.risk, "says": limit.sentence()}
        )
    write_json(
        run.artifact("bound", run.folder / "bound.json"), {"vocab": vocab, "width": width, "rows": rows}
    )
    report.bounded(run.page, cfg, vocab, width, rows)


def icl(cfg: config.Icl, run: Run) -> None:
    """How well a model learns chains in context, against counting."""
    chains = [generate(cfg.kind, cfg.states, cfg.length, run.rng.child("series", i)) for i in range(cfg.runs)]
    run.plan(series=cfg.runs, states_read=cfg.runs * cfg.length)
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="markov icl")
    comparison = evaluate(
        model, tokenizer, chains, distance=cfg.distance, bos=cfg.bos, batch_size=cfg.batch_size
    )
    rows = [
        {"arm": arm, "n": n, "risk": mean, "low": low, "high": high}
        for arm in comparison.risks
        for n, mean, low, high in comparison.mean(arm)
    ]
    run.artifact("risks", _write_csv(run.folder / "risks.csv", rows))
    table = comparison.rows(first=cfg.first)
    write_json(
        run.artifact("summary", run.folder / "summary.json"),
        {"arms": table, "lost mass": float(comparison.lost.mean())},
    )
    for row in table:
        run.log(arm=row["arm"], risk=row["risk"][0], slope=row["slope"])
    report.learned(run.page, cfg, chains, comparison)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: cannot be read as text ({error}). Name a UTF-8 text file.") from None


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
