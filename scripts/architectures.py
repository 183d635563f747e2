"""Which model classes of the installed transformers load with verified sites: writes the table in docs/models.md.

python scripts/architectures.py

Every class is made small from its own config (see tests/fixtures_walk.py), traced, checked, and sorted by what was found.
"""

import argparse
import sys
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

BEGIN, END = "<!-- architectures: begin -->", "<!-- architectures: end -->"


def main() -> None:
    """Walk over all classes and write the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.filterwarnings("ignore")
    import transformers

    from fixtures_walk import ROWS, walk

    transformers.logging.set_verbosity_error()
    rows, names = [], []
    for kind in ROWS:
        of = walk(kind)
        made = sum(len(of[outcome]) for outcome in ("all", "some", "none", "wrong"))
        rows.append(
            f"| {kind} | {made + len(of['not made'])} | {made} | {len(of['all'])} | {len(of['some'])} | {len(of['none'])} | "
            f"{len(of['wrong'])} | {(len(of['all']) + len(of['some'])) / made:.0%} |"
        )
        for outcome, words in (
            ("some", "some sites left out"),
            ("none", "no sites"),
            ("wrong", "wrong sites"),
            ("not made", "not tried (no small model or processor can be made here)"),
        ):
            if of[outcome]:
                kinds = ", ".join(name.partition(":")[0] for name in of[outcome])
                names.append(f"- {kind}, {words}: {kinds}.")
    table = [
        BEGIN,
        f"transformers {transformers.__version__} without torchvision; written by `python scripts/architectures.py`.",
        "",
        "| kind | classes | made small | all sites | some | none | wrong | load with verified sites |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        *names,
        END,
    ]
    page = ROOT / "docs" / "models.md"
    text = page.read_text("utf-8")
    begin, end = text.index(BEGIN), text.index(END) + len(END)
    page.write_text(text[:begin] + "\n".join(table) + text[end:], "utf-8")


if __name__ == "__main__":
    main()
