"""Judges by reference, as the command line names them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gnomon.errors import ModelMismatch
from gnomon.methods.calm.judges import FunctionJudge, Judge, PairwiseJudge, PointwiseJudge
from gnomon.methods.calm.prompting import Prompting, read_template

if TYPE_CHECKING:
    from gnomon.core.llm.config import LLMConfig
    from gnomon.core.llm.stack.meter import Meter
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
    meter: Meter | None = None,
) -> Judge:
    """The judge that a reference names.

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
        meter: counts them.

    Raises:
        BadConfig: the reference is misspelt.
        ModelMismatch: `logit` or `reward` with an endpoint, which tells no log-probabilities of letters and no rewards.
        UserError: what it names cannot be opened.
    """
    text = None if template is None else read_template(template)
    if kind == "function":
        from gnomon.lazy import function

        return FunctionJudge(function(ref.removeprefix("script:")), Path(ref).name)
    if kind in ("logit", "reward"):
        return _local(ref, kind, Prompting("token", ties, text), temperature)
    from gnomon.core.llm import connect

    prompting = Prompting(style, ties, text)  # type: ignore[arg-type]
    judge = PairwiseJudge(
        connect(ref, llm, folder=folder, meter=meter),
        prompting,
        temperature=temperature,
        max_tokens=max_tokens,
        concurrency=llm.concurrency if llm is not None else 8,
    )
    return PointwiseJudge(judge) if kind == "pointwise" else judge


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
