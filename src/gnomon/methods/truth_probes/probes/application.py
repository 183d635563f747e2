"""Application of a saved detector: questions in; answers, exact answers and the probability that they are right out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes.answers.answers import Answer, Answering, collect, encode_prompt
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.extraction import Extraction, extract
from gnomon.methods.truth_probes.answers.tasks import TASKS
from gnomon.methods.truth_probes.probes.probe import ErrorProbe
from gnomon.methods.truth_probes.states.states import Capture, model_key, represent

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM
    from gnomon.core.models import ModelHandle


@dataclass(frozen=True)
class ScoreRow:
    """A row to score."""

    question: str
    """The question's text."""
    completion: str | None = None
    """The answer, where it is there already; None: the model writes one."""
    context: str = ""
    """A text to answer from."""
    answer: str | list[str] = ""
    """Choices to look for, where the exact answer is one of known ones; together with `wrong_answer`."""
    wrong_answer: str | list[str] = ""
    id: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


class Scorer:
    """A probe with its model.

    Args:
        handle: the model that the probe was trained on.
        probe: the detector.
        how: how exact answers are found; None: as for the probe's training.
        llm: the language model that copies them out, where one is needed.
        max_new_tokens: longest answer; None takes what the probe was trained with.

    Raises:
        ModelMismatch: the probe was trained on another model.
        BadConfig: exact answers need a language model and there is none.
    """

    def __init__(
        self,
        handle: ModelHandle,
        probe: ErrorProbe,
        how: Extraction | None = None,
        llm: LLM | None = None,
        max_new_tokens: int | None = None,
    ) -> None:
        self.handle, self.probe, self.llm, self.max_new_tokens = handle, probe, llm, max_new_tokens
        probe.check(model_key(handle.model), probe.linear.width, str(handle.model.name_or_path))
        self.task = probe.task if probe.task in TASKS else "open"
        self.how = how or Extraction.parse(probe.extract, [self.task])
        if self.how.kind == "llm" and llm is None:
            raise BadConfig(
                f"The probe was trained on exact answers found by {self.how}. Name it, or another way, with --extract."
            )

    def score(self, rows: Sequence[ScoreRow]) -> list[dict[str, Any]]:
        """One result per row: completion, exact answer, its place, and P(right), which is None where there is no exact answer.

        Raises:
            BadInput: a question or a completion is empty, or known choices are missing.
        """
        answers = extract(self._answers(rows), self.how, llm=self.llm)
        usable = [i for i, answer in enumerate(answers) if answer.is_usable]
        chances: dict[int, float] = {}
        if usable:
            probe, kept = self.probe, [answers[i] for i in usable]
            store = represent(
                self.handle,
                None,
                kept,
                Capture(site=probe.site, layers=(probe.layer,), positions=(probe.position,)),
            )
            chances = dict(zip(usable, probe.predict(store).tolist(), strict=True))
        return [
            {
                **row.meta,
                "id": answer.id,
                "question": answer.question,
                "completion": answer.answer,
                "exact_answer": answer.exact_answer,
                "span": answer.spans[0] if answer.spans else None,
                "p_right": round(chances[i], 6) if i in chances else None,
                "cut_off": answer.finish == "length",
            }
            for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
        ]

    def _answers(self, rows: Sequence[ScoreRow]) -> list[Answer]:
        questions = [self._question(row) for row in rows]
        open_ = [i for i, row in enumerate(rows) if row.completion is None]
        answers = {
            i: self._from_completion(questions[i], row.completion)
            for i, row in enumerate(rows)
            if row.completion is not None
        }
        if open_:
            written = collect(
                self.handle,
                None,
                [questions[i] for i in open_],
                Answering(
                    max_new_tokens=self.max_new_tokens or self.probe.max_new_tokens,
                    template=self.probe.template,  # type: ignore[arg-type]
                    stop=None if self.probe.stop is None else (self.probe.stop,),
                ),
            )
            answers |= dict(zip(open_, written, strict=True))
        # The label is not known and plays no part: 0 keeps an extractor from looking for accepted answers first.
        return [replace(answers[i], correct=0) for i in range(len(rows))]

    def _question(self, row: ScoreRow) -> Question:
        if not row.question.strip():
            raise BadInput('A row to score has an empty "question".')
        answer, wrong = row.answer, row.wrong_answer
        labels = TASKS[self.task].labels
        if self.how.kind == "known" and not answer:
            if labels is None:
                raise BadInput(
                    'The probe looks for known choices: give them in "answer" and "wrong_answer", or set --extract.'
                )
            answer = [spelling for spellings in labels.values() for spelling in spellings]
        name = row.id or fingerprint(row.question, row.context, length=12)
        return Question(row.question.strip(), answer, wrong, row.context, name, self.task)

    def _from_completion(self, question: Question, completion: str) -> Answer:
        """A completion from elsewhere as an answer, in the model's tokens."""
        from gnomon.core.models.sampling.text import completion_text, decode

        if not completion.strip():
            raise BadInput(f'The completion to "{question.question[:60]}" is empty.')
        tokenizer = self.handle.processor
        prompt = encode_prompt(tokenizer, question, self.probe.template)  # type: ignore[arg-type]
        # Behind "A:" a word begins with a space, which some tokenizers write by themselves.
        wanted = (
            completion
            if completion[0].isspace() or getattr(tokenizer, "chat_template", None)
            else f" {completion}"
        )
        for way in (completion, wanted):
            written = list(tokenizer(way, add_special_tokens=False)["input_ids"])
            if (text := completion_text(tokenizer, prompt, written)) == wanted:
                break
        return Answer(
            question.id, question.question, list(question.gold), list(question.wrong), self.task, decode(tokenizer, prompt),
            prompt, text, written, [0.0] * len(written), [0.0] * len(written), "given",
        )  # fmt: skip


def parse_rows(lines: Iterable[str], where: str = "stdin") -> Iterator[ScoreRow]:
    """Rows of a stream, each as soon as its line is there.

    Raises:
        BadInput: a line is not a JSON object with a question; the message has its number.
    """
    for line, raw in records.read_stream(lines, where):
        yield records.parse(raw, ScoreRow, line)


def stream(scorer: Scorer, lines: Iterable[str], *sinks: IO[str]) -> int:
    """Score line by line and write each result at once. Returns how many."""
    count = 0
    for row in parse_rows(lines):
        (result,) = scorer.score([row])
        records.send(result, *sinks)
        count += 1
    return count
