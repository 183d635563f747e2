"""Answers from long contexts: the retriever's passages as far as they fit any LLM's window, with sources, doubt and abstention."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gnomon.core.files import room_file
from gnomon.core.llm import LLM, ask, complete
from gnomon.core.llm.base import seed_for
from gnomon.core.llm.stack.stored import room_of
from gnomon.core.retrieval.answers import Answer, Confidence
from gnomon.core.retrieval.fusion import Search
from gnomon.core.retrieval.hits import Hit
from gnomon.core.retrieval.rerankers import Gain
from gnomon.errors import BadConfig, BadInput
from gnomon.methods.uncertainty_rag.answering.context import Context, Order, Shown, pack, with_citations

PASSAGES, QUESTION = "<passages>", "<question>"
BUDGET = 4096
"""Tokens of a prompt where neither the user nor the model names a limit."""

_UNKNOWN = re.compile(r"\bI do(?:n['\u2019]t| not) know\b", re.IGNORECASE)


@dataclass(frozen=True)
class Asking:
    """How questions are put."""

    k: int = 50
    """Passages taken from the search, at most."""
    budget: int | None = None
    """Tokens of the prompt; None: what a model of this process reads, else 4,096."""
    order: Order = "document"
    """Of the passages in the prompt."""
    max_tokens: int = 64
    """Longest answer."""
    template: str = "answer"
    """answer, or a file with <passages> and <question>."""
    abstain_below: float = 0.0
    """Answers less likely to be right are withheld; needs a fitted confidence."""
    seed: int = 0
    """Of models that draw."""


class LongContextRAG:
    """Answers questions over an index of passages with any language model.

    Args:
        search: finds passages.
        llm: writes answers; it is not trained for this, and its window is filled as far as it goes.
        asking: how.
        gain: measures what the passages tell about a question, one more signal of confidence; None: without it.
        confidence: fitted on a labelled sample; None: answers have raw signals and no probability.

    Raises:
        BadConfig: abstention without a confidence, or the template lacks a slot.
    """

    def __init__(
        self,
        search: Search,
        llm: LLM,
        asking: Asking | None = None,
        *,
        gain: Gain | None = None,
        confidence: Confidence | None = None,
    ):
        self.search, self.llm, self.asking = search, llm, asking or Asking()
        self.gain, self.confidence = gain, confidence
        if self.asking.abstain_below and confidence is None:
            raise BadConfig(
                "--abstain-below is about a probability, and there is none without a labelled sample. "
                "Name one with --confidence, see `gnomon uncertainty-rag eval`."
            )
        self.template = load_template(self.asking.template)
        limit, self.count = room_of(llm, self.asking.max_tokens)
        self.budget = self.asking.budget or limit or BUDGET
        if limit is not None and self.budget > limit:
            raise BadConfig(f"--budget is {self.budget} tokens and the model has room for {limit}.")

    def prompt(self, question: str, shown: Sequence[Shown]) -> str:
        """The prompt with these passages, numbered from 1."""
        passages = "\n\n".join(f"[{n}] {passage.text}" for n, passage in enumerate(shown, 1))
        return filled(self.template, {PASSAGES: passages, QUESTION: question})

    def context(self, question: str) -> tuple[list[Hit], Context]:
        """What was found for a question, and what of it is shown."""
        hits = self.search.search(question, self.asking.k)
        if not hits:
            return [], Context((), self.count(self.prompt(question, ())), 0)
        return hits, pack(
            hits,
            self.search.passages,
            lambda shown: self.prompt(question, shown),
            self.count,
            self.budget,
            self.asking.order,
        )

    def answer(self, question: str) -> Answer:
        """The answer to a question."""
        return self.answers([question])[0]

    def answers(self, questions: Sequence[str], *, concurrency: int = 8) -> list[Answer]:
        """The answers to questions; one that got no reply, or nothing to read, is withheld with the reason in its trace.

        Raises:
            BadInput: a question is empty.
        """
        for number, question in enumerate(questions):
            if not question.strip():
                raise BadInput(f"Question {number} is empty.")
        contexts = [self.context(question) for question in questions]
        answerable = [i for i, (_, context) in enumerate(contexts) if context.passages]
        seed = seed_for(self.llm, self.asking.seed)
        requests = [
            ask(
                self.prompt(questions[i], contexts[i][1].passages),
                temperature=0.0,
                max_tokens=self.asking.max_tokens,
                seed=seed,
            )
            for i in answerable
        ]
        replies = dict(zip(answerable, complete(self.llm, requests, concurrency=concurrency), strict=True))
        return [self._read(q, *contexts[i], replies.get(i)) for i, q in enumerate(questions)]

    def _read(self, question: str, hits: Sequence[Hit], context: Context, reply: Any) -> Answer:
        signals = self.signals(question, hits, context)
        trace: dict[str, Any] = {
            "shown": [passage.id for passage in context.passages],
            "left out": context.left_out,
            "tokens": context.tokens,
            "hits": [hit.id for hit in hits],
            "signals": signals,
        }
        if reply is None:
            return Answer(question, abstained=True, trace={**trace, "why": "nothing was found"})
        if reply.error is not None:
            return Answer(question, abstained=True, trace={**trace, "why": reply.error, "failed": True})
        text = reply.text.strip()
        sentences = tuple(with_citations(text, context.passages))
        confidence = None
        if self.confidence is not None:
            row = [signals[name] for name in self.confidence.names]
            confidence = float(self.confidence.probabilities([row])[0])
        why = "the model does not know" if _UNKNOWN.search(text) else "it wrote nothing" if not text else ""
        if not why and confidence is not None and confidence < self.asking.abstain_below:
            why = f"confidence {confidence:.2f} is below {self.asking.abstain_below:g}"
        return Answer(question, sentences, confidence, bool(why), {**trace, "reply": text, "why": why})

    def signals(self, question: str, hits: Sequence[Hit], context: Context) -> dict[str, float]:
        """Raw signals of confidence: score of the first hit, its margin over the second, the question's best gain from a passage.

        They mean nothing by themselves, least of all in percent.
        """
        scores = [hit.score for hit in hits[:2]]
        signals = {
            "score": scores[0] if scores else 0.0,
            "margin": scores[0] - scores[1] if len(scores) == 2 else 0.0,
        }
        if self.gain is not None:
            texts = [self.search.passages[passage.id].text for passage in context.passages[:5]]
            gains = self.gain.gains(texts, [question] * len(texts)) if texts else [0.0]
            signals["gain"] = max(gains)
        return signals


def filled(template: str, values: Mapping[str, str]) -> str:
    """A template with its slots filled, all at once: what stands in a value is never a slot."""
    pattern = re.compile("|".join(map(re.escape, values)))
    return pattern.sub(lambda match: values[match[0]], template)


def load_template(name: str) -> str:
    """The template of this room, or the one in a file.

    Raises:
        BadConfig: there is no such file, or it lacks a slot.
    """
    path = room_file(__name__, "prompts/answer.txt") if name == "answer" else Path(name)
    if not path.is_file():
        raise BadConfig(f'There is no template "{name}": write answer, or the path of a file.')
    text = path.read_text("utf-8").strip()
    for slot in (PASSAGES, QUESTION):
        if text.count(slot) != 1:
            raise BadConfig(f"{path} must hold {slot} once; it does {text.count(slot)} times.")
    return text
