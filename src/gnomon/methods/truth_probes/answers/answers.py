"""Answers of a model, greedy and sampled: one row each, with prompt, tokens, probabilities and label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core import records
from gnomon.core.rng import Rng
from gnomon.core.too_long import Fitted, Long, TooLong, fit_rows, positions_of
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.tasks import task_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Template = Literal["auto", "chat", "plain", "none"]
"""How a question becomes a prompt: by the chat template, as `Q: ...` and `A:` for base models, or as it is. auto: chat if the
tokenizer has a template, else plain."""

NO_ANSWER = "NO ANSWER"
"""Exact answer of an output that holds none."""


@dataclass(frozen=True)
class Answer:
    """One answer of the model to one question."""

    id: str
    """The question's id."""
    question: str
    gold: list[str]
    """Accepted answers."""
    wrong: list[str]
    """Known wrong answers."""
    task: str
    prompt: str
    """The prompt as text."""
    prompt_ids: list[int]
    """The prompt as the model read it."""
    answer: str
    """What the model wrote, without the text that ended it."""
    output_ids: list[int]
    """Every token it wrote, the one that ended it among them."""
    logprobs: list[float]
    """Log-probability (nats) of each token under the model."""
    logits: list[float]
    """Raw logit of each token."""
    finish: str
    """Why it ended; `length` means that the answer is cut off."""
    draw: int = 0
    """0 for the greedy answer, from 1 for samples."""
    seed: int = 0
    """Seed of the samples; (seed, draw) tells the samples of one question apart."""
    context: str = ""
    correct: int | None = None
    """1 right, 0 wrong, None not judged."""
    exact_answer: str = ""
    """The part of the answer that answers."""
    spans: list[list[int]] = field(default_factory=list)
    """Every place of the exact answer in `answer` as [start, end] in characters; the first is read."""
    valid: int | None = None
    """1 when the exact answer could be found, 0 when not, None before it was looked for."""
    found_by: str = ""
    """How the exact answer was looked for."""
    tokens: list[int] = field(default_factory=list)
    """First and last token of the exact answer within `output_ids`, once they were looked for."""
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def is_located(self) -> bool:
        """Whether its exact answer is known: a part of it, or that it gives none."""
        return self.valid == 1 and (self.exact_answer == NO_ANSWER or bool(self.spans))

    @property
    def is_usable(self) -> bool:
        """Whether it has a label and an exact answer."""
        return self.correct is not None and self.is_located and self.exact_answer != NO_ANSWER

    @property
    def z(self) -> int:
        """1 right, 0 wrong.

        Raises:
            BadInput: it was not judged.
        """
        if self.correct is None:
            raise BadInput(
                f'The answer to question "{self.id}" has not been judged. Run `answer` with another --label.'
            )
        return self.correct

    @property
    def key(self) -> tuple[str, int, int]:
        """Identity among the answers of one model: question, seed and draw."""
        return self.id, self.seed, self.draw


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, question: Question, template: Template = "auto"
) -> list[int]:
    """Token ids of the prompt that asks `question`, ready for the answer to begin.

    Raises:
        BadInput: a chat template is asked for and the tokenizer has none.
    """
    text = "\n\n".join(filter(None, (question.context, question.question)))
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if template == "chat" and not has_template:
        raise BadInput(
            "The tokenizer has no chat template. Use --template plain, or a model that was taught to chat."
        )
    if template == "none":
        return list(tokenizer(text)["input_ids"])
    if template == "plain" or not has_template:
        return list(tokenizer(f"Q: {text}\nA:")["input_ids"])
    turns: Any = [{"role": "user", "content": text}]
    written = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    # The template writes the special tokens itself.
    return list(tokenizer(str(written), add_special_tokens=False)["input_ids"])


@dataclass(frozen=True)
class Answering:
    """How answers are generated."""

    samples: int = 0
    """Drawn answers of each question; 0: the greedy one."""
    temperature: float = 1.0
    """Of the samples."""
    top_p: float = 1.0
    """Of the samples: drawn from the likeliest tokens that together reach this probability."""
    template: Template = "auto"
    """How a question becomes a prompt."""
    max_new_tokens: int | None = None
    """Longest answer in tokens; None: that of the question's task."""
    stop: tuple[str, ...] | None = None
    """Texts that end an answer; None: a line break after a plain prompt, nothing after a chat template."""
    batch_size: int = 64
    """Answers generated side by side; has no effect on them."""
    too_long: TooLong = "error"
    """What becomes of a prompt that leaves the model no room for an answer."""


def collect(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    how: Answering | None = None,
    *,
    rng: Rng | None = None,
    on_long: Callable[[Long], None] | None = None,
) -> list[Answer]:
    """The model's answers: the greedy one of each question, or `how.samples` drawn ones; none to a prompt that is left out.

    A question's samples depend on `rng` and the question alone: not on the others, their order or the batch size.

    Args:
        model: a `ModelHandle`, or a causal transformers model.
        tokenizer: its tokenizer; None with a handle.
        questions: each with an id.
        how: samples, prompt and length; None: greedy answers.
        rng: names the samples' random streams, and gives their `seed`.
        on_long: called with every question whose prompt is too long, where that is no error.

    Raises:
        BadInput: a question has no id, or a prompt leaves no room.
    """
    from gnomon.core.models import as_handle

    handle, rng, how = as_handle(model, tokenizer), rng or Rng(0), how or Answering()
    if unnamed := [q for q in questions if not q.id]:
        raise BadInput(
            f'A question has no id: "{unnamed[0].question[:60]}". read_questions gives every question one.'
        )
    answers: dict[int, list[Answer]] = {}
    longest = [how.max_new_tokens or task_of(q.task or "open").max_new_tokens for q in questions]
    # One call of the generator for each length: its limit holds for all prompts of the call.
    for limit in dict.fromkeys(longest):
        rows = [i for i, length in enumerate(longest) if length == limit]
        fitted = _fitted(handle, [questions[i] for i in rows], how)
        for long in fitted.long if on_long is not None else ():
            on_long(long)  # type: ignore[misc]
        rows, prompts = [rows[k] for k in fitted.kept], fitted.rows
        streams = [rng.child("answer", questions[i].id) for i in rows]
        written = handle.generate(prompts, _generation(how, limit, handle.processor), generator=streams)
        for i, prompt, completions in zip(rows, prompts, written, strict=True):
            answers[i] = [
                _answer(
                    handle.processor,
                    questions[i],
                    prompt,
                    completion,
                    (k, rng.seed) if how.samples else (0, 0),
                )
                for k, completion in enumerate(completions, 1)
            ]
    return [answer for i in sorted(answers) for answer in answers[i]]


def _fitted(handle: Any, questions: Sequence[Question], how: Answering) -> Fitted:
    """The prompts that leave room for an answer."""
    prompts = [encode_prompt(handle.processor, question, how.template) for question in questions]
    positions, first = positions_of(handle.model), handle.processor.bos_token_id
    return fit_rows(
        prompts,
        [question.id for question in questions],
        None if positions is None else positions - 1,
        how.too_long,
        model=str(getattr(handle.model, "name_or_path", "")) or "the model",
        front=int(bool(prompts) and first is not None and all(row[:1] == [first] for row in prompts)),
    )


def _generation(how: Answering, limit: int, tokenizer: Any) -> Any:
    from gnomon.core.models import GenConfig

    is_plain = how.template in ("plain", "none") or not getattr(tokenizer, "chat_template", None)
    return GenConfig(
        max_new_tokens=limit,
        temperature=how.temperature if how.samples else 0.0,
        top_p=how.top_p if how.samples else 1.0,
        n=how.samples or 1,
        stop=how.stop if how.stop is not None else ("\n",) if is_plain else (),
        batch_size=how.batch_size,
    )


def _answer(
    tokenizer: Any, question: Question, prompt: list[int], completion: Any, draw_and_seed: tuple[int, int]
) -> Answer:
    from gnomon.core.models.sampling.text import decode

    draw, seed = draw_and_seed
    return Answer(
        id=question.id,
        question=question.question,
        gold=list(question.gold),
        wrong=list(question.wrong),
        task=question.task or "open",
        prompt=decode(tokenizer, prompt),
        prompt_ids=prompt,
        answer=completion.text,
        output_ids=list(completion.token_ids),
        logprobs=[round(value, 6) for value in completion.logprobs],
        logits=[round(value, 5) for value in completion.logits],
        finish=completion.finish,
        draw=draw,
        seed=seed,
        context=question.context,
        meta=dict(question.meta),
    )


def read_answers(source: Path, *, need: Literal["label", "exact"] | None = None) -> list[Answer]:
    """The answers of a file, a folder or a run.

    Args:
        source: where they are.
        need: what every row must have: a label, or a label and the search for its exact answer.

    Raises:
        BadInput: a row cannot be read or lacks what is needed, or one answer is there twice.
    """
    answers, seen = [], set()
    for where, raw in records.read_raw(source):
        answer: Answer = records.parse(raw, Answer, where)
        if need and answer.correct is None:
            raise BadInput(
                f'{where}: "correct" is missing. Answers are judged by `answer`; give it another --label.'
            )
        if need == "exact" and answer.valid is None:
            raise BadInput(
                f"{where}: the exact answer has not been looked for. Run `gnomon truth-probes extract` first."
            )
        if answer.key in seen:
            raise BadInput(
                f"{where}: the same answer is there twice (question {answer.id}, seed {answer.seed}, draw {answer.draw})."
            )
        seen.add(answer.key)
        answers.append(answer)
    if not answers:
        raise BadInput(f"{source} holds no answers.")
    return answers


def merge(parts: Sequence[Sequence[Answer]]) -> list[Answer]:
    """Samples of the same questions from several runs as one list, in the order of the first.

    Raises:
        BadInput: two parts hold the same draws (they had one seed), or not the same questions.
    """
    ids = [dict.fromkeys(answer.id for answer in part) for part in parts]
    for other in ids[1:]:
        if other.keys() != ids[0].keys():
            odd = next(iter(other.keys() ^ ids[0].keys()))
            raise BadInput(f'The parts do not hold the same questions: "{odd}" is in one of them only.')
    seen: set[tuple[str, int, int]] = set()
    for part in parts:
        for answer in part:
            if answer.key in seen:
                raise BadInput(
                    f"Two parts hold the same sample (question {answer.id}, seed {answer.seed}, draw {answer.draw}). "
                    "Draw each part with another --seed."
                )
            seen.add(answer.key)
    by_id: dict[str, list[Answer]] = {name: [] for name in ids[0]}
    for part in parts:
        for answer in part:
            by_id[answer.id].append(answer)
    return [answer for rows in by_id.values() for answer in rows]
