"""The whole method as one object: a filter in words, a judge, a student; then `fit` on a corpus and filter with the result.

Labels of given snippets, in a file that a later call continues.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.data.documents import Document, read_documents, text_id
from gnomon.core.llm.config import LLMConfig
from gnomon.core.log import Advances
from gnomon.core.rng import Rng
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.methods.sieve.choosing.intervals import EVERYTHING
from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.stream import SnippetStream
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.fitting.fit import Fitting, Outcome, keep_verdicts
from gnomon.methods.sieve.fitting.model import Card, SieveModel
from gnomon.methods.sieve.fitting.state import RoundState
from gnomon.methods.sieve.judging.filters import Filter, load_filter
from gnomon.methods.sieve.judging.judges import Judge, LocalJudge, judge_all, open_judge
from gnomon.methods.sieve.judging.labels import Label, LabelStore
from gnomon.methods.sieve.students import Student, StudentConfig, open_student

MODES = ("sync", "async")


@dataclass(frozen=True)
class Fit:
    """A finished fit."""

    model: SieveModel
    """The filter, saved."""
    outcome: Outcome
    """What happened."""
    store: LabelStore
    """The labels."""


def fit_stream(
    stream: SnippetStream,
    chosen: Filter,
    judge: Judge,
    student: Student,
    folder: Path,
    *,
    selection: Selection,
    reopen: Callable[[Path], Student],
    rng: Rng,
    mode: str = "sync",
    rule: str = "any",
    on_round: Callable[[RoundState, Student], None] | None = None,
) -> Fit:
    """Fit a student to a judge on a stream of snippets, and save the filter to `folder/model`.

    Args:
        stream: snippets cut by the student's tokens.
        chosen: the filter in words.
        judge: gives the labels.
        student: fitted to nothing.
        folder: for labels, rounds and the model; a fit that was interrupted there continues.
        selection: how labels are spent.
        reopen: opens a saved student; goes to the trainer's process in mode async.
        rng: where all random choices come from.
        mode: `sync` or `async`.
        rule: how a document's snippets decide for it later.
        on_round: called after each round.

    Raises:
        BadConfig: there is no such mode.
        UserError: as in `Fitting.run`.
    """
    if mode not in MODES:
        raise BadConfig(f'There is no mode "{mode}". {nearest(mode, MODES)}')
    store = LabelStore(folder / "labels.jsonl")
    fitting = Fitting(
        student,
        judge,
        stream,
        store,
        folder,
        reopen=reopen,
        settings=selection,
        rng=rng,
        on_round=on_round,
    )
    if mode == "async":
        from gnomon.methods.sieve.fitting import background

        outcome = background.run(fitting)
    else:
        outcome = fitting.run()
    card = Card(
        filter=chosen.to_raw(),
        student=student.name,
        snippet_tokens=stream.limit,
        threshold=outcome.threshold,
        objective=selection.objective,
        base_rate=outcome.base_rate,
        score_range=[*outcome.score_range],
        judge=judge.name,
        is_simulated=judge.is_simulated,
        labels=store.counts(),
        rule=rule,
    )
    return Fit(SieveModel(outcome.student, card).save(folder / "model"), outcome, store)


class Sieve:
    """A filter that learns from few verdicts.

    >>> from gnomon.methods.sieve import Sieve, Selection
    >>> sieve = Sieve("climate", judge=lambda text: "climate" in text, student="hashed-linear",
    ...               selection=Selection(budget=40, batch=20, folds=2))
    >>> model = sieve.fit([f"the climate of place {i}" if i % 4 == 0 else f"a recipe for {i} cakes" for i in range(200)])
    >>> list(sieve.filter(["the climate of the north", "a recipe for apple cakes"]))
    ['the climate of the north']

    Args:
        filter: a `Filter`, a file, or the name of a built-in one.
        judge: a `Judge`, a reference (see `open_judge`), or a function of the text.
        student: a `Student` or a reference (see `open_student`).
        selection: how labels are spent.
        student_config: how the student is trained, when `student` is a reference.
        llm: how a language model is asked, when `judge` is a reference to one.
        snippet_tokens: longest snippet, in tokens of the student.
        rule: how a document's snippets decide for it.
        mode: `sync` (reproducible) or `async`.
        seed: of all random choices.
        folder: where labels, rounds, replies and the model are kept. None: in a temporary folder that lives as long as the object.
    """

    def __init__(
        self,
        filter: Filter | str | Path,
        judge: Judge | str | Callable[..., bool | int | None],
        student: Student | str,
        *,
        selection: Selection | None = None,
        student_config: StudentConfig | None = None,
        llm: LLMConfig | None = None,
        snippet_tokens: int = 512,
        rule: str = "any",
        mode: str = "sync",
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        self._temporary = TemporaryDirectory() if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else Path(str(folder))
        self.chosen = filter if isinstance(filter, Filter) else load_filter(filter)
        if isinstance(judge, str):
            judge = open_judge(judge, self.chosen, llm, folder=self.folder / "replies")
        self.judge: Judge = judge if hasattr(judge, "ajudge") else LocalJudge(judge)  # type: ignore[assignment]
        self.student = open_student(student, student_config) if isinstance(student, str) else student
        self.selection = selection or Selection()
        self.snippet_tokens, self.rule, self.mode, self.rng = snippet_tokens, rule, mode, Rng(seed)
        self._reopen = partial(open_student, config=student_config)
        self._fit: Fit | None = None

    def fit(self, corpus: str | Path | Iterable[str | Mapping[str, Any] | Document]) -> SieveModel:
        """Fit on a corpus: a source as `read_documents` knows it, or texts, rows with a `text`, or documents.

        An iterable is read several times: give a list, a data set, or an object that begins anew each time.

        Raises:
            BadInput: the corpus can be read only once, or holds no text.
        """
        stream = SnippetStream(
            lambda: _documents(corpus),
            spans_of=self.student.token_spans,
            limit=self.snippet_tokens,
            rng=self.rng.child("stream"),
        )
        self._fit = fit_stream(
            stream,
            self.chosen,
            self.judge,
            self.student,
            self.folder,
            selection=self.selection,
            reopen=self._reopen,
            rng=self.rng.child("fit"),
            mode=self.mode,
            rule=self.rule,
        )
        return self._fit.model

    @property
    def fitted(self) -> Fit:
        """The finished fit.

        Raises:
            BadInput: there is none.
        """
        if self._fit is None:
            raise BadInput("This sieve has learned nothing yet. Call fit first.")
        return self._fit

    def score(self, texts: Iterable[str]) -> NDArray[np.float64]:
        """Score of each text, [N], 0..1."""
        return self.fitted.model.score(list(texts))

    def filter(self, texts: Iterable[str]) -> Iterator[str]:
        """The texts that pass, one at a time."""
        return (text for text in texts if self.fitted.model.keep(text))

    def report(self) -> dict[str, Any]:
        """Labels spent, base rate, threshold, what it is expected to do, and the rounds."""
        fit = self.fitted
        return {
            "labels": fit.store.counts(),
            "base rate": fit.outcome.base_rate,
            "threshold": fit.outcome.threshold,
            "expected": fit.outcome.calibration.expected,
            "judge": self.judge.name,
            "SIMULATED": self.judge.is_simulated,
            "rounds": [
                {"labels": s.labels, "pass share": s.pass_share, "width": s.widths[-1] if s.widths else 1.0}
                for s in fit.outcome.rounds
            ],
        }


def _documents(corpus: str | Path | Iterable[str | Mapping[str, Any] | Document]) -> Iterator[Document]:
    if isinstance(corpus, (str, Path)):
        yield from read_documents(corpus)
        return
    if iter(corpus) is corpus:
        raise BadInput(
            "The corpus can be read only once and a fit reads it several times. Give a list, a data set, or a source."
        )
    for item in corpus:
        if isinstance(item, Document):
            yield item
            continue
        text = item["text"] if isinstance(item, Mapping) else item
        yield Document(text_id(text), text)


# Labels of given snippets, in a file that a later call continues.

TOGETHER = 256
"""Snippets between two writes."""


def judged(
    judge: Judge, snippets: Sequence[Snippet], path: Path, *, progress: Advances | None = None
) -> list[Label]:
    """A label row for each snippet, in order. What the file holds already is not asked for again.

    Raises:
        BudgetSpent: the judge may spend no more; what it has answered is in the file.
    """
    store = LabelStore(path)
    missing = [s for s in snippets if s.snippet_id not in store]
    if progress:
        progress.advance(len(snippets) - len(missing))
    for start in range(0, len(missing), TOGETHER):
        picks = [Pick(s, 0.0, 0.5, EVERYTHING, "uniform") for s in missing[start : start + TOGETHER]]
        keep_verdicts(store, picks, partial(judge_all, judge, [pick.snippet for pick in picks]), 0)
        if progress:
            progress.advance(len(picks))
    return [store[s.snippet_id] for s in snippets]
