"""From a source at any stage to states with labels: questions are answered, answers judged, exact answers located, states captured.

What a source holds already is taken as it is. Everything lies in the folder of the run, in finished pieces, so that a run that was
killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core import records
from gnomon.core.data.config import Shards
from gnomon.core.data.execute import Rejected, map_shards, rejected
from gnomon.core.files import artifact, is_run_folder
from gnomon.core.llm.config import LLMConfig
from gnomon.core.models.load.config import LoadConfig
from gnomon.core.rng import Rng
from gnomon.core.run import Run
from gnomon.core.shortfall import Shortfall
from gnomon.core.text.matching import Match
from gnomon.core.too_long import Long, TooLong, fit_rows, note_long, positions_of
from gnomon.errors import BadInput, LLMFailure
from gnomon.methods.truth_probes.answers.answers import Answer, Answering, collect, read_answers
from gnomon.methods.truth_probes.answers.data import Question, read_questions
from gnomon.methods.truth_probes.answers.extraction import Extraction, drop_report, extract
from gnomon.methods.truth_probes.answers.labels import label
from gnomon.methods.truth_probes.states.positions import token_span
from gnomon.methods.truth_probes.states.states import Capture, RepStore, represent, usable

if TYPE_CHECKING:
    from gnomon.core.llm.roles import Models
    from gnomon.core.models import ModelHandle


UNREAD = "the judge gave neither 1 nor 0; these answers are left out."
"""Why a label is missing."""


@dataclass(frozen=True)
class Judging:
    """How answers are labelled, and who is asked for labels and exact answers."""

    label: str = "match"
    """`match`, `rule:module:function`, or the reference of a language model."""
    match: Match = "boundary"
    """How texts are compared."""
    llm: LLMConfig = field(default_factory=LLMConfig)
    """How language models are asked."""


@dataclass(frozen=True)
class Recipe:
    """From questions to labelled answers with exact answers."""

    model: str
    """The model that answers: a folder or a hub id."""
    load: LoadConfig = field(default_factory=LoadConfig)
    """How it is loaded."""
    task: str = "open"
    """Kind of questions; see `tasks.TASKS`."""
    limit: int | None = None
    """The first so many questions; None: all."""
    answering: Answering = field(default_factory=Answering)
    shards: Shards = field(default_factory=Shards)
    judging: Judging = field(default_factory=Judging)
    extract: str = "auto"
    """How exact answers are located; see `Extraction.parse`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Field of a question -> column of the source; empty: those of the task."""
    family: Path | None = None
    """Where the model keeps its parts, as a file; None: that is found."""


@dataclass(frozen=True)
class AnswerStep:
    """Questions in, answers out; what core spreads over processes and machines."""

    model: str
    load: LoadConfig
    seed: int
    answering: Answering

    def __call__(self, questions: Iterator[Question]) -> Iterator[Answer | Rejected]:
        """The answers to a shard of questions; those whose prompt is too long are rejected, or noted as cut."""
        handle, long = load_handle(self.model, self.load), []  # type: ModelHandle, list[Long]
        yield from collect(
            handle, None, list(questions), self.answering, rng=Rng(self.seed), on_long=long.append
        )
        yield from (Rejected("too long", vars(row)) for row in long)

    def settings(self) -> dict[str, Any]:
        """What the answers depend on; finished shards are marked with it."""
        flat = {"model": self.model, **asdict(self.load), "seed": self.seed, **asdict(self.answering)}
        return {
            name: value for name, value in flat.items() if name not in ("batch_size", "device", "device_map")
        }


@lru_cache(maxsize=1)
def load_handle(model: str, load: LoadConfig, family: Path | None = None) -> ModelHandle:
    """The model, loaded once in a process; `family` is a file for `read_family`.

    Raises:
        ModelMismatch: it does not continue a prompt.
    """
    from gnomon.core.models import ModelHandle, load_model, load_tokenizer, read_family

    table = read_family(family) if family else None
    loaded = load_model(model, load, asked_by="truth-probes")
    return ModelHandle(loaded, load_tokenizer(model, load), family=table)


def stage_of(source: str | Path) -> str:
    """`states`, `answers` or `questions`: what a source holds."""
    path = Path(source)
    if not path.exists():
        return "questions"  # a data set by name, or an error that says so
    if is_run_folder(path) and (path / "states" / "index.json").exists():
        return "states"
    if path.name.endswith(".csv"):
        return "questions"
    _, first = next(records.read_raw(path), ("", {}))
    return "answers" if "output_ids" in first else "questions"


def answered(source: str, recipe: Recipe, run: Run, name: str = "answers") -> list[Answer]:
    """The model's answers to the questions of `source`, not labelled yet; finished shards are kept in the run's folder."""
    questions = read_questions(source, recipe.task, recipe.limit, recipe.columns)
    step = AnswerStep(recipe.model, recipe.load, run.seed, recipe.answering)
    with run.progress(len(questions), "questions") as bar:
        map_shards(
            step,
            questions,
            run.folder / "work" / name,
            engine=recipe.shards.engine,
            workers=recipe.shards.workers,
            shard_rows=recipe.shards.shard_rows,
            settings=step.settings(),
            progress=bar,
        )
    long = [Long(**raw["record"]) for raw in rejected(run.folder / "work" / name)]
    note_long(run, long, len(questions), "questions")
    return read_answers(run.folder / "work" / name)


def with_labels(answers: Sequence[Answer], judging: Judging, run: Run) -> list[Answer]:
    """The answers with their labels; those that a judge gave none are left out, and counted.

    Raises:
        LLMFailure: the judge gave no label at all.
    """
    if judging.label == "match" or judging.label.startswith("rule:"):
        return label(answers, judging.label, match=judging.match)
    with run.asking({"judge": judging.label}, judging.llm) as models:
        concurrency = judging.llm.concurrency

        def count_unread(n: int) -> None:
            limit = judging.llm.max_failed
            run.missing(Shortfall("labels", n, len(answers), UNREAD, limit))

        judged = label(answers, "judge", llm=models["judge"], concurrency=concurrency, on_unread=count_unread)
        return _left([answer for answer in judged if answer.correct is not None], answers, models, "judge")


def with_exact(
    answers: Sequence[Answer], text: str, judging: Judging, run: Run
) -> tuple[list[Answer], Extraction]:
    """The answers with their exact answers, and how these were located; those for which the model's reply failed are left out.

    Args:
        answers: with labels.
        text: as `Extraction.parse` reads it.
        judging: how texts are compared and a language model is asked.
        run: keeps the replies of a language model.

    Raises:
        LLMFailure: the model answered nothing.
    """
    how = Extraction.parse(text, sorted({answer.task for answer in answers}))
    if how.kind != "llm":
        return extract(answers, how, match=judging.match), how
    with run.asking({"extract": how.detail}, judging.llm) as models:
        llm, concurrency = models["extract"], judging.llm.concurrency
        looked_for = extract(answers, how, match=judging.match, llm=llm, concurrency=concurrency)
        kept = [answer for answer in looked_for if answer.valid is not None]
        return _left(kept, answers, models, "extract"), how


def _left(kept: list[Answer], answers: Sequence[Answer], models: Models, role: str) -> list[Answer]:
    """The answers that are left; a run goes on without some of them, and not without all."""
    if answers and not kept:
        reason = models.figures(role).get("commonest_reason", UNREAD)
        raise LLMFailure(
            f"{models[role].name} gave nothing to go on for any of {len(answers)} answers, most often: {reason} "
            "What was answered is kept; repeat the command to ask again."
        )
    return kept


@dataclass(frozen=True)
class Prepared:
    """Usable answers with their states."""

    answers: list[Answer]
    store: RepStore
    dropped: dict[str, float | int]
    """How many answers there were, and the shares that could not be used."""
    extract: str
    """How exact answers were located."""

    @property
    def z(self) -> NDArray[np.int64]:
        """Labels, [N]."""
        return np.array([answer.z for answer in self.answers], np.int64)

    @property
    def ids(self) -> list[str]:
        """The question of each answer."""
        return [answer.id for answer in self.answers]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Prepared:
        """Some of the answers, by row."""
        chosen = [int(i) for i in rows]
        return replace(self, answers=[self.answers[i] for i in chosen], store=self.store.take(chosen))


def prepared(source: str, recipe: Recipe, capture: Capture, run: Run) -> Prepared:
    """Usable answers with states, from a source at any stage.

    Args:
        source: questions, or a run of `answer`, `extract` or `represent`.
        recipe: what is done with a source that holds no states.
        capture: which states; of those that are there already the site must be the same.
        run: where finished pieces are kept.

    Raises:
        BadInput: the source holds states of another site.
    """
    if stage_of(source) == "states":
        data = read_prepared(Path(source))
        if data.store.site != capture.site:
            raise BadInput(
                f'{source} holds states of "{data.store.site}"; set --site {data.store.site} or represent anew.'
            )
        return data
    answers, how = _with_everything(source, recipe, run)
    return captured(load_handle(recipe.model, recipe.load, recipe.family), answers, how, run, capture)


def captured(
    handle: ModelHandle,
    answers: Sequence[Answer],
    how: str,
    run: Run,
    capture: Capture,
    batch_tokens: int = 16_384,
    too_long: TooLong = "skip",
) -> Prepared:
    """The usable ones of the answers with their states, left in the run's folder for later steps.

    Args:
        handle: the model.
        answers: with labels and exact answers.
        how: how exact answers were located.
        run: where states are kept.
        capture: which states.
        batch_tokens: tokens read at once.
        too_long: what becomes of an answer that the model cannot read with its prompt, such as one of another model.

    Raises:
        BadInput: none of the answers can be used.
    """
    records.write(run.artifact("answers", run.folder / "answers.jsonl"), answers)
    kept = with_tokens(handle.processor, [answers[i] for i in usable(answers)])
    kept = _readable(handle, kept, too_long, run)
    if not kept:
        raise BadInput(f"Of {len(answers)} answers none has an exact answer; choose another --extract.")
    with run.progress(len(kept), "states") as bar:
        store = represent(
            handle,
            None,
            kept,
            capture,
            folder=run.artifact("states", run.folder / "states"),
            is_own=True,
            batch_tokens=batch_tokens,
            progress=bar,
        )
    records.write(run.artifact("records", run.folder / "usable.jsonl"), kept)
    return Prepared(kept, store, drop_report(answers), how)


def _readable(handle: ModelHandle, answers: list[Answer], how: TooLong, run: Run) -> list[Answer]:
    """The answers that the model can read behind their prompts."""
    positions, kept, long = positions_of(handle.model), [], []
    for answer in answers:
        room = None if positions is None else max(1, positions - len(answer.output_ids))
        name = f"{answer.id}, draw {answer.draw}" if answer.draw else answer.id
        fitted = fit_rows([answer.prompt_ids], [name], room, how, model=str(handle.model.name_or_path))
        kept += [replace(answer, prompt_ids=ids) for ids in fitted.rows]
        long += fitted.long
    note_long(run, long, len(answers), "answers")
    return kept


def _with_everything(source: str, recipe: Recipe, run: Run) -> tuple[list[Answer], str]:
    """Answers with labels and exact answers, generated or read."""
    if stage_of(source) == "questions":
        answers = with_labels(answered(source, recipe, run), recipe.judging, run)
    else:
        answers = read_answers(Path(source), need="label")
        if all(answer.valid is not None for answer in answers):
            return answers, answers[0].found_by or recipe.extract
    answers, how = with_exact(answers, recipe.extract, recipe.judging, run)
    return answers, str(how)


def with_tokens(tokenizer: Any, answers: Sequence[Answer]) -> list[Answer]:
    """The answers with the tokens of their exact answers, so that later steps need no tokenizer."""
    return [replace(answer, tokens=list(token_span(tokenizer, answer))) for answer in answers]


def read_prepared(folder: Path) -> Prepared:
    """Usable answers and states of a run of `represent`.

    Raises:
        BadInput: the folder is no such run, or answers and states do not belong together.
    """
    store = RepStore.load(artifact(folder, "states") if is_run_folder(folder) else folder / "states")
    answers = read_answers(folder, need="exact")
    if tuple(answer.key for answer in answers) != store.keys:
        raise BadInput(f"{folder}: answers and states are not those of the same questions in the same order.")
    return Prepared(answers, store, drop_report(answers), answers[0].found_by or "auto")
