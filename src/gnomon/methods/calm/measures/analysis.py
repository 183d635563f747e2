"""Profiles from verdicts: every measure of every condition, for each judge of a log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from gnomon.core.metrics.stats import ratio_intervals
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.calm.judging.trials import PLAIN, Verdict
from gnomon.methods.calm.measures.agreement import (
    ABSENT,
    UNPARSED,
    Codes,
    Estimates,
    Measured,
    Table,
    agreement,
    code_of,
    flips_of,
    measure,
    preference,
    proportion,
)
from gnomon.methods.calm.measures.cells import accuracy_cell, position_cell, refinement_cells, self_cell
from gnomon.methods.calm.measures.lengths import Drift, LengthModel, Pairs, pair_lengths
from gnomon.methods.calm.measures.profile import ALL, Cell, Profile, adjusted, faults_of
from gnomon.methods.calm.measures.ratings import PaperVersion
from gnomon.methods.calm.stimuli.probes import probes


@dataclass(frozen=True)
class Options:
    """Options of counting verdicts."""

    half_ties: bool = False
    """Whether a tie beside a preference counts one half, in place of being a verdict of its own."""
    version: PaperVersion = "iclr"
    """Which version of the paper's formulas."""
    smallest: float = 0.1
    """The shift that would matter: where one of this size would not have been found, the word is `undecided`."""


def analyze(
    verdicts: Iterable[Verdict], options: Options | None = None, rng: Rng | None = None
) -> list[Profile]:
    """The profile of every judge in these verdicts, in the order in which they appear.

    Args:
        verdicts: rows of audits, or of an imported log.
        options: how verdicts are counted.
        rng: of the bootstrap over items.

    Raises:
        BadInput: there are no verdicts.
    """
    options, rng = options or Options(), rng or Rng(0)
    by_judge: dict[str, list[Verdict]] = {}
    for row in verdicts:
        by_judge.setdefault(row.judge, []).append(row)
    if not by_judge:
        raise BadInput("There are no verdicts to analyze.")
    return [_profile(judge, rows, by_judge, options, rng) for judge, rows in by_judge.items()]


def _profile(
    judge: str, rows: list[Verdict], by_judge: dict[str, list[Verdict]], options: Options, rng: Rng
) -> Profile:
    table = Table.of(rows)
    profile = Profile(judge, statuses=faults_of(row.status for row in rows))
    for name in dict.fromkeys(row.set for row in rows):
        if about := _about_set(table, name, options):
            profile.sets[name] = about
    cells: list[Cell] = []
    discordant: dict[int, float] = {}
    lengths = Lengths(table, options, rng)

    def add(cell: Cell, share: float | None) -> None:
        if share is not None:
            discordant[len(cells)] = share
        cells.append(cell)

    for name in _in_order({probe for _, probe, _ in table.conditions()}):
        keys = [key for key in table.conditions() if key[1] == name]
        if name == "position":
            for key in keys:
                add(*position_cell(table, key, rng))
        elif name == "self-enhancement":
            own_cell, share = self_cell(judge, by_judge, options.version, rng)
            if own_cell is None:
                profile.skipped[name] = str(share)
            else:
                add(own_cell, float(share))
        elif name == "refinement-aware":
            for cell, tested_share in refinement_cells(table, keys, options.version, rng):
                add(cell, tested_share)
        elif name == "chain-of-thought":
            add(*accuracy_cell(table, keys[0], options.version, rng))
        else:
            # Where every item has one of the conditions only, all of them together are the test, and none is too small alone.
            split = len(keys) > 1 and _are_apart(table, keys)
            for key in keys:
                cell, share = _pair_cell(table, [key], key[2], options, rng)
                if (drift := lengths.drift(key)) is not None:
                    cell = replace(cell, more={**cell.more, "length": asdict(drift)})
                add(cell, None if split else share)
            if len(keys) > 1:
                cell, share = _pair_cell(table, keys, ALL, options, rng)
                add(cell, share if split else None)
    profile.cells = adjusted(cells, options.smallest, discordant)
    profile.notes += _length_alone(profile.cells)
    if any(cell.bis is None and cell.rr is not None for cell in cells):
        profile.notes.append(
            "No second plain verdict in this log: CR and BIS cannot be had, and noise passes for bias in RR."
        )
    return profile


def _length_alone(cells: Sequence[Cell]) -> list[str]:
    """A note for every bias of which nothing is left at equal length, wherever that can be said; verbosity is about length."""
    notes = []
    for name in dict.fromkeys(
        cell.probe for cell in cells if cell.word == "biased" and cell.probe != "verbosity"
    ):
        flagged = [cell for cell in cells if cell.probe == name and cell.word == "biased"]
        held = [cell.more.get("length", {}).get("at_equal_length") for cell in flagged]
        if held and all(left is not None and left[1] <= 0 <= left[2] for left in held):
            notes.append(
                f"{name}: at equal length nothing is left of the shift in any of its {len(held)} biased conditions; this judge may "
                "turn to longer answers and not to what was changed beside."
            )
    return notes


def _in_order(names: set[str]) -> list[str]:
    order = list(probes())
    return sorted(names, key=lambda name: (order.index(name) if name in order else len(order), name))


def _about_set(table: Table, name: str, options: Options) -> dict[str, object]:
    """CR, accuracy and liking for the first slot of the plain verdicts of a set."""
    rows = [row for row in table.rows.get((name, PLAIN, ""), []) if row.draw == 0]
    if not rows:
        return {}
    draws = table.plain(name, [row.item for row in rows])
    about: dict[str, object] = {"items": len(rows)}
    if len(draws) > 1:
        same, both = agreement(draws[0], draws[1], half_ties=options.half_ties)
        about["CR"] = proportion(same, both).one()
    decisive = np.array([code_of(row) >= 0 for row in rows], dtype=np.float64)
    first = np.array([bool(row.slots) and code_of(row) == row.slots[0] for row in rows], dtype=np.float64)
    about["first slot"] = proportion(first * decisive, decisive).one()
    about["better answer preferred"] = proportion(
        (draws[0] == 0).astype(np.float64), (draws[0] > UNPARSED).astype(np.float64)
    ).one()
    return about


def _pair_cell(
    table: Table, keys: Sequence[tuple[str, str, str]], condition: str, options: Options, rng: Rng
) -> tuple[Cell, float]:
    """The cell of one condition, or of several with the verdicts on an item kept together."""
    name, set_name = keys[0][1], keys[0][0]
    probe = probes().get(name)
    items = list(dict.fromkeys(item for key in keys for item in table.items(key)))
    parts = [_arrays(table, key, items) for key in keys]
    plain = table.plain(set_name, items)
    if not plain:
        raise BadInput(
            f'The verdicts on "{name}" in the set "{set_name}" have no plain ones to be held against.'
        )
    flips_to = 1 if probe is not None and probe.expected == "flips" else None
    if len(parts) == 1 or _are_apart(table, keys):
        changed, cued = (np.max(side, axis=0) for side in zip(*parts, strict=True))
        measured = measure(
            plain[0], plain[1:], changed, cued, flips_to=flips_to, half_ties=options.half_ties, rng=rng
        )
    else:
        measured = _pooled(plain, parts, flips_to, options, rng)
    rows = [row for key in keys for row in table.rows[key]]
    trials = sum(int((changed > ABSENT).sum()) for changed, _ in parts)
    cell = Cell(
        name,
        condition,
        set_name,
        n=int(measured.n),
        unparsed=trials - int(measured.n),
        rr=measured.rr.one(),
        rr_with_unparsed=float(np.nan_to_num(measured.rr.value) * int(measured.n) / trials)
        if trials
        else None,
        flips=_flips(plain[0], parts),
        cr=None if measured.cr is None else measured.cr.one(),
        bis=None if measured.bis is None else measured.bis.one(),
        shift=measured.shift.one(),
        p=float(measured.p),
        is_tested=bool(measured.is_tested),
        dose=rows[0].dose if len(keys) == 1 else None,
        more={"decisive": _decisive(plain, parts, rng)}
        | _reasons(rows, plain[0], items, probe.mention if probe is not None else ""),
    )
    return cell, float(np.nan_to_num(measured.discordant))


def _are_apart(table: Table, keys: Sequence[tuple[str, str, str]]) -> bool:
    """Whether no item has two of these conditions."""
    return sum(len(table.items(key)) for key in keys) == len(
        {item for key in keys for item in table.items(key)}
    )


def _arrays(table: Table, key: tuple[str, str, str], items: Sequence[str]) -> tuple[Codes, Codes]:
    """Verdicts and cued responses of a condition, aligned on `items`."""
    index = {item: i for i, item in enumerate(items)}
    changed = np.full(len(items), ABSENT, dtype=np.int64)
    cued = np.full(len(items), ABSENT, dtype=np.int64)
    for row in table.rows[key]:
        changed[index[row.item]] = code_of(row)
        cued[index[row.item]] = 0 if row.cued is None else row.cued
    return changed, cued


def _pooled(
    plain: Sequence[Codes],
    parts: Sequence[tuple[Codes, Codes]],
    flips_to: int | None,
    options: Options,
    rng: Rng,
) -> Measured:
    """All conditions together; the verdicts on an item stay together in the bootstrap: they are not independent."""
    top = {"rr": np.zeros(len(plain[0])), "lost": np.zeros(len(plain[0])), "moved": np.zeros(len(plain[0]))}
    seen, matched, still = (np.zeros(len(plain[0])) for _ in range(3))
    for changed, cued in parts:
        same, both = agreement(plain[0], changed, half_ties=options.half_ties)
        if flips_to is not None:
            same = (changed == flips_to) * both
        before, after = (
            preference(codes, cued, half_ties=options.half_ties) for codes in (plain[0], changed)
        )
        top["rr"] += same
        top["moved"] += (after - before) * both
        seen += both
        if len(plain) > 1:
            noise, both_plain = agreement(plain[0], plain[1], half_ties=options.half_ties)
            matched += both * both_plain
            still += noise * both * both_plain
            top["lost"] += (noise - same) * both * both_plain
    has_floor = len(plain) > 1
    return Measured(
        rr=Estimates(*ratio_intervals(top["rr"], seen, rng=rng)),
        cr=Estimates(*ratio_intervals(still, matched, rng=rng)) if has_floor else None,
        bis=Estimates(*ratio_intervals(top["lost"], matched, rng=rng)) if has_floor else None,
        shift=Estimates(*ratio_intervals(top["moved"], seen, rng=rng)),
        p=np.asarray(1.0),
        is_tested=np.asarray(False),
        discordant=np.asarray(0.0),
        n=np.asarray(int(seen.sum())),
    )


def _flips(plain: Codes, parts: Sequence[tuple[Codes, Codes]]) -> float | None:
    pairs = [agreement(plain, changed) for changed, _ in parts]
    seen = sum(float(both.sum()) for _, both in pairs)
    return 1 - sum(float(same.sum()) for same, _ in pairs) / seen if seen else None


def _decisive(plain: Sequence[Codes], parts: Sequence[tuple[Codes, Codes]], rng: Rng) -> dict[str, object]:
    """Flips among pairs of verdicts that both prefer an answer, beside those of two plain runs; ties apart."""
    changed = flips_of(plain[0], [codes for codes, _ in parts], rng)
    return {
        "pairs": changed.pairs,
        "flips": changed.share,
        "flips without a change": flips_of(plain[0], [plain[1]]).share if len(plain) > 1 else None,
        "ties before": changed.ties[0],
        "ties after": changed.ties[1],
    }


def _reasons(rows: Sequence[Verdict], plain: Codes, items: Sequence[str], mention: str) -> dict[str, object]:
    """How many of the flipped verdicts name the cue in their reason."""
    index = {item: i for i, item in enumerate(items)}
    flipped = [
        row
        for row in rows
        if row.text
        and row.choice is not None
        and plain[index[row.item]] > UNPARSED
        and code_of(row) != plain[index[row.item]]
    ]
    if not mention or not flipped:
        return {}
    named = sum(bool(re.search(mention, row.text, re.IGNORECASE)) for row in flipped)
    return {"flipped": len(flipped), "cue named": named / len(flipped)}


class Lengths:
    """Length beside the shift of every condition that changed an answer.

    What length does to plain verdicts is estimated once for each set and side, on all of its items.
    """

    def __init__(self, table: Table, options: Options, rng: Rng) -> None:
        self._table, self._options, self._rng = table, options, rng
        self._models: dict[tuple[str, bytes], LengthModel] = {}

    def drift(self, key: tuple[str, str, str]) -> Drift | None:
        """The drift of one condition; None where it changed no answer."""
        rows = self._table.rows[key]
        if all(row.ratio is None or row.ratio <= 0 for row in rows):
            return None
        items = list(dict.fromkeys(row.item for row in self._table.rows.get((key[0], PLAIN, ""), [])))
        index = {item: i for i, item in enumerate(items)}
        changed, ratios = np.full(len(items), ABSENT, dtype=np.int64), np.full(len(items), np.nan)
        sides = [row.cued or 0 for row in rows]
        cued = np.full(len(items), max(set(sides), key=sides.count), dtype=np.int64)
        for row, side in zip(rows, sides, strict=True):
            if row.item in index and row.ratio is not None and row.ratio > 0:
                i = index[row.item]
                changed[i], ratios[i], cued[i] = code_of(row), row.ratio, side
        after = self._pairs(rows, items, [changed], cued)
        return self._model(key[0], items, cued).hold_equal(after, ratios)

    def _model(self, set_name: str, items: Sequence[str], cued: Codes) -> LengthModel:
        key = set_name, cued.tobytes()
        if key not in self._models:
            rows = [row for row in self._table.rows[set_name, PLAIN, ""] if row.draw == 0]
            draws = self._table.plain(set_name, items)
            self._models[key] = LengthModel(self._pairs(rows, items, draws, cued), self._rng)
        return self._models[key]

    def _pairs(
        self, rows: Sequence[Verdict], items: Sequence[str], draws: Sequence[Codes], cued: Codes
    ) -> Pairs:
        liked = sum(preference(codes, cued, half_ties=self._options.half_ties) for codes in draws)
        read = sum((codes > UNPARSED).astype(np.float64) for codes in draws)
        return Pairs(np.asarray(liked), np.asarray(read), pair_lengths(rows, items, cued))
