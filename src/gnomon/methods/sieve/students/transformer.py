"""Students that are transformers: `t5-encoder`, and whatever transformers can put a classifier on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gnomon.core.env import device_for
from gnomon.core.models import load_tokenizer
from gnomon.core.models.load.conversion import quiet
from gnomon.core.rng import Rng
from gnomon.methods.sieve.students import networks
from gnomon.methods.sieve.students.base import Description, Fitted, Span, check_labels, write_description
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.tokens import Tokens, score_texts
from gnomon.methods.sieve.students.training import pretrain, train_classifier

START = "start.safetensors"

State = dict[str, Tensor]


class TransformerStudent:
    """A student that fine-tunes a pretrained transformer.

    Args:
        name: the reference it was opened with.
        kind: `networks.T5` or `networks.SEQUENCE`.
        origin: model folder or hub id that every fit begins from.
        config: how it is trained and how it scores.
        saved: folder of a saved student to open; None opens `origin`.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        origin: str,
        config: StudentConfig | None = None,
        saved: Path | None = None,
    ):
        self.name, self.kind, self.origin = name, kind, origin
        self.config = config or StudentConfig()
        device = device_for(self.config.device)
        at = saved or origin
        tokenizer = load_tokenizer(at)
        self.model = networks.load_classifier(at, kind, self.config.dropout).to(device)
        self.tokens = Tokens(tokenizer, networks.longest_input(self.model, tokenizer, self.config.max_tokens))
        if self.model.config.pad_token_id is None:
            self.model.config.pad_token_id = tokenizer.pad_token_id
        self._start = None if saved else _copy(self.model)
        self._start_file = saved / START if saved and (saved / START).is_file() else None
        self._is_adapted = self._start_file is not None

    def token_spans(self, text: str) -> list[Span]:
        """Where the tokenizer's tokens lie; special tokens have no place."""
        return self.tokens.spans(text)

    def adapt(self, texts: Sequence[str], rng: Rng) -> None:
        """Train the T5 that fits begin from with span corruption, for `adapt_steps` steps; other kinds do nothing.

        Each call begins from the original weights.

        Raises:
            BadInput: no text has two tokens.
            ModelMismatch: the tokenizer has no sentinels.
        """
        if self.kind != networks.T5 or not self.config.adapt_steps:
            return
        whole = networks.load_t5(self.origin).to(self.model.device)
        pretrain(
            whole,
            self.tokens,
            texts,
            steps=self.config.adapt_steps,
            lr=self.config.adapt_lr,
            batch_size=self.config.adapt_batch_size,
            precision=self.config.precision,
            rng=rng.child("adapt"),
        )
        begin = networks.load_classifier(self.origin, self.kind, self.config.dropout)
        begin.transformer.encoder.load_state_dict(whole.encoder.state_dict())
        self._start, self._is_adapted = _copy(begin), True
        self.model.load_state_dict(self._start)

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[int],
        weights: Sequence[float],
        rng: Rng,
        *,
        groups: Sequence[str] | None = None,
    ) -> Fitted:
        """Fine-tune from the starting weights; see `StudentConfig` for the schedule and early stopping.

        Raises:
            BadInput: the labels are unusable, or the starting model of a saved student is gone.
            UserError: the loss is not finite.
        """
        targets, alphas = check_labels(texts, labels, weights, groups)
        self.model.load_state_dict(self._starting_weights())
        return train_classifier(
            self.model, self.tokens, texts, targets, alphas, self.config, rng.child("fit"), groups
        )

    def predict(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Scores in 0..1, [N]; of the starting weights where nothing was fitted."""
        logits = score_texts(
            self.model, self.tokens, texts, budget=self.config.score_tokens, precision=self.config.precision
        )
        return np.exp(-np.logaddexp(0.0, -logits))

    def save(self, folder: Path) -> None:
        """Write the model as `save_pretrained` does, its tokenizer, and what fits begin from where that was adapted."""
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.model.save_pretrained(folder)
        self.tokens.tokenizer.save_pretrained(folder)
        if self._is_adapted:
            save_file(self._starting_weights(), folder / START)
        origin = Path(self.origin)
        at = str(origin.resolve()) if origin.is_dir() else self.origin
        write_description(folder, Description(self.kind, self.name, self.config, {"origin": at}))

    def _starting_weights(self) -> State:
        if self._start is None:
            from safetensors.torch import load_file

            if self._start_file is not None:
                self._start = load_file(self._start_file)
            else:
                self._start = _copy(networks.load_classifier(self.origin, self.kind, self.config.dropout))
        return self._start


def _copy(model: Any) -> State:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
