"""Judges by reference, as the command line names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gnomon.errors import ModelMismatch
from gnomon.methods.calm.judges import FunctionJudge, Judge, PairwiseJudge, PointwiseJudge
from gnomon.methods.calm.prompting import Prompting, read_template

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.methods.calm.config import Kind


def open_judge(
    ref: str,
    kind: Kind = "pairwise",
    *,
    style: str = "brackets",
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    llm: LLMConfig | None = None,
    folder: Path | None = None,
) -> Judge:
    """The judge that a reference names, for use outside of a run; a verb takes `source_of` and `judge_of`.

    Args:
        ref: a language model as in `gnomon.core.llm.open_llm`; for `logit` and `reward` a folder or hub id, with or without
            `hf:`; for `function` `module:function` or
            `path/to/file.py:function`.
        kind: how it judges.
        style: how its verdicts are written.
        ties: whether it may prefer none.
        template: file of its prompt.
        temperature: of its answers, or of the choice among letters.
        max_tokens: longest answer.
        llm: how a language model is asked.
        folder: where its replies and spending are remembered.

    Raises:
        BadConfig: the reference is misspelt.
        ModelMismatch: `logit` or `reward` with an endpoint, which tells no log-probabilities of letters and no rewards.
        UserError: what it names cannot be opened.
    """
    from gnomon.core.llm.roles import asking

    source = source_of(ref, kind, ties=ties, template=template, temperature=temperature)
    models = asking({"judge": source}, llm, folder=folder).open()
    concurrency = llm.concurrency if llm is not None else 8
    options: dict[str, Any] = {"style": style, "ties": ties, "template": template, "temperature": temperature}
    try:
        return judge_of(models["judge"], kind, **options, max_tokens=max_tokens, concurrency=concurrency)
    except BaseException:  # a style or template that is wrong leaves nothing open
        models.close()
        raise


def source_of(
    ref: str,
    kind: Kind = "pairwise",
    *,
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
) -> str | Callable[[], Judge]:
    """What `run.asking` opens for a judge: the reference of a language model, or a function that opens another kind of judge.

    Args:
        ref: as in `open_judge`, and so are the others.
        kind: how it judges.
        ties: of `logit`.
        template: of `logit`.
        temperature: of `logit`.

    Raises:
        ModelMismatch: as in `open_judge`.
    """
    if kind == "function":
        return partial(_function, ref)
    if kind in ("logit", "reward"):
        text = None if template is None else read_template(template)
        return partial(_local, ref, kind, Prompting("token", ties, text), temperature)
    return ref


def judge_of(
    model: Any,
    kind: Kind = "pairwise",
    *,
    style: str = "brackets",
    ties: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
    max_tokens: int = 1024,
    concurrency: int = 8,
) -> Judge:
    """The judge behind what `run.asking` opened: a language model that is asked in words, or a judge as it is.

    Args:
        model: what was opened for `source_of`.
        kind: as in `open_judge`, and so are the others.
        style: how its verdicts are written.
        ties: whether it may prefer none.
        template: file of its prompt.
        temperature: of its answers.
        max_tokens: longest answer.
        concurrency: requests under way at once.

    Raises:
        BadConfig: there is no such style.
    """
    if not hasattr(model, "acomplete"):
        judge: Judge = model
        return judge
    text = None if template is None else read_template(template)
    prompting = Prompting(style, ties, text)  # type: ignore[arg-type]
    pairwise = PairwiseJudge(
        model, prompting, temperature=temperature, max_tokens=max_tokens, concurrency=concurrency
    )
    return PointwiseJudge(pairwise) if kind == "pointwise" else pairwise


def _function(ref: str) -> Judge:
    from gnomon.lazy import function

    return FunctionJudge(function(ref.removeprefix("script:")), Path(ref).name)


def _local(ref: str, kind: str, prompting: Prompting, temperature: float) -> Judge:
    from gnomon.core.llm.references import FORMS

    scheme = ref.partition(":")[0]
    if scheme in (*FORMS, "https") and scheme != "hf":
        what = "log-probabilities of the letters" if kind == "logit" else "rewards"
        raise ModelMismatch(
            f'Judge "{ref}": an endpoint gives no {what}. The kind {kind} needs a model in this process: a folder or a hub id.'
        )
    from gnomon.methods.calm.local_judges import LogitJudge, RewardModelJudge

    ref = ref.removeprefix("hf:")
    if kind == "reward":
        return RewardModelJudge(ref)
    return LogitJudge(ref, prompting=prompting, temperature=temperature)
