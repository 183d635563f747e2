"""From whatever a source holds to states with labels: questions are answered, answers judged, exact answers found, states captured.

A source may be at any stage; what is there already is taken as it is. Everything lies in the folder of the run, in finished pieces,
so that a run that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core import records
from gnomon.core.data.execute import map_shards
from gnomon.core.files import artifact, is_run_folder
from gnomon.core.run import Run
from gnomon.errors import BadInput
from gnomon.methods.truth_probes import config
from gnomon.methods.truth_probes.answers.answers import Answer, Template, collect, read_answers
from gnomon.methods.truth_probes.answers.data import Question, read_questions
from gnomon.methods.truth_probes.answers.extraction import Extraction, drop_report, extract
from gnomon.methods.truth_probes.answers.labels import Match, label
from gnomon.methods.truth_probes.states.positions import token_span
from gnomon.methods.truth_probes.states.states import RepStore, represent, usable

if TYPE_CHECKING:
    from gnomon.core.models import ModelHandle


@dataclass(frozen=True)
class AnswerStep:
    """Questions in, answers out; what core spreads over processes and machines."""

    model: str
    dtype: str = "auto"
    seed: int = 0
    samples: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    template: Template = "auto"
    max_new_tokens: int | None = None
    stop: tuple[str, ...] | None = None
    batch_size: int = 32

    def __call__(self, questions: Iterator[Question]) -> Iterator[Answer]:
        """The answers to a shard of questions."""
        from gnomon.core.rng import Rng

        yield from collect(
            load_handle(self.model, self.dtype),
            None,
            list(questions),
            samples=self.samples,
            temperature=self.temperature,
            top_p=self.top_p,
            max_new_tokens=self.max_new_tokens,
            template=self.template,
            stop=self.stop,
            batch_size=self.batch_size,
            rng=Rng(self.seed),
        )


@lru_cache(maxsize=1)
def load_handle(model: str, dtype: str = "auto") -> ModelHandle:
    """The model, loaded once in a process.

    Raises:
        ModelMismatch: it writes no text by continuing a prompt.
    """
    from gnomon.core.models import ModelHandle, load_model, load_tokenizer

    return ModelHandle(load_model(model, dtype=dtype, asked_by="truth-probes"), load_tokenizer(model))


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


def answered(cfg: Any, run: Run, *, samples: int = 0, name: str = "answers") -> list[Answer]:
    """The model's answers to the questions of `cfg.source`, not judged yet; finished shards are kept in the run's folder."""
    questions = read_questions(str(cfg.source), cfg.task, cfg.limit)
    step = AnswerStep(
        cfg.model,
        cfg.dtype,
        run.seed,
        samples,
        getattr(cfg, "temperature", 1.0),
        getattr(cfg, "top_p", 1.0),
        cfg.template,
        cfg.max_new_tokens,
        None if cfg.stop is None else (cfg.stop,),
        cfg.batch_size,
    )
    settings = {key: value for key, value in asdict(step).items() if key != "batch_size"}
    with run.progress(len(questions), "questions") as bar:
        map_shards(
            step,
            questions,
            run.folder / "work" / name,
            engine=cfg.engine,
            workers=cfg.workers,
            shard_rows=cfg.shard_rows,
            settings=settings,
            progress=bar,
        )
    return read_answers(run.folder / "work" / name)


def with_labels(answers: Sequence[Answer], cfg: config.Labelling, run: Run) -> list[Answer]:
    """The answers judged, as the settings say."""
    if cfg.label == "match" or cfg.label.startswith("rule:"):
        return label(answers, cfg.label, match=cfg.match)
    with run.asking({"judge": cfg.label}, cfg.llm) as models:
        return label(answers, "judge", match=cfg.match, llm=models["judge"], concurrency=cfg.llm.concurrency)


def with_exact(answers: Sequence[Answer], text: str, cfg: Any, run: Run) -> tuple[list[Answer], Extraction]:
    """The answers with their exact answers, and how they were found."""
    how = Extraction.parse(text, sorted({answer.task for answer in answers}))
    if how.kind != "llm":
        return extract(answers, how, match=getattr(cfg, "match", "boundary")), how
    with run.asking({"extract": how.detail}, cfg.llm) as models:
        match: Match = getattr(cfg, "match", "boundary")
        llm, concurrency = models["extract"], cfg.llm.concurrency
        return extract(answers, how, match=match, llm=llm, concurrency=concurrency), how


@dataclass(frozen=True)
class Prepared:
    """Usable answers with their states."""

    answers: list[Answer]
    store: RepStore
    dropped: dict[str, float | int]
    """How many answers there were, and the shares that could not be used."""
    extract: str
    """How exact answers were found."""

    @property
    def z(self) -> NDArray[np.int64]:
        """Labels."""
        return np.array([answer.z for answer in self.answers], np.int64)

    @property
    def ids(self) -> list[str]:
        """The question of each answer."""
        return [answer.id for answer in self.answers]

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Prepared:
        """Some of the answers."""
        chosen = [int(i) for i in rows]
        return replace(self, answers=[self.answers[i] for i in chosen], store=self.store.take(chosen))


def prepared(
    cfg: Any,
    run: Run,
    *,
    site: config.Site,
    layers: Sequence[int] = (),
    positions: Sequence[str],
    extract: str | None = None,
) -> Prepared:
    """Usable answers with states, from a source at any stage.

    Args:
        cfg: settings of a verb that can go the whole way: `Train` or `Eval`.
        run: where finished pieces are kept.
        site: which tensor of a block; of states that are there already it must be theirs.
        layers: empty for all.
        positions: names.
        extract: how exact answers are found where they are not yet; None: as `cfg` says.
    """
    if stage_of(cfg.source) == "states":
        found = read_prepared(Path(cfg.source))
        if found.store.site != site:
            raise BadInput(
                f'{cfg.source} holds states of "{found.store.site}"; set --site {found.store.site} or represent anew.'
            )
        return found
    answers, how = _with_everything(cfg, run, extract or cfg.extract)
    handle = load_handle(cfg.model, cfg.dtype)
    return captured(handle, answers, how, run, site=site, layers=layers, positions=positions)


def captured(
    handle: ModelHandle,
    answers: Sequence[Answer],
    how: str,
    run: Run,
    *,
    site: config.Site,
    layers: Sequence[int] = (),
    positions: Sequence[str],
    batch_tokens: int = 16_384,
) -> Prepared:
    """The usable ones of the answers with their states, left in the run's folder for later steps.

    Raises:
        BadInput: none of the answers can be used.
    """
    records.write(run.artifact("answers", run.folder / "answers.jsonl"), answers)
    kept = with_tokens(handle.processor, [answers[i] for i in usable(answers)])
    if not kept:
        raise BadInput(f"Of {len(answers)} answers none has an exact answer; choose another --extract.")
    with run.progress(len(kept), "states") as bar:
        store = represent(
            handle,
            None,
            kept,
            site=site,
            layers=layers or None,
            positions=positions,
            folder=run.artifact("states", run.folder / "states"),
            batch_tokens=batch_tokens,
            progress=bar,
        )
    records.write(run.artifact("records", run.folder / "usable.jsonl"), kept)
    return Prepared(kept, store, drop_report(answers), how)


def _with_everything(cfg: Any, run: Run, text: str) -> tuple[list[Answer], str]:
    """Answers with labels and exact answers, made or read."""
    if stage_of(cfg.source) == "questions":
        answers = with_labels(answered(cfg, run), cfg, run)
    else:
        answers = read_answers(Path(cfg.source), need="label")
        if all(answer.valid is not None for answer in answers):
            return answers, answers[0].found_by or text
    answers, how = with_exact(answers, text, cfg, run)
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
