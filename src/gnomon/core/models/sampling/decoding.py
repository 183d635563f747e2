"""Rows in the middle of being written: their cache, and the logits of the next token.

One class for models that continue the prompt and one for models whose decoder writes beside it. Both are read once
per prompt, started once per sample, and then step.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.architectures.parts import (
    Positions,
    Seeing,
    base_of,
    no_positions,
    text_positions,
)
from gnomon.core.models.architectures.sites import module_at
from gnomon.core.models.architectures.vision import by_axis
from gnomon.core.models.batch import Batch, pad
from gnomon.core.models.hooks import reading
from gnomon.core.models.reading import agree, keeps_cache, say_slow, takes_positions
from gnomon.core.models.sampling.cache import (
    Again,
    WholeSeen,
    WholeText,
    check_room,
    last_logits,
    new_cache,
    new_cross_cache,
    read_ahead,
    select_rows,
)
from gnomon.errors import ModelMismatch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@runtime_checkable
class Decoding(Protocol):
    """Rows side by side, each with the logits of its next token."""

    logits: Float[Tensor, "B V"]

    def start(self, sources: Int[Tensor, " K"], room: int) -> Decoding:
        """New rows that go on from the given ones, with room for so many tokens; these stay as they are."""

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        """Read one more token of each row; rows that are not going read it in vain."""

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Let all other rows go."""

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        """The logits behind k more tokens of each row; rows, positions and cache stay as they were.

        Rows that are not going read in vain. None: all are going.

        Raises:
            BadInput: the model has no positions for them.
        """


def read_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], places: Sequence[int], pad_id: int
) -> Decoding:
    """Prompts that the model has read.

    Args:
        model: a causal or a sequence-to-sequence model.
        prompts: token ids.
        places: which prompt of the call each is, for edits.
        pad_id: fills what is masked.
    """
    is_beside = model.config.is_encoder_decoder
    if not is_beside and not keeps_cache(model, new_cache):
        say_slow(model)
        return WholeText(
            model, [list(prompt) for prompt in prompts], torch.tensor(list(places), device=model.device)
        )
    # An encoder such as BART's counts positions from the left edge, masked ones too.
    batch = pad(prompts, pad_id, "right" if is_beside else "left").to(model.device)
    rows = torch.tensor(list(places), device=model.device)
    return (_BesidePrompt if is_beside else AfterPrompt)(model, batch, rows)


def read_images(
    model: PreTrainedModel, family: Seeing, batch: Batch, places: Sequence[int], again: Again
) -> Decoding:
    """Prompts with images, or without, that a vision-language model has read.

    A model without a table is asked which positions it takes: those count with which a prompt beside others, and its next token
    after the cache, have the logits that they have alone. Where there are none, each text is read anew for every token.

    Args:
        model: a vision-language model.
        family: how it is shown images.
        batch: the prompts, padded on the left.
        places: which prompt of the call each is, for edits.
        again: a prompt of the batch with more tokens, alone.
    """
    rows = torch.tensor(list(places), device=model.device)
    if family.positions is not None:
        return _AfterImages(model, family, family.positions, batch, rows)
    is_padded = not bool(batch.mask.all())
    by_padding = _counts.setdefault(model, {})
    if is_padded not in by_padding:
        by_padding[is_padded] = _positions_of(model, family, batch, again)
    counts = by_padding[is_padded]
    if counts is None:
        say_slow(model)
        return WholeSeen(model, again, len(rows), rows)
    return _AfterImages(model, family, counts, batch, rows)


_counts: WeakKeyDictionary[Any, dict[bool, Positions | None]] = WeakKeyDictionary()
"""Model -> whether prompts are padded -> the positions that it takes; None where it cannot go on from a cache."""


def _positions_of(model: Any, family: Seeing, batch: Batch, again: Again) -> Positions | None:
    """The positions with which a model reads the shortest prompt of a batch, and one more token, as it does alone."""
    counts: list[Positions] = [text_positions, no_positions]
    if any(hasattr(module, "get_rope_index") for module in base_of(model).modules()):
        counts = [
            by_axis,
            _by_axis_alone,
            text_positions,
        ]  # left alone, such models remember the last batch's
    row = int(batch.mask.sum(-1).argmin())
    alone = last_logits(model, again(row, []))
    token = int(alone.argmax())
    after = last_logits(model, again(row, [token]))
    rows = torch.arange(len(batch.mask), device=batch.mask.device)
    for count in counts:
        try:
            decoding = _AfterImages(model, family, count, batch, rows)
            if not agree(decoding.logits[row], alone):
                continue
            decoding = decoding.start(rows, 1)
            decoding.step(torch.full_like(rows, token), torch.ones_like(rows, dtype=torch.bool))
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
            continue
        if agree(decoding.logits[row], after):
            return count
    return None


def _by_axis_alone(model: Any, batch: Batch) -> tuple[Tensor | None, Int[Tensor, "B 1"]]:
    """Time, row and column, [3, B, T]."""
    places, shift = by_axis(model, batch)
    return places[1:], shift


def start_token(model: PreTrainedModel) -> int:
    """What a decoder reads before its first token.

    Raises:
        ModelMismatch: the checkpoint does not say.
    """
    for name in ("decoder_start_token_id", "bos_token_id"):
        for config in (model.generation_config, model.config):
            token_id = getattr(config, name, None)
            if token_id is not None:
                return int(token_id)
    raise ModelMismatch(
        f"{type(model).__name__} does not say what its decoder begins with. Set model.config.decoder_start_token_id."
    )


def last_logits_only(model: Any) -> dict[str, int]:
    """The argument that keeps a model from making the logits of every token, where it has one."""
    takes = inspect.signature(base_of(model).forward).parameters
    return {"logits_to_keep": 1} if "logits_to_keep" in takes else {}


class AfterPrompt:
    """A causal model: the completion follows the prompt, which is padded on the left."""

    def __init__(self, model: PreTrainedModel, batch: Batch, rows: Int[Tensor, " B"]):
        self.model, self.rows = model, rows
        self.takes_positions = takes_positions(model)
        self._read(model, batch, batch.inputs(model=model))

    def _read(self, model: Any, batch: Batch, inputs: dict[str, Tensor]) -> None:
        self.mask = batch.mask.long()
        self.seen = self.mask.shape[1]
        self.position = batch.position_ids[:, -1:]
        self.cache = new_cache(self.model)
        with reading(self.rows):
            output = model(**inputs, **last_logits_only(model), past_key_values=self.cache, use_cache=True)
        self.logits: Tensor = output.logits[:, -1].clone()

    def _position_ids(self, places: Int[Tensor, "B k"]) -> Tensor:
        """What the model takes for tokens at these places of their texts."""
        return places

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        """The logits behind k more tokens of each row, which are then forgotten."""
        n = suffix.shape[1]
        if not n:
            return self.logits
        ahead = torch.arange(1, n + 1, device=self.position.device).expand(len(suffix), n)
        places = self.position + (ahead if going is None else ahead * going.long()[:, None])
        check_room(self.model, int(places.max()) + 1)
        mask = torch.cat([self.mask[:, : self.seen], self.mask.new_ones(suffix.shape)], 1)

        def read(cache: Any) -> Tensor:
            with reading(self.rows):
                output = self.model(
                    input_ids=suffix,
                    attention_mask=mask,
                    **({"position_ids": self._position_ids(places)} if self.takes_positions else {}),
                    **last_logits_only(self.model),
                    past_key_values=cache,
                    use_cache=True,
                )
            logits: Tensor = output.logits[:, -1]
            return logits

        return read_ahead(self.cache, len(suffix), read, n)

    def start(self, sources: Int[Tensor, " K"], room: int) -> AfterPrompt:
        """New rows that go on from the given ones."""
        new = copy(self)
        new.cache = select_rows(self.cache, sources)
        new.rows, new.logits, new.position = self.rows[sources], self.logits[sources], self.position[sources]
        new.mask = torch.nn.functional.pad(self.mask[sources], (0, room), value=1)
        return new

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        """Read one more token of each row."""
        # Rows that have ended stay where they are: their next position might be one the model does not have.
        self.position = self.position + going.long()[:, None]
        self.seen += 1
        with reading(self.rows):
            output = self.model(
                input_ids=tokens[:, None],
                attention_mask=self.mask[:, : self.seen],
                **({"position_ids": self._position_ids(self.position)} if self.takes_positions else {}),
                past_key_values=self.cache,
                use_cache=True,
            )
        self.logits = output.logits[:, -1]

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        """Let all other rows go."""
        self.cache.batch_select_indices(rows)
        self.rows, self.mask, self.position = self.rows[rows], self.mask[rows], self.position[rows]


class _AfterImages(AfterPrompt):
    """A vision-language model: the images are read with the prompt, then its language model goes on alone."""

    def __init__(
        self, model: Any, family: Seeing, positions: Positions, batch: Batch, rows: Int[Tensor, " B"]
    ):
        self.model, self.rows = module_at(model, family.language), rows  # type: ignore[assignment]
        placed, self.shift = positions(base_of(model), batch)
        self.takes_positions = placed is not None
        self.axes = () if placed is None else placed.shape[:-2]
        self._read(
            self.model if batch.images is None else model,
            batch,
            batch.inputs("vlm") | ({} if placed is None else {"position_ids": placed}),
        )

    def _position_ids(self, places: Int[Tensor, "B k"]) -> Tensor:
        placed = places + self.shift
        if not self.axes:
            return placed
        if self.axes[0] == 3:
            return placed.expand(3, -1, -1)
        # The place in the text, then that along each axis.
        return torch.cat([places[None], placed.expand(self.axes[0] - 1, -1, -1)])

    def start(self, sources: Int[Tensor, " K"], room: int) -> _AfterImages:
        new: Any = super().start(sources, room)
        new.shift = self.shift[sources]
        return new

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        super().keep(rows)
        self.shift = self.shift[rows]


class _BesidePrompt:
    """A sequence-to-sequence model: the encoder has read the prompt, the decoder begins with its start token."""

    def __init__(self, model: PreTrainedModel, batch: Batch, rows: Int[Tensor, " B"]):
        self.model, self.rows = model, rows
        self.mask = batch.mask.long()
        self.cache = new_cross_cache(model)
        with reading(rows):
            encoder: Any = model.get_encoder()
            self.encoded: Tensor = encoder(input_ids=batch.input_ids, attention_mask=self.mask)[0]
        self._read(torch.full_like(rows, start_token(model)))

    def start(self, sources: Int[Tensor, " K"], room: int) -> _BesidePrompt:
        new = copy(self)
        new.cache = select_rows(self.cache, sources)
        new.rows, new.logits = self.rows[sources], self.logits[sources]
        new.mask, new.encoded = self.mask[sources], self.encoded[sources]
        return new

    def step(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> None:
        self._read(tokens)

    def keep(self, rows: Int[Tensor, " K"]) -> None:
        self.cache.batch_select_indices(rows)
        self.rows, self.mask, self.encoded = self.rows[rows], self.mask[rows], self.encoded[rows]

    def peek(
        self, suffix: Int[Tensor, "B k"], going: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "B V"]:
        n = suffix.shape[1]
        if not n:
            return self.logits
        check_room(self.model, self.cache.get_seq_length() + n)
        return read_ahead(self.cache, len(suffix), lambda cache: self._logits(suffix, cache), n)

    def _read(self, tokens: Int[Tensor, " B"]) -> None:
        self.logits: Tensor = self._logits(tokens[:, None], self.cache)

    def _logits(self, tokens: Int[Tensor, "B k"], cache: Any) -> Float[Tensor, "B V"]:
        with reading(self.rows):
            output = self.model(
                encoder_outputs=(self.encoded,),
                attention_mask=self.mask,
                decoder_input_ids=tokens,
                past_key_values=cache,
                use_cache=True,
            )
        logits: Tensor = output.logits[:, -1]
        return logits
