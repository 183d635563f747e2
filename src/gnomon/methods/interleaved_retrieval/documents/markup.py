"""Markdown and HTML read into sections, paragraphs, pictures and tables."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gnomon.lazy import optional
from gnomon.methods.interleaved_retrieval.documents.builder import Builder
from gnomon.methods.interleaved_retrieval.documents.rows import table_block
from gnomon.methods.interleaved_retrieval.documents.tables import html_table

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r"^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$")
_UNDERLINE = re.compile(r"^ {0,3}(=+|-+)\s*$")
_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
_PICTURE = re.compile(r"!\[([^\]]*)\]\(\s*(<[^>]*>|[^)\s]+)(?:\s+[\"'][^)]*)?\s*\)")
_SKIPPED = ("script", "style", "nav", "template", "head", "noscript")
_PARAGRAPHS = ("p", "li", "pre", "blockquote", "dt", "dd", "figcaption", "summary", "address")


def read_markdown(text: str, builder: Builder, attachments: Any = None) -> None:
    """Headings, paragraphs, fenced code, pictures (`![caption](file)`, `<img>`) and tables (pipes, HTML), in reading order."""
    for kind, value in _markdown_blocks(text.splitlines()):
        if kind == "heading":
            level, title = value
            # A heading may be written with pictures and links in it.
            builder.heading(level, _PICTURE.sub("", title))
        elif kind == "table":
            head, *rows = value
            builder.add(table_block(head, rows))
        elif kind == "code":
            builder.text(value)
        elif re.search(r"<(table|img)\b", value, re.I):
            read_html(value, builder, attachments=attachments)
        else:
            _paragraph(value, builder, attachments)


def _paragraph(text: str, builder: Builder, attachments: Any) -> None:
    """Text with pictures in it."""
    at = 0
    for match in _PICTURE.finditer(text):
        builder.text(text[at : match.start()])
        builder.picture(match[2].strip("<>"), match[1], attachments)
        at = match.end()
    builder.text(text[at:])


def _markdown_blocks(lines: list[str]) -> Iterator[tuple[str, Any]]:
    """Kinds and contents of the blocks of a text."""
    held: list[str] = []
    i = 0

    def paragraph() -> Iterator[tuple[str, Any]]:
        if any(line.strip() for line in held):
            yield "text", "\n".join(held)
        held.clear()

    while i < len(lines):
        line = lines[i]
        if fence := _FENCE.match(line):
            yield from paragraph()
            end = i + 1
            closing = re.compile(rf"^ {{0,3}}{re.escape(fence[1][0])}{{{len(fence[1])},}}\s*$")
            while end < len(lines) and not closing.match(lines[end]):
                end += 1
            yield "code", "\n".join(lines[i + 1 : end])
            i = end + 1
            continue
        if heading := _HEADING.match(line):
            yield from paragraph()
            yield "heading", (len(heading[1]), heading[2] or "")
        elif held and held[-1].strip() and _UNDERLINE.match(line) and not held[-1].lstrip().startswith("|"):
            title = held.pop().strip()
            yield from paragraph()
            yield "heading", (1 if line.strip()[0] == "=" else 2, title)
        elif "|" in line and i + 1 < len(lines) and "-" in lines[i + 1] and _RULE.match(lines[i + 1]):
            yield from paragraph()
            end = i + 2
            while end < len(lines) and "|" in lines[end]:
                end += 1
            yield "table", [_cells(row) for row in (line, *lines[i + 2 : end])]
            i = end
            continue
        elif not line.strip():
            yield from paragraph()
        else:
            held.append(line)
        i += 1
    yield from paragraph()


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\s*\||(?<!\\)\|\s*$", "", line)
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def read_html(
    data: bytes | str, builder: Builder, *, tables_only: bool = False, attachments: Any = None
) -> None:
    """Headings, paragraphs, pictures with the caption of their figure, and tables, in reading order."""
    bs4: Any = optional("bs4", "beautifulsoup4", "documents")
    soup = bs4.BeautifulSoup(data, "lxml")
    if soup.title and soup.title.string and not tables_only:
        builder.title = " ".join(soup.title.string.split())
    for tag in soup.find_all(_SKIPPED):
        tag.decompose()
    if tables_only:
        for table in soup.find_all("table"):
            if table.find_parent("table") is None:
                _table(table, builder)
        return
    pending: list[str] = []
    _walk(soup.body or soup, builder, pending, attachments)
    _flush(pending, builder)


def _flush(pending: list[str], builder: Builder) -> None:
    builder.text(re.sub(r"[ \t\r\f\v]+", " ", "".join(pending)))
    pending.clear()


def _walk(node: Any, builder: Builder, pending: list[str], attachments: Any) -> None:
    """Go through the children of a node; text gathers in `pending` until a block begins or ends."""
    bs4: Any = optional("bs4", "beautifulsoup4", "documents")
    for child in node.children:
        if isinstance(child, bs4.Comment):
            continue
        if isinstance(child, bs4.NavigableString):
            pending.append(str(child))
            continue
        name = child.name
        if re.fullmatch("h[1-6]", name):
            _flush(pending, builder)
            builder.heading(int(name[1]), child.get_text(" ", strip=True))
        elif name == "table":
            _flush(pending, builder)
            _table(child, builder)
            for picture in child.find_all("img"):
                _picture(picture, "", builder, attachments)
        elif name == "img":
            _flush(pending, builder)
            _picture(child, "", builder, attachments)
        elif name == "figure":
            _flush(pending, builder)
            _figure(child, builder, attachments)
        elif name == "br":
            pending.append("\n")
        elif name == "pre":
            _flush(pending, builder)
            builder.text(child.get_text())
        else:
            is_block = name in (*_PARAGRAPHS, "div", "section", "article", "main", "ul", "ol", "dl", "body")
            if is_block:
                _flush(pending, builder)
            _walk(child, builder, pending, attachments)
            if is_block:
                _flush(pending, builder)


def _figure(figure: Any, builder: Builder, attachments: Any) -> None:
    caption = figure.find("figcaption")
    words = caption.get_text(" ", strip=True) if caption else ""
    pictures, table = figure.find_all("img"), figure.find("table")
    for i, picture in enumerate(pictures):
        _picture(picture, words if i == 0 else "", builder, attachments)
    if table is not None:
        _table(table, builder, words if not pictures else "")
    if not pictures and table is None:
        builder.text(figure.get_text(" ", strip=True))


def _picture(tag: Any, caption: str, builder: Builder, attachments: Any) -> None:
    source = tag.get("src") or tag.get("data-src") or ""
    if source:
        builder.picture(source, caption or tag.get("alt") or "", attachments)


def _table(tag: Any, builder: Builder, caption: str = "") -> None:
    block = html_table(tag)
    if caption and not block.caption:
        block = table_block(block.header, block.rows, caption)
    if block.rows or block.header:
        builder.add(block)
