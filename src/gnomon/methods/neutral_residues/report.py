"""What each verb shows on its report page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gnomon.core.report import Page
from gnomon.methods.neutral_residues.evaluation import Point, forgetting_at, front, hypervolume

if TYPE_CHECKING:
    from gnomon.methods.neutral_residues.config import Sweep, Train
    from gnomon.methods.neutral_residues.extension.store import Trained
    from gnomon.methods.neutral_residues.training.study import Arm

Row = Mapping[str, Any]

COLUMNS = ("learning", "forgetting", "drift", "residual ratio", "open, original", "open, new")


def trained(page: Page, cfg: Train, row: Row, arm: Arm) -> None:
    """Page of `train`: loss and gates over steps, and what was measured."""
    page.title = f"A new domain by {cfg.method}: {cfg.new}"
    page.figures(
        {
            name: row[name]
            for name in ("learning", "forgetting", "residual ratio", "trained weights")
            if name in row
        }
    )
    page.text(
        "Learning G is what the new domain gained and forgetting F what the old one lost, in **bits per byte** of text set aside. "
        f"The backbone stood at {row['original before']:.3f} on the old domain and {row['new before']:.3f} on the new one; "
        f"the model stands at {row['original']:.3f} and {row['new']:.3f}."
    )
    _cost(page, cfg.method)
    curve = arm.history.curve("loss")
    page.lines(
        {cfg.method: list(enumerate(curve, 1))}, x_label="step", y_label="loss", caption="training loss"
    )
    page.table([{name: row[name] for name in COLUMNS if name in row}], caption="on text that was set aside")


def _cost(page: Page, method: str) -> None:
    if method in ("neutral", "adapter"):
        page.text(
            "The blocks stay in the model: each token costs their share of a feed-forward network more. Detached, the model is its "
            "backbone again, bit for bit."
        )


def compared(page: Page, trained: Trained, row: Row) -> None:
    """Page of `eval`: bits per byte of both domains, drift, residuals and gates."""
    page.title = f"{trained.method} against its backbone"
    page.figures({name: row[name] for name in ("learning", "forgetting", "drift")})
    page.table(
        [
            {"domain": name, "backbone": row[f"{name} before"], "trained": row[name]}
            for name in ("original", "new")
        ],
        caption="bits per byte",
    )
    page.table(
        [{name: row[name] for name in COLUMNS if name in row}],
        caption="drift: KL per token on the old domain, in nats",
    )


def swept(page: Page, cfg: Sweep, rows: Sequence[Row]) -> None:
    """The trade-off of a sweep."""
    points = [Point(row["method"], row["lr"], row["learning"], row["forgetting"]) for row in rows]
    best = front(points)
    page.title = "Learning against forgetting"
    page.figures({"trainings": len(points), "on the front": len(best)})
    page.text(
        "Every point is one training. Right is more learned of the new domain, up is more forgotten of the old: **low and right is "
        "better**. One learning rate per method is no comparison, so all of them are shown."
    )
    tradeoff(page, points)
    page.table(
        [
            {
                "method": row["method"],
                "learning rate": f"{row['lr']:g}",
                **{name: row.get(name) for name in COLUMNS},
                "weights": row["trained weights"],
                "on the front": any(p.arm == row["method"] and p.lr == row["lr"] for p in best),
            }
            for row in rows
        ],
        caption="in bits per byte; drift in nats per token",
    )
    page.table(
        equal_learning(points, cfg.methods),
        caption="forgetting where the method learns as much as the one in the column",
    )
    worst = (0.0, max(max(p.forgetting for p in points), 1e-9))
    page.table(
        [
            {"method": m, "hypervolume": hypervolume([p for p in points if p.arm == m], worst)}
            for m in cfg.methods
        ],
        caption=f"area beaten, up to a reference point of learning 0 and forgetting {worst[1]:.4g}",
        best={"hypervolume": "max"},
    )


def tradeoff(page: Page, points: Sequence[Point], caption: str = "") -> None:
    """The plot of forgetting against learning, a line per arm."""
    arms = dict.fromkeys(p.arm for p in points)
    page.lines(
        {arm: sorted((p.learning, p.forgetting) for p in points if p.arm == arm) for arm in arms}
        | {"Pareto front": [(p.learning, p.forgetting) for p in front(points)]},
        x_label="learned, bits per byte",
        y_label="forgotten, bits per byte",
        caption=caption or "learning against forgetting",
    )


def equal_learning(points: Sequence[Point], arms: Sequence[str]) -> list[dict[str, Any]]:
    """Per arm, its forgetting where it learns as much as each arm's best learner does; empty beyond its own points."""
    of = {arm: [p for p in points if p.arm == arm] for arm in arms}
    reached = {arm: max(p.learning for p in mine) for arm, mine in of.items() if mine}
    return [
        {"method": arm} | {f"as much as {other}": forgetting_at(mine, g) for other, g in reached.items()}
        for arm, mine in of.items()
    ]


def inspected(
    page: Page, rows: Sequence[Row], names: Sequence[str], coloured: Mapping[str, Sequence[tuple[str, float]]]
) -> None:
    """Page of `inspect`: residuals and gates by layer and token."""
    page.title = "What the blocks add, and when"
    activities(page, rows, names)
    page.section("Text by its gates")
    peak = max((value for pairs in coloured.values() for _, value in pairs), default=0.0)
    for name, pairs in coloured.items():
        page.tokens(pairs, caption=name, label="mean gate over the layers", peak=peak or None)


def activities(page: Page, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Residuals and open gates by layer and domain, as pictures and numbers.

    Args:
        page: the page.
        rows: from `evaluation.by_layer`.
        names: the domains.
    """
    layers = [str(row["layer"]) for row in rows]
    residuals = [[row[f"residual, {name}"] for row in rows] for name in names]
    page.heatmap(
        residuals, x=layers, y=names, low=0, caption="what each layer's block adds: mean |rho| per channel"
    )
    if f"open, {names[0]}" in rows[0]:
        opened = [[row[f"open, {name}"] for row in rows] for name in names]
        page.heatmap(
            opened, x=layers, y=names, low=0, high=1, caption="share of tokens whose gate is open, by layer"
        )
    page.table(rows, caption="layer by layer")
