"""Sentences for what keeps a model from being loaded: a hub that refuses or is not there, a folder without weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gnomon.core.config import check
from gnomon.errors import BadInput

WEIGHTS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx")
"""Weights in formats that are not opened."""


def fault_of(ref: str | Path, error: BaseException, revision: str | None = None) -> BadInput:
    """What the libraries say of a hub id, as one sentence that says what to do.

    Args:
        ref: the hub id, or a folder.
        error: what was raised; what it was raised from decides.
        revision: what was asked for.
    """
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    causes = list(_chain(error))
    status = next((code for cause in causes if (code := _status(cause)) is not None), None)

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if is_any(errors.GatedRepoError) or status == 403:
        token = "the token in HF_TOKEN has no access" if os.environ.get("HF_TOKEN") else "HF_TOKEN is not set"
        return BadInput(
            f'Model "{ref}" is gated and {token}. Accept its terms at {hub}/{ref}, and set HF_TOKEN to a token that may read it.'
        )
    if is_any(errors.RevisionNotFoundError):
        return BadInput(
            f'Model "{ref}" at {hub} has no revision "{revision}". Check the branch, tag or commit.'
        )
    if is_any(errors.RemoteEntryNotFoundError):
        return BadInput(f'"{ref}" at {hub} holds no model: it has no config.json or no weights.')
    if is_any(errors.RepositoryNotFoundError) or status in (401, 404):
        return BadInput(
            f'There is no model "{ref}": it is neither a folder here nor at {hub}, or it is private there. Check the name; '
            "for a private one set HF_TOKEN."
        )
    if is_any(errors.HFValidationError):
        return BadInput(f'Model "{ref}" is neither a folder here nor a hub model: no hub has such a name.')
    if constants.is_offline_mode():
        return BadInput(
            f'Model "{ref}" is neither a folder here nor a hub model that is cached, and HF_HUB_OFFLINE is set. Check the name, '
            "or download it first."
        )
    return BadInput(
        f'Model "{ref}" is neither a folder here nor a hub model that is cached, and {hub} cannot be reached. Check the name '
        "and the connection, or download it elsewhere and name the folder."
    )


def check_hub(ref: str | Path, revision: str | None = None) -> None:
    """Ask whether a hub id can be read at all, by the file that every model has; whether it has that file is another matter.

    Raises:
        BadInput: as in `fault_of`.
    """
    from huggingface_hub import errors
    from transformers.utils.hub import cached_file

    try:
        cached_file(str(ref), "config.json", revision=revision)
    except OSError as error:
        if not any(isinstance(cause, errors.RemoteEntryNotFoundError) for cause in _chain(error)):
            raise fault_of(ref, error, revision) from error


def check_revision(source: str | Path, revision: str | None) -> None:
    """Refuse a revision of what lies here: only a hub keeps more than one.

    Raises:
        BadConfig: `source` is a folder or a file, and a revision is named.
    """
    check(
        revision is None or not Path(source).exists(),
        "revision",
        f'None for "{source}", which lies here; only a hub id has revisions',
        revision,
    )


def no_weights(ref: str | Path) -> BadInput:
    """The error for a folder or hub id without safetensors weights."""
    folder = Path(ref)
    others = sorted(path.name for pattern in WEIGHTS for path in folder.glob(pattern))
    if folder.is_dir() and not others:
        return BadInput(
            f'Folder "{ref}" has no safetensors weights and no others, only a configuration. '
            "A model folder is what save_pretrained writes."
        )
    return BadInput(
        f'Model "{ref}" has no safetensors weights, and other formats can run code when they are opened. '
        "Convert it where it came from: model.save_pretrained(folder)."
    )


def no_tokenizer(ref: str | Path) -> BadInput:
    """The error for a model without a tokenizer."""
    return BadInput(
        f'No tokenizer could be loaded from "{ref}". Save one there with tokenizer.save_pretrained.'
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error came with."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None
