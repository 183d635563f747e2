"""Models as judges: a language model, or any sequence classifier of two classes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gnomon.core.llm.base import LLM, Reply, Request, chooses, is_simulated
from gnomon.core.llm.config import LLMConfig
from gnomon.core.llm.roles import asking
from gnomon.core.llm.stack.budget import Prices
from gnomon.core.llm.stack.many import acomplete_many
from gnomon.core.models import load_scorer, load_tokenizer
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.judging.filters import LONG, VERDICTS, Filter, Style, read_verdict, request_of
from gnomon.methods.sieve.judging.judges import JudgingStopped, Verdict

REPEATS = 2
"""Further requests for a snippet when the answer holds no verdict."""

LONGEST = {"cot": 1024, "direct": 16, "json": 1024}
"""Tokens of an answer, at most, for each style."""


class JudgeClient:
    """A language model that reads the filter and judges by it, many snippets at once.

    Args:
        llm: a model that `run.asking` opened; or, for use outside of a run, a reference or any open model, which is then asked
            through an opening of the judge's own.
        chosen: the filter.
        config: concurrency, attempts, prices and limits; None takes the defaults.
        folder: where replies and spending are remembered, over several runs; None remembers nothing.
        temperature: 0 for the likeliest verdict; above 0 each draw is another opinion.
        draw: number of the opinion; with a temperature above 0, two judges of different `draw` show the judge's self-consistency.

    Raises:
        UserError: as in `gnomon.core.llm.asking`.
    """

    def __init__(
        self,
        llm: str | LLM,
        chosen: Filter,
        config: LLMConfig | None = None,
        *,
        folder: Path | None = None,
        temperature: float = 0.0,
        draw: int = 0,
    ) -> None:
        config = config or LLMConfig()
        self._models = asking({"judge": llm}, config, folder=folder).open()
        self.llm = self._models["judge"]
        self.filter = chosen
        self.name = self.llm.name
        self.is_simulated = is_simulated(self.llm)
        self.concurrency = config.concurrency
        self.prices = Prices.of(config.price_in, config.price_out)
        self._base = Request((), temperature=temperature, max_tokens=LONGEST[chosen.style])
        self._first_draw = draw * (REPEATS + 1)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, in order; one without a verdict after the repeats has label None and the reason.

        Raises:
            JudgingStopped: the budget ended, or too many requests failed; the verdicts so far are with it.
            EndpointDown: the first requests show that none will be answered.
        """
        replies: list[list[Reply]] = [[] for _ in snippets]
        labels: list[tuple[int | None, str | None]] = [(None, None)] * len(snippets)
        open_, refusal = list(range(len(snippets))), ""
        for draw in range(self._first_draw, self._first_draw + REPEATS + 1):
            form, base = self._form(draw)
            requests = [request_of(snippets[i].text, form, base=base, draw=draw) for i in open_]
            heard_now = await acomplete_many(
                self.llm,
                requests,
                concurrency=self.concurrency,
                is_readable=partial(_is_readable, form.style),
            )
            for i, reply in zip(open_, heard_now, strict=True):
                if reply.finish == "budget" or reply.fault == "stopped":  # it was not asked
                    refusal = reply.error or "The budget is spent."
                else:
                    replies[i].append(reply)
                    labels[i] = read_verdict(reply, form.style)
            # A snippet that is too long is so in every draw.
            open_ = [i for i in open_ if labels[i][0] is None and labels[i][1] != LONG]
            if refusal or not open_:
                break
        verdicts = [
            self._verdict(*label, heard) if heard else None
            for label, heard in zip(labels, replies, strict=True)
        ]
        if refusal and not all(verdicts):
            raise JudgingStopped(refusal, verdicts)
        return [verdict for verdict in verdicts if verdict is not None]

    def _form(self, draw: int) -> tuple[Filter, Request]:
        """How a draw asks: as the filter says; or for one of the two words, where the model can be held to them.

        A model in this process would give the same answer again at temperature 0, so its repeats ask for the verdict alone: the
        likelier word.
        """
        if chooses(self.llm) and (self.filter.style == "direct" or draw > self._first_draw):
            return replace(self.filter, style="direct"), replace(self._base, choices=VERDICTS)
        return self.filter, self._base

    async def aclose(self) -> None:
        """Close what the judge opened itself."""
        await self._models.aclose()

    def _verdict(self, label: int | None, problem: str | None, heard: list[Reply]) -> Verdict:
        paid = [reply.usage for reply in heard if reply.error is None]
        return Verdict(
            label,
            heard[-1].text,
            None if self.prices is None else sum(self.prices.usd(usage) for usage in paid),
            sum(usage.tokens_in for usage in paid),
            sum(usage.tokens_out for usage in paid),
            self.name,
            all(reply.cached for reply in heard),
            problem,
        )


def _is_readable(style: Style, _: int, reply: Reply) -> bool:
    return read_verdict(reply, style)[0] is not None


# A classifier.

BATCH = 32
"""Snippets that are classified together."""


class ClassifierJudge:
    """A sequence classifier as the judge; a probability of at least 0.5 passes.

    Args:
        ref: a folder or a hub id; its second class, or its only output, means pass.
        name: in reports.

    Raises:
        BadInput: nothing is there, or it has no safetensors weights.
        ModelMismatch: it has more than two classes, or no head.
    """

    def __init__(self, ref: str, name: str | None = None) -> None:
        self.name = name or f"classifier:{ref}"
        self.is_simulated = False
        self._model: Any = load_scorer(ref, asked_by="a judge", most_labels=2)
        self._tokenizer = load_tokenizer(ref)

    async def ajudge(self, snippets: Sequence[Snippet]) -> list[Verdict]:
        """A verdict for each snippet, in order, from a thread of its own."""
        passes = await asyncio.to_thread(self.probabilities, [snippet.text for snippet in snippets])
        return [Verdict(int(p >= 0.5), f"{p:.4f}", model=self.name) for p in passes]

    def probabilities(self, texts: Sequence[str]) -> list[float]:
        """Probability that each text passes, in order."""
        import torch

        probabilities: list[float] = []
        # Some tokenizers give a number without meaning, such as 1e30.
        longest = min(self._tokenizer.model_max_length, 100_000)
        for start in range(0, len(texts), BATCH):
            batch = self._tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=longest < 100_000,
                max_length=longest if longest < 100_000 else None,
                return_tensors="pt",
            ).to(self._model.device)
            with torch.inference_mode():
                logits = self._model(**batch).logits.float()  # [B, 1] or [B, 2]
            passes = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, 1]
            probabilities += passes.tolist()
        return probabilities
