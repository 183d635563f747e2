"""Test suites for generated programs: files as HumanEval, MBPP and APPS have them.

A problem knows how to ask for a program and how to test one, as a whole or test by test.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core import records
from gnomon.errors import BadInput

if TYPE_CHECKING:
    from gnomon.core.sandbox import Outcome, SandboxPool

_FENCE = re.compile(r"^[ \t]*```python[ \t]*\n(.*?)^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)

Suite = Literal["humaneval", "mbpp", "apps"]


def strip_markdown(response: str) -> str:
    r"""The joined and trimmed code of the ```` ```python ```` blocks; without one, `response` as it is.

    Source: arXiv 2410.02749, A.1. Differs: a fence counts at the start of a line only, so that back-ticks inside a docstring
    survive.

    >>> strip_markdown("Sure:\n```python\nx = 1\n```\nDone.")
    'x = 1'
    """
    blocks = _FENCE.findall(response.replace("\r\n", "\n"))
    return "\n".join(blocks).strip() if blocks else response


@dataclass(frozen=True)
class Problem:
    """One task of a suite."""

    task_id: str
    instruction: str
    """English request, ending in a newline."""
    head: str
    """Code that a completion may continue (HumanEval's prompt); empty when there is none."""
    preamble: str
    """Code that has to stand before a whole program: imports and helpers of the head, or the suite's set-up code."""
    entry_point: str
    """Name of the function asked for."""
    tests: str
    """Code that raises when the program before it is wrong."""
    solution: str
    """The reference program, whole."""
    stdin: str | None = None
    """The first input of a program that reads standard input, with which it must run; None: it does not read any."""

    def assemble(self, completion: str) -> str:
        """The completion as a program of its own.

        A completion that defines the function stands for itself, behind the preamble; any other continues the head.
        """
        code = strip_markdown(completion)
        if self.stdin is not None:  # what is no Python stays so, for all to see
            return _STDIN.format(code=code, first=self.stdin) if _compiles(code) else code
        if self.head and not re.search(rf"^(async )?def {re.escape(self.entry_point)}\b", code, re.MULTILINE):
            return self.head + code
        return f"{self.preamble}\n{code}" if self.preamble else code

    def script(self, completion: str) -> str:
        """The completion as a program, followed by its tests."""
        return f"{self.assemble(completion)}\n\n{self.tests}\n"


_STDIN = """
import contextlib, io, sys


def printed(text):
    \"\"\"What the program prints for an input, word by word.\"\"\"
    before, out = sys.stdin, io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out):
            exec(compile({code!r}, "<program>", "exec"), {{"__name__": "__main__"}})
    except SystemExit as end:
        if end.code not in (None, 0):
            raise
    finally:
        sys.stdin = before
    return out.getvalue().split()


printed({first!r})
"""

_CALL = """
def plain(value):
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value
"""


@dataclass(frozen=True)
class _HumanEvalRow:
    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _MbppRow:
    task_id: int | str
    code: str
    test_list: list[str]
    text: str | None = None
    prompt: str | None = None
    test_setup_code: str = ""
    test_imports: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


def load_suite(suite: Suite, path: str, *, skip: int = 0) -> list[Problem]:
    """The problems in a suite's file.

    Args:
        suite: layout of the file.
        path: JSONL (also packed) or Parquet.
        skip: leave out this many rows at the start.

    Raises:
        BadInput: a row does not fit the layout, a task appears twice, or none is left.
    """
    problems = list({"humaneval": _humaneval, "mbpp": _mbpp, "apps": _apps}[suite](path))[skip:]
    if not problems:
        raise BadInput(f"{path} holds no problems after the first {skip}.")
    seen: set[str] = set()
    for problem in problems:
        if problem.task_id in seen:
            raise BadInput(f'{path}: task "{problem.task_id}" appears twice.')
        seen.add(problem.task_id)
    return problems


def _humaneval(path: str) -> Iterator[Problem]:
    for row in records.read(path, _HumanEvalRow):
        start = re.search(rf"^(async )?def {re.escape(row.entry_point)}\b", row.prompt, re.MULTILINE)
        if start is None:
            raise BadInput(f'{path}, {row.task_id}: the prompt does not define "{row.entry_point}".')
        yield Problem(
            task_id=row.task_id,
            instruction=str(row.meta.get("instruction") or _instruction(row.prompt, row.entry_point)).rstrip()
            + "\n",
            head=row.prompt,
            preamble=row.prompt[: start.start()],
            entry_point=row.entry_point,
            tests=f"{row.test}\n\ncheck({row.entry_point})",
            solution=row.prompt + row.canonical_solution,
        )


def _instruction(prompt: str, entry_point: str) -> str:
    """The request in the wording of HumanEvalPack (arXiv 2308.07124): signature, then the docstring's text."""
    tree = ast.parse(f"{prompt}\n    pass\n")
    function = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry_point)
    returns = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    signature = f"{entry_point}({ast.unparse(function.args)}){returns}"
    docstring = ast.get_docstring(function) or ""
    return f"Write a Python function `{signature}` to solve the following problem:\n{docstring}"


def _mbpp(path: str) -> Iterator[Problem]:
    for row in records.read(path, _MbppRow):
        where = f"{path}, task {row.task_id}"
        instruction = row.text or row.prompt
        if not instruction:
            raise BadInput(f'{where}: field "text" is missing.')
        if not row.test_list:
            raise BadInput(f'{where}: "test_list" is empty.')
        name, signature = _signature(row.code, " ".join(row.test_list), where)
        preamble = "\n".join([*row.test_imports, row.test_setup_code]).strip()
        yield Problem(
            task_id=str(row.task_id),
            instruction=f"{instruction.strip()}\n{signature}\n",
            head="",
            preamble=preamble,
            entry_point=name,
            tests="\n".join(row.test_list),
            solution=row.code,
        )


def _apps(path: str) -> Iterator[Problem]:
    """APPS (arXiv 2105.09938): programs that read standard input, or a function or method `fn_name` of the starter code."""
    for number, (where, raw) in enumerate(records.read_raw(path)):
        name = str(raw.get("problem_id", raw.get("id", number)))
        where = f"{where}, task {name}"
        cases, solutions = (_json(raw.get(key), key, where) for key in ("input_output", "solutions"))
        inputs, outputs = (cases or {}).get("inputs") or [], (cases or {}).get("outputs") or []
        if not inputs or len(inputs) != len(outputs):
            raise BadInput(f"{where}: input_output has {len(inputs)} inputs and {len(outputs)} outputs.")
        function, starter = cases.get("fn_name"), str(raw.get("starter_code") or "")
        if function is None:
            texts = [_lines(value) for value in (*inputs, *outputs)]
            pairs = list(zip(texts[: len(inputs)], texts[len(inputs) :], strict=True))
            tests = "\n".join(f"assert printed({text!r}) == {wanted.split()!r}" for text, wanted in pairs)
            how, stdin = "Read from standard input and print to standard output.", pairs[0][0]
        else:
            called = f"Solution().{function}" if "class Solution" in starter else function
            # Some outputs stand in a list of one.
            checks = [
                f"assert plain({called}(*{args!r})) in (plain({value!r}), plain({value!r}[0] if isinstance({value!r}, list) and "
                f"len({value!r}) == 1 else {value!r}))"
                for args, value in zip(inputs, outputs, strict=True)
            ]
            tests, stdin = "\n".join([_CALL, *checks]), None
            how = f"Write {function} as the code below begins.\n{starter.rstrip()}"
        question = str(raw.get("question") or "").strip()
        if not question:
            raise BadInput(f'{where}: field "question" is missing.')
        solution = solutions[0] if solutions else ""
        yield Problem(name, f"{question}\n\n{how}\n", "", "", function or "", tests, solution, stdin)


def _json(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, str) or not value.strip():
        return value or None
    try:
        return json.loads(value)
    except ValueError as error:
        raise BadInput(f"{where}: {key} is no JSON ({error}).") from None


def _lines(value: Any) -> str:
    """An input or output of APPS, which is a text or a list of lines."""
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def _signature(code: str, tests: str, where: str) -> tuple[str, str]:
    """Name and `def` line of the function that the tests call; the reference gives it to the model."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise BadInput(
            f"{where}: the reference program does not parse ({error.msg}, line {error.lineno})."
        ) from None
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    called = [n for n in functions if re.search(rf"\b{re.escape(n.name)}\b", tests)]
    if not called:
        raise BadInput(f"{where}: the tests call no function that the reference program defines.")
    return called[-1].name, f"def {called[-1].name}({ast.unparse(called[-1].args)}):"


# What a program is worth, test by test.


@dataclass(frozen=True)
class Grade:
    """What became of a program and of each of its tests."""

    compiles: bool
    """Whether it is Python at all."""
    runs: bool
    """Whether it ran to its last line, tests apart."""
    passed: int
    """Tests that passed."""
    total: int
    """Tests."""

    @property
    def reward(self) -> float:
        """-1 where it does not compile, -0.6 where it raises, else -0.3 + 1.3 of the share of tests passed.

        Source: arXiv 2410.02743, the reward of its programs.
        """
        if not self.compiles:
            return -1.0
        return -0.3 + 1.3 * self.passed / self.total if self.runs else -0.6


def graded(
    problems: Sequence[Problem],
    completions: Sequence[str],
    pool: SandboxPool,
    *,
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Grade]:
    """The grade of each completion.

    A program runs once by itself, and once with each of its tests where it ran. Programs that are identical run once.

    Args:
        problems: what each completion is for, `[N]`.
        completions: what was written, `[N]`.
        pool: where the programs run.
        on_done: called after each program that ran.
    """
    programs = [problem.assemble(text) for problem, text in zip(problems, completions, strict=True)]
    compiling = [i for i, code in enumerate(programs) if _compiles(code)]
    outcomes = pool.map([programs[i] for i in compiling], on_done=on_done)
    runs = [i for i, outcome in zip(compiling, outcomes, strict=True) if outcome.passed]
    tests = {i: single_tests(problems[i].tests) for i in runs}
    pairs = [(i, f"{programs[i]}\n\n{test}\n") for i in runs for test in tests[i]]
    passed = dict.fromkeys(runs, 0)
    for (i, _), outcome in zip(pairs, pool.map([code for _, code in pairs], on_done=on_done), strict=True):
        passed[i] += outcome.passed
    return [
        Grade(i in set(compiling), i in passed, passed.get(i, 0), len(tests[i]) if i in tests else 1)
        for i in range(len(programs))
    ]


def single_tests(tests: str) -> list[str]:
    """Code that checks one thing each: of several `assert` statements each time one stays, and all other code does.

    A loop or block with some counts as one, as does code without any.

    >>> single_tests("x = f(2)\\nassert x == 4\\nassert f(0) == 0")
    ['x = f(2)\\nassert x == 4\\npass', 'x = f(2)\\npass\\nassert f(0) == 0']
    """
    count = len(_checks(ast.parse(tests)))
    if count < 2:
        return [tests]
    alone = []
    for kept in range(count):
        tree = ast.parse(tests)
        dropped = {id(node) for number, node in enumerate(_checks(tree)) if number != kept}
        for body in _bodies(tree):
            body[:] = [ast.Pass() if id(node) in dropped else node for node in body]
        alone.append(ast.unparse(tree))
    return alone


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """The statements of a module, and those of each function in it."""
    yield tree.body
    yield from (node.body for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _checks(tree: ast.Module) -> list[ast.stmt]:
    """The statements that check something: `assert` itself, or a loop or block with one in it."""
    return [
        node
        for body in _bodies(tree)
        for node in body
        if not isinstance(node, ast.FunctionDef | ast.ClassDef)
        and any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
    ]


def _compiles(code: str) -> bool:
    """Whether code is Python; nothing of it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(code, "<program>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return False
    return True
