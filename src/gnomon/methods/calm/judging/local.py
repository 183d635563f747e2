"""Judges that are checkpoints in this process: a language model read at the verdict's letter, and a reward model."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gnomon.core.llm.base import ask
from gnomon.core.llm.local import Template, pick
from gnomon.core.llm.stack.stored import request_key
from gnomon.core.models import load_model, load_tokenizer
from gnomon.core.models.batch import pad
from gnomon.core.models.load import load_scorer
from gnomon.core.models.reading import unpack
from gnomon.core.models.sampling.likelihood import score_choices, score_rows
from gnomon.core.models.sampling.text import padding_id
from gnomon.core.rng import Rng
from gnomon.core.too_long import Long, TooLong, fit_rows, positions_of
from gnomon.errors import ModelMismatch
from gnomon.methods.calm.judging.judges import OnOpinion
from gnomon.methods.calm.judging.prompts import SCORES, Prompting
from gnomon.methods.calm.judging.trials import LETTERS, TIE, Opinion, Trial


class LogitJudge:
    """A causal model that compares the log-probabilities of the letters as its next token: one forward pass per trial.

    Args:
        model: a folder, a hub id, a `ModelHandle` or a transformers model.
        tokenizer: its tokenizer, beside a transformers model.
        prompting: how a trial is put into words; its style must be `token`.
        temperature: 0 takes the likeliest letter; above 0 one is drawn, anew for every draw.
        batch_size: prompts side by side; changes speed, not results.
        device: where a model that is loaded here goes.
        name: what it is called; None: the reference.
        too_long: what becomes of trials that are longer than the model reads; those left out have no verdict.

    Raises:
        ModelMismatch: the tokenizer does not write the letters as tokens of their own.
    """

    reads = frozenset({"order", "answers", "notes", "names", "scores"})
    is_simulated = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        prompting: Prompting | None = None,
        temperature: float = 0.0,
        batch_size: int = 16,
        device: str = "auto",
        name: str | None = None,
        too_long: TooLong = "error",
    ) -> None:
        self.too_long = too_long
        self.name = name or (f"logit:{model}" if isinstance(model, (str, Path)) else "logit judge")
        if isinstance(model, (str, Path)):
            tokenizer = load_tokenizer(model)
            model = load_model(model, kind="causal", device=device, asked_by="a judge")
        self.model, self.tokenizer = unpack(model, tokenizer)
        self.template = Template(self.tokenizer, self.name)
        self.prompting = prompting or Prompting(style="token")
        self.temperature, self.batch_size = temperature, batch_size

    @torch.no_grad()
    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial; as in `Judge`.

        Raises:
            BadInput: a prompt is longer than the model's positions, and that is an error; the message names the item.
        """
        requests = [ask(self.prompting.prompt(trial)) for trial in trials]
        positions = positions_of(self.model)
        fitted = fit_rows(
            [self.template.encode(request) for request in requests],
            [trial.item for trial in trials],
            None if positions is None else positions - 1,
            self.too_long,
            model=self.name,
            setting="llm.too_long",
        )
        prompts = dict(zip(fitted.kept, fitted.rows, strict=True))
        opinions = _left_out(len(trials), prompts, fitted.long)
        for i, opinion in opinions.items() if on_opinion is not None else ():
            on_opinion(i, opinion)  # type: ignore[misc]
        order = sorted(prompts, key=lambda i: (trials[i].kind, len(prompts[i])))
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            uniforms = {i: self._uniform(request_key(requests[i]), trials[i].draw) for i in part}
            scores = [i for i in part if trials[i].kind == "score"]
            pairs = [i for i in part if trials[i].kind == "pair"]
            opinions |= self._scored(scores, prompts)
            opinions |= self._chosen(pairs, prompts, trials, uniforms)
            if on_opinion is not None:
                for i in part:
                    on_opinion(i, opinions[i])
        return [opinions[i] for i in range(len(trials))]

    def _chosen(
        self,
        rows: list[int],
        prompts: Mapping[int, list[int]],
        trials: Sequence[Trial],
        uniforms: dict[int, float],
    ) -> dict[int, Opinion]:
        if not rows:
            return {}
        batch = pad([prompts[i] for i in rows], padding_id(self.tokenizer)).to(self.model.device)
        logits = self.model(**batch.inputs(model=self.model), use_cache=False, logits_to_keep=1).logits[
            :, -1
        ]  # [B, V]
        logprobs = torch.log_softmax(logits.float(), -1).cpu()
        opinions = {}
        for row, i in zip(logprobs, rows, strict=True):
            words = list(self.prompting.letters(trials[i]))
            if (tie := self.prompting.tie(trials[i])) is not None:
                words.append(tie)
            values = [float(row[token]) for token in self._tokens(words)]
            at = pick(values, self.temperature, uniforms[i])
            listed = ", ".join(f"{word} {value:.3f}" for word, value in zip(words, values, strict=True))
            opinions[i] = Opinion(TIE if words[at] == tie else at, None, "ok", listed, len(prompts[i]), 1)
        return opinions

    def _scored(self, rows: list[int], prompts: Mapping[int, list[int]]) -> dict[int, Opinion]:
        """The expected score, over the scale."""
        if not rows:
            return {}
        values, _ = score_choices(
            self.model, self.tokenizer, [prompts[i] for i in rows], [str(n) for n in SCORES]
        )
        opinions = {}
        for i, logprobs in zip(rows, values, strict=True):
            weights = [math.exp(value - max(logprobs)) for value in logprobs]
            score = sum(n * weight for n, weight in zip(SCORES, weights, strict=True)) / sum(weights)
            opinions[i] = Opinion(None, score, "ok", f"{score:.3f}", len(prompts[i]), 1)
        return opinions

    def _tokens(self, words: Sequence[str]) -> list[int]:
        tokens = [self.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
        if any(len(ids) != 1 for ids in tokens) or len({ids[0] for ids in tokens}) < len(words):
            raise ModelMismatch(
                f"{self.name}: its tokenizer does not write {', '.join(words)} as one token each."
            )
        return [ids[0] for ids in tokens]

    def _uniform(self, key: str, draw: int) -> float:
        return Rng(0).child("verdict", key, draw).python().random()


@dataclass(frozen=True)
class _Row:
    """An answer to be rewarded."""

    trial: int
    question: str
    answer: str


def _left_out(trials: int, kept: Collection[int], long: Sequence[Long]) -> dict[int, Opinion]:
    """Number of a trial that was left out -> the opinion that says so."""
    gone = [i for i in range(trials) if i not in kept]
    room, most = max((row.room for row in long), default=0), max((row.tokens for row in long), default=0)
    text = f"longer than the {room} tokens that the model reads"
    return {i: Opinion(None, None, "too_long", text, most) for i in gone}


class RewardModelJudge:
    """A sequence classifier with one output that rewards an answer to a question; of two answers the higher reward is preferred.

    It reads the answers alone: no order, no names, no remarks. It gives the same verdict every time, so that CR is 1.

    Args:
        model: a folder, a hub id, or a transformers model with one label.
        tokenizer: its tokenizer, beside a transformers model.
        batch_size: answers side by side.
        device: where a model that is loaded here goes.
        name: what it is called; None: the reference.
        too_long: what becomes of trials that are longer than the model reads; those left out have no verdict.

    Raises:
        ModelMismatch: the model has more than one label.
    """

    reads = frozenset({"answers"})
    is_simulated = False

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        batch_size: int = 16,
        device: str = "auto",
        name: str | None = None,
        too_long: TooLong = "error",
    ) -> None:
        self.too_long = too_long
        self.name = name or (f"reward:{model}" if isinstance(model, (str, Path)) else "reward model")
        if isinstance(model, (str, Path)):
            tokenizer = load_tokenizer(model)
            model = load_scorer(model, device=device, asked_by=self.name)
        if model.config.num_labels != 1:
            raise ModelMismatch(f"{self.name} has {model.config.num_labels} labels; a reward model has one.")
        self.model, self.tokenizer = model, tokenizer
        self.batch_size = batch_size

    @torch.no_grad()
    def judge(self, trials: Sequence[Trial], on_opinion: OnOpinion | None = None) -> list[Opinion]:
        """An opinion on each trial; as in `Judge`.

        Raises:
            ModelMismatch: a trial asks for a score from 1 to 10.
        """
        if any(trial.kind == "score" for trial in trials):
            raise ModelMismatch(
                f"{self.name} gives rewards, and no scores from 1 to 10. Leave out the biases of scores."
            )
        rows = [_Row(i, trial.question, answer) for i, trial in enumerate(trials) for answer in trial.answers]
        fitted = fit_rows(
            [self._tokens(row) for row in rows],
            [trials[row.trial].item for row in rows],
            positions_of(self.model),
            self.too_long,
            model=self.name,
            setting="llm.too_long",
        )
        tokens = dict(zip(fitted.kept, fitted.rows, strict=True))
        long = {rows[i].trial for i in range(len(rows)) if i not in tokens}
        without = _left_out(len(trials), set(range(len(trials))) - long, fitted.long)
        values = score_rows(self.model, self.tokenizer, list(tokens.values()), batch_size=self.batch_size)
        by_row = dict(zip(tokens, values, strict=True))
        rewards = [by_row.get(i, 0.0) for i in range(len(rows))]
        opinions, at = [], 0
        for i, trial in enumerate(trials):
            mine = rewards[at : at + len(trial.answers)]
            at += len(trial.answers)
            best = [slot for slot, value in enumerate(mine) if value == max(mine)]
            listed = ", ".join(f"{letter} {value:.3f}" for letter, value in zip(LETTERS, mine, strict=False))
            opinion = Opinion(best[0] if len(best) == 1 else TIE, None, "ok", listed)
            opinions.append(without.get(i, opinion))
            if on_opinion is not None:
                on_opinion(i, opinions[-1])
        return opinions

    def _tokens(self, row: _Row) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None):
            turns = [{"role": "user", "content": row.question}, {"role": "assistant", "content": row.answer}]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False)
            return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer(row.question, row.answer)["input_ids"])
