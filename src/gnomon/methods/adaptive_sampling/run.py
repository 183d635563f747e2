"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from gnomon.core import records
from gnomon.core.config import narrow
from gnomon.core.data.execute import map_shards, rejected
from gnomon.core.files import write_json
from gnomon.core.models import add_lora, load_model, load_tokenizer
from gnomon.core.models.load import LoadConfig, model_at
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rollout import Task, read_tasks
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.errors import BadInput
from gnomon.methods.adaptive_sampling import config
from gnomon.methods.adaptive_sampling import report as pages
from gnomon.methods.adaptive_sampling.building.samples import (
    Drawing,
    DrawStep,
    Labelling,
    check_labels,
    ids_of,
    labelled,
    policy_of,
    reward_of,
    rewards_of,
)
from gnomon.methods.adaptive_sampling.building.training import Answer, Learning, train_selfeval
from gnomon.methods.adaptive_sampling.evaluator.carriers import new_carrier
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator
from gnomon.methods.adaptive_sampling.evaluator.schedule import Restart, Schedule, check_restart
from gnomon.methods.adaptive_sampling.evaluator.served import served_c, served_model
from gnomon.methods.adaptive_sampling.evaluator.store import (
    About,
    open_evaluator,
    policy_key,
    prompt_key,
    read_about,
    save_evaluator,
    write_about,
)
from gnomon.methods.adaptive_sampling.measures import real as on_questions
from gnomon.methods.adaptive_sampling.measures.quality import fit_tau, quality, true_c
from gnomon.methods.adaptive_sampling.measures.tradeoff import gamma_for, sweep, verdict
from gnomon.methods.adaptive_sampling.policies.application import ApplyStep
from gnomon.methods.adaptive_sampling.policies.policies import SampleResult
from gnomon.methods.adaptive_sampling.policies.replay import Pool, adaptive, best_of, prune
from gnomon.methods.adaptive_sampling.policies.watch import Pruning

Refused = list[dict[str, Any]]


def build(cfg: config.Build, run: Run) -> None:
    """Draw samples, score them and label them."""
    tasks, refused = _tasks(cfg.source, cfg.layout, cfg.limit)
    schedule = Schedule(cfg.anneal, cfg.temperature)
    drawing = Drawing(cfg.gen, cfg.k, schedule, Restart.of(schedule, cfg.gen, cfg.restart))
    run.plan(prompts=len(tasks), samples=len(tasks) * drawing.n, **_judge_cost(cfg, tasks, drawing.n))
    step = DrawStep(cfg.model, narrow(LoadConfig, cfg), drawing, run.seed)
    sink = run.folder / "samples"
    with run.progress(len(tasks), "prompts") as bar:
        map_shards(
            step, tasks, sink, engine=cfg.engine, workers=cfg.workers, shard_rows=cfg.shard_rows,
            settings=(cfg.model, drawing, run.seed), progress=bar,
        )  # fmt: skip
    total = len(tasks) + len(refused)
    refused += list(rejected(sink))
    by_id, rows, n_nan = {task.id: task for task in tasks}, [], 0
    how = Labelling(cfg.labels, cfg.epsilon, cfg.prefixes)
    drawn = [raw for _, raw in records.read_raw(sink)] if len(refused) < total else []
    with reward_of(cfg.reward, run, cfg.llm) as reward:
        for raw in drawn:
            try:
                rewards = rewards_of(by_id[raw["id"]], raw["samples"], reward)
                n_nan += sum(not np.isfinite(value) for value in rewards)
                rows += labelled(raw, rewards, drawing, how, run.rng)
            except BadInput as error:
                refused.append({"reason": str(error), "record": {"id": raw["id"]}})
    _note(run, refused, total)
    check_labels(rows)
    records.write(run.artifact("records", run.folder / "data.jsonl"), rows)
    about = {
        "restart": asdict(drawing.restart), "labels": cfg.labels, "epsilon": cfg.epsilon, "reward": cfg.reward,
        "policy": policy_of(step),
    }  # fmt: skip
    write_json(run.artifact("about", run.folder / "data.json"), about)
    figures = {"prompts": len(drawn), "answers": len(rows), "samples without a reward": n_nan,
               "mean label": float(np.average([r["label"] for r in rows], weights=[r["weight"] for r in rows]))}  # fmt: skip
    run.log(**figures)
    pages.built(run.page, rows, figures)


def train(cfg: config.Train, run: Run) -> None:
    """Teach a model to evaluate its own answers."""
    about_file = Path(cfg.source) / "data.json"
    if not about_file.is_file():
        raise BadInput(f"{cfg.source} is no run of build: it has no data.json.")
    about = json.loads(about_file.read_text("utf-8"))
    rows = [raw for _, raw in records.read_raw(cfg.source)]
    answers = [Answer.of(row) for row in rows]
    steps = cfg.train.epochs * -(-len(answers) // cfg.train.batch_size)
    run.plan(
        answers=len(answers), optimiser_steps=min(steps, cfg.train.max_steps or steps), carrier=cfg.carrier
    )
    load = narrow(LoadConfig, cfg)
    model, tokenizer = (
        load_model(cfg.model, load, asked_by="adaptive-sampling train"),
        load_tokenizer(cfg.model, load),
    )
    if policy_key(model) != about["policy"]:
        run.say(
            "Warning: the samples were drawn from other weights than these; labels are about the policy that drew them. Build "
            "them anew for this model."
        )
    probes = [[*a.prompt, *a.ids] for a in answers[:8]]
    carrier = new_carrier(cfg.carrier, model, tokenizer, probes=probes)
    if carrier.kind != cfg.carrier:
        run.say(
            f"The carrier is {carrier.kind}: this model does not put Yes and No where {cfg.carrier} would read them."
        )
    if cfg.train.lora_rank is not None:
        model = add_lora(model, cfg.train.lora_rank, new_tokens=carrier.banned)
    evaluator = SelfEvaluator(model, tokenizer, carrier, Restart(**about["restart"]))
    learning = Learning(cfg.anchor, cfg.anchor_weight)
    history, is_packed = train_selfeval(
        evaluator, answers, cfg.train, learning, run=run, pad_id=padding_id(tokenizer)
    )
    if not run.is_main:
        return
    folder = run.artifact("model", run.folder / "model")
    folder.mkdir(exist_ok=True)
    keys = tuple(sorted({prompt_key(row["prompt"]) for row in rows}))
    stored = About(
        about["labels"], about["epsilon"], about["reward"], about["policy"], policy_key(model), keys
    )
    save_evaluator(evaluator, stored, folder)
    losses = history.curve("loss")
    figures = {
        "answers": len(answers),
        "steps": len(losses),
        "last loss": losses[-1],
        "carrier": carrier.kind,
        "packed": is_packed,
    }
    pages.trained(run.page, figures, losses)


def apply(cfg: config.Apply, run: Run) -> None:
    """Answer prompts."""
    tasks, refused = _tasks(cfg.source, cfg.layout, None)
    if not cfg.any_restart:
        check_restart(
            Restart(**read_about(cfg.model)["restart"]), Schedule(cfg.anneal, cfg.temperature), cfg.gen
        )
    run.plan(prompts=len(tasks), samples_at_most=len(tasks) * cfg.n_max)
    pruning = Pruning(cfg.cuts, cfg.keep, cfg.keep_above) if cfg.policy == "prune" else None
    step = ApplyStep(
        str(model_at(cfg.model)), narrow(LoadConfig, cfg), cfg.policy, cfg.gen, Schedule(cfg.anneal, cfg.temperature), cfg.gamma,
        cfg.n_max, cfg.groups, pruning, cfg.any_restart, run.seed,
    )  # fmt: skip
    sink = run.artifact("records", run.folder / "answers")
    with run.progress(len(tasks), "prompts") as bar:
        map_shards(
            step, tasks, sink, engine=cfg.engine, workers=cfg.workers, shard_rows=cfg.shard_rows,
            settings=replace(step, load=LoadConfig()), progress=bar,
        )  # fmt: skip
    total = len(tasks) + len(refused)
    refused += list(rejected(sink))
    _note(run, refused, total)
    rows = [raw for _, raw in records.read_raw(sink)]
    figures = {
        name: float(np.mean([row[name] for row in rows]))
        for name in ("k_used", "tokens_generated", "tokens_selfeval", "c")
    }
    run.log(**figures)
    pages.applied(run.page, rows, {"prompts": len(rows), **figures})


def score(cfg: config.Score, run: Run) -> None:
    """C of given answers."""
    rows = [raw for _, raw in records.read_raw(cfg.source)]
    run.plan(
        answers=len(rows),
        **({} if cfg.server is None else cfg.llm.cost(2 * len(rows), 800 * len(rows), 2 * len(rows))),
    )
    load = narrow(LoadConfig, cfg)
    evaluator, _ = open_evaluator(cfg.model, load, batch_size=cfg.batch_size)
    refused: Refused = []
    fitting: list[tuple[int, str, tuple[int, ...]]] = []  # number, prompt, ids behind which c is read
    for i, raw in enumerate(rows):
        try:
            fitting.append((i, *_shown(raw, str(raw.get("id", i)), evaluator)))
        except BadInput as error:
            refused.append(_refusal(i, raw, str(error)))
    ids = [row for _, _, row in fitting]
    reasons: dict[int, str] = {}
    if cfg.server is None:
        values = evaluator.read(ids)
    else:
        with served_model(cfg.server, cfg.llm, run) as llm:
            values, reasons = served_c(
                llm, ids, evaluator.carrier, evaluator.tau, together=cfg.llm.concurrency
            )
    written = []
    for at, (i, prompt, _) in enumerate(fitting):
        raw = rows[i]
        if at in reasons:
            refused.append(_refusal(i, raw, reasons[at]))
            continue
        written.append({**raw, "prompt": prompt, "response": raw.get("response", ""), "c": float(values[at])})
    _note(run, refused, len(rows), is_final=not reasons)
    records.write(run.artifact("records", run.folder / "scored.jsonl"), written)
    pages.scored(run.page, written)


def _shown(raw: dict[str, Any], name: str, evaluator: SelfEvaluator) -> tuple[str, tuple[int, ...]]:
    """The prompt of a row that is to be scored, and the ids behind which its c is read."""
    response = raw.get("response_ids") or raw.get("response")
    if not response or not (raw.get("prompt") or raw.get("messages")):
        raise BadInput("it needs prompt (or messages) and response")
    length = raw.get("prefix_tokens")
    if not isinstance(length, int | None):
        raise BadInput(f"prefix_tokens must be a whole number; got {length!r}")
    task = Task(name, raw.get("prompt") or "", tuple(raw.get("messages") or ()))
    row = evaluator.row(ids_of(task, evaluator.tokenizer), response, length)
    evaluator.check_room([len(row)])
    return task.text, row


def _refusal(i: int, raw: dict[str, Any], reason: str) -> dict[str, Any]:
    return {"reason": f'Row {i} (id "{raw.get("id", i)}"): {reason}', "record": raw}


def eval(cfg: config.Eval, run: Run) -> None:
    """Whether c pays on one's own questions."""
    tasks, refused = _tasks(cfg.source, cfg.layout, cfg.limit)
    stored = set(read_about(cfg.model)["prompts"])
    fresh = [task for task in tasks if prompt_key(task.text) not in stored]
    if len(fresh) < len(tasks) and cfg.seen == "refuse":
        raise BadInput(
            f"{len(tasks) - len(fresh)} of {len(tasks)} prompts were trained on, and nothing can be measured there. Give others, "
            "or leave them out with --seen drop."
        )
    run.plan(prompts=len(fresh), samples=len(fresh) * cfg.n_max)
    if len(fresh) < 4:
        raise BadInput(f"{len(fresh)} prompts are too few: one half chooses gamma, the other measures it.")
    if not cfg.any_restart:
        check_restart(
            Restart(**read_about(cfg.model)["restart"]), Schedule(cfg.anneal, cfg.temperature), cfg.gen
        )
    step = ApplyStep(
        str(model_at(cfg.model)), narrow(LoadConfig, cfg), "best-of-n", cfg.gen, Schedule(cfg.anneal, cfg.temperature), 1.0,
        cfg.n_max, (cfg.n_max,), None, cfg.any_restart, run.seed, cfg.cuts,
    )  # fmt: skip
    sink = run.artifact("samples", run.folder / "samples")
    with run.progress(len(fresh), "prompts") as bar:
        map_shards(
            step, fresh, sink, engine=cfg.engine, workers=cfg.workers, shard_rows=cfg.shard_rows,
            settings=replace(step, load=LoadConfig()), progress=bar,
        )  # fmt: skip
    refused += list(rejected(sink))
    by_id = {task.id: task for task in fresh}
    results, rewards = [], []
    drawn = [raw for _, raw in records.read_raw(sink)] if len(refused) < len(tasks) else []
    with reward_of(cfg.reward, run) as reward:
        for raw in drawn:
            result = SampleResult.of(raw)
            samples = [{"text": s.text, "finish": s.finish} for s in result.all_samples]
            values = rewards_of(by_id[raw["id"]], samples, reward)
            if not np.isfinite(values).all():
                reason = {
                    "reason": f'Task "{raw["id"]}": a sample has no finite reward',
                    "record": {"id": raw["id"]},
                }
                refused.append(reason)
                continue
            results.append(result)
            rewards.append(values)
        _note(run, refused, len(tasks))
        if len(results) < 4:
            raise BadInput(
                f"{len(results)} prompts are too few: one half chooses gamma, the other measures it."
            )
        pool = Pool.of(results, rewards, reward.form)
    evaluator, about = open_evaluator(cfg.model, narrow(LoadConfig, cfg))
    _measure(cfg, run, pool, evaluator, about)


def real(cfg: config.Real, run: Run) -> None:
    """Teach a pretrained model to evaluate its own products and capitals, and measure it on others."""
    on_questions.study(cfg).run(cfg, run)


def _measure(cfg: config.Eval, run: Run, pool: Pool, evaluator: SelfEvaluator, about: About) -> None:
    is_constant = cfg.anneal == "constant"
    orders = run.rng.child("orders") if is_constant else None
    order = run.rng.child("halves").numpy().permutation(len(pool))
    choosing, testing = (
        pool.some(order[: len(pool) // 2].tolist()),
        pool.some(order[len(pool) // 2 :].tolist()),
    )
    truth = true_c(pool.reward, epsilon=cfg.epsilon)
    of = quality(pool.reward, pool.c, truth, cfg.epsilon)
    judged = verdict(pool, None if is_constant else pool.reward[:, 0], run.rng)
    run.say(judged.sentence)
    curve = sweep(pool, orders) if cfg.sweep_gamma else []
    figures: dict[str, Any] = {"prompts": len(pool), "best of N": float(best_of(pool, pool.n).reward.mean())}
    if cfg.target_mean_samples is not None and judged.beats:
        gamma = gamma_for(choosing, cfg.target_mean_samples)
        spent = adaptive(testing, gamma)
        figures |= {
            "gamma": gamma,
            "samples at gamma": float(spent.samples.mean()),
            "reward at gamma": float(spent.reward.mean()),
        }
        run.say(
            f"--gamma {gamma:.6g}: {spent.samples.mean():.2f} samples, reward {spent.reward.mean():.3f} on the other half."
        )
    if cfg.calibrate:
        tau = fit_tau(choosing.c, true_c(choosing.reward, epsilon=cfg.epsilon), evaluator.tau)
        logit = np.log(testing.c / (1 - testing.c)) * evaluator.tau
        after = 1 / (1 + np.exp(-logit / tau))
        right = true_c(testing.reward, epsilon=cfg.epsilon)
        figures |= {"tau": tau, "calibration error before, other half": quality(testing.reward, testing.c, right).ece,
                    "after": quality(testing.reward, after, right).ece}  # fmt: skip
        evaluator.tau = tau
        write_about(evaluator, about, run.folder)
        run.artifact("selfeval", run.folder / "selfeval.json")
    keep = max(1, pool.n // 4)
    pruning = []
    for cut in cfg.cuts:
        some = Pruning((cut,), (keep,))
        kept, random = prune(pool, some), prune(pool, some, run.rng.child("random pruning"))
        pruning.append({"cut": cut, "kept": keep, "reward": float(kept.reward.mean()), "at random": float(random.reward.mean()),
                        "tokens, share": float(kept.tokens.sum() / pool.tokens.sum())})  # fmt: skip
    run.log(**{k: v for k, v in figures.items() if isinstance(v, int | float)})
    summary = {
        "quality": asdict(of),
        "verdict": asdict(judged),
        "sweep": curve,
        "pruning": pruning,
        **figures,
    }
    write_json(run.artifact("summary", run.folder / "summary.json"), summary)
    pages.evaluated(run.page, of, judged, curve, figures, pruning)


def _judge_cost(cfg: config.Build, tasks: Sequence[Task], n: int) -> dict[str, object]:
    """What a judge costs at most, in both orders: each answer against the reference, or against each other one."""
    if not cfg.reward.startswith("judge:"):
        return {}
    calls = sum(2 * n if task.reference is not None else n * (n - 1) for task in tasks)
    return cfg.llm.cost(calls, calls * (100 + 2 * cfg.gen.max_new_tokens), calls * 8)


def _tasks(source: str, layout: Any, limit: int | None) -> tuple[list[Task], Refused]:
    refused: Refused = []
    tasks = read_tasks(
        source, layout, on_bad=lambda reason: refused.append({"reason": reason, "record": None})
    )
    return tasks[:limit], refused


def _note(run: Run, refused: Refused, total: int, *, is_final: bool = True) -> None:
    """List what was left out; too much of it is a failed run."""
    if refused:
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), refused)
        if len(refused) >= total:
            raise BadInput(refused[0]["reason"])
        run.missing(Shortfall("rows", len(refused), total, refused[0]["reason"], is_final=is_final))
