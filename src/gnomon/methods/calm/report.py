"""Report pages: profiles with intervals, shifts beside rates, length beside shifts, and all faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gnomon.core.report import Page
from gnomon.methods.calm.measures.comparison import Comparison
from gnomon.methods.calm.measures.profile import ALL, Cell, PowerTable, Profile
from gnomon.methods.calm.planted.validation import Validation

HOW_TO_READ = """
**RR** is the share of verdicts that stayed although something changed that must not matter; for fallacy-oversight the share
that moved to where it should. **CR** is the same when nothing changed, from a second independent run: what RR would be without
any bias. **BIS = CR - RR** is the loss beyond noise. **Shift** is the direction: how much more often the cued answer is
preferred. For items that the judge decides by a coin flip RR and BIS cannot see any bias; the shift can. Intervals hold 95%.
Each bias is a question of its own: its conditions are corrected for their number, without those whose verdicts hardly ever differ
and which could show nothing. **biased**: found after that correction; **no bias seen**: the intervals hold 0 and a shift that
matters would have been found; **undecided** otherwise.
"""


def title_of(text: str, is_simulated: bool) -> str:
    """The title of a page, marked where a judge is simulated."""
    return f"SIMULATED: {text}" if is_simulated else text


def profiles(page: Page, judged: Sequence[Profile], *, what: str = "Bias profile") -> None:
    """The profiles of an audit or a log, side by side and one by one."""
    simulated = any(profile.is_simulated for profile in judged)
    page.simulated |= simulated
    names = ", ".join(profile.judge for profile in judged)
    page.title = title_of(
        f"{what} of {names}" if len(names) < 90 else f"{what} of {len(judged)} judges", simulated
    )
    for profile in judged:
        for name, value in profile.averages().items():
            page.figures({f"BIS, {name}" if len(judged) == 1 else f"{profile.judge}: BIS, {name}": value})
    page.text(HOW_TO_READ)
    overview(page, judged)
    for profile in judged:
        page.section(profile.judge)
        _judge(page, profile)


def overview(page: Page, judged: Sequence[Profile]) -> None:
    """The profiles side by side: BIS, and shift."""
    page.section("Bias profile")
    bis = {
        profile.judge: {name: cell.bis for name, cell in profile.headline().items() if cell.bis}
        for profile in judged
    }
    shift = {
        profile.judge: {
            name: cell.shift
            for name, cell in profile.headline().items()
            if cell.shift and not cell.more.get("error rate")
        }
        for profile in judged
    }
    if any(bis.values()):
        page.dots(
            bis, x_label="BIS: consistency lost beyond noise", caption="how much each bias sways the judge"
        )
    if any(shift.values()):
        page.dots(
            shift,
            x_label="shift towards the cued answer (position: towards the first slot)",
            caption="which way each bias sways the judge",
        )
    page.table(
        [headline_row(profile) for profile in judged], caption="RR by bias, CR by set and mean BIS by set"
    )
    page.table(
        [{"judge": profile.judge, **profile.words()} for profile in judged],
        caption="what may be said, each bias by itself",
    )
    tested = max((len(profile.words()) for profile in judged), default=0)
    if tested > 1:
        lines = [f"- {profile.judge}: {', '.join(profile.biased_over_all()) or 'none'}" for profile in judged]
        page.text(
            f"A judge without any bias has about {0.05 * tested:.1g} of {tested} biases called so by chance, at most. Still biased "
            "when all of them are one family of tests:\n\n" + "\n".join(lines)
        )


def headline_row(profile: Profile) -> dict[str, Any]:
    """The judge's line of the paper's table: RR by bias, CR by set, accuracy with CoT, and the BIS averages."""
    row: dict[str, Any] = {"judge": profile.judge}
    for name, cell in profile.headline().items():
        if name == "chain-of-thought":
            row["CoT accuracy"] = cell.more.get("accuracy with CoT")
        elif cell.rr is not None:
            row[name] = cell.rr
    for name, about in profile.sets.items():
        row[f"CR, {name}"] = about.get("CR")
    return row | {f"BIS, {name}": value for name, value in profile.averages().items()}


def _judge(page: Page, profile: Profile) -> None:
    cells = [
        cell
        for cell in profile.cells
        if cell.rr is not None and cell.probe not in ("position", "chain-of-thought")
    ]
    if cells:
        page.table([_row(cell) for cell in cells], caption="every bias and condition")
        _doses(page, cells)
        _decisive(page, profile.cells)
        _lengths(page, cells)
        _reasons(page, cells)
    _position(page, [cell for cell in profile.cells if cell.probe == "position"])
    _thinking(page, [cell for cell in profile.cells if cell.probe == "chain-of-thought"])
    _scores(page, [cell for cell in profile.cells if "error rate" in cell.more])
    if profile.sets:
        page.table(
            [{"set": name, **about} for name, about in profile.sets.items()], caption="the plain verdicts"
        )
    page.table(
        [profile.statuses],
        caption="replies by what could be read; those without a verdict are counted, never guessed",
    )
    if profile.skipped:
        page.table(
            [{"bias": name, "reason": reason} for name, reason in profile.skipped.items()],
            caption="what was not measured",
        )
    if profile.notes:
        page.text("\n".join(f"- {note}" for note in profile.notes))


def _row(cell: Cell) -> dict[str, Any]:
    return {
        "bias": cell.probe,
        "condition": cell.condition,
        "n": cell.n,
        "not read": cell.unparsed,
        "RR": cell.rr,
        "not read = changed": cell.rr_with_unparsed,
        "flips": cell.flips,
        "CR": cell.cr,
        "BIS": cell.bis,
        "shift": cell.shift,
        "q": _q(cell),
        "smallest shift seen": cell.smallest if cell.word else None,
        "word": cell.word,
    }


def _q(cell: Cell) -> float | str | None:
    """The adjusted p-value, where there was something to test."""
    if not cell.word:
        return None
    return cell.q if cell.is_tested else "nothing to test"


def _decisive(page: Page, cells: Sequence[Cell]) -> None:
    rows = [
        {"bias": cell.probe, "condition": cell.condition}
        | {name: _tuple(value) for name, value in cell.more["decisive"].items()}
        for cell in cells
        if "decisive" in cell.more
    ]
    if rows:
        page.table(
            rows,
            caption="flips among decisive pairs: both verdicts prefer an answer, and not the same; beside them the flips of two "
            "plain runs, and ties as a share of the verdicts that could be read",
        )


def _doses(page: Page, cells: Sequence[Cell]) -> None:
    """Shift against dose, where a bias has doses."""
    series: dict[str, list[tuple[float, ...]]] = {}
    for cell in cells:
        if cell.dose is not None and cell.shift is not None:
            side = cell.condition.rpartition(", ")[2] if "," in cell.condition else ""
            series.setdefault(f"{cell.probe}{f', {side}' if side else ''}", []).append(
                (cell.dose, *cell.shift)
            )
    for name in dict.fromkeys(label.partition(",")[0] for label in series):
        mine = {
            label: points
            for label, points in series.items()
            if label.partition(",")[0] == name and len(points) > 1
        }
        if mine:
            page.lines(
                mine,
                x_label="dose",
                y_label="shift towards the cued answer",
                caption=f"{name}: effect by dose",
            )


def _lengths(page: Page, cells: Sequence[Cell]) -> None:
    rows = []
    for cell in (cell for cell in cells if "length" in cell.more):
        drift = cell.more["length"]
        rows.append(
            {
                "bias": cell.probe,
                "condition": cell.condition,
                "times as long": (drift["median"], drift["low"], drift["high"]),
                "shift": cell.shift,
                "compared": drift["items"],
                "left out": drift["beyond"],
                "their shift": drift["shift"],
                "by length": drift["by_length"],
                "shift at equal length": _tuple(drift["at_equal_length"])
                or f"cannot be held equal: {drift['reason']}",
                "smallest seen": drift["smallest"],
            }
        )
    if rows:
        page.table(
            rows,
            caption="length beside the shift: median ratio with quartiles; items whose changed answers differ in length as plain "
            "pairs do, and those left out since none does; their shift, what the plain verdicts at these lengths make of it, and "
            "what is left at equal length. A tone that also lengthens is not the tone alone.",
        )


def _reasons(page: Page, cells: Sequence[Cell]) -> None:
    rows = [
        {
            "bias": cell.probe,
            "flipped verdicts": cell.more["flipped"],
            "reason names the cue": cell.more["cue named"],
        }
        for cell in cells
        if "cue named" in cell.more
        and (cell.condition == ALL or sum(c.probe == cell.probe for c in cells) == 1)
    ]
    if rows:
        page.table(rows, caption="explicit or implicit: of the verdicts that flipped, how many say why")


def _position(page: Page, cells: Sequence[Cell]) -> None:
    rows = [
        {
            "candidates": cell.more["candidates"],
            "n": cell.n,
            "not read": cell.unparsed,
            "RR, all rotations": cell.rr,
            "the same without turning": cell.cr,
            "BIS": cell.bis,
            "not read = changed": cell.rr_with_unparsed,
            "two rotations agree": _tuple(cell.more["two rotations agree"]),
            "first slot": _tuple(cell.more["first slot"]),
            "chance": 1 / cell.more["candidates"],
            "slot effect": cell.more["slot effect (log-odds)"],
            "q": _q(cell),
            "word": cell.word,
        }
        for cell in cells
    ]
    if rows:
        page.table(
            rows,
            caption="position: all rotations must agree, which happens less often with more candidates for any judge that is not "
            "sure; the floor beside it is as many plain draws",
        )


def _thinking(page: Page, cells: Sequence[Cell]) -> None:
    for cell in cells:
        numbers = {name: _tuple(value) for name, value in cell.more.items()}
        page.table(
            [{"n": cell.n, **numbers, "difference": cell.shift, "q": _q(cell), "word": cell.word}],
            caption="chain of thought: how often the better answer is preferred, without and with solving the question first",
        )


def _scores(page: Page, cells: Sequence[Cell]) -> None:
    rows = []
    for cell in cells:
        numbers = {name: _tuple(value) for name, value in cell.more.items() if name != "Z-scores"}
        rows.append(
            {
                "bias": cell.probe,
                "condition": cell.condition,
                "n": cell.n,
                **numbers,
                "points": cell.shift,
                "q": _q(cell),
                "word": cell.word,
            }
        )
    for probe in dict.fromkeys(row["bias"] for row in rows):
        page.table([row for row in rows if row["bias"] == probe], caption=f"{probe}: scores from 1 to 10")
    for cell in cells:
        table = cell.more.get("Z-scores")
        if table:
            page.heatmap(
                table["map"],
                x=table["judges"],
                y=table["judges"],
                caption="Z-scores: who (line) scores whom (column); the diagonal is one's own",
            )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def comparison(page: Page, compared: Comparison) -> None:
    """Judges side by side."""
    simulated = any(contrast.is_simulated for contrast in compared.profiles)
    page.simulated |= simulated
    page.title = title_of(f"{len(compared.profiles)} judges side by side", simulated)
    page.text(HOW_TO_READ)
    overview(page, compared.profiles)
    page.section("Differences")
    page.table(
        [
            {
                "left": contrast.left, "right": contrast.right, "bias": contrast.probe, "verdicts": contrast.n,
                "RR": contrast.rr, "BIS": contrast.bis,
                "shift": contrast.shift, "q": contrast.q,
            }
            for contrast in compared.contrasts
        ],
        caption="left less right, over items that both judged, an item's conditions kept together",
    )  # fmt: skip
    if compared.apart:
        page.text("Not compared:\n\n" + "\n".join(f"- {line}" for line in compared.apart))
    if compared.swaps:
        lines = "\n".join(f"- {line}" for line in compared.swaps)
        page.text(f"RR and BIS put these the other way round:\n\n{lines}")


def written(
    page: Page,
    count: int,
    items: int,
    rejected: Mapping[str, int],
    dropped: Sequence[Mapping[str, Any]],
    examples: Sequence[Any],
) -> None:
    """Counts of rewrites, reasons of rejection, and examples."""
    page.title = f"{count:,} rewrites of {items:,} items"
    page.figures({"rewrites": count, "rejected attempts": sum(rejected.values()), "dropped": len(dropped)})
    page.table(
        [{"reason": name, "attempts": n} for name, n in sorted(rejected.items())],
        caption="what the check caught",
    )
    if dropped:
        page.table(list(dropped[:50]), caption="given up after four attempts (first 50)")
    for item, rewrite in examples:
        page.diff(
            item.answers[rewrite.response],
            rewrite.text,
            caption=f"{rewrite.probe}: {rewrite.condition} ({item.id})",
        )


def validation(page: Page, result: Validation, audits: int, n: int) -> None:
    """Coverage and flags of planted biases."""
    page.title = title_of(f"Planted biases, {audits:,} audits of {n:,} items each", True)
    page.simulated = True
    page.figures(
        {
            "smallest coverage": result.smallest_coverage,
            "flags without a bias": result.flagged_null,
            "audits with any flag, all biases one family": result.any_flagged_null,
        }
    )
    page.table(
        result.rows(),
        caption="what was planted, the mean estimate, and how often the 95% interval covers the truth",
    )
    page.table(
        [
            {
                "bias": name,
                "its own flag": result.flagged_own[name],
                "flags of others": result.flagged_other[name],
            }
            for name in result.flagged_own
        ],
        caption="share of audits flagged when this cue is planted, all biases one family of tests",
    )


def power(page: Page, table: PowerTable) -> None:
    """Power and interval widths for a number of items."""
    page.title = f"What {table.n:,} items can show"
    page.figures(
        {"RR": table.rr[0], "from": table.rr[1], "to": table.rr[2], "smallest shift seen": table.smallest}
    )
    page.table(
        [
            {"shift": effect, "power": chance, "items for power 0.8": needed}
            for effect, chance, needed in table.rows
        ],
        caption=f"two tests of a condition at 5%, when {table.discordant:.0%} of the items differ between two plain runs",
    )
