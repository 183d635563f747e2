"""The miniature's world: small list programs with English instructions, several equivalent solutions and hidden tests.

A task is two operators and a fold ("keep the even numbers, then add 3 to each number, then return their sum"). Tasks are split into
training and test by the *pair* of operators, so a test task composes what was never seen composed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FUNCTION = "solve"
"""Name of the function every program defines."""

CHECKS = 6
"""Hidden input-output tests per task."""


@dataclass(frozen=True)
class Operator:
    """One step over a list of integers; `{k}` in a text stands for the task's number."""

    name: str
    phrase: str
    """English, as in an instruction."""
    kind: str
    """`filter` (keep where `text` is true), `map` (replace by `text`), `branch` (replace by `text` where `where`), `list`."""
    text: str
    """Python expression over the element `x`, or over the list `xs` for kind `list`."""
    apply: Callable[[list[int], int], list[int]]
    """What it means, independently of the text: list and k -> list."""
    where: str = ""
    uses_k: bool = False


def _each(function: Callable[[int, int], int]) -> Callable[[list[int], int], list[int]]:
    return lambda xs, k: [function(x, k) for x in xs]


def _keep(rule: Callable[[int, int], bool]) -> Callable[[list[int], int], list[int]]:
    return lambda xs, k: [x for x in xs if rule(x, k)]


OPERATORS = (
    Operator("even", "keep the even numbers", "filter", "x % 2 == 0", _keep(lambda x, k: x % 2 == 0)),
    Operator("odd", "keep the odd numbers", "filter", "x % 2 == 1", _keep(lambda x, k: x % 2 == 1)),
    Operator("above", "keep the numbers above {k}", "filter", "x > {k}", _keep(lambda x, k: x > k), uses_k=True),
    Operator("below", "keep the numbers below {k}", "filter", "x < {k}", _keep(lambda x, k: x < k), uses_k=True),
    Operator("add", "add {k} to each number", "map", "x + {k}", _each(lambda x, k: x + k), uses_k=True),
    Operator("times", "multiply each number by {k}", "map", "x * {k}", _each(lambda x, k: x * k), uses_k=True),
    Operator("square", "square each number", "map", "x * x", _each(lambda x, k: x * x)),
    Operator("negate", "negate each number", "map", "-x", _each(lambda x, k: -x)),
    Operator("clip", "raise the numbers below {k} to {k}", "branch", "{k}", _each(lambda x, k: max(x, k)), "x < {k}", True),
    Operator("halve", "halve the even numbers", "branch", "x // 2", _each(lambda x, k: x if x % 2 else x // 2), "x % 2 == 0"),
    Operator("reverse", "reverse the list", "list", "xs[::-1]", lambda xs, k: list(reversed(xs))),
    Operator("sort", "sort the list", "list", "sorted(xs)", lambda xs, k: sorted(xs)),
    Operator("drop", "drop the first {k} numbers", "list", "xs[{k}:]", lambda xs, k: xs[k:], uses_k=True),
    Operator("running", "take running totals", "list", "", lambda xs, k: list(itertools.accumulate(xs))),
)  # fmt: skip
"""The steps tasks are made of."""

FOLDS: dict[str, tuple[str, str, Callable[[list[int]], object]]] = {
    "list": ("return the list", "{xs}", list),
    "sum": ("return the sum", "sum({xs})", sum),
    "count": ("return how many there are", "len({xs})", len),
    "largest": ("return the largest or 0", "max({xs}, default=0)", lambda xs: max(xs, default=0)),
}
"""Name -> (English, Python expression over `{xs}`, meaning)."""


@dataclass(frozen=True)
class Task:
    """An instruction, its equivalent programs and its hidden tests."""

    task_id: str
    instruction: str
    programs: tuple[str, ...]
    tests: tuple[tuple[tuple[int, ...], object], ...]
    """Pairs of input list and expected result."""
    pair: tuple[str, str]
    """The two operators' names: what the split goes by."""

    @property
    def test_code(self) -> str:
        """Assertions that a correct program passes."""
        return "\n".join(f"assert {FUNCTION}({list(xs)!r}) == {result!r}" for xs, result in self.tests)


def split_pairs(
    rng: random.Random, held_out: float = 0.2
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Training and test pairs of operators; every operator occurs in training in both places.

    Args:
        rng: draws the test pairs.
        held_out: share of the pairs that are for testing.
    """
    names = [op.name for op in OPERATORS]
    pairs = [(a, b) for a in names for b in names if a != b]
    rng.shuffle(pairs)
    test: list[tuple[str, str]] = []
    first, second = ({name: len(names) - 1 for name in names} for _ in range(2))
    for a, b in pairs:
        if len(test) < held_out * len(pairs) and first[a] > 1 and second[b] > 1:
            test.append((a, b))
            first[a] -= 1
            second[b] -= 1
    held = set(test)
    return [pair for pair in pairs if pair not in held], test


def make_tasks(pairs: Sequence[tuple[str, str]], count: int, rng: random.Random) -> list[Task]:
    """`count` different tasks over the given pairs of operators (fewer when the pairs do not give as many)."""
    operators = {op.name: op for op in OPERATORS}
    every = [
        (operators[a], operators[b], ka, kb, fold)
        for a, b in pairs
        for ka in (range(2, 7) if operators[a].uses_k else (0,))
        for kb in (range(2, 7) if operators[b].uses_k else (0,))
        for fold in FOLDS
    ]
    rng.shuffle(every)
    # Round-robin over the pairs: operators with numbers have many more tasks and would crowd the others out.
    seen: dict[tuple[str, str], int] = {}
    ranked = []
    for choice in every:
        pair = (choice[0].name, choice[1].name)
        ranked.append((seen.setdefault(pair, 0), choice))
        seen[pair] += 1
    ranked.sort(key=lambda item: item[0])
    return [_make(*choice, rng) for _, choice in ranked[:count]]


def _make(a: Operator, b: Operator, ka: int, kb: int, fold: str, rng: random.Random) -> Task:
    steps = ((a, ka), (b, kb))
    phrase, _, meaning = FOLDS[fold]
    phrases = [op.phrase.format(k=k) for op, k in steps]
    tests = []
    for length in (0, 1, 4, 5, 6, 8)[:CHECKS]:
        xs = [rng.randint(-9, 12) for _ in range(length)]
        tests.append((tuple(xs), meaning(b.apply(a.apply(xs, ka), kb))))
    return Task(
        task_id="-".join([a.name, *[str(ka)] * a.uses_k, b.name, *[str(kb)] * b.uses_k, fold]),
        instruction=f"{phrases[0]}, then {phrases[1]}, then {phrase}.\n",
        programs=_programs(steps, fold),
        tests=tuple(tests),
        pair=(a.name, b.name),
    )


def _programs(steps: Sequence[tuple[Operator, int]], fold: str) -> tuple[str, ...]:
    bodies = [_loops(steps, fold), _comprehensions(steps, fold), _builtins(steps, fold), _fused(steps, fold)]
    texts = [
        "\n".join([f"def {FUNCTION}(xs):", *(f"    {line}" for line in body)]) for body in bodies if body
    ]
    return tuple(dict.fromkeys(texts))


def _running(source: str, target: str) -> list[str]:
    return [
        f"{target} = []",
        "total = 0",
        f"for x in {source}:",
        "    total += x",
        f"    {target}.append(total)",
    ]


def _loops(steps: Sequence[tuple[Operator, int]], fold: str) -> list[str]:
    """One explicit loop per step."""
    lines: list[str] = []
    source = "xs"
    for (op, k), target in zip(steps, ("ys", "zs"), strict=True):
        text, where = op.text.format(k=k), op.where.format(k=k)
        if op.name == "running":
            lines += _running(source, target)
        elif op.kind == "list":
            lines.append(f"{target} = {text.replace('xs', source)}")
        else:
            lines += [f"{target} = []", f"for x in {source}:"]
            if op.kind == "filter":
                lines += [f"    if {text}:", f"        {target}.append(x)"]
            elif op.kind == "map":
                lines.append(f"    {target}.append({text})")
            else:
                lines += [f"    if {where}:", f"        x = {text}", f"    {target}.append(x)"]
        source = target
    return lines + _fold_loop(source, fold)


def _fold_loop(source: str, fold: str) -> list[str]:
    if fold == "sum":
        return ["result = 0", f"for x in {source}:", "    result += x", "return result"]
    if fold == "count":
        return ["result = 0", f"for x in {source}:", "    result += 1", "return result"]
    return [f"return {FOLDS[fold][1].format(xs=source)}"]


def _comprehensions(steps: Sequence[tuple[Operator, int]], fold: str) -> list[str]:
    """One comprehension per step."""
    lines: list[str] = []
    source = "xs"
    for (op, k), target in zip(steps, ("ys", "zs"), strict=True):
        text, where = op.text.format(k=k), op.where.format(k=k)
        if op.name == "running":
            lines.append(f"{target} = [sum({source}[:i + 1]) for i in range(len({source}))]")
        elif op.kind == "list":
            lines.append(f"{target} = {text.replace('xs', source)}")
        elif op.kind == "filter":
            lines.append(f"{target} = [x for x in {source} if {text}]")
        elif op.kind == "map":
            lines.append(f"{target} = [{text} for x in {source}]")
        else:
            lines.append(f"{target} = [{text} if {where} else x for x in {source}]")
        source = target
    return [*lines, f"return {FOLDS[fold][1].format(xs=source)}"]


def _builtins(steps: Sequence[tuple[Operator, int]], fold: str) -> list[str]:
    """`filter`, `map` and list methods that change the list in place."""
    lines: list[str] = ["xs = list(xs)"]
    for op, k in steps:
        text, where = op.text.format(k=k), op.where.format(k=k)
        if op.name == "running":
            lines += ["for i in range(1, len(xs)):", "    xs[i] += xs[i - 1]"]
        elif op.kind == "list":
            in_place = {"reverse": "xs.reverse()", "sort": "xs.sort()", "drop": f"del xs[:{k}]"}
            lines.append(in_place[op.name])
        elif op.kind == "filter":
            lines.append(f"xs = list(filter(lambda x: {text}, xs))")
        elif op.kind == "map":
            lines.append(f"xs = list(map(lambda x: {text}, xs))")
        else:
            lines += ["for i, x in enumerate(xs):", f"    if {where}:", f"        xs[i] = {text}"]
    return [*lines, f"return {FOLDS[fold][1].format(xs='xs')}"]


def _fused(steps: Sequence[tuple[Operator, int]], fold: str) -> list[str]:
    """One loop that does both steps and the fold; only where both steps look at one element at a time."""
    if any(op.kind == "list" for op, _ in steps):
        return []
    start, add = {"sum": ("0", "out += x"), "count": ("0", "out += 1")}.get(fold, ("[]", "out.append(x)"))
    lines, depth = [f"out = {start}", "for x in xs:"], 1
    for op, k in steps:
        text, where = op.text.format(k=k), op.where.format(k=k)
        pad = "    " * depth
        if op.kind == "filter":
            lines.append(f"{pad}if {text}:")
            depth += 1
        elif op.kind == "map":
            lines.append(f"{pad}x = {text}")
        else:
            lines += [f"{pad}if {where}:", f"{pad}    x = {text}"]
    lines.append("    " * depth + add)
    return [
        *lines,
        "return out" if fold in ("sum", "count", "list") else f"return {FOLDS[fold][1].format(xs='out')}",
    ]
