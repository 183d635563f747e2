"""The sweep over settings: most hallucinated objects erased, few others."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gnomon.core import records
from gnomon.core.data.execute import map_shards, parts
from gnomon.core.models import ModelHandle
from gnomon.core.rng import Rng
from gnomon.core.run import PartOfRun, Run
from gnomon.errors import BadInput
from gnomon.methods.vl_lens.captions.captions import Writing
from gnomon.methods.vl_lens.captions.objects import Vocabulary
from gnomon.methods.vl_lens.erasure.mitigation import Setting, rewrite


@dataclass(frozen=True)
class Target:
    """One mention to erase, by itself."""

    image: int
    """Its row."""
    caption: str
    """Its caption."""
    there: frozenset[str]
    """Objects in the image."""
    word: str
    """The object to erase."""

    @property
    def is_hallucinated(self) -> bool:
        """Whether the object is not in the image."""
        return self.word not in self.there


@dataclass(frozen=True)
class Outcome:
    """Effect of erasing some mentions, one at a time."""

    removed: float
    """Share of them that vanished from their caption."""
    kept: float
    """Share of the other correct objects of those captions that were still mentioned."""
    new: float
    """Wrong objects per caption that were not mentioned before."""
    count: int
    """Mentions erased."""


@dataclass(frozen=True)
class Half:
    """The mentions of half of the images."""

    hallucinated: list[Target]
    correct: list[Target]


Write = Callable[[Sequence[Target], Setting], Sequence[str]]
"""Writes the caption of each target again, with its word erased."""


def targets(
    captions: Sequence[str], truth: Sequence[Collection[str]], vocabulary: Vocabulary
) -> tuple[list[Target], list[Target]]:
    """Every object that captions mention, hallucinated ones and correct ones apart; an object once per caption."""
    mentioned = [
        Target(i, caption, frozenset(there), word)
        for i, (caption, there) in enumerate(zip(captions, truth, strict=True))
        for word in dict.fromkeys(vocabulary.objects(caption))
    ]
    return [t for t in mentioned if t.is_hallucinated], [t for t in mentioned if not t.is_hallucinated]


def outcome(erased: Sequence[Target], captions: Sequence[str], vocabulary: Vocabulary) -> Outcome:
    """Effect on the captions after the edit; shares of nothing are NaN.

    >>> words = Vocabulary.of([["cat"], ["dog"], ["cup"]])
    >>> outcome([Target(0, "a cat and a dog", frozenset({"dog"}), "cat")], ["a dog and a cup"], words)
    Outcome(removed=1.0, kept=1.0, new=1.0, count=1)
    """
    gone = others = still = new = 0
    for target, caption in zip(erased, captions, strict=True):
        was, now = set(vocabulary.objects(target.caption)), set(vocabulary.objects(caption))
        gone += target.word not in now
        correct = (was & target.there) - {target.word}
        others += len(correct)
        still += len(correct & now)
        new += len(now - was - target.there)
    return Outcome(_share(gone, len(erased)), _share(still, others), _share(new, len(erased)), len(erased))


def halves(
    captions: Sequence[str],
    truth: Sequence[Collection[str]],
    vocabulary: Vocabulary,
    most: int,
    rng: Rng,
) -> tuple[Half, Half]:
    """The mentions of every second image, and those of the others; of each kind `most` at most, drawn by chance.

    Raises:
        BadInput: a half has no hallucinated mention.
    """
    wrong, right = targets(captions, truth, vocabulary)
    draw = rng.child("mentions").python()
    both = []
    for half in (0, 1):
        # By image, so that no image chooses a setting and measures it as well.
        some = [[t for t in kind if t.image % 2 == half] for kind in (wrong, right)]
        if not some[0]:
            raise BadInput(
                f"Of {len(captions)} captions {len({t.image for t in wrong})} mention an object that is not in the image: too "
                "few to choose a setting on one half and measure it on the other. Take more images."
            )
        both.append(Half(*(kind if len(kind) <= most else draw.sample(kind, most) for kind in some)))
    return both[0], both[1]


def writer(handle: ModelHandle, images: Sequence[Any], prompt: str, writing: Writing | None = None) -> Write:
    """A function that has a model write captions with each target's word erased from its image."""

    def write(some: Sequence[Target], setting: Setting) -> list[str]:
        return rewrite(
            handle, [images[t.image] for t in some], prompt, [[t.word] for t in some], setting, writing
        )

    return write


def try_setting(half: Half, setting: Setting, write: Write, vocabulary: Vocabulary) -> dict[str, Any]:
    """Effect of a setting on both kinds of mentions of a half."""
    wrong, right = (
        outcome(some, write(some, setting) if some else [], vocabulary)
        for some in (half.hallucinated, half.correct)
    )
    return {
        "text_layer": setting.text_layer,
        "edit_layer": setting.edit_layer,
        "alpha": setting.alpha,
        "removed_hallucinated": wrong.removed,
        "kept": wrong.kept,
        "new": wrong.new,
        "removed_correct": right.removed,
    }


def sweep_halves(
    both: tuple[Half, Half],
    settings: Sequence[Setting],
    write: Write,
    vocabulary: Vocabulary,
    bound: float,
    *,
    run: Run | PartOfRun,
) -> dict[str, Any]:
    """Try every setting on one half, choose, and measure the choice on the other half.

    A run that was killed goes on with the settings that are missing.

    Returns:
        `tried` (a row per setting), `chosen` (one of them), `measured` (the same setting on the other half), the numbers of
        mentions, and `within_bound`: whether the chosen setting loses no more than the bound.
    """
    first, second = both
    sink = run.folder / "_parts" / "sweep"

    def step(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            yield try_setting(first, Setting(**row), write, vocabulary)

    with run.progress(len(settings), "settings") as bar:
        map_shards(step, (asdict(setting) for setting in settings), sink, shard_rows=1, progress=bar)
    tried = [raw for part in parts(sink) for _, raw in records.read_raw(part)]
    chosen = choose(tried, bound)
    setting = Setting(chosen["text_layer"], chosen["edit_layer"], chosen["alpha"])
    return {
        "tried": tried,
        "chosen": chosen,
        "within_bound": _loss(chosen) <= bound + 1e-12,
        "measured": try_setting(second, setting, write, vocabulary),
        "mentions": {
            "chosen_on": {"hallucinated": len(first.hallucinated), "correct": len(first.correct)},
            "measured_on": {"hallucinated": len(second.hallucinated), "correct": len(second.correct)},
        },
    }


def choose(rows: Sequence[dict[str, Any]], bound: float = 0.05) -> dict[str, Any]:
    """The row that removes most hallucinated mentions while it loses at most `bound` of the other correct objects.

    Where every setting loses more, the one that loses least. Among equals the one that keeps more, then the first.
    """
    within = [row for row in rows if _loss(row) <= bound + 1e-12]  # 1 - 0.95 is a little more than 0.05
    if within:
        return max(within, key=lambda row: (row["removed_hallucinated"], -_loss(row)))
    return min(rows, key=_loss)


def _loss(row: dict[str, Any]) -> float:
    """Share of the other correct objects that were lost; nothing where there are none."""
    kept = row["kept"]  # None when it comes from a file: JSON has no NaN
    return 0.0 if kept is None or math.isnan(kept) else 1 - kept


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
