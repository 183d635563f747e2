"""Documents in the making: what an importer fills as it walks through a file. Pictures inside the file become files."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Section, image_of, within

Split = Literal["file", "heading"]
"""A document is a file, or what stands below a top-level heading of one."""


@dataclass
class Builder:
    """Sections in the making, as an importer walks through a file.

    Args:
        name: of the file, the id of its document.
        title: where it has no heading of the first level.
        folder: what its links are relative to.
        root: what they never lead out of.
        images: where pictures inside the file are written.
    """

    name: str
    title: str
    folder: Path
    root: Path
    images: Path
    documents: list[tuple[str, list[tuple[str, list[Block]]]]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    split: Split = "file"

    def heading(self, level: int, text: str) -> None:
        """Begin a section; with `split="heading"` one of the first level begins a document."""
        text = " ".join(text.split())
        if not self.documents or (level == 1 and self.split == "heading"):
            self.documents.append((text, []))
        elif level == 1 and not self.documents[-1][0]:
            self.documents[-1] = (text, self.documents[-1][1])
        self.documents[-1][1].append((text, []))

    def add(self, block: Block) -> None:
        """Add a block to the section."""
        if not self.documents:
            self.documents.append(("", []))
        if not self.documents[-1][1]:
            self.documents[-1][1].append(("", []))
        self.documents[-1][1][-1][1].append(block)

    def text(self, text: str) -> None:
        """Add a paragraph, unless it is empty."""
        if text.strip():
            self.add(Block("text", text=text.strip()))

    def picture(self, source: str, caption: str = "", attachments: Any = None) -> None:
        """Add a picture by its link: a file, a data address, or an attachment of a notebook's cell."""
        caption = " ".join(caption.split())
        if source.startswith("attachment:"):
            held = (attachments or {}).get(source.removeprefix("attachment:"), {})
            data = next((value for kind, value in held.items() if kind.startswith("image/")), None)
            if data is None:
                return self._missing(f'"{source}" is not attached.', caption)
            return self.data(data, caption)
        if source.startswith("data:"):
            head, _, data = source.partition(",")
            if not head.startswith("data:image/") or ";base64" not in head:
                return self._missing("a data address holds no picture in base64.", caption)
            return self.data(data, caption)
        parts = urlsplit(source)
        if parts.scheme or parts.netloc:
            return self._missing(f'"{source}" is an address, and nothing is fetched.', caption)
        link = os.path.relpath(self.folder / unquote(parts.path), self.root)
        path, problem = within(self.root, link)
        if problem or path is None:
            return self._missing(problem, caption)
        try:
            return self.store(path.read_bytes(), caption)
        except OSError as error:
            return self._missing(f'"{source}" cannot be read ({error.strerror}).', caption)

    def data(self, encoded: Any, caption: str = "") -> None:
        """Add a picture in base64."""
        text = "".join(encoded) if isinstance(encoded, list) else str(encoded)
        try:
            self.store(base64.b64decode("".join(text.split())), caption)
        except (binascii.Error, ValueError):
            self._missing("a picture is not in base64.", caption)

    def store(self, data: bytes, caption: str) -> None:
        """Keep a picture as a file called by its content, if it is one."""
        try:
            kind = (image_of(data, "A picture").format or "png").lower()
        except BadInput as error:
            return self._missing(str(error), caption)
        path = self.images / f"{hashlib.blake2b(data, digest_size=10).hexdigest()}.{kind}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{id(self)}.part")
            part.write_bytes(data)
            part.replace(path)
        self.add(Block("image", image=path, caption=caption))
        return None

    def _missing(self, problem: str, caption: str) -> None:
        """Note a picture that is not there; its caption stays."""
        self.problems.append(problem)
        self.text(caption)

    def done(self) -> list[Document]:
        """The documents, without sections that hold nothing."""
        documents = []
        for number, (title, sections) in enumerate(self.documents):
            kept = tuple(Section(heading, tuple(blocks)) for heading, blocks in sections if heading or blocks)
            if not any(section.blocks for section in kept):
                continue
            name = self.name if self.split == "file" else f"{self.name}/{number:03d}"
            documents.append(Document(name, title or self.title, kept, {"source": self.name}))
        return documents
