"""Summaries by a language model, without phrases and with those of several arms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gnomon.core.llm import LLM, Reply, Request, ask, complete
from gnomon.core.llm.base import seed_for
from gnomon.core.llm.stack.stored import estimated_tokens
from gnomon.core.rng import Rng
from gnomon.core.text import distinct
from gnomon.errors import BadConfig, BadInput, BudgetSpent, LLMFailure, nearest
from gnomon.methods.sigext.extractor.model import SigExtModel
from gnomon.methods.sigext.phrases.data import Row
from gnomon.methods.sigext.phrases.phrases import Phrase
from gnomon.methods.sigext.phrases.selection import GRANULARITIES, Granularity, as_granularity, select
from gnomon.methods.sigext.summaries.baselines import ARMS, Encoder, rank_phrases
from gnomon.methods.sigext.summaries.prompts import Template, fitted_prompt

TRAINED = ("sigext", "words", "sentences")
"""Arms that need an extractor."""
ALL_ARMS = ("none", "random", *ARMS, "keybert", *TRAINED)


@dataclass(frozen=True)
class Summary:
    """One summary of one document."""

    id: str
    """Of the document."""
    arm: str
    """As in `ALL_ARMS`."""
    k: int
    """Phrases allowed, at most; 0 for the arm none."""
    phrases: tuple[Phrase, ...]
    """Phrases shown, in their order."""
    text: str
    """The summary; empty when there is none."""
    fault: str | None
    """Why there is no summary: an error's kind, refusal, budget, empty. None: there is one."""
    is_cut: bool
    """Whether the document had to be cut for the prompt."""
    is_truncated: bool = False
    """Whether the summary ended at its longest length."""

    @property
    def name(self) -> str:
        """Arm and number of phrases, as charts and tables name them."""
        return self.arm if self.arm == "none" else f"{self.arm}, K={self.k}"

    def as_record(self, row: Row) -> dict[str, Any]:
        """A line of `predictions.jsonl`: the summary with its document and reference."""
        return {
            "id": self.id,
            "arm": self.arm,
            "k": self.k,
            "document": row.document,
            "summary": row.summary,
            "phrases": [{"text": p.text, "start": p.start, "end": p.end} for p in self.phrases],
            "prediction": self.text,
            "fault": self.fault,
            "document_cut": self.is_cut,
            "summary_cut": self.is_truncated,
        }


@dataclass(frozen=True)
class Sampling:
    """Sampling of summaries."""

    max_tokens: int = 512
    temperature: float = 1.0
    top_p: float = 0.8
    seed: int = 0


class Hints:
    """The phrases of every arm for the same documents; what is costly is computed once.

    Args:
        rows: documents with candidates.
        extractor: for the arms `TRAINED`.
        encoder: for the arm `keybert`: a folder or hub id.
        language: of stop words and stems.
        rng: where the arm `random` draws.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        extractor: SigExtModel | None = None,
        *,
        encoder: str | None = None,
        language: str = "english",
        rng: Rng | None = None,
    ):
        self.rows, self.extractor, self.encoder, self.language = rows, extractor, encoder, language
        self.rng = rng or Rng(0)
        self._ranked: dict[str, list[list[Phrase]]] = {}
        self._scores: list[list[float]] | None = None

    @property
    def scores(self) -> list[list[float]]:
        """The extractor's scores of all phrases.

        Raises:
            BadConfig: there is no extractor.
        """
        if self.extractor is None:
            raise BadConfig(f"The arms {', '.join(TRAINED)} need an extractor. Name one with --extractor.")
        if self._scores is None:
            self._scores = self.extractor.score_rows(self.rows)
        return self._scores

    def of(self, arm: str, k: int, *, tau: float | None = None) -> list[list[Phrase]]:
        """The phrases shown for each document.

        Args:
            arm: one of `ALL_ARMS`.
            k: how many at most.
            tau: the extractor's lowest score; None: its own threshold.

        Raises:
            BadConfig: there is no such arm, or it lacks its model.
        """
        if arm not in ALL_ARMS:
            raise BadConfig(f'There is no arm "{arm}". {nearest(arm, ALL_ARMS)}')
        if arm == "none":
            return [[] for _ in self.rows]
        if arm not in TRAINED:
            return [
                [ranked[i] for i in distinct([p.text for p in ranked], k)] for ranked in self._rankings(arm)
            ]
        scores = self.scores
        low = self.extractor.settings.tau if tau is None else tau  # type: ignore[union-attr]
        granularity: Granularity = next((name for name in GRANULARITIES if name == arm), "phrases")
        shown = []
        for row, values in zip(self.rows, scores, strict=True):
            kept = select(row.phrases, values, k, tau=low)
            shown.append(
                as_granularity(row.document, row.phrases, values, kept, granularity, language=self.language)
            )
        return shown

    def _rankings(self, arm: str) -> list[list[Phrase]]:
        if arm not in self._ranked:
            if arm == "keybert":
                if self.encoder is None:
                    raise BadConfig("The arm keybert needs a text encoder. Name one with --encoder.")
                self._ranked[arm] = Encoder(self.encoder).rank(self.rows)
            else:
                self._ranked[arm] = rank_phrases(arm, self.rows, language=self.language, rng=self.rng)
        return self._ranked[arm]


def summarise(
    rows: Sequence[Row],
    hints: Mapping[tuple[str, int], Sequence[Sequence[Phrase]]],
    llm: LLM,
    template: Template,
    sampling: Sampling | None = None,
    *,
    context_tokens: int | None = None,
    count: Callable[[str], int] = estimated_tokens,
    concurrency: int = 8,
) -> list[Summary]:
    """A summary of every document for every arm; all requests go out together.

    Args:
        rows: documents.
        hints: arm and K -> the phrases shown for each document.
        llm: who writes.
        template: the request.
        sampling: how.
        context_tokens: longest prompt; None: no limit.
        count: tokens of a text.
        concurrency: requests under way at once.

    Returns:
        Summaries by arm, then by document. One that was not written says why.

    Raises:
        BudgetSpent: the budget had no room for all of them.
        LLMFailure: nothing was written for any document.
    """
    sampling = sampling or Sampling()
    requests: list[Request] = []
    sources: list[tuple[tuple[str, int], Row, Sequence[Phrase], bool]] = []
    for arm, chosen in hints.items():
        for row, phrases in zip(rows, chosen, strict=True):
            prompt, is_cut = fitted_prompt(row.document, phrases, template, limit=context_tokens, count=count)
            requests.append(
                ask(
                    prompt,
                    max_tokens=sampling.max_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=seed_for(llm, sampling.seed),
                )
            )
            sources.append((arm, row, phrases, is_cut))
    replies = complete(llm, requests, concurrency=concurrency)
    if unasked := [reply for reply in replies if reply.finish == "budget"]:
        raise BudgetSpent(
            f"{unasked[0].error} {len(unasked)} of {len(replies)} summaries were not asked for. "
            "Repeat the command: what was answered is kept and not paid for again."
        )
    if replies and all(reply.error is not None or reply.finish == "refusal" for reply in replies):
        raise LLMFailure(f"{llm.name} wrote no summary. {replies[0].error or 'It refused every request.'}")
    return [
        Summary(
            row.id,
            arm,
            k,
            tuple(phrases),
            "" if fault_of(reply) else reply.text.strip(),
            fault_of(reply),
            is_cut,
            reply.finish == "length",
        )
        for ((arm, k), row, phrases, is_cut), reply in zip(sources, replies, strict=True)
    ]


def fault_of(reply: Reply) -> str | None:
    """Why a reply holds no summary; None when it holds one."""
    if reply.finish in ("refusal", "budget"):
        return str(reply.finish)
    if reply.error is not None:
        return str(reply.fault or "failed")
    return None if reply.text.strip() else "empty"


def pair_up(rows: Sequence[Row], summaries: Sequence[Summary]) -> dict[str, dict[str, Summary]]:
    """Summaries by their name, then by document; only documents that every arm has a summary of.

    Raises:
        BadInput: no document has a summary in every arm.
    """
    arms: dict[str, dict[str, Summary]] = {}
    for summary in summaries:
        arms.setdefault(summary.name, {})[summary.id] = summary
    whole = [
        row.id for row in rows if all(arm.get(row.id) and arm[row.id].fault is None for arm in arms.values())
    ]
    if not whole:
        faults = sorted({str(summary.fault) for summary in summaries if summary.fault})
        raise BadInput(f"No document has a summary in every arm (faults: {', '.join(faults) or 'none'}).")
    return {name: {key: arm[key] for key in whole} for name, arm in arms.items()}
