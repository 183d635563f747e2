"""Who may import whom, and what the light commands may load."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "gnomon"
ROOMS = SOURCE / "methods"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ["torch", "transformers", "datasets", "ray", "matplotlib", "peft", "accelerate", "numpy", "pyarrow"]


def imported(path):
    """Every module a file imports, wherever in the file, relative imports resolved."""
    names = set()
    package = ["gnomon", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_core_imports_no_room_and_rooms_not_each_other(path):
    parts = path.relative_to(SOURCE).parts
    rooms = {name.split(".")[2] for name in imported(path) if name.startswith("gnomon.methods.")}
    if parts[0] == "methods" and len(parts) > 2:
        assert rooms <= {parts[1]}
    else:
        assert not rooms


def test_core_names_no_method():
    from gnomon.registry import METHODS

    slugs = [m.slug for m in METHODS if m.slug not in ("sieve", "markov", "calm", "elm")]  # also plain words
    for path in (SOURCE / "core").rglob("*"):
        if path.suffix in (".py", ".j2", ".js", ".css"):
            text = path.read_text("utf-8")
            assert not [slug for slug in slugs if re.search(rf"\b{slug}\b", text)], path


def loaded_after(*words):
    """The heavy packages that a command line loads, and how it ended."""
    code = (
        "import json, sys\n"
        "from gnomon.cli import main\n"
        f"code = main({list(words)!r})\n"
        f"print('\\n@' + json.dumps([code, [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout.rsplit("@", 1)[1])


@pytest.mark.parametrize(
    "words",
    [("--help",), ("list",), ("show", "lintseq"), ("lintseq",), ("lintseq", "generate", "--help"),
     ("sieve", "fit", "--help"), ("view", "--help")],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_load_nothing_heavy(words):
    assert loaded_after(*words) == [0, []]


def test_every_module_has_a_docstring_and_a_size_to_live_in():
    for path in FILES:
        text = path.read_text("utf-8")
        assert ast.get_docstring(ast.parse(text)), path
        assert text.count("\n") <= 400, f"{path}: is there a second idea in it?"
