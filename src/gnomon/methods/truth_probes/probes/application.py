"""Application of a saved detector: questions in; answers, exact answers and the probability that they are right out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.core.too_long import Long, TooLong, fit_rows, positions_of
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.truth_probes.answers.answers import Answer, Answering, collect, encode_prompt
from gnomon.methods.truth_probes.answers.data import Question
from gnomon.methods.truth_probes.answers.extraction import Extraction, extract
from gnomon.methods.truth_probes.answers.tasks import TASKS
from gnomon.methods.truth_probes.probes.probe import ErrorProbe
from gnomon.methods.truth_probes.states.states import model_key, states_of

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
        too_long: what becomes of rows that the model cannot read.

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
        too_long: TooLong = "error",
    ) -> None:
        self.too_long = too_long
        self.long: list[Long] = []
        """Rows so far that were too long."""
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

        A row that is left out because it is too long has neither, and says so under `skipped`.

        Raises:
            BadInput: a question or a completion is empty, or known choices are missing.
        """
        written = self._answers(rows)
        numbers = sorted(written)
        found_by_row = dict(
            zip(numbers, extract([written[i] for i in numbers], self.how, llm=self.llm), strict=True)
        )
        answers = [found_by_row.get(i) or _skipped(self._question(row)) for i, row in enumerate(rows)]
        usable = [i for i, answer in enumerate(answers) if answer.is_usable]
        chances: dict[int, float] = {}
        if usable:
            probe, kept = self.probe, [answers[i] for i in usable]
            states = states_of(self.handle, kept, probe.layer, probe.site, probe.position)
            chances = dict(zip(usable, probe.predict_proba(states).tolist(), strict=True))
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
                **({"skipped": SKIPPED} if answer.finish == "skipped" else {}),
            }
            for i, (row, answer) in enumerate(zip(rows, answers, strict=True))
        ]

    def _answers(self, rows: Sequence[ScoreRow]) -> dict[int, Answer]:
        """Number of a row -> its answer, written by the model where the row brings none; rows that are too long have none."""
        questions = [self._question(row) for row in rows]
        answers: dict[int, Answer] = {}
        for i, row in enumerate(rows):
            if row.completion is not None:
                answer, positions = (
                    self._from_completion(questions[i], row.completion),
                    positions_of(self.handle.model),
                )
                room = None if positions is None else max(1, positions - len(answer.output_ids))
                fitted = fit_rows([answer.prompt_ids], [answer.id], room, self.too_long)
                self.long += fitted.long
                if fitted.rows:
                    answers[i] = replace(answer, prompt_ids=fitted.rows[0])
        open_ = {questions[i].id: i for i, row in enumerate(rows) if row.completion is None}
        if open_:
            how = Answering(
                max_new_tokens=self.max_new_tokens or self.probe.max_new_tokens,
                template=self.probe.template,  # type: ignore[arg-type]
                stop=None if self.probe.stop is None else (self.probe.stop,),
                too_long=self.too_long,
            )
            written = collect(
                self.handle, None, [questions[i] for i in open_.values()], how, on_long=self.long.append
            )
            answers |= {open_[answer.id]: answer for answer in written}
        # The label is not known and plays no part: 0 keeps an extractor from looking for accepted answers first.
        return {i: replace(answer, correct=0) for i, answer in answers.items()}

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


SKIPPED = "longer than the model reads"
"""Why a row has no score."""


def _skipped(question: Question) -> Answer:
    """What stands for the answer of a row that was left out."""
    return Answer(
        question.id,
        question.question,
        [],
        [],
        question.task or "open",
        "",
        [],
        "",
        [],
        [],
        [],
        "skipped",
        valid=0,
    )


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
