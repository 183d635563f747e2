"""Commands that belong to no method: list, show, doctor, models, mini, view, sim. Each is a dataclass that knows how to run."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gnomon import registry
from gnomon.core import env
from gnomon.core.config import Positional
from gnomon.errors import BadConfig, BadInput, nearest
from gnomon.lazy import resolve
from gnomon.verbs import run_verb


class Command(Protocol):
    """Something that runs and returns an exit code."""

    def run(self) -> int:
        """Do it."""
        ...


@dataclass(frozen=True)
class List:
    """The twenty methods by family, one line each."""

    json: bool = False
    """Print one JSON array."""

    def run(self) -> int:
        """Print the table."""
        if self.json:
            print(json.dumps([_row(m) for m in registry.METHODS], indent=1))
            return 0
        for family, purpose in registry.FAMILIES.items():
            print(f"{family}: {purpose}")
            for m in registry.METHODS:
                if m.family == family:
                    print(f"  {m.slug:22} {m.status:8} {m.line}")
        return 0


@dataclass(frozen=True)
class Show:
    """What a method is for, its verbs, its claim and its paper."""

    method: Positional[str]
    """A method's name, as `gnomon list` prints it."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print what the registry and the room say."""
        m = registry.method(self.method)
        verbs = {v: (inspect.getdoc(resolve(m.config(v))) or "").splitlines()[0] for v in m.verbs.split()}
        claims = [claim.text for claim in resolve(f"{m.package}.config:CLAIMS")] if m.verbs else []
        if self.json:
            print(json.dumps(_row(m) | {"verbs": verbs, "claims": claims}, indent=1))
            return 0
        print(f"{m.slug} ({m.family}): {m.line}\npaper: https://arxiv.org/abs/{m.paper}")
        if not m.verbs:
            print("status: planned, not built yet")
            return 0
        print("\nverbs")
        for name, line in verbs.items():
            print(f"  gnomon {m.slug} {name:12} {line}")
        print("\nclaims that `mini` tests")
        for claim in claims:
            print(f"  - {claim}")
        return 0


@dataclass(frozen=True)
class Doctor:
    """Devices, versions, what is missing and how to install it."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Look around and tell; exit code 1 when a package of the base install is missing."""
        from gnomon.core.models.load.embedded import EMBEDDED, install_command

        installation = env.describe() | {"devices": env.devices()}
        missing = [name for name, version in installation["packages"].items() if version is None]
        extras = {
            name: [p for p in packages if env.version(p) is None] for name, packages in env.extras().items()
        }
        if self.json:
            print(json.dumps(installation | {"missing": missing, "missing_extras": extras}, indent=1))
            return 1 if missing else 0
        print(
            f"gnomon {installation['gnomon']} on Python {installation['python']}, {installation['system']}, "
            f"{installation['cores']} cores"
        )
        print(f"devices: {', '.join(installation['devices'])}")
        for name, version in installation["packages"].items():
            print(f"  {name:14} {version or 'missing'}")
        if missing:
            print("\nThe base install is incomplete. Repair it with: pip install --upgrade gnomon")
        for extra, lacking in extras.items():
            if lacking:
                print(f'optional: {", ".join(lacking)} not installed: pip install "gnomon[{extra}]"')
        lacking_models = [model.ref for model in EMBEDDED.values() if not model.is_installed]
        if lacking_models:
            print(f"optional: {', '.join(lacking_models)}, small real models: {install_command()}")
        return 1 if missing else 0


@dataclass(frozen=True)
class Models:
    """Real models that come as packages, and what was converted into the cache of this user."""

    clear: bool = False
    """Delete every converted model from the cache."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Print the table, after clearing the cache if that was asked for."""
        from gnomon.core.models.load.embedded import EMBEDDED, install_command
        from gnomon.core.models.load.store import clear, models_folder, stored

        freed = clear() if self.clear else None
        cached = stored()
        if self.json:
            rows = [
                {
                    "model": model.ref,
                    "package": f"{model.package}=={model.version}",
                    "is_installed": model.is_installed,
                    "bytes": sum(file.bytes for file in model.files),
                    "licence": model.licence,
                    "about": model.about,
                }
                for model in EMBEDDED.values()
            ]
            folders = [
                {
                    "folder": str(entry.folder),
                    "model": entry.ref,
                    "bytes": entry.bytes,
                    "is_whole": entry.is_whole,
                }
                for entry in cached
            ]
            print(json.dumps({"embedded": rows, "cached": folders, "freed_bytes": freed}, indent=1))
            return 0
        print("embedded: real weights that come as packages")
        for model in EMBEDDED.values():
            state = "installed" if model.is_installed else "not installed"
            size = _megabytes(sum(file.bytes for file in model.files))
            print(f"  {model.ref:28} {size:>9}  {state:14} {model.licence:11} {model.about}")
        if not all(model.is_installed for model in EMBEDDED.values()):
            print(f"  install them with: {install_command()}")
        if freed is not None:
            print(f"cleared: {_megabytes(freed)}")
        print(f"cached: {models_folder()}{'' if cached else ' holds nothing'}")
        for entry in cached:
            what = entry.ref if entry.is_whole else "left behind by a process that was killed"
            print(f"  {entry.folder.name:28} {_megabytes(entry.bytes):>9}  {what}")
        return 0


@dataclass(frozen=True)
class Minis:
    """Miniature replications of several methods, with one summary page."""

    methods: Positional[tuple[str, ...]] = ()
    """Methods to run; none: all that work."""
    scale: Literal["smoke", "mini", "gpu"] = "mini"
    """smoke: does the machinery run; mini: the CPU replication; gpu: a larger one."""
    seeds: int = 3
    """How many seeds."""
    out: Path = Path("runs/mini")
    """Folder of the runs and of the summary page."""

    def run(self) -> int:
        """Run them one after another; the worst exit code wins."""
        from gnomon.core.report.index import write_index

        chosen = [registry.method(s) for s in self.methods] or [m for m in registry.METHODS if m.verbs]
        codes = []
        for m in chosen:
            words = ["--scale", self.scale, "--seeds", str(self.seeds), "--out", str(self.out / m.slug)]
            print(f"== {m.slug} mini", file=sys.stderr)
            codes.append(run_verb(m, registry.verb(m, "mini"), words))
        print(f"summary {write_index(self.out)}")
        return max(codes)


@dataclass(frozen=True)
class View:
    """An index page over run folders, opened in the browser."""

    runs: Positional[Path] = Path("runs")
    """Folder that holds run folders, at any depth."""
    open: bool = True
    """Open the page in a browser."""

    def run(self) -> int:
        """Write the page, say where it is and open it."""
        from gnomon.core.report.index import write_index

        if not self.runs.is_dir():
            raise BadInput(f"{self.runs} is not a folder. Name the folder that holds your runs.")
        page = write_index(self.runs)
        print(page)
        if self.open and sys.stdout.isatty():
            import webbrowser

            webbrowser.open(page.resolve().as_uri())
        return 0


@dataclass(frozen=True)
class Sim:
    """Simulated language models: list them, or serve one as an OpenAI-compatible server."""

    action: Positional[Literal["list", "serve"]]
    """list: the simulators with their parameters; serve: answer on the loopback address until interrupted."""
    name: Positional[str] = ""
    """Which one to serve, with its parameters: "verdict?words=rain|snow"."""
    port: int = 0
    """Port to listen on; 0 takes a free one."""

    def run(self) -> int:
        """Print the table; or print the endpoint as one line and serve it."""
        from gnomon.core.llm import sims

        if self.action == "list":
            print(sims.describe())
            return 0
        if not self.name:
            raise BadConfig(f"gnomon sim serve needs a simulator. {nearest('', sims.SIMULATORS)}")
        code: int = sims.serve(sims.open_simulator(self.name), self.port)
        return code


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def _row(m: registry.Method) -> dict[str, Any]:
    return {"method": m.slug, "family": m.family, "line": m.line, "paper": m.paper, "status": m.status}


__all__: Sequence[str] = ("Command", "Doctor", "List", "Minis", "Models", "Show", "Sim", "View")
