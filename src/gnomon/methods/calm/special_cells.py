"""The cells that are not a change of one answer: position, and chain of thought."""

from __future__ import annotations

import numpy as np

from gnomon.core.metrics.stats import mcnemar, ratio_intervals
from gnomon.core.rng import Rng
from gnomon.errors import BadInput
from gnomon.methods.calm.agreement import UNPARSED, Estimates, agreement, proportion
from gnomon.methods.calm.profile import Cell
from gnomon.methods.calm.ratings import PaperVersion
from gnomon.methods.calm.rotations import measure_rotations
from gnomon.methods.calm.table import Table, by_slot, code_of
from gnomon.methods.calm.trials import PLAIN


def position_cell(table: Table, key: tuple[str, str, str], rng: Rng) -> tuple[Cell, float]:
    """The cell of one number of candidates.

    Raises:
        BadInput: the log has no verdict on the unturned candidates.
    """
    set_name, _, condition = key
    candidates = len(table.rows[key][0].slots)
    if candidates < 2:
        raise BadInput(f'Position in the set "{set_name}": {candidates} candidates; at least 2 are needed.')
    plain_rows = table.rows.get((set_name, PLAIN, "" if candidates == 2 else condition), [])
    unturned = {row.item: row for row in plain_rows if row.draw == 0}
    items = [item for item in table.items(key) if item in unturned]
    if not items:
        raise BadInput(f'Position in the set "{set_name}": no verdict on the unturned order of {condition}.')
    base = {item: unturned[item].slots for item in items}
    rows = [unturned[item] for item in items] + [row for row in table.rows[key] if row.item in base]
    turned = by_slot(rows, items, base, candidates)
    draws = table.plain(set_name, items, "" if candidates == 2 else condition)
    plain = np.stack(draws[:candidates]) if len(draws) >= candidates else None
    found = measure_rotations(turned, plain, candidates, rng=rng)
    chosen = np.array([code_of(unturned[item]) for item in items])
    n = int(found.n)
    first = found.first.one()
    cell = Cell(
        "position",
        condition,
        set_name,
        n=n,
        unparsed=len(items) - n,
        rr=found.rr.one(),
        rr_with_unparsed=float(np.nan_to_num(found.rr.value)) * n / len(items),
        flips=None if n == 0 else 1 - float(found.rr.value),
        cr=None if found.cr is None else found.cr.one(),
        bis=None if found.bis is None else found.bis.one(),
        shift=None
        if first is None
        else (first[0] - 1 / candidates, first[1] - 1 / candidates, first[2] - 1 / candidates),
        p=float(found.p),
        more={
            "candidates": candidates,
            "first slot": first,
            "slot effect (log-odds)": float(found.effect),
            "two rotations agree": found.pairwise.one(),
            "better answer preferred": proportion(
                (chosen == 0).astype(np.float64), (chosen > UNPARSED).astype(np.float64)
            ).one(),
        },
    )
    return cell, float(found.discordant)


def accuracy_cell(
    table: Table, key: tuple[str, str, str], version: PaperVersion, rng: Rng
) -> tuple[Cell, float]:
    """The cell of chain of thought: accuracy without and with it, and AIR, the relative gain (not in the preprint)."""
    set_name, name, condition = key
    items = table.items(key)
    draws = table.plain(set_name, items)
    if not draws:
        raise BadInput(f'Chain of thought in the set "{set_name}" has no plain verdicts to be held against.')
    place = {item: i for i, item in enumerate(items)}
    changed = np.full(len(items), UNPARSED, dtype=np.int64)
    for row in table.rows[key]:
        changed[place[row.item]] = code_of(row)
    same, both = agreement(draws[0], changed)
    before, after = ((codes == 0) * both for codes in (draws[0], changed))
    moves = after - before
    air = [part - 1 for part in ratio_intervals(after, before, rng=rng)] if before.sum() else None
    noise = None if len(draws) == 1 else agreement(draws[0], draws[1])
    unlike = np.abs(moves) if noise is None else np.abs((draws[1] == 0) * 1.0 - (draws[0] == 0)) * noise[1]
    seen = both if noise is None else noise[1]
    n = int(both.sum())
    more = {"accuracy": proportion(before, both).one(), "accuracy with CoT": proportion(after, both).one()}
    if version == "iclr" and air is not None:
        more["AIR"] = tuple(float(part) for part in air)  # type: ignore[assignment]
    cell = Cell(
        name,
        condition,
        set_name,
        n=n,
        unparsed=len(items) - n,
        rr=proportion(same, both).one(),
        cr=None if noise is None else proportion(noise[0] * both, noise[1] * both).one(),
        shift=Estimates(*ratio_intervals(moves, both, rng=rng)).one(),
        p=float(mcnemar(int((moves < 0).sum()), int((moves > 0).sum()))),
        more=more,
    )
    return cell, float(unlike.sum() / max(seen.sum(), 1))
