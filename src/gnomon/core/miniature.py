"""What every miniature replication has in common: its settings, and the file that records it. Imports nothing heavy."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from gnomon.core.config import check

if TYPE_CHECKING:
    from gnomon.core.claims import Verdict
    from gnomon.core.run import Run


@dataclass(frozen=True, kw_only=True)
class Miniature:
    """Settings of every miniature; a room's own come behind them."""

    scale: Literal["smoke", "mini", "gpu"] = "mini"
    """smoke: does the machinery run; mini: the CPU replication; gpu: a larger one for a single GPU."""
    seeds: int = 3
    """How many seeds, counted up from --seed."""

    def __post_init__(self) -> None:
        check(self.seeds >= 1, "seeds", ">= 1", self.seeds)


def check_parts(parts: Sequence[str], known: Collection[str]) -> None:
    """Refuse parts of a miniature that it does not have, and none at all.

    Raises:
        BadConfig: the message names those there are.
    """
    check(bool(parts) and set(parts) <= set(known), "parts", f"some of {', '.join(known)}", parts)


def write_summary(
    run: Run, cfg: Miniature, scale: Any, verdicts: Sequence[Verdict], found: dict[str, Any], *options: str
) -> None:
    """The run in one JSON file, `summary.json`: what was run with what, and what came out, per seed.

    Args:
        run: the run; the file is its artifact `summary`.
        cfg: its settings.
        scale: the sizes behind `cfg.scale`, a dataclass.
        verdicts: what became of the claims.
        found: the room's own numbers.
        options: the room's own words of the command.
    """
    from gnomon.core import env
    from gnomon.core.files import write_json

    words = ["--scale", cfg.scale, *options, "--seeds", str(cfg.seeds), "--seed", str(run.seed)]
    write_json(
        run.artifact("summary", run.folder / "summary.json"),
        {
            "method": run.method,
            "command": shlex.join(["gnomon", run.method, "mini", *words]),
            "environment": env.describe(),
            "scale": asdict(scale),
            **found,
            "verdicts": [verdict.as_row() for verdict in verdicts],
        },
    )
