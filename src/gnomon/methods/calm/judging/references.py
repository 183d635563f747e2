"""Judges by reference, as the command line names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.core.llm.references import FORMS, IN_PROCESS
from gnomon.core.llm.roles import asking
from gnomon.core.too_long import TooLong
from gnomon.errors import ModelMismatch
from gnomon.lazy import function
from gnomon.methods.calm.judging.judges import FunctionJudge, Judge, PairwiseJudge, PointwiseJudge
from gnomon.methods.calm.judging.local import LogitJudge, RewardModelJudge
from gnomon.methods.calm.judging.prompts import Prompting, Style, read_template

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.methods.calm.config import Kind


@dataclass(frozen=True)
class JudgeOptions:
    """Prompt and sampling of a judge."""

    style: Style = "brackets"
    """Form of the verdict, see `Prompting`."""
    ties: bool = False
    """Whether a verdict without preference is allowed."""
    template: Path | None = None
    """File of its prompt of a comparison. None: the room's."""
    temperature: float = 0.7
    """Of its answers, or of the choice among letters."""
    max_tokens: int = 1024
    """Longest answer, in tokens."""
    too_long: TooLong = "error"
    """What becomes of trials that a model of this machine cannot read."""

    @property
    def prompting(self) -> Prompting:
        """How trials are put into words; reads the template.

        Raises:
            BadConfig: there is no such style, or the template lacks a placeholder.
        """
        text = None if self.template is None else read_template(self.template)
        return Prompting(self.style, self.ties, text)


def open_judge(
    ref: str,
    kind: Kind = "pairwise",
    options: JudgeOptions | None = None,
    *,
    llm: LLMConfig | None = None,
    folder: Path | None = None,
) -> Judge:
    """The judge that a reference names, for use outside of a run; a verb takes `source_of` and `judge_of`.

    Args:
        ref: a language model as in `gnomon.core.llm.open_llm`; for `logit` and `reward` a folder or hub id, with or without
            `hf:`; for `function` `module:function` or
            `path/to/file.py:function`.
        kind: how it judges.
        options: prompt and sampling; None takes the defaults.
        llm: how a language model is asked.
        folder: where its replies and spending are kept.

    Raises:
        BadConfig: the reference is misspelt.
        ModelMismatch: `logit` or `reward` with an endpoint, which tells no log-probabilities of letters and no rewards.
        UserError: what it names cannot be opened.
    """
    options = options or JudgeOptions()
    models = asking({"judge": source_of(ref, kind, options)}, llm, folder=folder).open()
    concurrency = llm.concurrency if llm is not None else 8
    try:
        return judge_of(models["judge"], kind, options, concurrency=concurrency)
    except BaseException:  # a style or template that is wrong leaves nothing open
        models.close()
        raise


def source_of(
    ref: str,
    kind: Kind = "pairwise",
    options: JudgeOptions | None = None,
) -> str | Callable[[], Judge]:
    """What `run.asking` opens for a judge: a reference of a language model, or a function that opens another judge.

    Args:
        ref: as in `open_judge`.
        kind: how it judges.
        options: of `logit`.

    Raises:
        ModelMismatch: as in `open_judge`.
    """
    if kind == "function":
        return partial(_function, ref)
    if kind in ("logit", "reward"):
        options = options or JudgeOptions()
        prompting = replace(options.prompting, style="token")
        return partial(_local, ref, kind, prompting, options)
    return ref


def judge_of(
    model: Any,
    kind: Kind = "pairwise",
    options: JudgeOptions | None = None,
    *,
    concurrency: int = 8,
) -> Judge:
    """The judge behind what `run.asking` opened: a language model that is asked in words, or a judge as it is.

    Args:
        model: what was opened for `source_of`.
        kind: how it judges.
        options: prompt and sampling; None takes the defaults.
        concurrency: requests under way at once.

    Raises:
        BadConfig: there is no such style.
    """
    if not hasattr(model, "acomplete"):
        judge: Judge = model
        return judge
    options = options or JudgeOptions()
    pairwise = PairwiseJudge(
        model,
        options.prompting,
        temperature=options.temperature,
        max_tokens=options.max_tokens,
        concurrency=concurrency,
    )
    return PointwiseJudge(pairwise) if kind == "pointwise" else pairwise


def _function(ref: str) -> Judge:
    return FunctionJudge(function(ref.removeprefix("script:")), Path(ref).name)


def _local(ref: str, kind: str, prompting: Prompting, options: JudgeOptions) -> Judge:
    scheme = ref.partition(":")[0]
    if scheme in (*FORMS, "https") and scheme not in IN_PROCESS:
        what = "log-probabilities of the letters" if kind == "logit" else "rewards"
        raise ModelMismatch(
            f'Judge "{ref}": an endpoint gives no {what}. The kind {kind} needs a model in this process: a folder or a hub id.'
        )
    ref = ref.removeprefix("hf:")
    if kind == "reward":
        return RewardModelJudge(ref, too_long=options.too_long)
    return LogitJudge(ref, prompting=prompting, temperature=options.temperature, too_long=options.too_long)
