"""Print how many lines each room has, against its budget: library 2,500, mini 450, report 200, config 250, run 250."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOMS = Path(__file__).resolve().parents[1] / "src" / "gnomon" / "methods"
BUDGET = {"library": 2500, "mini": 450, "report": 200, "config": 250, "run": 250}


def share(path: Path) -> str:
    """Which part of the budget a file of a room belongs to."""
    first = path.parts[0].removesuffix(".py")
    return first if first in BUDGET else "library"


def bill(room: Path) -> Counter[str]:
    """Lines of Python of a room, by part of the budget."""
    lines: Counter[str] = Counter()
    for path in room.rglob("*.py"):
        lines[share(path.relative_to(room))] += path.read_text("utf-8").count("\n")
    return lines


def main() -> None:
    """Print one row a room; what is above the budget is marked."""
    print(f"{'lines per room':20}" + "".join(f"{name:>10}" for name in [*BUDGET, "all"]))
    for room in sorted(path for path in ROOMS.iterdir() if (path / "config.py").exists()):
        lines = bill(room)
        cells = [f"{lines[name]}{'*' if lines[name] > most else ' '}" for name, most in BUDGET.items()]
        print(f"{room.name:20}" + "".join(f"{cell:>10}" for cell in [*cells, f"{sum(lines.values())} "]))
    print(f"{'budget':20}" + "".join(f"{f'{most} ':>10}" for most in BUDGET.values()) + "   * above it")


if __name__ == "__main__":
    main()
