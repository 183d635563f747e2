"""The verbs: settings in, objects built, files out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from gnomon.core import env, records
from gnomon.core.config import narrow
from gnomon.core.files import write_json
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.models import load_model, load_scorer, load_tokenizer, save_lora, save_scorer
from gnomon.core.models.load.checkpoint import load_config
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.models.load.references import is_adapter, model_at
from gnomon.core.models.sampling.likelihood import token_logprobs
from gnomon.core.models.sampling.text import token_texts
from gnomon.core.rng import Rng
from gnomon.core.rollout import Task, examples, open_reward, read_tasks
from gnomon.core.rollout.chats import prompt_ids
from gnomon.core.rollout.judging import PROMPT, judged
from gnomon.core.rollout.rewards import Reward
from gnomon.core.run import Run
from gnomon.core.sandbox import SandboxPool
from gnomon.core.shortfall import Shortfall
from gnomon.core.train import Batches, causal_loss, fit
from gnomon.core.train.evaluation import held_out, split
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.ma_rlhf import config, report
from gnomon.methods.ma_rlhf.actions.segments import Answer, cut
from gnomon.methods.ma_rlhf.options import matched_lambda
from gnomon.methods.ma_rlhf.training import real as on_stories
from gnomon.methods.ma_rlhf.training.data import is_in, read_pairs
from gnomon.methods.ma_rlhf.training.evaluation import answer, distance, mean_of_last, wins
from gnomon.methods.ma_rlhf.training.ppo import Setup, Trained, check_training, macro_ppo
from gnomon.methods.ma_rlhf.training.reward_model import train_reward

SHOWN = 4
"""Answers in a table."""


def sft(cfg: config.Sft, run: Run) -> None:
    """Fine-tune a model on answers."""
    tokenizer, model = _loaded(cfg, "ma-rlhf sft")
    bad: list[str] = []
    raws = [
        raw
        for _, raw in records.read_raw(cfg.data)
        if is_in(cfg.part, str(raw.get("prompt") or raw.get("messages")))
    ]
    rows = examples(raws, tokenizer, max_length=cfg.train.max_length, on_bad=bad.append)
    if not rows:
        raise BadInput(f"{cfg.data} holds no answer to learn from. {bad[0] if bad else ''}")
    rows, aside = split(rows, cfg.train.eval_share, run.rng.child("aside"))
    run.plan(
        answers=len(rows),
        updates=_updates(cfg.train, len(rows)),
        parameters=sum(p.numel() for p in model.parameters()),
    )
    _note(run, bad, len(raws))
    if cfg.train.lora_rank is not None:
        from gnomon.core.models import add_lora

        model = add_lora(model, cfg.train.lora_rank)
    options: dict[str, Any] = {
        "pad_id": tokenizer.pad_token_id, "micro_batch_size": cfg.train.micro_batch_size, "max_length": cfg.train.max_length,
        "packing": cfg.train.packing,
    }  # fmt: skip
    batches = Batches(rows, cfg.train.batch_size, generator=run.rng.child("batches"), **options)
    measured = (
        held_out(
            Batches(aside, cfg.train.batch_size, generator=run.rng.child("held"), **options), causal_loss
        )
        if aside
        else None
    )
    history = fit(model, batches, causal_loss, cfg.train, run=run, eval=measured)
    if run.is_main:
        _save(model, tokenizer, run.artifact("model", run.folder / "model"))
        report.fine_tuned(run.page, history, len(rows))


def reward(cfg: config.Reward, run: Run) -> None:
    """Train a reward model on pairs of answers."""
    load = narrow(LoadConfig, cfg)
    tokenizer = load_tokenizer(cfg.model, load)
    model = (load_scorer if _is_scorer(cfg) else load_model)(cfg.model, load, asked_by="ma-rlhf reward")
    bad: list[str] = []
    pairs = [pair for pair in read_pairs(cfg.data, on_bad=bad.append) if is_in(cfg.part, pair.task.text)]
    if not pairs:
        raise BadInput(f"{cfg.data} holds no pairs of the part {cfg.part}.")
    run.plan(
        pairs=len(pairs),
        updates=_updates(cfg.train, len(pairs)),
        parameters=sum(p.numel() for p in model.parameters()),
    )
    _note(run, bad, len(pairs) + len(bad))
    scorer, history, numbers = train_reward(
        model, tokenizer, pairs, loss_on=cfg.loss_on, train=cfg.train, run=run
    )
    if run.is_main:
        save_scorer(scorer, tokenizer, run.artifact("model", run.folder / "model"))
        write_json(run.artifact("summary", run.folder / "summary.json"), numbers)
        report.rewarded(run.page, numbers, history)


def _is_scorer(cfg: config.Reward) -> bool:
    """Whether the model is a reward model already, whose head is kept."""
    source = model_at(cfg.model)
    if is_adapter(source):
        return bool(
            json.loads((Path(source) / "adapter_config.json").read_text("utf-8")).get("task_type")
            == "SEQ_CLS"
        )
    return any(
        "ForSequenceClassification" in name for name in load_config(source, cfg.revision).architectures or []
    )


def train(cfg: config.Train, run: Run) -> None:
    """Train a policy by PPO over macro actions."""
    check_training(cfg.ppo, cfg.train)
    tokenizer, model = _loaded(cfg, "ma-rlhf train")
    bad: list[str] = []
    tasks = _tasks(cfg, tokenizer, cfg.train.max_length - cfg.ppo.gen.max_new_tokens, bad)
    arms = 1 + cfg.matched
    updates = (
        _updates(replace(cfg.train, batch_size=max(1, cfg.train.batch_size // cfg.ppo.gen.n)), len(tasks))
        * cfg.ppo.epochs
    )
    rollouts = arms * updates // cfg.ppo.updates
    answers = rollouts * cfg.train.batch_size * cfg.ppo.minibatches
    costs = _judging(cfg, tasks, cfg.ppo.gen.n, answers // cfg.ppo.gen.n)
    parameters = sum(p.numel() for p in model.parameters())
    run.plan(tasks=len(tasks), updates=updates * arms, answers=answers, parameters=parameters, **costs)
    _note(run, bad, len(tasks) + len(bad))
    with _reward(cfg, run) as grade:
        critic = _critic(cfg, tokenizer, run)
        trained = macro_ppo(
            Setup(model, critic, _write(cfg, tokenizer, run)),
            tokenizer,
            tasks,
            grade,
            macro=cfg.macro,
            ppo=cfg.ppo,
            train=cfg.train,
            run=run,
        )
        sentence = _control(cfg, tokenizer, tasks, grade, trained, run) if cfg.matched else ""
    if run.is_main:
        _save(trained.policy, tokenizer, run.artifact("model", run.folder / "model"))
        save_scorer(trained.critic, tokenizer, run.artifact("critic", run.folder / "critic"))
        write_json(
            run.artifact("summary", run.folder / "summary.json"),
            {"last": trained.rows[-1], "control": sentence, "updates": len(trained.rows)},
        )
        run.artifact("answers", trained.answers)
        report.trained(run.page, trained.rows, trained.answers, cfg, sentence)


def _control(
    cfg: config.Train, tokenizer: Any, tasks: Sequence[Task], grade: Reward, ours: Trained, run: Run
) -> str:
    """Token PPO with the matched lambda from the same start; what it says about the gain, in a sentence."""
    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="ma-rlhf train")
    part = run.within("matched")
    part.rng = run.rng  # the same prompts and random streams
    macro = replace(cfg.macro, n=1, lam=matched_lambda(cfg.macro.lam, cfg.macro.n or 1))
    control = macro_ppo(
        Setup(model, _critic(cfg, tokenizer, run), _write(cfg, tokenizer, run)),
        tokenizer,
        tasks,
        grade,
        macro=macro,
        ppo=cfg.ppo,
        train=cfg.train,
        run=part,
    )

    def late(rows: Sequence[Any]) -> float:
        return mean_of_last(rows, "reward", max(1, len(rows) // 10))

    deviation = ours.rows[-1]["reward_std"]
    gap = late(ours.rows) - late(control.rows)
    return (
        f"The control: token PPO with lambda {macro.lam:.4f}, which carries credit as far as macro actions of {cfg.macro.n} "
        f"tokens, ends at a reward of {late(control.rows):.3f}, and macro actions at {late(ours.rows):.3f} (difference "
        f"{gap:+.3f}; answers of one rollout deviate by {deviation:.3f}). Where the two are alike, what helps is the longer "
        "horizon of credit and not the grouping. One seed decides nothing."
    )


def _judging(
    cfg: config.Train | config.Eval, tasks: Sequence[Task], n: int, prompts: int, more: int = 0
) -> dict[str, Any]:
    """What judges cost: both orders of each answer with the reference, or of each two answers to a prompt."""
    has_reference = tasks[0].reference is not None
    calls = more
    if cfg.reward.startswith("judge:"):
        calls += 2 * prompts * (n if has_reference else n * (n - 1) // 2)
    if not calls:
        return {}
    gen = cfg.ppo.gen if isinstance(cfg, config.Train) else cfg.gen
    longest = (
        estimated_tokens(PROMPT) + max(estimated_tokens(task.text) for task in tasks) + 2 * gen.max_new_tokens
    )
    return dict(cfg.llm.cost(calls, calls * longest, calls * 8))


@contextmanager
def _reward(cfg: config.Train | config.Eval, run: Run) -> Iterator[Reward]:
    """The reward, with the judge or the sandbox that it needs, open while the `with` lasts."""
    load = LoadConfig(device=cfg.device, dtype=cfg.dtype)
    if cfg.reward.startswith("judge:"):
        with run.asking({"judge": cfg.reward.removeprefix("judge:")}, cfg.llm) as models:
            yield open_reward(cfg.reward, llm=models["judge"], concurrency=cfg.llm.concurrency)
    elif cfg.reward.startswith("tests"):
        with SandboxPool(env.cores()) as pool:
            if missing := pool.walls().missing():
                run.page.text(f"Programs ran without these walls: {', '.join(map(str, missing))}.")
            yield open_reward(cfg.reward, pool=pool)
    else:
        yield open_reward(cfg.reward, load=load)


def _critic(cfg: config.Train, tokenizer: Any, run: Run) -> Any:
    """What the critic begins as; None: the policy's backbone."""
    ref = cfg.critic or (cfg.reward.removeprefix("scorer:") if cfg.reward.startswith("scorer:") else None)
    if ref is None:
        return None
    load = LoadConfig(device=cfg.device, dtype=cfg.dtype)
    if load_tokenizer(ref, load).get_vocab() != tokenizer.get_vocab():
        if cfg.critic is not None:
            raise BadConfig(
                f'critic must read the tokens of the policy; "{ref}" has another tokenizer. Leave --critic out.'
            )
        run.say(f'The critic begins as the policy\'s backbone: "{ref}" has another tokenizer.')
        return None
    return load_scorer(ref, load, asked_by="the critic").requires_grad_(True)


def _write(cfg: config.Train, tokenizer: Any, run: Run) -> Any:
    """Who writes the rollouts: a server, or None for the policy itself."""
    if cfg.rollout is None:
        return None
    from gnomon.methods.ma_rlhf.training.served import Served

    endpoint = cfg.rollout
    return lambda policy: Served(endpoint, policy, tokenizer, cfg.ppo.gen, run.folder / "adapters")


def _tasks(cfg: config.Train | config.Eval, tokenizer: Any, room: int | None, bad: list[str]) -> list[Task]:
    """The tasks of the part that the settings name; those without room for an answer are left out."""
    tasks = []
    for task in read_tasks(cfg.data, cfg.layout, on_bad=bad.append):
        if not is_in(cfg.part, task.text):
            continue
        length = len(prompt_ids(task, tokenizer))
        if length and (room is None or length <= room):
            tasks.append(task)
        else:
            bad.append(
                f'Task "{task.id}": the prompt has {length} tokens, and 1 to {room} leave room for an answer.'
            )
    if not tasks:
        raise BadInput(f"{cfg.data} holds no task that can be used. {bad[0] if bad else ''}")
    return tasks


def eval(cfg: config.Eval, run: Run) -> None:
    """Reward of a policy on prompts, and its wins."""
    tokenizer, model = _loaded(cfg, "ma-rlhf eval")
    bad: list[str] = []
    tasks = _tasks(cfg, tokenizer, None, bad)[: cfg.limit]
    models = 1 + (cfg.against is not None)
    more = 2 * min(cfg.pairs, len(tasks)) if cfg.judge is not None else 0
    costs = _judging(cfg, tasks, cfg.gen.n, len(tasks) * models, more)
    run.plan(tasks=len(tasks), answers=len(tasks) * cfg.gen.n * models, **costs)
    _note(run, bad, len(tasks) + len(bad))
    won: dict[str, Any] = {}
    with _reward(cfg, run) as grade:
        ours = answer(model, tokenizer, tasks, grade, cfg.gen, run.rng)
        rows = [{"model": cfg.model, **ours.summary()}]
        if cfg.against is not None:
            other_words = load_tokenizer(cfg.against)
            other = load_model(cfg.against, device=cfg.device, dtype=cfg.dtype, asked_by="ma-rlhf eval")
            theirs = answer(other, other_words, tasks, grade, cfg.gen, run.rng)
            if other_words.get_vocab() == tokenizer.get_vocab():
                rows[0] |= distance(ours, model, other, tokenizer)
            rows.append({"model": cfg.against, **theirs.summary()})
            won = wins([group[0] for group in ours.rewards], [group[0] for group in theirs.rewards])
            if cfg.judge is not None:
                won = _judged(
                    cfg,
                    run,
                    [r.text for r in ours.rows[:: cfg.gen.n]],
                    [r.text for r in theirs.rows[:: cfg.gen.n]],
                    tasks,
                )
    for row in rows:
        run.log(**row)
    write_json(run.artifact("summary", run.folder / "summary.json"), {"models": rows, "wins": won})
    kept = [{"id": r.task.id, "reward": r.reward, "text": r.text} for r in ours.rows]
    records.write(run.artifact("answers", run.folder / "answers.jsonl"), kept)
    report.evaluated(run.page, rows, won or None, kept[:SHOWN])


def _judged(
    cfg: config.Eval, run: Run, ours: Sequence[str], theirs: Sequence[str], tasks: Sequence[Task]
) -> dict[str, Any]:
    """Shares of prompts that a judge finds ours better on, in both orders; ties stand apart."""
    chosen = run.rng.child("judged").python().sample(range(len(tasks)), min(cfg.pairs, len(tasks)))
    with run.asking({"judge": cfg.judge}, cfg.llm) as models:
        shares = judged(
            [(tasks[i].id, tasks[i].text, ours[i], theirs[i]) for i in chosen],
            models["judge"],
            cfg.llm.concurrency,
        )
    return {**wins(shares, [0.5] * len(shares)), "prompts judged": len(shares)}


def segment(cfg: config.Segment, run: Run) -> None:
    """Show how each rule cuts a text."""
    path = Path(cfg.text)
    text = path.read_text("utf-8") if len(cfg.text) < 256 and path.is_file() else cfg.text
    tokenizer = load_tokenizer(cfg.model, narrow(LoadConfig, cfg))
    prompt = list(tokenizer(cfg.prompt)["input_ids"])
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise BadInput("The text is empty.")
    run.plan(tokens=len(ids), rules=len(cfg.rules))
    pieces = token_texts(tokenizer, ids)
    needs = {"perplexity", "surprise"} & set(cfg.rules)
    logprobs = _logprobs(cfg, prompt, ids, tokenizer) if needs else []
    rows = []
    for rule in cfg.rules:
        cuts = cut(
            Answer(len(ids), pieces, logprobs, logprobs, Rng(run.seed), "text"), replace(cfg.macro, rule=rule)
        )
        ends = [*cuts.starts[1:], len(ids)]
        sizes = [end - start for start, end in zip(cuts.starts, ends, strict=True)]
        actions = ["".join(pieces[a:b]) for a, b in zip(cuts.starts, ends, strict=True)]
        rows.append(
            {
                "rule": rule,
                "cut": "|".join(actions),
                "sizes": sizes,
                "actions": actions,
                "fell_back": cuts.fell_back,
                "rewards": cuts.rewards,
            }
        )
        run.say(f"{rule}: {rows[-1]['cut']}")
    records.write(run.artifact("segments", run.folder / "segments.jsonl"), rows)
    report.segmented(run.page, rows)


def _logprobs(cfg: config.Segment, prompt: list[int], ids: list[int], tokenizer: Any) -> list[float]:
    """Of each token of the text under the model; one that nothing stands before is taken as certain."""
    from gnomon.core.models.batch import pad

    model = load_model(cfg.model, narrow(LoadConfig, cfg), asked_by="ma-rlhf segment")
    batch = pad([[*prompt, *ids]], 0, "right").to(model.device)
    values = token_logprobs(model, batch.inputs(model=model), batch.input_ids)[0]
    return [float(value) for value in values[len(prompt) :]]


def real(cfg: config.Real, run: Run) -> None:
    """Run all arms on a real story model."""
    on_stories.study(cfg).run(cfg, run)


def _loaded(cfg: Any, asked_by: str) -> tuple[Any, Any]:
    load = narrow(LoadConfig, cfg)
    return load_tokenizer(cfg.model, load), load_model(cfg.model, load, asked_by=asked_by)


def _save(model: Any, tokenizer: Any, folder: Path) -> None:
    if hasattr(model, "peft_config"):
        save_lora(model, tokenizer, folder)
    else:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _updates(train: Any, rows: int) -> int:
    return int(min(train.epochs * -(-rows // train.batch_size), train.max_steps or math.inf))


def _note(run: Run, bad: Sequence[str], of: int) -> None:
    """List what was left out, and count it."""
    if bad and run.is_main:
        rows = [{"reason": reason} for reason in bad]
        records.write(run.artifact("rejected", run.folder / "rejected.jsonl"), rows)
        run.missing(Shortfall("rows", len(bad), of, bad[0], is_final=True))
