"""What critic and optimiser are asked, written from template files.

Text of others goes in as values and is never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, TemplateError

from gnomon.core.files import room_file
from gnomon.errors import BadInput

FOLDER = room_file(__name__, "prompts")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _template(where: str) -> Template:
    if Path(where).name == where:
        return _environment().get_template(f"{where}.txt.j2")
    try:
        return _environment().from_string(Path(where).read_text("utf-8"))
    except (OSError, UnicodeDecodeError, TemplateError) as error:
        raise BadInput(
            f"{where}: not a prompt template ({error}). Compare those of this room in {FOLDER.name}/."
        ) from None


def write(template: str | Path, values: Mapping[str, Any]) -> str:
    """The text that a template makes of values.

    Args:
        template: a name in the folder `prompts`, or a file of the user's own.
        values: what it may speak of.

    Raises:
        BadInput: the file cannot be read, or speaks of something that there is not.
    """
    try:
        return _template(str(template)).render(values).strip() + "\n"
    except TemplateError as error:
        raise BadInput(f"Template {template}: {error}. It may use {', '.join(sorted(values))}.") from None
