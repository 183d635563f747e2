"""From a reference to a student: a name, a model, or the folder of a saved student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gnomon.core.models.load.embedded import SCHEME
from gnomon.errors import BadInput, nearest
from gnomon.methods.sieve.students.base import Student, is_saved, read_description
from gnomon.methods.sieve.students.config import StudentConfig
from gnomon.methods.sieve.students.linear import HashedLinear

LINEAR, T5, SEQUENCE = "hashed-linear", "t5-encoder", "sequence-classifier"

# What the weights of a saved student were made for; how it trains and scores may change.
FIXED = ("hash_bits", "ngrams", "idf", "lsa_dim", "dropout")


def check_student(ref: str | Path) -> None:
    """Check that `open_student` knows the reference, without loading any weights.

    Raises:
        BadInput: nothing is known by that name, or the folder cannot be read.
        ModelMismatch: the model cannot classify text.
    """
    if is_saved(Path(ref)):
        read_description(Path(ref))
    elif str(ref) != LINEAR:
        _kind_and_origin(str(ref))


def open_student(ref: str | Path, config: StudentConfig | None = None) -> Student:
    """The student that a reference names.

    Args:
        ref: `hashed-linear`; `t5-encoder:FOLDER_OR_ID`, the encoder of that T5; a model folder or hub id, which is taken as
            `t5-encoder` if it is a T5 and as an `AutoModelForSequenceClassification` if not; or the folder of a saved student.
        config: how it trains and scores. None: the defaults; for a saved student, what it was saved with.

    Raises:
        BadInput: nothing is known by that name, or the folder cannot be read.
        ModelMismatch: the model cannot classify text, or its tokenizer does not fit.
    """
    name = str(ref)
    if is_saved(Path(ref)):
        return _reopen(Path(ref), config)
    if name == LINEAR:
        return HashedLinear(config)
    # torch and transformers take seconds to import, and hashed-linear needs neither.
    from gnomon.methods.sieve.students.transformer import TransformerStudent

    return TransformerStudent(name, *_kind_and_origin(name), config)


def _kind_and_origin(name: str) -> tuple[str, str]:
    """The kind of transformer that a reference names, and the model that it begins from."""
    from gnomon.methods.sieve.students.networks import find_kind

    kind, colon, origin = name.partition(":")
    if kind == T5:
        if not origin:
            raise BadInput(
                "t5-encoder needs a T5 to begin from. Name a folder or hub id: t5-encoder:google-t5/t5-large."
            )
        return find_kind(origin, T5), origin
    if colon and f"{kind}:" != SCHEME and not Path(name).is_dir():
        raise BadInput(f'No kind of student is called "{kind}". {nearest(kind, [LINEAR, T5])}')
    try:
        return find_kind(name), name
    except BadInput as error:
        if not Path(name).exists() and "/" not in name:
            raise BadInput(
                f'No student is called "{name}", and no model folder or hub id of that name can be reached. '
                f"{nearest(name, [LINEAR, T5])}"
            ) from error
        raise


def _reopen(folder: Path, config: StudentConfig | None) -> Student:
    about = read_description(folder)
    if config is not None:
        config = replace(config, **{name: getattr(about.config, name) for name in FIXED})
    config = config or about.config
    if about.student == LINEAR:
        return HashedLinear.load(folder, about, config)
    if about.student not in (T5, SEQUENCE):
        raise BadInput(
            f'{folder}: a student of kind "{about.student}" is unknown. {nearest(about.student, [LINEAR, T5, SEQUENCE])}'
        )
    from gnomon.methods.sieve.students.transformer import TransformerStudent

    return TransformerStudent(about.name, about.student, about.more["origin"], config, saved=folder)
