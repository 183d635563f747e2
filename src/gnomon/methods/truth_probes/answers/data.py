"""Questions with their accepted answers, from the user's files or from public data sets by name (through `datasets`)."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.config import fingerprint
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.truth_probes.answers.tasks import TASKS, Task, label_named, labelled, task_of

FIELDS = ("question", "answer", "wrong_answer", "context", "id")
"""Fields of a question that a column can be named for."""


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


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Field -> column, from `field=column` pairs, also several in one text with commas between.

    Raises:
        BadConfig: a pair is written in another way, or its field is none of `FIELDS`.

    >>> parse_columns(["question=Question,answer=Answer"])
    {'question': 'Question', 'answer': 'Answer'}
    """
    columns: dict[str, str] = {}
    for pair in (part for text in pairs for part in text.split(",")):
        name, _, column = (part.strip() for part in pair.partition("="))
        if name not in FIELDS:
            raise BadConfig(f'columns: there is no field "{name}". {nearest(name, FIELDS)}')
        if not column or name in columns:
            raise BadConfig(f'columns must be field=column pairs, each field once; got "{pair}".')
        columns[name] = column
    return columns


def read_questions(
    source: str, task: str = "open", limit: int | None = None, columns: Mapping[str, str] | None = None
) -> list[Question]:
    """The questions of a source, each with an id; a question that occurs twice is kept once, with the answers of both.

    Args:
        source: JSONL, Parquet or CSV file, a folder of those, `hf://name[:split]`, or the name of a task that has a data set of its
            own (`triviaqa`, `triviaqa:train`). Rows have our columns, or those of the task's data set.
        task: what kind of questions these are; see `tasks.TASKS`.
        limit: the first so many rows; None takes all.
        columns: field of a question -> column of the source; the columns of the task's data set are then not looked for.

    Raises:
        BadInput: nothing is there, a column is missing, a question or its answers are empty, one id has two questions, or an answer
            of a question is accepted in one row and wrong in another.
    """
    kind = task_of(task)
    questions: dict[str, Question] = {}
    for where, raw in islice(_rows(source, kind), limit):
        question = _question(where, raw, kind, columns or {})
        if question is not None:
            first = questions.get(question.id, question)
            questions[question.id] = _merged(where, first, question)
    if not questions:
        raise BadInput(f'{source} holds no questions for the task "{task}".')
    return list(questions.values())


def parse_question(where: str, raw: dict[str, Any], task: Task) -> Question:
    """One row as a question with an id.

    Raises:
        BadInput: a column is missing or empty; `where` begins the message.
    """
    name = "" if raw.get("id") is None else str(raw["id"])
    question: Question = records.parse(raw | {"id": name}, Question, where)
    if not question.question.strip():
        raise BadInput(f'{where}: field "question" is empty.')
    if not question.gold or not all(gold.strip() for gold in question.gold):
        raise BadInput(f'{where}: field "answer" is empty. Every question needs an accepted answer.')
    if question.task and question.task not in TASKS:
        raise BadInput(f'{where}: there is no task "{question.task}". {nearest(question.task, TASKS)}')
    gold, wrong = _in_set(where, question, task_of(question.task or task.name))
    name = name or fingerprint(question.question, question.context, length=12)
    return Question(
        question.question.strip(),
        gold,
        wrong,
        question.context,
        name,
        question.task or task.name,
        question.meta,
    )


def _in_set(where: str, question: Question, task: Task) -> tuple[list[str], list[str]]:
    """Accepted and wrong answers; of a task with a set of labels all spellings of the label, and of all others.

    Raises:
        BadInput: an accepted answer is none of the labels, or they are several.
    """
    gold, wrong = list(question.gold), list(question.wrong)
    if task.labels is None:
        return gold, wrong
    names = {text: label_named(text, task.labels) for text in gold}
    if unknown := [text for text, name in names.items() if name is None]:
        raise BadInput(
            f'{where}: "{unknown[0]}" is no answer of the task "{task.name}"; its labels are {", ".join(task.labels)}.'
        )
    if len(labels := sorted({str(name) for name in names.values()})) > 1:
        raise BadInput(f"{where}: the answer must be one label of the task; got {' and '.join(labels)}.")
    spellings = labelled(labels[0], task.labels)
    more = [text for text in wrong if text not in spellings["wrong_answer"]]
    return spellings["answer"], [*spellings["wrong_answer"], *more]


def _merged(where: str, first: Question, second: Question) -> Question:
    """One question of two rows with the same id: any answer that either accepts is right.

    Raises:
        BadInput: they are different questions, or one accepts what the other calls wrong.
    """
    if (first.question, first.context) != (second.question, second.context):
        raise BadInput(
            f'{where}: the id "{second.id}" belongs to another question already. Ids name one question each.'
        )
    gold = list(dict.fromkeys((*first.gold, *second.gold)))
    wrong = list(dict.fromkeys((*first.wrong, *second.wrong)))
    if both := [text for text in gold if text in wrong]:
        raise BadInput(
            f'{where}: "{both[0]}" is accepted in one row and wrong in another row of the same question. Keep one of them.'
        )
    return replace(first, answer=gold, wrong_answer=wrong)


def _question(where: str, raw: dict[str, Any], task: Task, columns: Mapping[str, str]) -> Question | None:
    """A row in our columns, or in those of the task's data set; None where the data set says there is no answer."""
    if not columns and task.loader is not None and task.loader.fits(raw):
        try:
            converted = task.loader.convert(raw)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None
        return None if converted is None else parse_question(where, converted, task)
    row = _in_our_case(_renamed(where, raw, columns))
    if missing := [name for name in ("question", "answer") if name not in row]:
        names = ", ".join(f'"{name}"' for name in list(raw)[:12]) or "no fields"
        raise BadInput(
            f'{where}: field "{missing[0]}" is missing. The record has {names}. Name the column that holds it: '
            f"--columns {missing[0]}=COLUMN."
        )
    return parse_question(where, row, task)


def _renamed(where: str, raw: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """The row with the named columns as fields; what had a field's name before is gone."""
    for column in columns.values():
        if column not in raw:
            raise BadInput(f'{where}: there is no column "{column}". {nearest(column, raw)}')
    rest = {name: value for name, value in raw.items() if name not in (*columns, *columns.values())}
    return rest | {name: raw[column] for name, column in columns.items()}


_OTHERS = {"incorrect_answer": "wrong_answer"}
"""Another name of a field in published tables."""


def _in_our_case(raw: dict[str, Any]) -> dict[str, Any]:
    """The row with columns such as `Question` or `Wrong_Answer`, which some published tables have, under our names."""
    renamed = {}
    for column, value in raw.items():
        name = column.strip().lower().replace(" ", "_")
        name = _OTHERS.get(name, name)
        renamed[name if name in FIELDS and name not in raw and name not in renamed else column] = value
    return renamed


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
        for read in (json.loads, ast.literal_eval):  # tables hold lists as JSON or as Python writes them
            try:
                items = read(value)
            except (ValueError, SyntaxError):
                continue
            if isinstance(items, list):
                return [str(item) for item in items]
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
