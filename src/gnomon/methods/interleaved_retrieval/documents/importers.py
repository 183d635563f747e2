"""Notebooks, Markdown, HTML, PDF and rows with lists as documents; pictures inside them become files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from gnomon.core import records
from gnomon.core.data.execute import Rejected, Tally
from gnomon.errors import BadInput
from gnomon.lazy import optional
from gnomon.methods.interleaved_retrieval.documents.builder import Builder, Split
from gnomon.methods.interleaved_retrieval.documents.markup import read_html, read_markdown
from gnomon.methods.interleaved_retrieval.documents.rows import Document, Section, as_row, parse_document


def import_file(path: Path, root: Path, images: Path, split: Split = "file") -> list[Document]:
    """The documents of a file.

    Args:
        path: `.ipynb`, `.md`, `.html`, `.pdf`; rows come by `import_rows`.
        root: the folder that ids and links are relative to.
        images: where pictures inside the file are written.
        split: what a document is.

    Raises:
        BadInput: the file cannot be read, is of another kind, or holds nothing.
        MissingExtra: a package is not installed.
    """
    return _import(path, root, images, split).done()


def _import(path: Path, root: Path, images: Path, split: Split) -> Builder:
    name = path.relative_to(root).as_posix()
    builder = Builder(name, path.stem, path.parent, root, images, split=split)
    read = IMPORTERS.get(path.suffix.lower())
    if read is None:
        raise BadInput(f"{path}: nothing here reads {path.suffix}; there are {', '.join(IMPORTERS)}.")
    try:
        read(path, builder)
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8. Convert the file to UTF-8 first.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error}).") from None
    if not builder.done():
        raise BadInput(f"{path}: there is nothing in it.")
    return builder


def _markdown(path: Path, builder: Builder) -> None:
    read_markdown(path.read_text("utf-8"), builder)


def _html(path: Path, builder: Builder) -> None:
    read_html(path.read_bytes(), builder)


OUTPUT_CHARS = 1000
"""Characters of a plain output that are kept; what follows is mostly numbers."""


def _notebook(path: Path, builder: Builder) -> None:
    """Markdown cells as they are, code as text, outputs by their richest form: picture, table, text."""
    nbformat: Any = optional("nbformat", "nbformat", "documents")
    try:
        book: Any = nbformat.reads(path.read_text("utf-8"), as_version=4)
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.reader.NotJSONError) as error:
        raise BadInput(
            f"{path}: no notebook ({str(error).splitlines()[0] if str(error) else error!r})."
        ) from None
    for cell in book.cells:
        if cell.cell_type == "markdown":
            read_markdown(cell.source, builder, cell.get("attachments"))
            continue
        builder.text(cell.source)
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            picture = next((data[kind] for kind in ("image/png", "image/jpeg") if kind in data), None)
            if picture is not None:
                builder.data(picture)
            elif "<table" in (html := _joined(data.get("text/html", ""))):
                read_html(html, builder, tables_only=True)
            else:
                builder.text(_joined(data.get("text/plain") or output.get("text", ""))[:OUTPUT_CHARS])


def _joined(text: Any) -> str:
    return "".join(text) if isinstance(text, list) else str(text)


def _pdf(path: Path, builder: Builder) -> None:
    """A section a page: its text, and the page as a picture."""
    pypdfium2: Any = optional("pypdfium2", "pypdfium2", "pdf")
    try:
        file = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        raise BadInput(f"{path}: no PDF ({error}).") from None
    try:
        for number, page in enumerate(file, 1):
            builder.heading(1 if number == 1 else 2, f"Page {number}")
            text = page.get_textpage()
            builder.text(text.get_text_bounded())
            picture = BytesIO()
            page.render(scale=1.5).to_pil().convert("RGB").save(picture, "PNG")
            builder.store(picture.getvalue(), "")
            text.close()
            page.close()
    finally:
        file.close()


IMPORTERS: dict[str, Callable[[Path, Builder], None]] = {
    ".ipynb": _notebook,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
}
"""Ending of a file -> what reads it."""


def import_rows(path: Path, images: Path) -> Iterator[Document | Rejected]:
    """The documents of a record file: rows of sections, or of `texts` and `images` in step, with pictures inside written out."""
    for number, (where, raw) in enumerate(records.read_each(path)):
        try:
            if isinstance(raw, BadInput):
                raise raw
            yield _unpacked(parse_document(raw, where, path.parent, number), images)
        except BadInput as error:
            yield Rejected(str(error), {"id": where})


def _unpacked(document: Document, images: Path) -> Document:
    """A document whose pictures are files."""
    sections = []
    for section in document.sections:
        builder = Builder(document.id, "", Path(), Path(), images)
        for block in section.blocks:
            if isinstance(block.image, bytes):
                builder.store(block.image, block.caption)
            else:
                builder.add(block)
        blocks = builder.documents[0][1][0][1] if builder.documents else []
        sections.append(Section(section.heading, tuple(blocks)))
    return Document(document.id, document.title, tuple(sections), document.meta)


@dataclass(frozen=True)
class ImportStep:
    """The step: paths of files to rows of documents."""

    root: str
    """What ids are relative to."""
    sink: str
    """Where the rows lie; pictures go into a folder beside them."""
    split: Split = "file"
    """What a document is."""
    strict: bool = False
    """Whether a picture that is not there refuses its file."""

    def __call__(self, paths: Iterator[str]) -> Iterator[Any]:
        """The rows of files, and what was left out of them."""
        sink, root = Path(self.sink), Path(self.root)
        for name in paths:
            path = root / name
            try:
                documents, problems = self._read(path, root, sink / "images")
            except BadInput as error:
                yield Rejected(str(error), {"id": name})
                continue
            if problems and self.strict:
                yield Rejected(f"{path}: {problems[0]}", {"id": name})
                continue
            for document in documents:
                if isinstance(document, Rejected):
                    yield document
                    continue
                yield as_row(document, sink)
                yield Tally(counts_of(document))
            for problem in problems:
                yield Rejected(f"{path}: {problem} The text around it is kept.", {"id": name, "image": True})
            yield Tally({"images left out": float(len(problems))})

    def _read(self, path: Path, root: Path, images: Path) -> tuple[list[Any], list[str]]:
        if path.name.endswith(records.SUFFIXES):
            return list(import_rows(path, images)), []
        builder = _import(path, root, images, self.split)
        return builder.done(), builder.problems


def counts_of(document: Document) -> dict[str, float]:
    """Numbers of sections and blocks of a document."""
    kinds = [block.type for section in document.sections for block in section.blocks]
    having = {
        f"sections with {kind}": sum(any(b.type == kind for b in s.blocks) for s in document.sections)
        for kind in ("image", "table")
    }
    counts = {f"{kind}s": kinds.count(kind) for kind in ("text", "image", "table")}
    return {name: float(n) for name, n in {"sections": len(document.sections), **counts, **having}.items()}


def files_below(source: Path) -> tuple[Path, list[str]]:
    """The root of a source and the names of the files below it that can be imported, in order.

    Raises:
        BadInput: nothing is there.
    """
    endings = (*IMPORTERS, *records.SUFFIXES)
    if source.is_file():
        return source.parent, [source.name]
    if not source.is_dir():
        raise BadInput(f"{source} does not exist.")
    paths = sorted(p for p in source.rglob("*") if p.is_file() and p.name.lower().endswith(endings))
    names = [p.relative_to(source).as_posix() for p in paths]
    names = [n for n in names if not any(part[0] in "._" for part in Path(n).parts)]
    if not names:
        raise BadInput(f"{source} holds no file that can be imported ({', '.join(endings)}).")
    return source, names
