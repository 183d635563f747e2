"""Small documents with pictures and tables, as objects and as files, and a tiny retriever of the real LLaVA class."""

import json
from functools import cache

from fixtures_vlm import picture, saved_vlm
from gnomon.methods.interleaved_retrieval.documents.rows import Block, Document, Query, Section, table_block

WORDS = ["cat", "dog", "park", "mat", "bird", "sat", "ran", "sang", "while", "on", "in"]


def small_documents(n=6, sections=3):
    """Documents of three sections: a text, a text with a picture, a table."""
    documents = []
    for i in range(n):
        word = WORDS[i % len(WORDS)]
        parts = [
            Section("first", (Block("text", text=f"a {word} sat on the mat {i}"),)),
            Section(
                "second",
                (
                    Block("text", text=f"the {word} ran"),
                    Block("image", image=picture(i), caption=f"picture {i}"),
                    Block("text", text="in the park"),
                ),
            ),
            Section("third", (table_block(["name", "value"], [[word, str(i)], ["bird", "7"]], "a table"),)),
        ]
        documents.append(Document(f"doc {i}", f"title {i}", tuple(parts[:sections])))
    return documents


def small_queries(n=6):
    return [Query(f"q{i}", f"a {WORDS[i % len(WORDS)]}") for i in range(n)]


def write_documents(folder, documents):
    """Documents as JSONL with PNG files beside it; returns the file."""
    from gnomon.methods.interleaved_retrieval.documents.rows import encoded

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for document in documents:
        sections = []
        for i, section in enumerate(document.sections):
            blocks = []
            for k, block in enumerate(section.blocks):
                if block.type == "image":
                    name = f"{encoded(document.id)}-{i}-{k}.png"
                    block.image.save(folder / name)
                    blocks.append({"type": "image", "path": name, "caption": block.caption})
                elif block.type == "table":
                    rows_of = [list(row) for row in block.rows]
                    blocks.append(
                        {
                            "type": "table",
                            "caption": block.caption,
                            "header": list(block.header),
                            "rows": rows_of,
                        }
                    )
                else:
                    blocks.append({"type": "text", "text": block.text})
            sections.append({"heading": section.heading, "blocks": blocks})
        rows.append({"id": document.id, "title": document.title, "sections": sections})
    path = folder / "documents.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_judged(folder, n=6, sections=True):
    """Queries and judgements of the small documents: query i is about document i, the picture's section."""
    from gnomon.methods.interleaved_retrieval.documents.rows import section_id

    (folder / "queries.jsonl").write_text(
        "".join(json.dumps({"id": q.id, "text": q.text}) + "\n" for q in small_queries(n))
    )
    names = [section_id(f"doc {i}", 1) if sections else f"doc%20{i}" for i in range(n)]
    # TREC files percent-encode once more what stands for a percent sign.
    lines = [f"q{i} 0 {name.replace('%', '%25') if sections else name} 1\n" for i, name in enumerate(names)]
    (folder / "qrels.txt").write_text("".join(lines))
    return folder / "queries.jsonl", folder / "qrels.txt"


def new_handle():
    """A fresh handle on the tiny LLaVA, whose weights a test may change."""
    from gnomon.core.models import ModelHandle

    return ModelHandle.load(saved_vlm("llava"), device="cpu")


def new_encoder(how=None, **options):
    from gnomon.methods.interleaved_retrieval import InterleavedEncoder

    return InterleavedEncoder.new(new_handle(), how, **options)


@cache
def encoder():
    """A shared retriever with end tokens; leave it as it is."""
    return new_encoder()
