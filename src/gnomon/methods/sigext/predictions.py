"""Summaries from files, and summaries as the judge of a number of phrases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core import records
from gnomon.errors import BadInput
from gnomon.methods.sigext.phrases import Phrase
from gnomon.methods.sigext.rows import Columns, Reading, Row, to_row
from gnomon.methods.sigext.summarising import Sampling, Summary, room_of, summarise

if TYPE_CHECKING:
    from gnomon.core.llm import LLM
    from gnomon.methods.sigext.config import TuneK
    from gnomon.methods.sigext.tuning import Judge


def read_predictions(source: str, reading: Reading) -> tuple[list[Row], list[Summary]]:
    """Documents with references, and the summaries of them; a row without `arm` is of the arm "given".

    Raises:
        BadInput: a column is missing or of another type, or one arm has two summaries of a document.
    """
    rows: dict[str, Row] = {}
    made: dict[tuple[str, str], Summary] = {}
    for where, raw in records.read_raw(source):
        row = to_row(raw, reading, Columns(), where)
        text = raw.get("prediction")
        if not isinstance(text, str):
            raise BadInput(
                f'{where}: field "prediction" is missing or no string. It holds the summary that is measured.'
            )
        try:
            phrases = tuple(Phrase(p["text"], p["start"], p["end"]) for p in raw.get("phrases") or ())
            k = int(raw.get("k") or 0)
        except (KeyError, TypeError, ValueError):
            raise BadInput(f'{where}: a phrase has "text", "start" and "end", and "k" is a number.') from None
        fault = raw.get("fault") or (None if text.strip() else "empty")
        arm = str(raw.get("arm") or "given")
        one = Summary(
            row.id, arm, k, phrases, text, fault, bool(raw.get("document_cut")), bool(raw.get("summary_cut"))
        )
        if (one.name, one.id) in made:
            raise BadInput(f'{where}: "{one.id}" has a summary of the arm {one.name} already.')
        made[one.name, one.id] = one
        rows.setdefault(row.id, row)
    if not rows:
        raise BadInput(f"{source} holds no rows.")
    return list(rows.values()), list(made.values())


def summary_judge(rows: Sequence[Row], llm: LLM, cfg: TuneK, seed: int, language: str) -> Judge:
    """Measures phrases by the ROUGE-1 of the summaries that a language model writes with them."""
    from gnomon.methods.sigext.evaluation import evaluate
    from gnomon.methods.sigext.prompting import load_template

    template = load_template(cfg.template)
    limit, count = room_of(llm, cfg.max_tokens)
    sampling = Sampling(cfg.max_tokens, cfg.temperature, cfg.top_p, seed)

    def judge(k: int, _: float, shown: list[list[Phrase]]) -> tuple[float, float, float] | None:
        made = summarise(
            rows,
            {("sigext", k): shown},
            llm,
            template,
            sampling,
            context_tokens=limit,
            count=count,
            concurrency=cfg.asking.concurrency,
        )
        if all(one.fault for one in made):
            return None
        arm: Any = next(iter(evaluate(rows, made, language=language).arms.values()))
        return tuple(arm.mean(f"ROUGE-1 {what}") for what in ("precision", "recall", "F"))

    return judge
