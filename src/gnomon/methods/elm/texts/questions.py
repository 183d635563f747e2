"""Multiple-choice questions: read in the layouts of WMDP and MMLU, asked, and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from gnomon.core import records
from gnomon.core.metrics.lm import token_nll
from gnomon.core.metrics.stats import wilson
from gnomon.core.models.batch import pad
from gnomon.core.too_long import Long, TooLong, fit_rows, positions_of
from gnomon.errors import BadInput
from gnomon.methods.elm.texts.batches import Ids
from gnomon.methods.elm.texts.personas import continuations, start_ids

LETTERS = "ABCD"

Style = Literal["letters", "options"]
"""`letters`: the options stand in the prompt and the model names one behind "Answer:"; `options`: the text of an option follows."""


@dataclass(frozen=True)
class Question:
    """A question with two or four options."""

    question: str
    """What is asked; in the style `options` a text that an option completes."""
    choices: tuple[str, ...]
    """The options."""
    answer: int
    """The right one, from 0."""
    where: str = ""
    """File and row it comes from."""
    group: str = ""
    """Questions about the same thing: a probe never sees some of them and is asked the others."""


def read_questions(source: str | Path) -> list[Question]:
    """Questions from a JSON list, JSONL or `hf://name:split` of `{"question", "choices", "answer"}`.

    `answer` is a number from 0 or a letter; WMDP and MMLU have four choices, two are allowed too.

    Raises:
        BadInput: a row is no such question; the message names file and row.
    """
    questions = [to_question(raw, where) for where, raw in records.read_raw(source)]
    if not questions:
        raise BadInput(f"{source} holds no questions.")
    return questions


def to_question(raw: Mapping[str, Any], where: str) -> Question:
    """A row as a question.

    Raises:
        BadInput: it is none; `where` begins the message.
    """
    for name in ("question", "choices", "answer"):
        if name not in raw:
            raise BadInput(
                f'{where}: field "{name}" is missing. A question has "question", "choices" and "answer".'
            )
    text, choices, answer = raw["question"], raw["choices"], raw["answer"]
    if not isinstance(text, str) or not text.strip():
        raise BadInput(f'{where}: "question" must be a text; got {text!r}.')
    if (
        not isinstance(choices, list | tuple)
        or len(choices) not in (2, 4)
        or not all(isinstance(choice, str) and choice.strip() for choice in choices)
    ):
        raise BadInput(f'{where}: "choices" must be a list of 4 texts (or 2); got {choices!r}.')
    index = answer
    if isinstance(answer, str):
        letter = answer.strip().upper()
        index = LETTERS.find(letter) if len(letter) == 1 else int(letter) if letter.isdecimal() else -1
        index = int(letter) if letter.isdecimal() else index
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(choices):
        raise BadInput(
            f'{where}: "answer" must be 0 to {len(choices) - 1} or a letter of {LETTERS[: len(choices)]}; got {answer!r}.'
        )
    return Question(text, tuple(choices), index, where, str(raw.get("group", "")))


def fit_questions(
    questions: Sequence[Question],
    tokenizer: Any,
    model: Any,
    how: TooLong = "skip",
    *,
    style: Style = "letters",
    extra: int = 0,
) -> tuple[list[Question], list[Long]]:
    """The questions that a model can read with their options, and those that were too long.

    Args:
        questions: to be asked.
        tokenizer: the model's.
        model: the model.
        how: what becomes of the others; a cut question loses its beginning.
        style: how they are asked.
        extra: tokens that stand before or behind them, such as a persona's or a suffix.

    Raises:
        BadInput: a question is too long, and that is an error.
    """
    positions, kept, long = positions_of(model), [], []  # type: int | None, list[Question], list[Long]
    extra += len(start_ids(tokenizer))
    for question in questions:
        read, endings = continuations(tokenizer, prompt_of(question, style), completions_of(question, style))
        room = None if positions is None else max(1, positions - extra - max(map(len, endings)))
        name = question.where or question.question[:60]
        fitted = fit_rows([read], [name], room, how, model=str(model.name_or_path) or "the model")
        long += fitted.long
        if fitted.long and fitted.rows and room is not None:
            ids = tokenizer(question.question, add_special_tokens=False)["input_ids"]
            ids = ids[len(read) - room + 1 :]  # one more: pieces at a cut may be written anew
            question = replace(question, question=str(tokenizer.decode(ids)).strip())
        if fitted.rows:
            kept.append(question)
    return kept, long


def prompt_of(question: Question, style: Style = "letters") -> str:
    """What the model reads."""
    if style == "options":
        return question.question.rstrip(" ")  # options bring their space along
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, question.choices, strict=False)]
    return "\n".join([question.question.strip(), *lines, "Answer:"])


def completions_of(question: Question, style: Style = "letters") -> list[str]:
    """What may follow, one per option."""
    if style == "letters":
        return [f" {letter}" for letter in LETTERS[: len(question.choices)]]
    return [f" {choice.strip()}" for choice in question.choices]


@dataclass(frozen=True)
class Asked:
    """Questions as token ids."""

    prompts: list[list[int]]
    """What is read."""
    options: list[list[list[int]]]
    """Per question and option what may follow."""
    answers: list[int]
    """The right options."""


def encode_questions(
    tokenizer: Any, questions: Sequence[Question], style: Style = "letters", prefix: Ids | None = None
) -> Asked:
    """Questions behind a prefix of token ids; None: the begin-of-text token, where there is one. Joined as ids.

    Options have the token ids that they have in running text behind their prompt.

    Raises:
        BadInput: there is no question, or two options of one begin alike to the tokenizer.
    """
    if not questions:
        raise BadInput("There is no question to ask.")
    before = list(start_ids(tokenizer) if prefix is None else prefix)
    prompts, options = [], []
    for question in questions:
        read, endings = continuations(tokenizer, prompt_of(question, style), completions_of(question, style))
        prompts.append([*before, *read])
        if len({tuple(ids) for ids in endings}) < len(endings) or not all(endings):
            raise BadInput(
                f"{question.where or question.question!r}: two options are the same to the tokenizer. Change one."
            )
        options.append(endings)
    return Asked(prompts, options, [question.answer for question in questions])


@torch.no_grad()
def option_scores(model: Any, questions: Asked, *, batch_size: int = 32) -> list[Float[Tensor, " C"]]:
    """Log-probability of each option behind its prompt, per question.

    Options of one token each are read off the prompt's last place; longer ones are read token by token and summed.
    """
    was_training = model.training
    model.eval()
    scores: list[Tensor] = []
    for first in range(0, len(questions.prompts), batch_size):
        part = slice(first, first + batch_size)
        prompts, options = questions.prompts[part], questions.options[part]
        if all(len(ids) == 1 for choices in options for ids in choices):
            batch = pad(prompts, 0, "left").to(model.device)
            last = (
                model(**batch.inputs("causal", model), use_cache=False)
                .logits[:, -1]
                .float()
                .log_softmax(-1)
                .cpu()
            )
            scores += [row[[ids[0] for ids in choices]] for row, choices in zip(last, options, strict=True)]
        else:
            scores += [
                _longer(model, prompt, choices) for prompt, choices in zip(prompts, options, strict=True)
            ]
    model.train(was_training)
    return scores


def _longer(model: Any, prompt: Ids, options: Sequence[Ids]) -> Tensor:

    nll, _ = token_nll(model, [[*prompt, *ids] for ids in options], [len(prompt)] * len(options))
    return -nll.float()


@dataclass(frozen=True)
class Accuracy:
    """How a model answers questions."""

    right: tuple[bool, ...]
    """Per question whether the likeliest option is the right one."""
    probability: tuple[float, ...]
    """Per question the right option's probability among the options."""
    chance: float
    """Mean of one over the number of options."""

    @property
    def accuracy(self) -> float:
        """Share of questions answered rightly."""
        return sum(self.right) / len(self.right)

    @property
    def interval(self) -> tuple[float, float]:
        """The accuracy's Wilson interval, 95 %."""
        return wilson(sum(self.right), len(self.right))

    @property
    def off_chance(self) -> float:
        """|accuracy - chance|: accuracy far below chance is knowledge too."""
        return abs(self.accuracy - self.chance)

    @property
    def row(self) -> dict[str, Any]:
        """The numbers for tables and files."""
        low, high = self.interval
        return {
            "questions": len(self.right),
            "accuracy": self.accuracy,
            "low": low,
            "high": high,
            "chance": self.chance,
            "off chance": self.off_chance,
            "true option": sum(self.probability) / len(self.probability),
        }


def ask(model: Any, questions: Asked, *, batch_size: int = 32) -> Accuracy:
    """A model's answers; the first of equally likely options counts."""
    scores = option_scores(model, questions, batch_size=batch_size)
    right = tuple(int(row.argmax()) == answer for row, answer in zip(scores, questions.answers, strict=True))
    probability = tuple(
        float(row.softmax(-1)[answer]) for row, answer in zip(scores, questions.answers, strict=True)
    )
    return Accuracy(right, probability, sum(1 / len(row) for row in scores) / len(scores))
