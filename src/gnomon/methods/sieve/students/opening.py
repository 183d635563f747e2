"""From a reference to a student: a name, a model, or the folder of a saved student."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from gnomon.errors import BadInput, nearest
from gnomon.methods.sieve.students.base import Student
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.linear import DESCRIPTION, NAME, HashedLinear


def open_student(ref: str | Path, config: StudentConfig | None = None) -> Student:
    """The student that a reference names.

    Args:
        ref: `hashed-linear`, or the folder of a saved student.
        config: how it trains and scores. None: the defaults; for a saved student, what it was saved with.

    Raises:
        BadInput: nothing is known by that name, or the folder cannot be read.
    """
    folder = Path(ref)
    if (folder / DESCRIPTION).is_file():
        return _reopen(folder, config)
    if str(ref) == NAME:
        return HashedLinear(config)
    raise BadInput(f'No student is called "{ref}". {nearest(str(ref), [NAME])}')


def _reopen(folder: Path, config: StudentConfig | None) -> Student:
    try:
        about = json.loads((folder / DESCRIPTION).read_text("utf-8"))
        saved = _settings(about["config"])
        kind = about["student"]
    except (ValueError, KeyError, TypeError):
        raise BadInput(f"{folder / DESCRIPTION}: not the description of a student. Save it again.") from None
    if kind == NAME:
        # What the weights were made for stays; how to train and score may change.
        fixed = ("hash_bits", "ngrams", "idf", "lsa_dim")
        chosen = (
            saved if config is None else replace(config, **{name: getattr(saved, name) for name in fixed})
        )
        return HashedLinear.load(folder, about, chosen)
    raise BadInput(f'{folder}: a student of kind "{kind}" is unknown. {nearest(kind, [NAME])}')


def _settings(plain: dict[str, Any]) -> StudentConfig:
    """Settings as they were saved; names that this version does not have are left out."""
    known = {field.name for field in fields(StudentConfig)}
    return StudentConfig(**{name: value for name, value in plain.items() if name in known})
