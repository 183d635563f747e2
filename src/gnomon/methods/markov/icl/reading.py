"""A model's prediction of the next state at every step of a series written as text: "3,1,4,".

The distribution of x_{n+1} is read at the separator behind x_n. Where every state is one token that is one forward pass a series.
Where the tokenizer splits numbers into digits, a state's probability is the product of its digits' probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gnomon.core.models.sampling.cache import new_cache, select_rows
from gnomon.errors import BadInput, ModelMismatch
from gnomon.methods.markov.chain.chain import Floats, log_softmax
from gnomon.methods.markov.chain.scores import prefix_ids
from gnomon.methods.markov.icl.series import Series

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SEPARATOR = ","


@dataclass(frozen=True)
class Prediction:
    """What a model predicts along one series."""

    at: NDArray[np.int64]
    """Numbers of states read before each prediction, from 1, `[M]`."""
    p: Floats
    """Distribution of the next state, `[M, d]`."""
    lost: Floats
    """Probability that the model gave to anything but the d states, `[M]`; 0 where that is unknown."""

    @classmethod
    def from_logits(cls, logits: NDArray[np.floating], at: Sequence[int] | None = None) -> Prediction:
        """From logits of the d states alone, `[M, d]`, computed elsewhere.

        Args:
            logits: row n is read behind x_n.
            at: numbers of states read; None: 1, 2, ...
        """
        p = np.exp(log_softmax(np.asarray(logits, dtype=np.float64)))
        return cls(np.arange(1, len(p) + 1) if at is None else np.asarray(at), p, np.zeros(len(p)))


@dataclass(frozen=True)
class Writing:
    """How states become tokens: `width` digits each, one token a state or one a digit."""

    first: int
    """The number that stands for state 0."""
    width: int
    """Digits of every number."""
    separator: int
    """Token id of the separator."""
    pieces: tuple[tuple[int, ...], ...]
    """Token ids of each state."""

    @property
    def is_single(self) -> bool:
        """Whether every state is one token."""
        return all(len(piece) == 1 for piece in self.pieces)

    def ids(self, x: Sequence[int]) -> list[int]:
        """Token ids of a series, a separator behind every state."""
        return [token for state in x for token in (*self.pieces[state], self.separator)]


def write_states(tokenizer: PreTrainedTokenizerBase, states: int, first: int | None = None) -> Writing:
    """How this tokenizer writes d states.

    Args:
        tokenizer: the model's.
        states: d.
        first: the number for state 0; None: 0 for up to ten states, else so that all have the same number of digits and lie in the
            middle of their range (150 for d = 700).

    Raises:
        ModelMismatch: the tokenizer joins a separator to a number, or cuts numbers into pieces that are not digits.
    """
    width = 1 if states <= 10 else next(w for w in range(2, 10) if 9 * 10 ** (w - 1) >= states)
    low, room = (0, 10) if width == 1 else (10 ** (width - 1), 9 * 10 ** (width - 1))
    if first is None:
        first = 0 if width == 1 else max(low, (10**width - states) // 2)
    if not (low <= first and first + states <= low + room):
        raise BadInput(f"{states} states from {first} on are not all numbers of {width} digits.")
    names = [str(first + state) for state in range(states)]
    ids = list(
        tokenizer(SEPARATOR + "".join(name + SEPARATOR for name in names), add_special_tokens=False)[
            "input_ids"
        ]
    )
    comma = ids[-1]
    chunks: list[list[int]] = [[]]
    for token in ids:
        if token == comma:
            chunks.append([])
        else:
            chunks[-1].append(token)
    pieces = tuple(tuple(chunk) for chunk in chunks[1:-1])
    lengths = {len(piece) for piece in pieces}
    is_sound = (
        len(pieces) == states and len(set(pieces)) == states and lengths <= {1, width} and len(lengths) == 1
    )
    digits = {
        token: name[i]
        for piece, name in zip(pieces, names, strict=False)
        if len(piece) == width
        for i, token in enumerate(piece)
    }
    if not is_sound or (lengths != {1} and len(digits) > 10):
        raise ModelMismatch(
            f"The tokenizer writes numbers such as {names[0]}{SEPARATOR}{names[-1]}{SEPARATOR} neither as one token each nor "
            "digit by digit, with the separator apart. Use fewer states, or another model."
        )
    return Writing(first, width, comma, pieces)


def predict(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    series: Sequence[Series],
    *,
    at: Sequence[int] | None = None,
    bos: str = "auto",
    batch_size: int = 8,
    writing: Writing | None = None,
) -> list[Prediction]:
    """The model's predictions along each series.

    Args:
        model: a causal model.
        tokenizer: its tokenizer.
        series: of equal length and number of states.
        at: after how many states to predict; None: after every one. Digit by digit each costs as many tokens as numbers begin
            differently, so there 40 places spread over the logarithm of n are the default.
        bos: begin-of-text token in front: "auto", "yes" or "no".
        batch_size: series at once; digit by digit, beginnings at once are four times as many.
        writing: how states are written; None: as `write_states` finds.

    Raises:
        BadInput: the series differ in length or states.
        ModelMismatch: they do not fit the model's positions, or its tokenizer.
    """
    import torch

    if not series or len({(len(chain.x), chain.states) for chain in series}) != 1:
        raise BadInput("Series that are predicted together need the same length and number of states.")
    writing = writing or write_states(tokenizer, series[0].states)
    front = prefix_ids(tokenizer, bos=bos)
    rows = [[*front, *writing.ids(chain.x.tolist())] for chain in series]
    _check_round_trip(tokenizer, writing, series[0])
    _check_positions(model, len(rows[0]) + writing.width)
    length = len(series[0].x)
    if writing.is_single:
        places = np.arange(1, length + 1) if at is None else np.asarray(sorted(at))
        predictions = []
        for start in range(0, len(rows), batch_size):
            predictions += _single(
                model, torch.tensor(rows[start : start + batch_size]), len(front), writing, places
            )
        return predictions
    places = (
        np.unique(np.geomspace(1, length, 40).round().astype(int)) if at is None else np.asarray(sorted(at))
    )
    return [_digits(model, row, len(front), writing, places, 4 * batch_size) for row in rows]


def _single(
    model: Any, ids: Any, front: int, writing: Writing, places: NDArray[np.int64]
) -> list[Prediction]:
    import torch

    columns = torch.tensor([piece[0] for piece in writing.pieces], device=model.device)
    with torch.no_grad():
        logits = model(input_ids=ids.to(model.device), use_cache=False).logits
        logits = logits[:, torch.as_tensor(front - 1 + 2 * places, device=model.device)]
        total = torch.logsumexp(logits.float(), -1)
        chosen = logits[:, :, columns].float()
    picked = chosen.double().cpu().numpy()
    kept = np.exp(torch.logsumexp(chosen.double(), -1).cpu().numpy() - total.double().cpu().numpy())
    return [
        Prediction(places, np.exp(log_softmax(row)), np.clip(1 - share, 0, 1))
        for row, share in zip(picked, kept, strict=True)
    ]


def _digits(
    model: Any, row: list[int], front: int, writing: Writing, places: NDArray[np.int64], batch: int
) -> Prediction:
    """Predictions where a state is several digits: all prefixes of states are read behind the cache of the context."""
    import torch

    ids = torch.tensor([row], device=model.device)
    size = writing.width + 1
    begins = [sorted({piece[:level] for piece in writing.pieces}) for level in range(writing.width)]
    cache, done = new_cache(model), 0
    p = np.empty((len(places), len(writing.pieces)))
    with torch.no_grad():
        for m, n in enumerate(places.tolist()):
            end = front + n * size
            here = model(input_ids=ids[:, done:end], past_key_values=cache, use_cache=True).logits[0, -1]
            done = end
            after: dict[tuple[int, ...], torch.Tensor] = {(): torch.log_softmax(here.double(), -1)}
            for level in range(1, writing.width):
                for start in range(0, len(begins[level]), batch):
                    some = begins[level][start : start + batch]
                    fork = select_rows(cache, torch.zeros(len(some), dtype=torch.long, device=model.device))
                    logits = model(
                        input_ids=torch.tensor(some, device=model.device),
                        past_key_values=fork,
                        use_cache=True,
                    ).logits[:, -1]
                    after |= zip(some, torch.log_softmax(logits.double(), -1), strict=True)
            p[m] = [
                sum(float(after[piece[:level]][token]) for level, token in enumerate(piece))
                for piece in writing.pieces
            ]
    total = np.exp(p).sum(1)
    return Prediction(places, np.exp(log_softmax(p)), np.clip(1 - total, 0, 1))


def _check_round_trip(tokenizer: PreTrainedTokenizerBase, writing: Writing, chain: Series) -> None:
    """Whether the series as one text has the tokens that its states have one by one."""
    text = SEPARATOR + "".join(f"{writing.first + state}{SEPARATOR}" for state in chain.x.tolist())
    ids, expected = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"]),
        writing.ids(chain.x.tolist()),
    )
    if ids[-len(expected) - 1 :] != [writing.separator, *expected]:
        raise ModelMismatch(
            "The tokenizer joins tokens of a series that it writes one by one elsewhere; its predictions cannot be placed."
        )


def _check_positions(model: PreTrainedModel, needed: int) -> None:
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is not None and needed > positions:
        raise ModelMismatch(
            f"The series needs {needed} tokens and the model has {positions} positions. Use a shorter one."
        )
