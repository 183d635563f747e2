"""From template to page: escaping on, network off."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_HERE = Path(__file__).parent


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_panel(template: Path, values: Mapping[str, Any]) -> Markup:
    """The piece of a page that a template from anywhere makes of `values`, escaped like everything else."""
    return Markup(_environment().from_string(template.read_text(encoding="utf-8")).render(values))


def render(template: str, *, script: str, more_scripts: Iterable[Path] = (), **values: Any) -> str:
    """The page that `template` makes of `values`, with our style and scripts of ours inside.

    Its security policy lets it load nothing from anywhere, and names the scripts by their hashes, so that no
    other can run.

    Args:
        template: its name here.
        script: name here of the script that every such page has.
        more_scripts: scripts of panels.
        values: what the template needs.
    """
    codes = [path.read_text(encoding="utf-8").strip() for path in (_HERE / script, *more_scripts)]
    hashes = " ".join(f"'sha256-{_digest(code)}'" for code in codes)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'"
    )
    logo = (_HERE / "logo.svg").read_text(encoding="utf-8").strip()
    html = (
        _environment()
        .get_template(template)
        .render(
            policy=policy,
            logo=Markup(logo),
            icon="data:image/svg+xml," + quote(logo),
            style=Markup((_HERE / "style.css").read_text(encoding="utf-8").strip()),
            scripts=[Markup(code) for code in codes],
            **values,
        )
    )
    return html.encode("utf-8", "replace").decode("utf-8")


def _digest(code: str) -> str:
    return base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
