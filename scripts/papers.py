"""Write PAPERS.md and the table in README.md from the registry; with --check only say whether they are fresh."""

import sys
from pathlib import Path

from gnomon.registry import FAMILIES, METHODS, Method

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- methods:begin (written by `make docs`) -->\n", "<!-- methods:end -->"


def papers() -> str:
    """The content of PAPERS.md."""
    lines = ["# Papers", "", "Generated from the registry by `make docs`.", ""]
    for family, purpose in FAMILIES.items():
        lines += [
            f"## {family}: {purpose}",
            "",
            "| method | paper | status | what it does |",
            "|---|---|---|---|",
        ]
        for m in METHODS:
            if m.family == family:
                lines.append(f"| {name(m)} | {link(m)} | {m.status} | {m.line} |")
        lines.append("")
    return "\n".join(lines)


def table() -> str:
    """The rows of the table in README.md."""
    return "".join(f"| {name(m)} | {m.family} | {m.line} | {link(m)} | {m.status} |\n" for m in METHODS)


def name(m: Method) -> str:
    """The method's name, linked to its page when there is one."""
    page = f"src/gnomon/methods/{m.slug.replace('-', '_')}/README.md"
    return f"[`{m.slug}`]({page})" if m.verbs else f"`{m.slug}`"


def link(m: Method) -> str:
    """The paper, linked."""
    return f"[{m.paper}](https://arxiv.org/abs/{m.paper})"


def main() -> int:
    """Write, or check."""
    readme = (ROOT / "README.md").read_text("utf-8")
    before, rest = readme.split(BEGIN)
    after = rest.split(END, 1)[1]
    wanted = {"PAPERS.md": papers(), "README.md": before + BEGIN + table() + END + after}
    stale = [
        file
        for file, text in wanted.items()
        if not (ROOT / file).exists() or (ROOT / file).read_text("utf-8") != text
    ]
    if "--check" in sys.argv:
        if stale:
            print(f"{', '.join(stale)} differ from the registry: run `make docs`.", file=sys.stderr)
        return bool(stale)
    for file in stale:
        (ROOT / file).write_text(wanted[file], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
