"""Fine-tuning on edit sequences, or on whole programs as the baseline: the training text, and a plain call to the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core.config import option
from gnomon.core.models import add_lora, add_token
from gnomon.core.train import Batches, Example, History, TrainConfig, causal_loss, fit, held_out, split
from gnomon.errors import BadInput
from gnomon.methods.lintseq.edits.diffs import DIFF_TOKEN, render_target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from gnomon.core.rng import Rng
    from gnomon.core.train.loop import TrainRun

Mode = Literal["editseq", "program"]


@dataclass(frozen=True)
class Pair:
    """One example in words."""

    instruction: str
    target: str
    """What to write: rendered edits, or a program."""
    group: int
    """Which program it belongs to; s edit sequences of one program share it."""


@dataclass(frozen=True)
class Examples:
    """Pairs as token ids, and what became of those that are too long."""

    rows: list[Example]
    n_truncated: int
    """Examples longer than the limit; they are in `rows`, cut, only if they were kept."""
    n_target_tokens: int
    """Targets in all rows, end-of-text tokens included."""
    n_groups: int
    """Different programs in all rows."""
    groups: list[int] = field(default_factory=list)
    """The program of each row."""

    def set_aside(self, share: float, generator: Rng) -> tuple[Examples, list[Example]]:
        """The rows to train on, and those of a share of the programs to evaluate on.

        Raises:
            BadConfig: there are not two programs.
        """
        numbers, aside = split(range(len(self.rows)), share, generator, self.groups)
        kept = [self.rows[i] for i in numbers]
        targets = sum(label != -100 for row in kept for label in row.labels)
        groups = [self.groups[i] for i in numbers]
        trained = Examples(kept, self.n_truncated, targets, len(set(groups)), groups)
        return trained, [self.rows[i] for i in aside]


def edit_pair(instruction: str, diffs: Sequence[str], group: int) -> Pair:
    """The pair of an edit sequence."""
    return Pair(instruction, render_target(diffs, DIFF_TOKEN), group)


def program_pair(instruction: str, code: str, group: int) -> Pair:
    """The pair of a whole program; a newline keeps the two apart where neither has white space at the join.

    Source: C.10.
    """
    touching = instruction[-1:].strip() and code[:1].strip()
    return Pair(instruction + "\n" if touching else instruction, code, group)


def target_encoder(tokenizer: PreTrainedTokenizerBase) -> Callable[[str], list[int]]:
    """The function that turns a target into ids that continue a prompt.

    Tokenizers of the SentencePiece kind (Llama 2, Phi-3) put a space before a text and behind an added token. In a target it would
    stand before the program and before every hunk, and the model would learn to write it. They are asked for each piece behind a
    newline, whose ids are taken off again.
    """

    def plain(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    newline, joined = plain("\n"), plain("\nx")
    at = len(newline)
    if joined[:at] != newline or joined[at:] == plain("x"):
        return plain
    vocabulary = tokenizer.get_vocab()
    diff = [vocabulary[DIFF_TOKEN]] if DIFF_TOKEN in vocabulary else []

    def without_space(text: str) -> list[int]:
        ids: list[int] = []
        for number, piece in enumerate(text.split(DIFF_TOKEN) if diff else [text]):
            ids += diff if number else []
            ids += plain(f"\n{piece}")[at:]
        return ids

    return without_space


def encode(
    pairs: Iterable[Pair],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    keep_truncated: bool = False,
) -> Examples:
    """Pairs as examples: ids of instruction and target put one after the other, loss on the target alone.

    The two are tokenised apart, so that no token straddles the join and the mask is exact.

    Args:
        pairs: what to learn.
        tokenizer: with an end-of-text token.
        max_length: longest example in tokens.
        keep_truncated: cut longer examples on the right instead of leaving them out. A cut example has lost its end marker.

    Raises:
        BadInput: no example fits.

    Source: C.10, C.11, pitfalls 9 and 10.
    """
    target_ids = target_encoder(tokenizer)
    rows: list[Example] = []
    groups: list[int] = []
    n_truncated = n_target_tokens = 0
    for pair in pairs:
        prompt = tokenizer(pair.instruction)["input_ids"]
        target = [*target_ids(pair.target), tokenizer.eos_token_id]
        is_long = len(prompt) + len(target) > max_length
        n_truncated += is_long
        if is_long and not (keep_truncated and len(prompt) < max_length):
            continue
        target = target[: max_length - len(prompt)]
        rows.append(Example([*prompt, *target], [-100] * len(prompt) + target))
        n_target_tokens += len(target)
        groups.append(pair.group)
    if not rows:
        raise BadInput(
            f"None of the examples is short enough for {option('train.max_length')} {max_length} "
            f"({n_truncated} are longer). Raise it."
        )
    return Examples(rows, n_truncated, n_target_tokens, len(set(groups)), groups)


def matched(cfg: TrainConfig, examples: Examples, passes: int | None) -> TrainConfig:
    """`cfg` with as many optimiser steps as `passes` over each program take.

    With s sequences per program these are `passes / s` epochs, so edit sequences and whole programs see each program equally often.

    Source: C.12, epoch matching.
    """
    if passes is None:
        return cfg
    whole, rest = divmod(passes * examples.n_groups, len(examples.rows))
    per_epoch = -(-len(examples.rows) // cfg.batch_size)  # the last batch of an epoch may be smaller
    steps = max(1, whole * per_epoch + round(rest / cfg.batch_size))
    return replace(
        cfg,
        epochs=whole + (rest > 0),
        max_steps=steps if cfg.max_steps is None else min(steps, cfg.max_steps),
    )


def train_edit_lm(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    data: Iterable[Pair],
    mode: Mode = "editseq",
    *,
    run: TrainRun,
    cfg: TrainConfig | None = None,
    passes: int | None = 10,
    keep_truncated: bool = False,
) -> tuple[PreTrainedModel, History, Examples]:
    """Fine-tune any causal model on pairs made by `edit_pair` (mode `editseq`) or `program_pair` (mode `program`).

    Args:
        model: a transformers causal model; its vocabulary gains the diff token in mode `editseq`.
        tokenizer: its tokenizer; gains the token as well.
        data: the pairs.
        mode: what the targets are.
        run: folder for checkpoints, random numbers, log.
        cfg: optimisation; None: the paper's settings at this library's batch size.
        passes: how often each program is seen; None: `cfg.epochs` counts.
        keep_truncated: cut examples that are too long instead of leaving them out.

    Returns:
        The trained model (wrapped by PEFT where `cfg.lora_rank` is set), the curve, and the examples it learned from.

    Source: section C.
    """
    cfg = cfg or TrainConfig(lr=3e-4, reduction="sum", warmup_ratio=0.001)
    if mode == "editseq":
        add_token(model, tokenizer, DIFF_TOKEN)
    examples = encode(data, tokenizer, max_length=cfg.max_length, keep_truncated=keep_truncated)
    examples, aside = examples.set_aside(cfg.eval_share, run.rng.child("aside"))
    cfg = matched(cfg, examples, passes)
    model, history = train_examples(model, tokenizer, examples, run=run, cfg=cfg, aside=aside)
    return model, history, examples


def train_examples(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    *,
    run: TrainRun,
    cfg: TrainConfig,
    aside: Sequence[Example] = (),
) -> tuple[PreTrainedModel, History]:
    """The part of `train_edit_lm` behind tokenising, for a model that has the diff token already where it needs it.

    Rows in `aside` are not trained on: their mean loss per target is measured during training.
    """
    if cfg.lora_rank is not None:
        vocabulary = tokenizer.get_vocab()
        model = add_lora(
            model, cfg.lora_rank, new_tokens=[vocabulary[DIFF_TOKEN]] if DIFF_TOKEN in vocabulary else []
        )
    of_rows = partial(
        Batches,
        pad_id=tokenizer.pad_token_id,
        micro_batch_size=cfg.micro_batch_size,
        max_length=cfg.max_length,
        packing=cfg.packing,
    )
    batches = of_rows(examples.rows, cfg.batch_size, generator=run.rng.child("batches"))
    evaluation = None
    if aside:
        evaluation = held_out(
            of_rows(aside, cfg.batch_size, generator=run.rng.child("evaluated")), causal_loss
        )
    return model, fit(model, batches, causal_loss, cfg, run=run, eval=evaluation)
