"""References of judges: a language model, a rule, people's labels or a classifier, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.references import FORMS
from gnomon.errors import BadConfig, nearest
from gnomon.lazy import function
from gnomon.methods.sieve.judging.client import ClassifierJudge, JudgeClient
from gnomon.methods.sieve.judging.filters import Filter
from gnomon.methods.sieve.judging.judges import Judge, LocalJudge
from gnomon.methods.sieve.judging.labels import HumanLabels

OWN_FORMS = {
    "rule": "rule:module:function or rule:path/to/file.py:function, a function of the text",
    "labels": "labels:FILE, labels that people gave (CSV or JSONL)",
    "classifier": "classifier:FOLDER_OR_HUB_ID, a sequence classifier of two classes",
}
"""Scheme -> how a reference is written, for the judges that are no language model."""


def open_judge(
    ref: str,
    chosen: Filter,
    config: LLMConfig | None = None,
    *,
    folder: Path | None = None,
    temperature: float = 0.0,
    draw: int = 0,
) -> Judge:
    """The judge that a reference names, for use outside of a run; a verb takes `source_of` and `judge_of`.

    Args:
        ref: one of `OWN_FORMS`, or a language model as in `gnomon.core.llm.open_llm`.
        chosen: the filter; only language models read it.
        config: how a language model is asked, and what it may cost.
        folder: where a language model's replies and spending are remembered.
        temperature: of a language model's answers.
        draw: which of several opinions of a language model; see `JudgeClient`.

    Raises:
        BadConfig: the reference is misspelt.
        UserError: what it names cannot be opened.
    """
    source = source_of(ref)
    if not isinstance(source, str):
        return source()
    return JudgeClient(source, chosen, config, folder=folder, temperature=temperature, draw=draw)


def source_of(ref: str) -> str | Callable[[], Judge]:
    """What `run.asking` opens for a judge: the reference of a language model, or a function that opens another kind of judge.

    Raises:
        BadConfig: the reference is misspelt.
    """
    scheme, _, rest = ref.partition(":")
    if scheme in OWN_FORMS:
        if not rest:
            raise BadConfig(f'Judge "{ref}" names nothing. Write {OWN_FORMS[scheme]}.')
        return partial(_OPENERS[scheme], rest, ref)
    llm_forms = FORMS | {"https": FORMS["http"]}
    if scheme not in llm_forms:
        ways = "; ".join((*OWN_FORMS.values(), *FORMS.values()))
        raise BadConfig(
            f'Judge "{ref}" is not known. {nearest(scheme, OWN_FORMS | llm_forms)} A judge is {ways}.'
        )
    return ref


def judge_of(
    model: Any,
    chosen: Filter,
    config: LLMConfig | None = None,
    *,
    temperature: float = 0.0,
    draw: int = 0,
) -> Judge:
    """The judge behind what `run.asking` opened: a language model that reads the filter, or a judge as it is.

    Args:
        model: what was opened for `source_of`.
        chosen: the filter.
        config: as in `open_judge`.
        temperature: as in `open_judge`.
        draw: as in `open_judge`.
    """
    if hasattr(model, "ajudge"):
        judge: Judge = model
        return judge
    return JudgeClient(model, chosen, config, temperature=temperature, draw=draw)


_OPENERS: dict[str, Callable[[str, str], Judge]] = {
    "rule": lambda rest, ref: LocalJudge(function(rest), ref),
    "labels": lambda rest, ref: HumanLabels(Path(rest), ref),
    "classifier": ClassifierJudge,
}
"""Scheme -> from the rest of a reference, and the whole of it as the judge's name, to a judge."""
