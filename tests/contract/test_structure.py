"""The shape of the house: what HOUSE and STYLE promise of folders, imports, calls and names, read from the source."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from gnomon import registry
from gnomon.lazy import resolve

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "gnomon"
ROOMS = sorted(path for path in (SOURCE / "methods").iterdir() if (path / "config.py").exists())
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text("utf-8")) for path in FILES}

FEW_READERS = {
    "gnomon.core.llm.endpoint.check": "the start-up check of an endpoint, for users and their scripts",
    "gnomon.core.llm.endpoint.serve_child": "the process that core.llm.endpoint.serve starts",
    "gnomon.core.llm.sims.server": "serves any model of core.llm on the loopback address, as `gnomon sim serve` does",
    "gnomon.core.rollout.episodes": "what glimo and divscene learn from",
    "gnomon.core.metrics.areas": "agreement of masks, boxes and images, for cloc, fakeshield, loong and divscene",
    **dict.fromkeys(
        (f"gnomon.core.vision.{name}" for name in ("masks", "regions")),
        "images with what is true of them, for cloc now and for fakeshield and divscene",
    ),
    "gnomon.core.report.index": "the page of `gnomon view` and `gnomon mini`",
    **dict.fromkeys(
        (
            "gnomon.core.models.images.features",
            *(f"gnomon.core.retrieval.{name}" for name in ("rerankers", "stores.folder")),
            "gnomon.core.retrieval.stores.approximate",
            "gnomon.core.retrieval.stores.lance",
            "gnomon.core.retrieval.stores.qdrant",
            *(f"gnomon.core.retrieval.stores.postgres.{name}" for name in ("server", "text", "vectors")),
            *(
                f"gnomon.core.retrieval.graph.{name}"
                for name in ("contract", "exports", "folder", "postgres", "references")
            ),
            *(f"gnomon.core.retrieval.stores.milvus.{name}" for name in ("filters", "server", "vectors")),
        ),
        "three methods that are still to be built find passages with it, and users do already",
    ),
}
"""Modules of core that fewer than two rooms reach -> why they are in core all the same."""

FORBIDDEN = {"found", "one", "told", "said", "given", "made", "known", "place", "asked"}
"""Names that do not say what a variable holds."""

OPENERS = {
    "connect", "open_llm", "Cached", "Metered", "Meter", "Budgeted", "Limited", "Retried", "Recorded", "Chat", "Local",
    "Served", "Script", "Tape",
}  # fmt: skip
"""What opens a language model or stands around an open one."""


def module_of(path):
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def exported(module):
    """Public name -> module that defines it, from a package's table of exports."""
    for node in ast.walk(TREES[MODULES[module]]):
        is_table = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "exports"
        if is_table and isinstance(node.args[1], ast.Dict):
            pairs = zip(node.args[1].keys, node.args[1].values, strict=True)
            return {name.value: f"{module}.{where.value}" for name, where in pairs}
    return {}


TABLES = {name: exported(name) for name, path in MODULES.items() if path.name == "__init__.py"}


def imports_of(module):
    """Modules of gnomon that a module imports, wherever the import stands, through tables of exports too."""
    modules = set()
    for node in ast.walk(TREES[MODULES[module]]):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gnomon"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                behind = TABLES.get(node.module, {}).get(alias.name)
                modules.add(full if full in MODULES else behind or node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names if alias.name in MODULES}
    return modules & set(MODULES) - {module}


GRAPH = {module: imports_of(module) for module in MODULES}


def reached_from(modules):
    """Everything that the modules import, and what that imports."""
    reached, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += GRAPH[module]
    return reached


def test_a_folder_holds_ten_names():
    for folder in sorted(path for path in SOURCE.rglob("*") if path.is_dir()):
        if folder.name in ("__pycache__", "methods", "core"):  # core's top level lists its packages
            continue
        names = [
            path.name
            for path in folder.iterdir()
            if path.name not in ("__pycache__", "__init__.py")
            and (path.is_dir() or path.suffix in (".py", ".md"))
        ]
        assert len(names) <= 10, f"{folder.relative_to(SOURCE)}: {sorted(names)}"


def test_no_import_circle():
    """Imports inside functions and under TYPE_CHECKING count too."""
    for module in MODULES:
        for imported in GRAPH[module]:
            assert module not in reached_from([imported]), (
                f"{module} imports {imported}, which leads back to it"
            )


def test_nothing_outside_of_mini_imports_it():
    for module, imported in GRAPH.items():
        room = ".".join(module.split(".")[:3])
        if not module.startswith(f"{room}.mini"):
            assert not [name for name in imported if name.startswith(f"{room}.mini")], module


def test_core_modules_are_reached_by_two_rooms_or_have_a_reason():
    readers = defaultdict(set)
    for room in ROOMS:
        own = [name for name in MODULES if f"{name}.".startswith(f"gnomon.methods.{room.name}.")]
        for name in reached_from(own):
            readers[name].add(room.name)
    lonely = {
        name
        for name, path in MODULES.items()
        if name.startswith("gnomon.core.") and path.name != "__init__.py" and len(readers[name]) < 2
    }
    assert lonely == set(FEW_READERS)


def functions():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def parameters(node):
    args = node.args
    return [
        arg.arg for arg in (*args.posonlyargs, *args.args, *args.kwonlyargs) if arg.arg not in ("self", "cls")
    ]


def test_a_function_has_at_most_eight_parameters():
    long = [
        (str(p.relative_to(SOURCE)), n.name, len(parameters(n)))
        for p, n in functions()
        if len(parameters(n)) > 8
    ]
    assert not long


def test_variables_are_named_after_what_they_hold():
    vague = Counter()
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            name = node.arg if isinstance(node, ast.arg) else getattr(node, "id", None)
            is_stored = isinstance(node, ast.arg) or isinstance(getattr(node, "ctx", None), ast.Store)
            if is_stored and name in FORBIDDEN:
                vague[f"{path.relative_to(SOURCE)}:{node.lineno} {name}"] += 1
    assert not vague


def tree_of(room):
    """The lines of the file tree that a room's README ends with."""
    text = (room / "README.md").read_text("utf-8")
    assert text.count("## Files") == 1, f"{room.name}: the README needs one section ## Files"
    section = text.split("## Files")[1]
    assert "Start reading here" in section, room.name
    return re.search(r"```\n(.*?)```", section, re.S)[1].splitlines()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_file_stands_once_in_the_tree_of_its_room(room):
    folder, named = "", []
    for line in tree_of(room):
        if not line.strip():
            continue
        name = line.split()[0]
        indent = len(line) - len(line.lstrip())
        if indent == 0:
            folder = name if name.endswith("/") else ""
        named.append(name if indent == 0 else f"{folder}{name}")
        assert len(line.split()) > 1, f"{room.name}: {name} has no line of purpose"
    expected = [
        str(path.relative_to(room)) for path in sorted(room.rglob("*.py")) if path.name != "__init__.py"
    ]
    assert sorted(name for name in named if name.endswith(".py")) == expected


IMPORT_NAMES = {
    "faiss": "faiss-cpu",
    "pil": "pillow",
    "yaml": "pyyaml",
    "bs4": "beautifulsoup4",
    "sklearn": "scikit-learn",
    "attr": "attrs",
}


def declared(table):
    return {re.split(r"[\[<>=!~ ;]", text)[0].lower().replace("_", "-") for text in table}


def test_every_import_is_declared():
    """Also that nothing is declared for the base install that only tests import."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = declared(project["dependencies"])
    extras = {name: declared(table) for name, table in project["optional-dependencies"].items()}
    imported = defaultdict(set)
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
                names = [node.args[0].value]
            else:
                continue
            for name in names:
                imported[name.split(".")[0]].add(path)
    ours = {"gnomon", *sys.stdlib_module_names}
    packages = {
        IMPORT_NAMES.get(name.lower(), name.lower().replace("_", "-"))
        for name in imported
        if name not in ours
    }
    known_to_extras = set().union(*(table for name, table in extras.items() if name != "dev"))
    assert packages <= base | known_to_extras
    for name in base - packages:
        assert name in BY_NAME, f"{name} is declared, and nothing in src imports it"


BY_NAME = {
    "accelerate": "transformers and the loop of core.train need it",
    "jaxtyping": "annotations",
}
"""Declared packages that are used without an import statement."""


@pytest.mark.parametrize("method", [m for m in registry.METHODS if m.verbs], ids=lambda m: m.slug)
def test_claims_name_their_part(method):
    claims = resolve(f"{method.package}.config:CLAIMS")
    parts = {claim.part for claim in claims}
    assert all(parts) or parts == {""}, "a study of several parts names one in each claim"


def test_language_models_are_opened_through_run_asking():
    for module, path in MODULES.items():
        if not module.startswith("gnomon.methods."):
            continue
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gnomon.core.llm"):
                opened = {alias.name for alias in node.names} & OPENERS
                assert not opened, f"{module} imports {sorted(opened)}; use run.asking"


def test_packages_of_the_base_install_are_here():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in declared(project["dependencies"]):
        assert importlib.metadata.version(name)
