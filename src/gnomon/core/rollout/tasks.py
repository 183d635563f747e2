"""Tasks for a policy: what it is asked, and what its answer is held against, from the layouts in which such sets come."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gnomon.core import records
from gnomon.core.rollout.suites import Problem, load_suite
from gnomon.errors import BadConfig, BadInput, nearest

Layout = Literal["auto", "rows", "gsm8k", "question", "alpaca", "humaneval", "mbpp", "apps"]
"""rows: our own columns; gsm8k: `question` and an `answer` that ends in `#### n`; question: `question` and `answer`, also as CSV;
alpaca: `instruction` and `output`; humaneval, mbpp, apps: code with tests; auto: by the columns of the first row."""

ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Task:
    """One thing to do, and what is ours of its answer."""

    id: str
    prompt: str = ""
    """The request as text; empty where there are messages."""
    messages: tuple[Mapping[str, Any], ...] = ()
    """The request as a conversation, each with `role` and `content`."""
    reference: str | None = None
    """The right answer."""
    tests: Problem | None = None
    """What the answer is run with, where it is a program."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """All further columns of the row."""

    @property
    def text(self) -> str:
        """The prompt, or what the last message says."""
        return self.prompt or str(self.messages[-1]["content"])


def read_tasks(
    path: str | Path, layout: Layout = "auto", *, on_bad: Callable[[str], None] | None = None
) -> list[Task]:
    """The tasks of a file, in its order.

    Args:
        path: JSONL (also packed), JSON, Parquet, a folder of those, `hf://name`, or CSV with a head line.
        layout: how rows are laid out; see `Layout`. Our own are `prompt` or `messages`, and where there are any `id`,
            `reference` (or `answer`, `gold`), and `tests`, code that raises where an answer is wrong; all else goes into `meta`.
        on_bad: called with the reason for each row that is left out; None: the first one is an error.

    Raises:
        BadInput: a row does not fit, two have one id, or there is none.
        BadConfig: there is no such layout.

    Source of the layouts: GSM8K (arXiv 2110.14168), HumanEval (2107.03374), MBPP (2108.07732), APPS
    (2105.09938).
    """
    rows = _rows(path)
    if layout == "auto":
        first = next(iter(_rows(path)), None)
        if first is None:
            raise BadInput(f"{path} holds no tasks.")
        layout = _layout_of(first[1])
    if layout in ("humaneval", "mbpp", "apps"):
        problems = load_suite(layout, str(path))
        return [Task(p.task_id, p.head or p.instruction, (), p.solution, p) for p in problems]
    if layout not in _READERS:
        raise BadConfig(
            f'There is no layout "{layout}". {nearest(layout, [*_READERS, "humaneval", "mbpp", "apps"])}'
        )
    tasks: dict[str, Task] = {}
    for number, (where, raw) in enumerate(rows):
        try:
            task = _READERS[layout](raw, str(raw.get("id", raw.get("task_id", number))), where)
            if task.id in tasks:
                raise BadInput(f'{where}: the id "{task.id}" appears twice.')
        except BadInput as error:
            if on_bad is None:
                raise
            on_bad(str(error))
            continue
        tasks[task.id] = task
    if not tasks:
        raise BadInput(f"{path} holds no tasks.")
    return list(tasks.values())


def _rows(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if str(path).endswith(".csv"):
        if not Path(path).is_file():
            raise BadInput(f"{path} does not exist.")
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.DictReader(file), 2):
                yield f"{path}, line {number}", dict(row)
    else:
        yield from records.read_raw(path)


def _layout_of(raw: Mapping[str, Any]) -> Layout:
    has = raw.keys().__contains__
    if all(map(has, ("task_id", "prompt", "entry_point", "test"))):
        return "humaneval"
    if all(map(has, ("task_id", "code", "test_list"))):
        return "mbpp"
    if has("question") and has("input_output"):
        return "apps"
    if has("prompt") or has("messages"):
        return "rows"
    if has("question") and has("answer"):
        return "gsm8k" if "####" in str(raw["answer"]) else "question"
    if has("instruction"):
        return "alpaca"
    raise BadInput(
        f"These rows have {', '.join(sorted(raw))}; tasks need prompt or messages, question and answer, or instruction."
    )


def _own(raw: Mapping[str, Any], name: str, where: str) -> Task:
    prompt, messages = raw.get("prompt") or "", raw.get("messages") or ()
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):  # as some sets have it
        prompt, messages = "", prompt
    reference = next((raw[key] for key in ("reference", "answer", "gold") if raw.get(key) is not None), None)
    ours = ("id", "task_id", "prompt", "messages", "reference", "tests")
    tests = raw.get("tests")
    if isinstance(tests, Sequence) and not isinstance(tests, str):
        tests = "\n".join(map(str, tests))
    problem = Problem(name, prompt, "", "", "", tests, "") if tests else None
    meta = {key: value for key, value in raw.items() if key not in ours}
    return _checked(name, prompt, messages, reference, problem, meta, where=where)


def _checked(
    name: str,
    prompt: Any,
    messages: Any,
    reference: Any,
    tests: Problem | None,
    meta: Mapping[str, Any],
    *,
    where: str,
) -> Task:
    if not isinstance(prompt, str) or not (prompt.strip() or messages):
        raise BadInput(f'{where}, task "{name}": the prompt is empty. Every task needs a prompt or messages.')
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES or "content" not in message:
            raise BadInput(
                f'{where}, task "{name}": a message needs content and a role of {", ".join(ROLES)}; got {message!r}.'
            )
    return Task(
        name, prompt, tuple(messages), None if reference is None else str(reference), tests, dict(meta)
    )


def _question(raw: Mapping[str, Any], name: str, where: str) -> Task:
    answer = raw.get("answer")
    if isinstance(answer, list | tuple):
        answer = answer[0] if answer else None
    meta = {key: value for key, value in raw.items() if key not in ("id", "task_id", "question")}
    return _checked(name, raw.get("question") or "", (), answer, None, meta, where=where)


def _gsm8k(raw: Mapping[str, Any], name: str, where: str) -> Task:
    solution, mark, number = str(raw.get("answer") or "").rpartition("####")
    if not mark or not number.strip():
        raise BadInput(f'{where}, task "{name}": the answer does not end in "#### n".')
    meta = {
        **{k: v for k, v in raw.items() if k not in ("id", "question", "answer")},
        "solution": solution.strip(),
    }
    return _checked(name, raw.get("question") or "", (), number.strip(), None, meta, where=where)


def _alpaca(raw: Mapping[str, Any], name: str, where: str) -> Task:
    more = f"\n\n{raw['input']}" if raw.get("input") else ""
    ours = ("id", "instruction", "input", "output")
    meta = {key: value for key, value in raw.items() if key not in ours}
    prompt = f"{raw.get('instruction') or ''}{more}"
    return _checked(name, prompt, (), raw.get("output"), None, meta, where=where)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str, str], Task]] = {
    "rows": _own,
    "gsm8k": _gsm8k,
    "question": _question,
    "alpaca": _alpaca,
}
