"""The description beside a saved student's weights: what it is and how it was set."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gnomon.core.files import write_json
from gnomon.errors import BadInput
from gnomon.methods.sieve.students.config import StudentConfig

DESCRIPTION = "student.json"
FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What `student.json` holds."""

    student: str
    """Kind of student: `hashed-linear`, `t5-encoder` or `sequence-classifier`."""
    name: str
    """The reference it was opened with."""
    config: StudentConfig
    """Its settings."""
    more: dict[str, Any] = field(default_factory=dict)
    """What else its kind keeps."""


def is_saved(folder: Path) -> bool:
    """Whether a student was saved in the folder."""
    return (folder / DESCRIPTION).is_file()


def write_description(folder: Path, about: Description) -> None:
    """Write `student.json`, the last file of a saved student: without it the folder is none."""
    plain = {"student": about.student, "name": about.name, "format": FORMAT, "config": asdict(about.config)}
    write_json(folder / DESCRIPTION, plain | {"more": about.more})


def read_description(folder: Path) -> Description:
    """What was saved in the folder. Settings that this version does not have are left out.

    Raises:
        BadInput: it is damaged, or of a later format.
    """
    known = {field.name for field in fields(StudentConfig)}
    try:
        plain = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        found = plain["format"]
        if found == FORMAT:
            config = StudentConfig(**{k: v for k, v in plain["config"].items() if k in known})
            return Description(plain["student"], plain["name"], config, plain["more"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput(f"{folder / DESCRIPTION}: not the description of a student. Save it again.") from None
    raise BadInput(
        f"{folder}: the student is of format {found} and this version reads {FORMAT}. Update gnomon."
    )
