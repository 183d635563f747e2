"""What looks at samples while they are written: c of each that ends, c of the beginnings at cuts, and what is given up there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gnomon.core.config import check
from gnomon.core.models import Progress
from gnomon.methods.adaptive_sampling.evaluator.evaluator import SelfEvaluator

Key = tuple[int, int]
"""Number of the prompt, number of the sample."""


@dataclass(frozen=True)
class Pruning:
    """When samples are given up, and how many stay."""

    cuts: tuple[int, ...] = (64,)
    """Tokens after which c of the beginnings is looked at, rising."""
    keep: tuple[int, ...] = (4,)
    """Samples of a prompt that stay at each cut, the finished ones among them."""
    above: float | None = None
    """In place of `keep`: all with such a c stay, at least one. None: by number."""

    def __post_init__(self) -> None:
        is_rising = all(a < b for a, b in zip(self.cuts, self.cuts[1:], strict=False))
        check(
            is_rising and min(self.cuts, default=1) >= 1, "cuts", "rising numbers of tokens from 1", self.cuts
        )
        check(
            self.above is not None or (len(self.keep) == len(self.cuts) and min(self.keep, default=1) >= 1),
            "keep",
            "a number of samples from 1 for each of --cuts",
            self.keep,
        )
        check(self.above is None or 0 < self.above < 1, "above", "within (0, 1)", self.above)

    def kept(self, values: Mapping[Key, float], cut: int) -> set[Key]:
        """Those of one prompt's samples that stay, of equal ones the earliest."""
        order = sorted(values, key=lambda key: (-values[key], key))
        if self.above is not None:
            above = {key for key in order if values[key] >= self.above}
            return above or set(order[:1])
        return set(order[: self.keep[self.cuts.index(cut)]])


@dataclass
class Watching:
    """A `Watch` that reads c on the generator's own cache, of ended samples and at cuts, and ends those that are given up.

    The question is read by `peek`, after which cache and positions are as before. A `reserved` carrier's c lies in the logits that
    the generator has anyway.
    """

    evaluator: SelfEvaluator
    cuts: Sequence[int] = ()
    """Tokens after which beginnings are looked at."""
    pruning: Pruning | None = None
    """What is given up there; None: nothing."""
    c: dict[Key, float] = field(default_factory=dict)
    """c of each sample that ended by itself."""
    at_cut: dict[int, dict[Key, float]] = field(default_factory=lambda: defaultdict(dict))
    """Cut -> c of the samples that were still written then."""
    given_up: dict[Key, int] = field(default_factory=dict)
    """Sample -> the cut at which it did not stay."""
    tokens_read: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Prompt -> tokens read for self-evaluation alone."""
    sees_ends: bool = True
    _by_text: dict[tuple[int, tuple[int, ...]], float] = field(default_factory=dict)

    def __call__(self, progress: Progress) -> Tensor | None:
        """Look at the rows of a step; True where one is given up."""
        carrier = self.evaluator.carrier
        t = progress.token_ids.shape[1]
        self._finish(progress)
        if carrier.kind == "reserved":  # the logits at hand are those behind the token before the newest
            cut, seen = t - 1, list(range(len(progress.rows)))
        else:
            cut, seen = t, [i for i, why in enumerate(progress.ended) if not why]
        if cut not in self.cuts or not seen:
            return None
        if carrier.kind == "reserved":
            values = self.evaluator.c(progress.logits)
        else:
            rows = torch.tensor([not why for why in progress.ended])
            suffix = torch.tensor([carrier.partial] * len(progress.rows)).to(progress.token_ids.device)
            values = self.evaluator.c(progress.peek(suffix, None if bool(rows.all()) else rows))
            for i in seen:
                self.tokens_read[progress.rows[i][0]] += 1 + len(carrier.partial)
        for i, value in zip(seen, values.tolist(), strict=True):
            self.at_cut[cut][progress.rows[i]] = value
        if self.pruning is None or cut not in self.pruning.cuts:
            return None
        return self._give_up(progress, cut)

    def _finish(self, progress: Progress) -> None:
        """C of the samples that end with this token; one that came before is not read again."""
        carrier = self.evaluator.carrier
        ended = [i for i, why in enumerate(progress.ended) if why]
        waiting: dict[tuple[int, ...], dict[tuple[int, tuple[int, ...]], int]] = defaultdict(dict)
        texts = {}
        for i in ended:
            ids = tuple(progress.token_ids[i].tolist())
            texts[i] = (progress.rows[i][0], ids)
            if texts[i] in self._by_text:
                continue
            kept, suffix = carrier.layout(ids, is_finished=progress.ended[i] != "length")
            if kept < len(ids):  # what is shown ends before the newest token, and so do the logits at hand
                self._by_text[texts[i]] = float(self.evaluator.c(progress.logits[i : i + 1])[0])
            else:
                waiting[suffix].setdefault(texts[i], i)
        for suffix, rows in waiting.items():
            chosen = sorted(rows.values())
            mask = torch.zeros(len(progress.rows), dtype=torch.bool)
            mask[chosen] = True
            behind = torch.tensor([suffix] * len(progress.rows), dtype=torch.long)
            logits = progress.peek(behind.reshape(len(progress.rows), len(suffix)), mask)
            for i, value in zip(chosen, self.evaluator.c(logits).tolist(), strict=True):
                self._by_text[texts[i]] = value
                self.tokens_read[progress.rows[i][0]] += 1 + len(suffix)
        for i in ended:
            self.c[progress.rows[i]] = self._by_text[texts[i]]

    def _give_up(self, progress: Progress, cut: int) -> Tensor:
        assert self.pruning is not None
        stops = torch.zeros(len(progress.rows), dtype=torch.bool)
        for prompt in {row[0] for row in progress.rows}:
            candidates = {k: v for k, v in self.c.items() if k[0] == prompt and k not in self.given_up}
            going = {k: v for k, v in self.at_cut[cut].items() if k[0] == prompt and k not in self.c}
            kept = self.pruning.kept({**going, **candidates}, cut)
            for key in {**going, **candidates}.keys() - kept:
                self.given_up[key] = cut
        for i, row in enumerate(progress.rows):
            stops[i] = row in self.given_up
        return stops
