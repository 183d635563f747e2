"""Judges held against each other, on the items that both judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gnomon.core.metrics.stats import benjamini_hochberg, mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.calm.judging.trials import Verdict
from gnomon.methods.calm.measures.agreement import Floats, Table, agreement, code_of, preference
from gnomon.methods.calm.measures.analysis import Options, analyze
from gnomon.methods.calm.measures.profile import Profile
from gnomon.methods.calm.stimuli.probes import probes


@dataclass(frozen=True)
class Contrast:
    """One bias in two judges."""

    left: str
    """One judge."""
    right: str
    """The other."""
    probe: str
    """The bias."""
    n: int
    """Verdicts of both on the same item under the same condition."""
    rr: tuple[float, float, float] | None
    """RR of the left one less that of the right one."""
    bis: tuple[float, float, float] | None
    """The same of BIS; None without a second plain run of both."""
    shift: tuple[float, float, float] | None
    """The same of the shift."""
    p: float
    """Sign test over items of the loss of consistency, or of RR without a noise floor."""
    q: float = 1.0
    """Adjusted over all contrasts."""


@dataclass(frozen=True)
class Comparison:
    """Profiles of two or more judges and their differences."""

    profiles: list[Profile]
    """One per judge."""
    contrasts: list[Contrast]
    """Every pair of judges, bias by bias."""
    swaps: list[str]
    """Biases in which a pair stands in one order by RR and in the other by BIS: the RR reflects noise."""
    apart: list[str]
    """Pairs of judges that cannot be compared, each with the reason."""


def compare(
    verdicts: Sequence[Verdict], options: Options | None = None, rng: Rng | None = None
) -> Comparison:
    """Judges side by side.

    Args:
        verdicts: of two judges or more.
        options: how verdicts are counted.
        rng: of the bootstrap over items.

    Raises:
        BadInput: fewer than two judges, or no two of them have a verdict on the same item under the same condition.
    """
    options, rng = options or Options(), rng or Rng(0)
    profiles = analyze(verdicts, options, rng)
    if len(profiles) < 2:
        raise BadInput("A comparison needs the verdicts of two judges or more; these are of one.")
    tables = {
        profile.judge: Table.of(row for row in verdicts if row.judge == profile.judge) for profile in profiles
    }
    judges = list(tables)
    contrasts: list[Contrast] = []
    apart: list[str] = []
    pairs = [(left, right) for i, left in enumerate(judges) for right in judges[i + 1 :]]
    for left, right in pairs:
        reason = _why_apart(left, right, tables)
        if reason is None:
            contrasts += _contrasts(left, right, tables, options, rng)
        else:
            apart.append(reason)
    if len(apart) == len(pairs):
        raise BadInput(f"{apart[0]} Give runs of the same items.")
    if contrasts:
        q_values = benjamini_hochberg([contrast.p for contrast in contrasts])
        contrasts = [
            Contrast(**{**vars(contrast), "q": float(q)})
            for contrast, q in zip(contrasts, q_values, strict=True)
        ]
    swaps = [line for contrast in contrasts if (line := _swap(contrast))]
    return Comparison(profiles, contrasts, swaps, apart)


def _why_apart(left: str, right: str, tables: dict[str, Table]) -> str | None:
    """Why two judges cannot be compared; None where they have verdicts on the same item under the same condition."""
    verdicts = [
        {(key, item) for key in table.conditions() for item in table.items(key)}
        for table in (tables[left], tables[right])
    ]
    if verdicts[0] & verdicts[1]:
        return None
    items = [{(set_name, item) for (set_name, _, _), item in side} for side in verdicts]
    if items[0] & items[1]:
        return f"{left} and {right} have judged no item in common under the same condition."
    examples = [min((item for _, item in side), default="none") for side in items]
    return (
        f'{left} and {right} have judged no item in common: one has items such as "{examples[0]}", '
        f'the other such as "{examples[1]}".'
    )


def _swap(contrast: Contrast) -> str | None:
    if contrast.rr is None or contrast.bis is None or contrast.rr[0] * contrast.bis[0] <= 0:
        return None
    # A higher RR looks better and a higher BIS is worse: with equal signs the two disagree.
    seems, less = (contrast.left, contrast.right) if contrast.rr[0] > 0 else (contrast.right, contrast.left)
    return f"{contrast.probe}: {seems} has the higher RR, and {less} the lower BIS"


def _contrasts(left: str, right: str, tables: dict[str, Table], options: Options, rng: Rng) -> list[Contrast]:
    shared = [key for key in tables[left].conditions() if key in tables[right].rows]
    contrasts: list[Contrast] = []
    for name in dict.fromkeys(key[1] for key in shared):
        keys = [key for key in shared if key[1] == name and tables[left].rows[key][0].kind == "pair"]
        keys = [key for key in keys if len(tables[left].rows[key][0].slots) == 2]
        if keys:
            contrasts.append(_contrast(left, right, name, keys, tables, options, rng))
    return [contrast for contrast in contrasts if contrast.n]


def _contrast(
    left: str,
    right: str,
    name: str,
    keys: Sequence[tuple[str, str, str]],
    tables: dict[str, Table],
    options: Options,
    rng: Rng,
) -> Contrast:
    items = sorted(
        {item for key in keys for item in tables[left].items(key)}
        & {i for k in keys for i in tables[right].items(k)}
    )
    sides = [_sides(tables[judge], keys, items, options) for judge in (left, right)]
    both = sides[0]["seen"] * sides[1]["seen"]
    total = both.sum(0)
    rr = _gap(sides, "same", both, rng)
    shift = _gap(sides, "moved", both, rng)
    floors = sides[0]["floor"] * sides[1]["floor"] * both
    bis = _gap(sides, "lost", floors, rng)
    worse = (
        ((sides[0]["lost"] - sides[1]["lost"]) * floors).sum(0)
        if bis
        else ((sides[1]["same"] - sides[0]["same"]) * both).sum(0)
    )
    p = float(mcnemar(int((worse < 0).sum()), int((worse > 0).sum())))
    return Contrast(left, right, name, int(total.sum()), rr, bis, shift, p)


def _gap(
    sides: Sequence[dict[str, Floats]], name: str, seen: Floats, rng: Rng
) -> tuple[float, float, float] | None:
    """Difference of a mean between the judges; an item's conditions stay together."""
    if not seen.sum():
        return None
    top = ((sides[0][name] - sides[1][name]) * seen).sum(0)
    value, low, high = ratio_intervals(top, seen.sum(0), rng=rng)
    return float(value), float(low), float(high)


def _sides(
    table: Table, keys: Sequence[tuple[str, str, str]], items: Sequence[str], options: Options
) -> dict[str, Floats]:
    """By condition and item `[K, N]`: verdict stayed, preference moved, consistency lost, and whether each is known."""
    parts: dict[str, list[Floats]] = {name: [] for name in ("same", "seen", "moved", "lost", "floor")}
    index = {item: i for i, item in enumerate(items)}
    for key in keys:
        plain = table.plain(key[0], items)
        changed = np.full(len(items), -9, dtype=np.int64)
        cued = np.zeros(len(items), dtype=np.int64)
        for row in table.rows[key]:
            if row.item in index:
                changed[index[row.item]] = code_of(row)
                cued[index[row.item]] = row.cued or 0
        same, seen = agreement(plain[0], changed, half_ties=options.half_ties)
        probe = probes().get(key[1])
        if probe is not None and probe.expected == "flips":
            same = (changed == 1) * seen
        noise, floor = (
            agreement(plain[0], plain[1], half_ties=options.half_ties) if len(plain) > 1 else (same, seen * 0)
        )
        moved = preference(changed, cued) - preference(plain[0], cued)
        for name, part in zip(parts, (same, seen, moved, noise - same, floor), strict=True):
            parts[name].append(np.asarray(part, dtype=np.float64))
    return {name: np.stack(rows) for name, rows in parts.items()}
