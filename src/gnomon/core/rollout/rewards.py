"""Rewards of what a policy wrote: by number, text, tests, a scorer, a judge, or a user's function, all called in one way."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnomon.core.rollout.suites import graded, strip_markdown
from gnomon.core.rollout.tasks import Task
from gnomon.core.text.matching import answered_number, spans_of, value_of
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.lazy import function

if TYPE_CHECKING:
    from gnomon.core.llm.base import LLM
    from gnomon.core.models.load.config import LoadConfig
    from gnomon.core.sandbox import SandboxPool


@dataclass(frozen=True)
class Sample:
    """What a policy wrote for a task."""

    task: Task
    completion: str
    logprobs: tuple[float, ...] = ()
    """Of its tokens, under the policy."""
    finish: str = ""
    """Why it ended: eos, stop, watch or length."""


Grader = Callable[[Sequence[Sample]], Sequence[float]]
Form = Callable[[str], Hashable]


@dataclass(frozen=True)
class Reward:
    """A number for each of several samples, in their order; higher is better."""

    name: str
    """The reference it was opened by."""
    grade: Grader
    form: Form = str.strip
    """Completion -> what is the same for answers that say the same, to count votes by; None where it answers nothing."""

    def __call__(self, samples: Sequence[Sample]) -> Sequence[float]:
        """The rewards, as they come; `score` checks them."""
        return self.grade(samples)


def score(samples: Sequence[Sample], reward: Grader) -> list[float]:
    """The reward of each sample, in the order of the samples.

    Args:
        samples: what was written.
        reward: an opened `Reward`, or any function from samples to as many numbers.

    Raises:
        BadInput: a reward is missing or not finite; the message names the sample and its task.
    """
    values = list(reward(samples)) if samples else []
    if len(values) != len(samples):
        raise BadInput(
            f"The reward gave {len(values)} numbers for {len(samples)} samples; it must give one for each, in order."
        )
    rewards = []
    for i, (value, sample) in enumerate(zip(values, samples, strict=True)):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise BadInput(
                f'The reward of sample {i} (task "{sample.task.id}") is {value!r}; wanted a finite number.'
            )
        rewards.append(number)
    return rewards


def open_reward(
    ref: str,
    *,
    llm: LLM | None = None,
    pool: SandboxPool | None = None,
    load: LoadConfig | None = None,
    batch_size: int = 16,
    concurrency: int = 8,
) -> Reward:
    """The reward behind a reference.

    Args:
        ref: `number` (by value: 0.5, .50 and 1/2 are one), `exact`, `contains`, `regex:PATTERN`, `tests` (1 where all pass),
            `tests:graded` (`Grade.reward`), `scorer:MODEL`, `judge:LLM`, `rule:module:function` or `rule:path.py:function`.
        llm: the judge behind `judge:LLM`, which a run opens through `run.asking`.
        pool: where programs run, for `tests`; lives as long as the run.
        load: how a scorer is loaded.
        batch_size: samples that a scorer reads side by side.
        concurrency: requests to a judge under way at once.

    Raises:
        BadConfig: there is no such reward, or what it needs is not there.
        BadInput: there is no such function, pattern or model.
        ModelMismatch: the model is no scorer.
    """
    kind, _, rest = ref.partition(":")
    if kind in _BY_TEXT and not rest:
        test, form = _BY_TEXT[kind]
        return Reward(ref, lambda samples: [float(test(s.completion, _reference(s))) for s in samples], form)
    if kind == "regex" and rest:
        try:
            pattern = re.compile(rest)
        except re.error as error:
            raise BadInput(f'"{rest}" is no regular expression: {error}.') from None
        return Reward(ref, lambda samples: [float(pattern.search(s.completion) is not None) for s in samples])
    if kind == "tests" and rest in ("", "graded"):
        if pool is None:
            raise BadConfig(f'The reward "{ref}" runs programs and needs a sandbox pool.')
        return Reward(ref, lambda samples: _tested(samples, pool, by_test=rest == "graded"), strip_markdown)
    if kind == "rule" and rest:
        return Reward(ref, by_rule(load_rule(ref)))
    if kind == "scorer" and rest:
        return Reward(ref, _scorer(rest, load, batch_size))
    if kind == "judge":
        if llm is None:
            raise BadConfig(f'The reward "{ref}" asks a language model, which was not opened.')
        return Reward(ref, lambda samples: _judged(samples, llm, concurrency))
    kinds = (*_BY_TEXT, "regex", "tests", "scorer", "judge", "rule")
    raise BadConfig(
        f'There is no reward "{ref}". {nearest(kind, kinds)} Rewards are number, exact, contains, regex:PATTERN, tests, '
        "tests:graded, scorer:MODEL, judge:LLM, rule:module:function and rule:path.py:function."
    )


def load_rule(ref: str) -> Callable[..., object]:
    """The function behind `rule:module:function` or `rule:path/to/file.py:function`.

    Raises:
        BadConfig: the reference is written in another way.
        BadInput: there is no such module or function.
    """
    kind, _, rest = ref.partition(":")
    if kind != "rule":
        raise BadConfig(f'"{ref}" must be written rule:module:function or rule:path/to/file.py:function.')
    return function(rest)


def by_rule(rule: Callable[..., Any]) -> Grader:
    """A user's function `f(prompts, completions, **columns)` as a reward.

    Columns are lists in the order of the samples: `reference`, `id` and all that the tasks' rows had beside, None where a row has
    none. A function without `**` gets those that it names. One whose first parameter is called `samples` gets the samples.

    Args:
        rule: gives as many numbers as there are samples.
    """
    named = inspect.signature(rule).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in named.values())

    def grade(samples: Sequence[Sample]) -> Sequence[float]:
        if next(iter(named), None) == "samples":
            values: Sequence[float] = rule(samples)
            return values
        names = dict.fromkeys(["reference", "id", *(key for s in samples for key in s.task.meta)])
        columns: dict[str, Any] = {}
        for name in names:
            if takes_all or name in list(named)[2:]:
                columns[name] = [_column(sample.task, name) for sample in samples]
        missing = [
            name
            for name, parameter in list(named.items())[2:]
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            and name not in columns
        ]
        if missing:
            raise BadInput(f'The rule asks for the column "{missing[0]}". {nearest(missing[0], names)}')
        return rule([s.task.text for s in samples], [s.completion for s in samples], **columns)

    return grade


def _column(task: Task, name: str) -> Any:
    return {"reference": task.reference, "id": task.id}.get(name) or task.meta.get(name)


def _reference(sample: Sample) -> str:
    if sample.task.reference is None:
        raise BadInput(f'Task "{sample.task.id}" has no reference to compare with.')
    return sample.task.reference


def _same_number(completion: str, reference: str) -> bool:
    wanted = value_of(reference)
    if wanted is None:
        wanted = answered_number(reference)
    if wanted is None:
        raise BadInput(f'The reference "{reference[:60]}" holds no number.')
    return answered_number(completion) == wanted


_BY_TEXT: dict[str, tuple[Callable[[str, str], bool], Form]] = {
    "number": (_same_number, answered_number),
    "exact": (lambda completion, reference: completion.strip() == reference.strip(), str.strip),
    "contains": (lambda completion, reference: bool(spans_of(reference, completion)), str.strip),
}
"""Name -> whether a completion meets a reference, and the normal form of a completion."""


def _tested(samples: Sequence[Sample], pool: SandboxPool, *, by_test: bool) -> list[float]:
    problems = []
    for sample in samples:
        if sample.task.tests is None:
            raise BadInput(f'Task "{sample.task.id}" has no tests to run an answer with.')
        problems.append(sample.task.tests)
    if by_test:
        return [grade.reward for grade in graded(problems, [s.completion for s in samples], pool)]
    scripts = [problem.script(s.completion) for problem, s in zip(problems, samples, strict=True)]
    return [float(outcome.passed) for outcome in pool.map(scripts)]


def _scorer(ref: str, load: LoadConfig | None, batch_size: int) -> Grader:
    from gnomon.core.models import load_scorer, load_tokenizer
    from gnomon.core.models.sampling.likelihood import score_rows
    from gnomon.core.rollout.chats import answer_ids

    model, tokenizer = load_scorer(ref, load, asked_by="a reward"), load_tokenizer(ref, load)

    def grade(samples: Sequence[Sample]) -> list[float]:
        rows = [answer_ids(s.task, s.completion, tokenizer) for s in samples]
        return score_rows(model, tokenizer, rows, batch_size=batch_size)

    return grade


def _judged(samples: Sequence[Sample], llm: LLM, concurrency: int) -> list[float]:
    from gnomon.core.rollout.judging import judged

    return judged(
        [(s.task.id, s.task.text, s.completion, s.task.reference) for s in samples], llm, concurrency
    )
