"""From what names a model to the folder that holds it: runs, embedded models, GGUF files, folders of the cache that are gone."""

from __future__ import annotations

from pathlib import Path

from gnomon.core.files import artifact, is_run_folder
from gnomon.core.models.load.embedded import EMBEDDED, SCHEME, Embedded, embedded, locate
from gnomon.core.models.load.store import converted, hash_of
from gnomon.errors import BadInput


def model_at(ref: str | Path) -> str | Path:
    """The folder of the model that `ref` names where it is made here, else `ref` itself.

    - the folder of a run that made a model: that model;
    - `embedded:NAME`, and a file `*.gguf`: its folder in the user's cache, converted on first use;
    - the folder of an embedded model in a cache that was cleared, or in another user's: the same in this one. Adapters name it.

    Raises:
        BadInput: the run has not finished, or made no model; no such embedded model or file; a file is damaged.
        MissingExtra: a package is not installed.
        ModelMismatch: a GGUF file holds an architecture that transformers cannot read.
    """
    if str(ref).startswith(SCHEME):
        return _embedded_folder(embedded(str(ref)))
    path = Path(ref)
    if is_run_folder(path):
        return artifact(path, "model")
    if path.suffix.lower() == ".gguf":
        return _gguf_folder(path)
    if not path.exists() and (model := _BY_KEY.get(path.name)) is not None:
        return _embedded_folder(model)
    return ref


_BY_KEY = {model.key: model for model in EMBEDDED.values()}


def _embedded_folder(model: Embedded) -> Path:
    def convert(folder: Path) -> None:
        # Torch and transformers are loaded only where something is converted.
        from gnomon.core.models.load import conversion

        getattr(conversion, f"from_{model.format}")(locate(model), folder)

    return converted(model.key, convert)


def _gguf_folder(file: Path) -> Path:
    if not file.is_file():
        raise BadInput(f"{file} does not exist.")

    def convert(folder: Path) -> None:
        from gnomon.core.models.load import conversion

        conversion.from_gguf([file], folder)

    return converted(f"{file.stem}-{hash_of(file)[:12]}", convert)
