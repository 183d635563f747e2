"""The sampling loop: rows written side by side, each from its own random numbers.

One token per row from a batch of logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gnomon.core.models.sampling.config import GenConfig
from gnomon.core.models.sampling.decoding import Decoding
from gnomon.core.models.sampling.text import StopFinder
from gnomon.core.rng import Rng

# One token per row from a batch of logits.


def choose(
    logits: Float[Tensor, "B V"],
    temperature: float | Float[Tensor, " B"],
    top_p: float,
    uniform: Float[Tensor, " B"],
    top_k: int | None = None,
) -> Int[Tensor, " B"]:
    """The token of each row at which the cumulative distribution passes the row's uniform number.

    Args:
        logits: the model's logits.
        temperature: divides them, of all rows or of each; 0 takes the largest, the first of equals.
        top_p: the likeliest tokens are kept until they hold this much probability, in (0, 1].
        uniform: numbers in [0, 1); unused at temperature 0.
        top_k: only so many of the likeliest tokens, the first of equals, before `top_p`; None: all.
    """
    if isinstance(temperature, Tensor):
        drawn = choose(logits / temperature.where(temperature > 0, 1.0)[:, None], 1.0, top_p, uniform, top_k)
        return drawn.where(temperature > 0, logits.argmax(-1))
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.float() if top_k is None else _likeliest(logits.float(), top_k)
    probs = torch.softmax(logits / temperature, -1)
    if top_p == 1:
        cumulative = probs.cumsum(-1)
        return _invert(cumulative, uniform, cumulative[:, -1])
    # Many rows of a trained model are sure: their likeliest token alone holds top_p. Only others are sorted.
    likeliest, tokens = probs.max(-1)
    unsure = (likeliest < top_p).nonzero().squeeze(-1)
    if len(unsure):
        descending, order = probs[unsure].sort(dim=-1, descending=True, stable=True)
        cumulative = descending.cumsum(-1)
        last = (cumulative < top_p).sum(-1, keepdim=True).clamp(max=probs.shape[-1] - 1)
        mass = cumulative.gather(-1, last).squeeze(-1)
        drawn = _invert(cumulative, uniform[unsure], mass)
        tokens[unsure] = order.gather(-1, drawn[:, None]).squeeze(-1)
    return tokens


def _likeliest(logits: Float[Tensor, "B V"], k: int) -> Float[Tensor, "B V"]:
    """Logits of the k largest, of equals the first; the others are minus infinity."""
    if k >= logits.shape[-1]:
        return logits
    least = logits.topk(k).values[:, -1:]
    ties, above = logits == least, logits > least
    is_kept = above | (ties & (ties.cumsum(-1) <= k - above.sum(-1, keepdim=True)))
    return logits.masked_fill(~is_kept, -torch.inf)


def _invert(
    cumulative: Float[Tensor, "B V"], uniform: Float[Tensor, " B"], mass: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """First place of each row whose cumulative sum is above its share of `mass`, the sum that counts as 1."""
    # Rounding may lift the product to the mass itself, which only a token of probability 0 could pass.
    target = torch.minimum(uniform * mass, torch.nextafter(mass, torch.zeros_like(mass)))
    return torch.searchsorted(cumulative, target[:, None], right=True).squeeze(-1)


# The sampling loop: rows written side by side, each from its own random numbers.

# Rows that have ended leave the batch once they make up this share of it: leaving costs a copy of the cache.
COMPACT_SHARE = 0.125


@dataclass(frozen=True)
class Progress:
    """What `watch` sees after each sampled token: the rows still being written."""

    rows: tuple[tuple[int, int], ...]
    """(index of the prompt, index of the sample) of each row."""
    token_ids: Int[Tensor, "B t"]
    """What each row has sampled so far, the newest token last."""
    logits: Float[Tensor, "B V"]
    """The model's logits from which the newest token was drawn."""
    look: Callable[[Int[Tensor, "B k"], Bool[Tensor, " B"] | None], Float[Tensor, "K V"]] | None = None
    """What `peek` asks; None where no model stands behind."""
    ended: tuple[str, ...] = ()
    """Why the newest token ended each row, `eos`, `stop` or `length`; empty text where it goes on. Such rows are shown, once, only
    to a watch with an attribute `sees_ends` that is True."""

    def peek(
        self, suffix: Int[Tensor, "B k"], rows: Bool[Tensor, " B"] | None = None
    ) -> Float[Tensor, "K V"]:
        """The logits that follow each row and `suffix`, which is then forgotten: what is written does not change by it.

        Args:
            suffix: tokens behind the newest one of each row; none gives the logits of the next token.
            rows: True at those that are looked at; the others are not read, and a copy of the cache of these is. None: all, on
                the cache itself.

        Raises:
            BadInput: the model has no positions for them.
        """
        if self.look is None:
            raise RuntimeError("This progress is not that of a model, so there is nothing to look ahead in.")
        return self.look(suffix, rows)


Watch = Callable[[Progress], Tensor | None]
"""Called at each step; a returned Bool [B] ends the rows where it is True."""


LOOP, LONGEST_PERIOD, LOOK_EVERY = 128, 128, 16
"""Fewest tokens that must say one thing three times or more for a row to count as a loop, the longest such thing, and tokens
between two looks."""


def end_loops(progress: Progress) -> Tensor | None:
    """A `Watch` that ends rows whose end, of `LOOP` tokens or more, repeats one stretch at least three times.

    At temperature 0 such a row would go on to its limit: every token before it asks for the same one again. Small models end so.
    """
    n = progress.token_ids.shape[1]
    if n < LOOP or n % LOOK_EVERY:
        return None
    ids = progress.token_ids
    loops = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    for period in range(1, min(LONGEST_PERIOD, n // 3) + 1):
        end = ids[:, -max(LOOP, 3 * period) :]
        loops |= (end[:, period:] == end[:, :-period]).all(-1)
    return loops


@dataclass
class Row:
    """One completion in the making."""

    key: tuple[int, int]
    """(index of the prompt, index of the sample)."""
    prompt: list[int]
    """Token ids of the prompt."""
    limit: int
    """Most tokens it may have."""
    stream: Rng
    """Its own random numbers."""
    token_ids: list[int] = field(default_factory=list)
    """What was sampled; filled in at the end, like the next two."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probability of each token under the model."""
    logits: list[float] = field(default_factory=list)
    """Raw logit of each token."""
    finish: str = "length"
    """Why it ended."""


class Sampler:
    """Rows sampled side by side. `live` maps the rows of the tensors to those of the batch as it began."""

    def __init__(
        self,
        prefix: Decoding,
        sources: Sequence[int],
        rows: Sequence[Row],
        gen: GenConfig,
        stops: StopFinder,
        ends: Set[int],
        watch: Watch | None,
    ):
        device = prefix.logits.device
        self.rows, self.gen, self.stops, self.watch = rows, gen, stops, watch
        self.width = max(row.limit for row in rows)
        self.decoding = prefix.start(torch.tensor(sources, device=device), self.width)
        self.live = torch.arange(len(rows), device=device)
        self.has_ended = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self.limits = torch.tensor([row.limit for row in rows], device=device)
        self.uniforms = torch.from_numpy(
            np.zeros((len(rows), self.width), dtype=np.float32)
            if gen.is_greedy
            else np.stack([row.stream.numpy().random(self.width, dtype=np.float32) for row in rows])
        ).to(device)
        heats = [gen.temperature_of(row.key[1]) for row in rows]
        self.heats = None if len(set(heats)) == 1 else torch.tensor(heats, device=device)
        self.heat = heats[0]
        self.token_ids = torch.zeros(len(rows), self.width, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(len(rows), self.width, device=device)
        self.logits = torch.zeros(len(rows), self.width, device=device)
        self.ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self.banned = torch.tensor(gen.banned, dtype=torch.long, device=device) if gen.banned else None

    def run(self) -> None:
        """Sample every row to its end and fill in its tokens, log-probabilities and reason."""
        for t in range(self.width):
            tokens = self._draw(t)
            self._end_rows(tokens, t)
            left = int((~self.has_ended).sum())
            if left == 0:
                break
            if left <= len(self.live) * (1 - COMPACT_SHARE):
                tokens = self._compact(tokens)
            self.decoding.step(tokens, ~self.has_ended)

    def _draw(self, t: int) -> Int[Tensor, " B"]:
        logits = self._legal(self.decoding.logits)
        heat = self.heat if self.heats is None else self.heats[self.live]
        tokens = choose(logits, heat, self.gen.top_p, self.uniforms[self.live, t], self.gen.top_k)
        chosen = logits.gather(-1, tokens[:, None]).squeeze(-1).float()
        self.token_ids[self.live, t] = tokens
        self.logits[self.live, t] = chosen
        self.logprobs[self.live, t] = chosen - logits.float().logsumexp(-1)
        return tokens

    def _legal(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Logits in which ids that are never written have no probability."""
        return logits if self.banned is None else logits.index_fill(-1, self.banned, -torch.inf)

    def _end_rows(self, tokens: Int[Tensor, " B"], t: int) -> None:
        """Note the rows that the newest token ended."""
        going = ~self.has_ended
        self._end(torch.isin(tokens, self.ends), t, "eos")
        if self.stops.stop:
            self._end(self._at_stop(tokens, t), t, "stop")
        is_last = self.limits[self.live] == t + 1
        if self.watch is not None:
            if getattr(self.watch, "sees_ends", False):
                self._end(is_last, t, "length")
                self._end(self._watched(self.watch, tokens, t, going), t, "watch")
            else:
                self._end(self._watched(self.watch, tokens, t, ~self.has_ended), t, "watch")
        self._end(is_last, t, "length")

    def _end(self, ended: Bool[Tensor, " B"], t: int, why: str) -> None:
        ended = ended & ~self.has_ended
        for i in self.live[ended].tolist():
            row = self.rows[i]
            row.token_ids = self.token_ids[i, : t + 1].tolist()
            row.logprobs = self.logprobs[i, : t + 1].tolist()
            row.logits = self.logits[i, : t + 1].tolist()
            row.finish = why
        self.has_ended |= ended

    def _at_stop(self, tokens: Int[Tensor, " B"], t: int) -> Bool[Tensor, " B"]:
        ended = torch.zeros_like(self.has_ended)
        suspects = self.stops.may_end(tokens).to(ended.device) & ~self.has_ended
        for row in suspects.nonzero().squeeze(-1).tolist():
            ended[row] = self.stops.is_at_end(self.token_ids[self.live[row], : t + 1])
        return ended

    def _watched(
        self, watch: Watch, tokens: Int[Tensor, " B"], t: int, shown: Bool[Tensor, " B"]
    ) -> Bool[Tensor, " B"]:
        """Rows that `watch` ends, of those that it is shown."""
        live = self.live[shown]
        places = tuple(self.rows[i].key for i in live.tolist())
        stops = torch.zeros_like(self.has_ended)
        if places:
            seen = self.token_ids[live, : t + 1]
            look = partial(self._look, tokens, shown)
            has_ended = self.has_ended[shown].tolist()
            why = tuple(
                self.rows[i].finish if over else "" for i, over in zip(live.tolist(), has_ended, strict=True)
            )
            stopped = watch(Progress(places, seen, self.decoding.logits[shown], look, why))
            if stopped is not None:
                stops[shown] = stopped.to(stops.device)
        return stops

    def _look(
        self,
        tokens: Int[Tensor, " B"],
        shown: Bool[Tensor, " B"],
        suffix: Int[Tensor, "K k"],
        rows: Bool[Tensor, " K"] | None,
    ) -> Float[Tensor, "M V"]:
        """Logits behind the newest tokens, which the model has not read yet, and the suffix of the rows that are shown."""
        if rows is not None:
            some = shown.nonzero().squeeze(-1)[rows.to(shown.device)]
            whole = torch.cat([tokens[some, None], suffix.to(tokens.device)[rows.to(tokens.device)]], 1)
            return self.decoding.start(some, 0).peek(whole)
        whole = torch.cat([tokens[:, None], tokens[:, None].expand(-1, suffix.shape[1])], 1)
        whole[shown, 1:] = suffix.to(whole.device)
        return self.decoding.peek(whole, shown)[shown]

    def _compact(self, tokens: Int[Tensor, " B"]) -> Int[Tensor, " K"]:
        """Let the rows that have ended leave the batch."""
        keep = (~self.has_ended).nonzero().squeeze(-1)
        self.decoding.keep(keep)
        self.live, self.has_ended = self.live[keep], self.has_ended[keep]
        return tokens[keep]
