"""From template to page: escaping on, network off."""

from __future__ import annotations

import base64
import hashlib
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


def render(template: str, *, script: str, **values: Any) -> str:
    """The page that `template` makes of `values`, with our style and one script of ours inside.

    Its security policy lets it load nothing from anywhere, and names the script by its hash, so that no
    other can run.
    """
    code = (_HERE / script).read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
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
            script=Markup(code),
            **values,
        )
    )
    return html.encode("utf-8", "replace").decode("utf-8")
