"""The whole method: a fit on a stream, the class `Sieve` around it, and labels of a list of snippets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from gnomon.errors import BadConfig, BadInput, BudgetSpent, nearest
from gnomon.methods.sieve.choosing.intervals import EVERYTHING
from gnomon.methods.sieve.choosing.rounds import Pick
from gnomon.methods.sieve.choosing.snippets import Snippet
from gnomon.methods.sieve.choosing.stream import SnippetStream
from gnomon.methods.sieve.config import Selection
from gnomon.methods.sieve.fitting import background
from gnomon.methods.sieve.fitting.fit import Fitting, Outcome
from gnomon.methods.sieve.fitting.model import Card, SieveModel
from gnomon.methods.sieve.fitting.state import RoundState
from gnomon.methods.sieve.judging.filters import Filter, load_filter
from gnomon.methods.sieve.judging.judges import GO_ON, Judge, LocalJudge, judge_all
from gnomon.methods.sieve.judging.labels import Label, LabelStore, keep_verdicts
from gnomon.methods.sieve.judging.references import open_judge
from gnomon.methods.sieve.students import Student, StudentConfig, open_student

MODES = ("sync", "async")


@dataclass(frozen=True)
class Fit:
    """A finished fit."""

    model: SieveModel
    """The filter, saved."""
    outcome: Outcome
    """Threshold, rounds and calibration."""
    store: LabelStore
    """The labels."""


@dataclass(frozen=True)
class FitSettings:
    """How a filter is fitted.

    Raises:
        BadConfig: there is no such mode.
    """

    selection: Selection = field(default_factory=Selection)
    """How labels are spent."""
    student: StudentConfig | None = None
    """How the student is trained; also when it is opened again, in the trainer's process too. None: the defaults."""
    mode: str = "sync"
    """`sync` (reproducible) or `async` (judge and trainer beside the scoring)."""
    rule: str = "any"
    """How a document's snippets decide for it; one of `model.RULES`."""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise BadConfig(f'There is no mode "{self.mode}". {nearest(self.mode, MODES)}')


def fit_stream(
    stream: SnippetStream,
    chosen: Filter,
    judge: Judge,
    student: Student,
    folder: Path,
    settings: FitSettings,
    *,
    rng: Rng,
    on_round: Callable[[RoundState, Student], None] | None = None,
) -> Fit:
    """Fit a student to a judge on a stream of snippets, and save the filter to `folder/model`.

    Args:
        stream: snippets cut by the student's tokens.
        chosen: the filter in words.
        judge: gives the labels.
        student: fitted to nothing.
        folder: for labels, rounds and the model; a fit that was interrupted there continues.
        settings: selection, student, mode and rule.
        rng: where all random choices come from.
        on_round: called after each round.

    Raises:
        UserError: as in `Fitting.run`.
    """
    fitting = Fitting(
        student,
        judge,
        stream,
        folder,
        reopen=partial(open_student, config=settings.student),
        settings=settings.selection,
        rng=rng,
        on_round=on_round,
    )
    outcome = background.run(fitting) if settings.mode == "async" else fitting.run()
    card = Card(
        filter=chosen.to_raw(),
        student=student.name,
        snippet_tokens=stream.limit,
        threshold=outcome.threshold,
        objective=settings.selection.objective,
        base_rate=outcome.base_rate,
        score_range=[*outcome.score_range],
        judge=judge.name,
        is_simulated=judge.is_simulated,
        labels=fitting.store.counts(),
        rule=settings.rule,
        expected=outcome.calibration.expected,
        cuts=outcome.cuts,
        stopped=outcome.stopped,
    )
    return Fit(SieveModel(outcome.student, card).save(folder / "model"), outcome, fitting.store)


class Sieve:
    """A filter that learns from few verdicts.

    >>> from gnomon.methods.sieve import FitSettings, Selection, Sieve
    >>> sieve = Sieve("climate", lambda text: "climate" in text, "hashed-linear",
    ...               FitSettings(Selection(budget=40, batch=20, folds=2)))
    >>> model = sieve.fit([f"the climate of place {i}" if i % 4 == 0 else f"a recipe for {i} cakes" for i in range(200)])
    >>> list(sieve.filter(["the climate of the north", "a recipe for apple cakes"]))
    ['the climate of the north']

    Args:
        filter: a `Filter`, a file, or the name of a built-in one.
        judge: a `Judge`, a reference (see `open_judge`), or a function of the text.
        student: a `Student` or a reference (see `open_student`).
        settings: selection, student, mode and rule; None: the defaults.
        llm: how a language model is asked, when `judge` is a reference to one.
        snippet_tokens: longest snippet, in tokens of the student.
        seed: of all random choices.
        folder: where labels, rounds, replies and the model are kept. None: in a temporary folder that lives as long as the object.
    """

    def __init__(
        self,
        filter: Filter | str | Path,
        judge: Judge | str | Callable[..., bool | int | None],
        student: Student | str,
        settings: FitSettings | None = None,
        *,
        llm: LLMConfig | None = None,
        snippet_tokens: int = 512,
        seed: int = 0,
        folder: Path | None = None,
    ) -> None:
        self._temporary = TemporaryDirectory() if folder is None else None
        self.folder = Path(self._temporary.name) if self._temporary else Path(str(folder))
        self.chosen = filter if isinstance(filter, Filter) else load_filter(filter)
        if isinstance(judge, str):
            judge = open_judge(judge, self.chosen, llm, folder=self.folder / "replies")
        self.judge: Judge = judge if hasattr(judge, "ajudge") else LocalJudge(judge)  # type: ignore[assignment]
        self.settings = settings or FitSettings()
        self.student = open_student(student, self.settings.student) if isinstance(student, str) else student
        self.snippet_tokens, self.rng = snippet_tokens, Rng(seed)
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
            self.settings,
            rng=self.rng.child("fit"),
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
            "stopped": fit.outcome.stopped,
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


# Labels of a list of snippets.

TOGETHER = 256
"""Snippets between two writes."""


def judged(
    judge: Judge, snippets: Sequence[Snippet], path: Path, *, progress: Advances | None = None
) -> list[Label]:
    """A label row for each snippet, in order; what has a label in the file already is not asked for again.

    Raises:
        BudgetSpent: the judge may spend no more; what it has answered is in the file.
    """
    store = LabelStore(path)
    missing = [s for s in snippets if store.lacks(s.snippet_id)]
    if progress:
        progress.advance(len(snippets) - len(missing))
    for start in range(0, len(missing), TOGETHER):
        picks = [Pick(s, 0.0, 0.5, EVERYTHING, "uniform") for s in missing[start : start + TOGETHER]]
        judging = partial(judge_all, judge, [pick.snippet for pick in picks])
        _, stopped = keep_verdicts(store, picks, judging, 0)
        if stopped is not None:
            raise BudgetSpent(f"{stopped} {store.n_labelled} labels are kept in {path}: {GO_ON}")
        if progress:
            progress.advance(len(picks))
    return [store[s.snippet_id] for s in snippets]
