"""The plan of an audit: every trial, with slots balanced and draws independent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gnomon.core.rng import Rng
from gnomon.methods.calm.judging.trials import PLAIN, Trial
from gnomon.methods.calm.stimuli.items import Cues, Item
from gnomon.methods.calm.stimuli.probes import Probe, Variant

CHANGED_DRAW = 1000
"""Draw of changed trials: never that of a plain one, so that equal prompts are answered independently."""


@dataclass
class Plan:
    """The trials of an audit for one judge."""

    trials: list[Trial] = field(default_factory=list)
    """Those of an item stand together."""
    items: dict[str, int] = field(default_factory=dict)
    """Set -> number of items."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Probe -> why it is left out."""


def plan_audit(
    items: Sequence[Item],
    probes: Sequence[Probe],
    cues: Cues,
    rng: Rng,
    *,
    repeats: int = 2,
    reads: frozenset[str] | None = None,
    note_after: bool = True,
    seats: Mapping[tuple[str, str], tuple[int, ...]] | None = None,
) -> Plan:
    """The trials of an audit.

    Every item of a set is asked plainly `repeats` times, for all probes of the set together, and once for each condition.
    The better answer stands first in half of the items of a set, the same half in all of its trials, so that a liking for
    one slot moves nothing but the probe of position. With more than two candidates each number of them is asked plainly as
    often as it is turned.

    Args:
        items: the items, of any sets.
        probes: the biases; those whose set has no items, or whose rewrites are missing, are skipped with a reason.
        cues: the stimuli.
        rng: where slots and choices of cues are drawn.
        repeats: independent plain draws, at least 2.
        reads: what the judge reads; None: everything.
        note_after: whether remarks stand after the answers, else in the instruction.
        seats: (set, item) -> the order of its answers in an audit that goes on: verdicts that are there stay of use, and items
            that came since are dealt so that the halves stay even.
    """
    plan = Plan()
    by_set = {
        name: [item for item in items if item.set == name]
        for name in dict.fromkeys(item.set for item in items)
    }
    first = {
        name: _first_slots(name, members, rng.child("slots", name), seats or {})
        for name, members in by_set.items()
    }
    wanted: dict[str, list[Probe]] = {}
    for probe in probes:
        reason = _why_not(probe, by_set, reads)
        if reason is not None:
            plan.skipped[probe.name] = reason
        elif probe.name != "self-enhancement":  # its trials need answers of all judges first
            wanted.setdefault(probe.set, []).append(probe)
    for name, members in by_set.items():
        chosen = wanted.get(name, [])
        if not chosen:
            continue
        plan.items[name] = len(members)
        for item in members:
            order = first[name].get(item.id, (0, 1))
            plan.trials += _of_item(item, order, chosen, cues, rng, repeats, note_after)
    return plan


def _of_item(
    item: Item,
    order: tuple[int, ...],
    probes: Sequence[Probe],
    cues: Cues,
    rng: Rng,
    repeats: int,
    note_after: bool,
) -> list[Trial]:
    variants = [
        (probe, variant)
        for probe in probes
        for variant in probe.make(item, cues, rng.child("cue", probe.name, item.id))
    ]
    trials = []
    counts = sorted({variant.candidates for _, variant in variants if not variant.is_score})
    for count in counts:
        slots = order + tuple(range(2, count))
        condition = "" if count == 2 else f"{count} candidates"
        for draw in range(max(repeats, count)) if count > 2 else range(repeats):
            trials.append(_trial(item, slots, PLAIN, Variant(condition), draw, note_after))
    for probe, variant in variants:
        slots = (0,) if variant.is_score else order + tuple(range(2, variant.candidates))
        slots = slots[variant.rotation :] + slots[: variant.rotation]
        trials.append(_trial(item, slots, probe.name, variant, CHANGED_DRAW, note_after))
    return trials


def _trial(
    item: Item, slots: tuple[int, ...], probe: str, variant: Variant, draw: int, note_after: bool
) -> Trial:
    answers = variant.answers if variant.answers is not None else item.answers
    return Trial(
        item=item.id,
        set=item.set,
        probe=probe,
        condition=variant.condition,
        draw=draw,
        slots=slots,
        question=item.question,
        answers=tuple(answers[response] for response in slots),
        kind="score" if variant.is_score else "pair",
        names=tuple(variant.names[response] for response in slots) if variant.names else (),
        note=variant.note,
        is_after=note_after,
        think=variant.think,
        earlier=variant.earlier,
        cued=variant.cued,
        dose=variant.dose,
        ratio=variant.ratio,
    )


def _first_slots(
    set_name: str, items: Sequence[Item], rng: Rng, seats: Mapping[tuple[str, str], tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Item -> order of its first two responses: half of the items either way, but for those that are seated."""
    pairs = [item.id for item in items if len(item.answers) >= 2]
    seated = {name: seats[set_name, name] for name in pairs if (set_name, name) in seats}
    new = [name for name in pairs if name not in seated]
    rng.python().shuffle(new)
    orders = list(seated.values())
    ahead = orders.count((0, 1)) - orders.count((1, 0))
    dealt = {}
    for name in new:
        dealt[name] = (0, 1) if ahead <= 0 else (1, 0)
        ahead += 1 if ahead <= 0 else -1
    return seated | dealt


def _why_not(probe: Probe, by_set: dict[str, list[Item]], reads: frozenset[str] | None) -> str | None:
    if reads is not None and probe.target not in reads:
        return f"this judge does not read {probe.target}"
    members = by_set.get(probe.set, [])
    if not members:
        return f"no items of the {probe.set} set"
    if probe.rewrites and not any(item.rewritten(probe.name) for item in members):
        return "no rewrites; make them with `gnomon calm perturb`"
    return None
