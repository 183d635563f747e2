"""The extractor: a token classifier with its settings, in a folder that transformers loads as it is.

The file `sigext.json` beside the weights holds the settings that scores and choices depend on.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gnomon.core.config import check
from gnomon.core.env import device_for
from gnomon.core.files import write_json
from gnomon.core.models import load_tokenizer
from gnomon.core.models.load import load_config, load_weights, model_at
from gnomon.core.rng import Rng, seeded
from gnomon.core.text import stopwords_name
from gnomon.core.train import TrainConfig
from gnomon.errors import BadConfig, BadInput, ModelMismatch
from gnomon.methods.sigext.extractor.batches import grouped, padded, window_of
from gnomon.methods.sigext.extractor.encoding import (
    DocumentEncoder,
    Encoded,
    Tokenisation,
    longest_input,
    phrase_scores,
)
from gnomon.methods.sigext.extractor.training import fit_rows
from gnomon.methods.sigext.phrases.data import Reading, Row
from gnomon.methods.sigext.phrases.phrases import Phrase
from gnomon.methods.sigext.phrases.selection import select

# Settings

FILE = "sigext.json"
"""Name of the file beside the weights that makes a token classifier an extractor."""
FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """Settings of an extractor that belong to its weights."""

    reading: Reading = field(default_factory=Reading)
    """Settings of phrases and labels."""
    tokenisation: Tokenisation = "offsets"
    """Tokenisation of documents; a model scores worse with the other one."""
    max_length: int = 4096
    """Longest input in tokens."""
    tau: float = -math.inf
    """Phrases that score below are never shown."""
    percentile: float = 75.0
    """Share of the validation phrases, in percent, that tau cuts off."""
    k: int = 20
    """Phrases shown, at most."""
    trained_on: tuple[str, ...] = ()
    """Names of the training sets, as information."""

    def __post_init__(self) -> None:
        check(self.k >= 1, "k", ">= 1", self.k)
        check(0 <= self.percentile < 100, "percentile", "in 0..100", self.percentile)


def read_settings(folder: Path) -> Settings:
    """Read a folder's `sigext.json`.

    Raises:
        BadInput: there is none, it is of a newer format, or the stop words have changed since.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadInput(
            f"{folder} has no {FILE}: it is not an extractor that `gnomon sigext train` made. Train one, or name another folder."
        )
    try:
        fields = json.loads(path.read_text("utf-8"))
        if fields.pop("format") != FORMAT:
            raise BadInput(f"{path} is of another format. Use the version of gnomon that wrote it.")
        words = fields.pop("stopwords")
        reading = Reading(**fields.pop("reading"))
        tau = fields.pop("tau")
        fields["trained_on"] = tuple(fields["trained_on"])
        settings = Settings(reading=reading, tau=-math.inf if tau is None else tau, **fields)
    except (KeyError, TypeError, ValueError):
        raise BadInput(f"{path} cannot be read. Train the extractor again, or restore the file.") from None
    if words != (here := stopwords_name(reading.language)):
        raise BadInput(
            f"{folder} was trained with the stop words {words}; here they are {here}, and phrases would differ. Train it again."
        )
    return settings


def write_settings(folder: Path, settings: Settings) -> None:
    """Write `sigext.json`; a threshold of -inf is null there."""
    fields = asdict(settings) | {"tau": None if settings.tau == -math.inf else settings.tau}
    stop = stopwords_name(settings.reading.language)
    write_json(folder / FILE, {"format": FORMAT, "stopwords": stop, **fields})


# The extractor

log = logging.getLogger(__name__)

BATCH_TOKENS = 16_384
"""Tokens scored at once."""
CPU_ACTIVATIONS = 786_432
"""Tokens times hidden size of a batch on a CPU: beyond what its caches hold, batches are slower than single documents."""


class ScoredPhrase(NamedTuple):
    """A phrase and its score."""

    phrase: Phrase
    """The candidate."""
    score: float
    """Mean log-probability (nats) of its tokens to be salient."""


class SigExtModel:
    """A phrase extractor.

    Args:
        model: a token classifier of two classes, of any encoder.
        tokenizer: its tokenizer.
        settings: how phrases are found, tokenised and chosen.
        stride: tokens from window to window in documents longer than `max_length`, of which each phrase keeps its best score;
            None: what lies behind the first window has no score.
        batch_tokens: tokens scored at once, at most; no score depends on it.

    Raises:
        ModelMismatch: the classifier has not two classes, or the tokenizer does not fit.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        settings: Settings | None = None,
        *,
        stride: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ):
        if model.config.num_labels != 2:
            raise ModelMismatch(f"An extractor has 2 classes; this classifier has {model.config.num_labels}.")
        check(batch_tokens >= 1, "batch_tokens", ">= 1", batch_tokens)
        settings = settings or Settings()
        longest = min(settings.max_length, longest_input(model.config))
        self.settings = replace(settings, max_length=longest)
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self.encoder = DocumentEncoder(tokenizer, settings.tokenisation, longest, stride)

    @classmethod
    def new(
        cls,
        ref: str | Path,
        settings: Settings | None = None,
        *,
        device: str = "auto",
        rng: Rng | None = None,
        **options: Any,
    ) -> SigExtModel:
        """An untrained extractor on the encoder at `ref`: its head is new unless the checkpoint has one of two classes.

        Args:
            ref: a folder or hub id.
            settings: how phrases are found, tokenised and chosen.
            device: `"auto"` takes a GPU when there is one.
            rng: where a new head is drawn.
            **options: `stride` and `batch_tokens`, as for the class.

        Raises:
            BadInput: nothing is at `ref`.
            ModelMismatch: what is there has no token classifier.
        """
        return cls(_classifier(ref, device, rng), load_tokenizer(ref), settings, **options)

    @classmethod
    def from_pretrained(
        cls,
        ref: str | Path,
        *,
        device: str = "auto",
        tokenisation: Tokenisation | None = None,
        **options: Any,
    ) -> SigExtModel:
        """The extractor in a folder or a run of `train`.

        Args:
            ref: where `save_pretrained` wrote it.
            device: `"auto"` takes a GPU when there is one.
            tokenisation: the way that the caller counts on; None takes the stored one.
            **options: `stride` and `batch_tokens`, as for the class.

        Raises:
            BadInput: the folder holds no extractor, or its stop words are other ones than those at hand.
            BadConfig: it was trained with the other tokenisation.
        """
        folder = Path(model_at(ref))
        settings = read_settings(folder)
        if tokenisation is not None and tokenisation != settings.tokenisation:
            raise BadConfig(
                f"{folder} was trained with tokenisation {settings.tokenisation} and scores worse with {tokenisation}. "
                f"Use --tokenisation {settings.tokenisation}, or train anew."
            )
        return cls(_classifier(folder, device), load_tokenizer(folder), settings, **options)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights, configuration and tokenizer as transformers does, and `sigext.json` beside them; returns the folder."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_settings(folder, self.settings)
        return folder

    def phrases(self, document: str) -> list[Phrase]:
        """The candidates of a document, after `settings.reading.clean`."""
        return self.settings.reading.phrases(document)

    def score_rows(self, rows: Sequence[Row]) -> list[list[float]]:
        """The score of each phrase of each row, NaN for those beyond the encoder's reach; equal in any order and batch."""
        owners: list[int] = []
        windows: list[Encoded] = []
        for i, row in enumerate(rows):
            for window in self.encoder.windows(row.document, row.phrases):
                owners.append(i)
                windows.append(window)
        scores = [[math.nan] * len(row.phrases) for row in rows]
        lengths = [len(window.input_ids) for window in windows]
        for group in grouped(lengths, self._budget(), self._multiple):
            for window_index, values in zip(group, self._forward([windows[i] for i in group]), strict=True):
                best = scores[owners[window_index]]
                for i, value in enumerate(values):
                    if not math.isnan(value) and not best[i] >= value:
                        best[i] = value
        return scores

    def _budget(self) -> int:
        if self.model.device.type != "cpu":
            return self.batch_tokens
        return min(self.batch_tokens, CPU_ACTIVATIONS // int(self.model.config.hidden_size))

    def score(self, documents: Sequence[str]) -> list[list[ScoredPhrase]]:
        """The scored candidates of each document in reading order.

        Those beyond the encoder's reach are left out, and the log says how many.
        """
        rows = self._rows(documents)
        scores = self.score_rows(rows)
        unscored = sum(math.isnan(value) for values in scores for value in values)
        if unscored:
            log.warning(
                "%d phrases lie beyond the %d tokens that the encoder reads and have no score. Give a stride to reach them.",
                unscored,
                self.settings.max_length,
            )
        return [
            [ScoredPhrase(p, s) for p, s in zip(row.phrases, values, strict=True) if not math.isnan(s)]
            for row, values in zip(rows, scores, strict=True)
        ]

    def keyphrases(self, documents: Sequence[str], k: int | None = None) -> list[list[Phrase]]:
        """The phrases of each document that a prompt would show, the best first: at most `k`, none under tau, no two alike.

        Args:
            documents: texts, [N].
            k: how many at most; None: the stored number.

        Raises:
            BadConfig: `k` is below 1.
        """
        rows = self._rows(documents)
        wanted = self.settings.k if k is None else k
        return [
            [row.phrases[i] for i in select(row.phrases, values, wanted, tau=self.settings.tau)]
            for row, values in zip(rows, self.score_rows(rows), strict=True)
        ]

    def fit(
        self,
        rows: Sequence[Row],
        validation: Sequence[Row] = (),
        *,
        train: TrainConfig | None = None,
        folder: Path | None = None,
        seed: int = 0,
    ) -> SigExtModel:
        """Train on rows with labels and return the extractor itself, with its threshold set.

        Args:
            rows: what to learn from.
            validation: chooses the epoch and sets tau.
            train: optimisation; None takes the paper's.
            folder: where checkpoints go, so that a killed training goes on; None: a temporary folder.
            seed: of the order of documents and of dropout.
        """
        fit_rows(self, rows, validation, train=train, folder=folder, seed=seed)
        return self

    @property
    def _multiple(self) -> int:
        return window_of(self.model.config)

    def _forward(self, windows: Sequence[Encoded]) -> list[list[float]]:
        batch = padded([window.input_ids for window in windows], self.tokenizer.pad_token_id, self._multiple)
        batch = {name: tensor.to(self.model.device) for name, tensor in batch.items()}
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            logits = self.model(**batch).logits
        self.model.train(was_training)
        return phrase_scores(logits, [window.spans for window in windows])

    def _rows(self, documents: Iterable[str]) -> list[Row]:
        clean = [self.settings.reading.clean(document) for document in documents]
        return [Row(str(i), text, phrases=tuple(self.phrases(text))) for i, text in enumerate(clean)]


def _classifier(ref: str | Path, device: str, rng: Rng | None = None) -> Any:
    from transformers import AutoModelForTokenClassification

    ref = model_at(ref)
    config = load_config(ref)
    with seeded(
        Rng(0).child("sigext head")
    ):  # a head that the checkpoint lacks is drawn; the same one every time
        try:
            model = load_weights(
                AutoModelForTokenClassification,
                ref,
                num_labels=2,
                ignore_mismatched_sizes=config.num_labels != 2,
            )
        except ValueError as error:
            raise ModelMismatch(
                f'Model "{ref}" is {config.model_type}, which has no token classifier. Use an encoder such as Longformer.'
            ) from error
    return model.to(device_for(device)).eval()
