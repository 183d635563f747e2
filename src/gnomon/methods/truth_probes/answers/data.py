"""Questions with their accepted answers, from the user's files or from public data sets by name (through `datasets`)."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.errors import BadInput
from gnomon.methods.truth_probes.answers.tasks import TASKS, Task, task_of


@dataclass(frozen=True)
class Question:
    """A question with its accepted answers."""

    question: str
    """The question's text."""
    answer: str | int | float | list[str]
    """The accepted answer, or several: any of them is right."""
    wrong_answer: str | list[str] = ""
    """Answers that are wrong when they come first: the other choice, the other labels."""
    context: str = ""
    """A text to answer from."""
    id: str = ""
    """Name of the question; made from its text where there is none."""
    task: str = ""
    """Which task it belongs to."""
    meta: dict[str, Any] = field(default_factory=dict)
    """Other columns."""

    @property
    def gold(self) -> tuple[str, ...]:
        """Every accepted answer."""
        return _texts(self.answer)

    @property
    def wrong(self) -> tuple[str, ...]:
        """Every known wrong answer."""
        return _texts(self.wrong_answer)


def read_questions(source: str, task: str = "open", limit: int | None = None) -> list[Question]:
    """The questions of a source, each with an id; a question that occurs twice with the same answers is kept once.

    Args:
        source: JSONL, Parquet or CSV file, a folder of those, `hf://name[:split]`, or the name of a task that has a data set of its
            own (`triviaqa`, `triviaqa:train`). Rows have our columns, or those of the task's data set.
        task: what kind of questions these are; see `tasks.TASKS`.
        limit: the first so many rows; None takes all.

    Raises:
        BadInput: nothing is there, a column is missing, a question or its answers are empty, or one id has two questions.
    """
    kind = task_of(task)
    questions: dict[str, Question] = {}
    for where, raw in islice(_rows(source, kind), limit):
        question = _question(where, raw, kind)
        if question is None:
            continue
        first = questions.setdefault(question.id, question)
        if (first.question, first.context) != (question.question, question.context):
            raise BadInput(
                f'{where}: the id "{question.id}" belongs to another question already. Ids name one question each.'
            )
    if not questions:
        raise BadInput(f'{source} holds no questions for the task "{task}".')
    return list(questions.values())


def parse_question(where: str, raw: dict[str, Any], task: Task) -> Question:
    """One row as a question with an id.

    Raises:
        BadInput: a column is missing or empty; `where` begins the message.
    """
    question: Question = records.parse(raw | {"id": str(raw.get("id") or "")}, Question, where)
    if not question.question.strip():
        raise BadInput(f'{where}: field "question" is empty.')
    if not question.gold or not all(gold.strip() for gold in question.gold):
        raise BadInput(f'{where}: field "answer" is empty. Every question needs an accepted answer.')
    name = question.id or fingerprint(question.question, question.context, length=12)
    return Question(
        question.question.strip(),
        list(question.gold),
        list(question.wrong),
        question.context,
        name,
        question.task or task.name,
        question.meta,
    )


def _question(where: str, raw: dict[str, Any], task: Task) -> Question | None:
    """A row in our columns, or in those of the task's data set; None where the data set says there is no answer."""
    if task.loader is not None and task.loader.fits(raw):
        converted = task.loader.convert(raw)
        if converted is None:
            return None
        raw = converted
    return parse_question(where, raw, task)


def _rows(source: str, task: Task) -> Iterator[tuple[str, dict[str, Any]]]:
    name, _, split = source.partition(":")
    if name in TASKS and not Path(source).exists():
        return open_hub(TASKS[name], split)
    if source.endswith(".csv"):
        return _csv(Path(source))
    return records.read_raw(source)


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV file; a cell that is a JSON list is read as one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise BadInput(
                        f"{where}: the row has not as many cells as the header. Quote cells that hold commas."
                    )
                yield where, {name: _cell(value) for name, value in row.items()}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read as CSV ({error}). Convert it to UTF-8 CSV first.") from None


def _cell(value: str) -> Any:
    if value.startswith("[") and value.endswith("]"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _texts(value: str | int | float | list[str]) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(item) for item in value)
    return (str(value),) if value != "" else ()


# Public data sets.


def open_hub(
    task: Task, split: str = "", *, repo: str | Path | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a task's data set, streamed, each with the place it came from.

    Args:
        task: which one.
        split: empty for the one that the task is usually read from.
        repo: another place that holds the same data, such as a local copy; None: the hub.

    Raises:
        BadInput: the task has no data set on the hub, or it cannot be opened.
    """
    if task.loader is None or not (repo or task.loader.repo):
        raise BadInput(
            f'The task "{task.name}" has no data set on the hub. Give a file with the columns "question" and "answer"'
            f"{' or those of a table of roles: movie, character, actor' if task.name == 'movies' else ''}."
        )
    import datasets

    address, split = str(repo or task.loader.repo), split or task.loader.split
    config = None if repo else task.loader.config
    try:
        stream = datasets.load_dataset(address, config, split=split, streaming=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f'{address}, split "{split}": the data set could not be opened ({first}). Download it, and name the file.'
        ) from None
    return ((f"{address}:{split}, row {number}", dict(raw)) for number, raw in enumerate(stream, 1))
