"""Rows, importers and what a model is shown of a section."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fixtures_interleaved import small_documents, write_documents
from fixtures_vlm import picture
from gnomon.core.data.execute import map_shards, rejected
from gnomon.errors import BadInput
from gnomon.methods.interleaved_retrieval.documents.importers import ImportStep, files_below, import_file
from gnomon.methods.interleaved_retrieval.documents.rows import (
    Block,
    Document,
    Faulty,
    Section,
    as_row,
    encoded,
    parse_document,
    read_documents,
    read_queries,
    section_id,
    table_block,
)
from gnomon.methods.interleaved_retrieval.documents.serialise import (
    Form,
    Troubles,
    key_of,
    plain_text,
    section_pieces,
    tiled,
)
from gnomon.methods.interleaved_retrieval.documents.tables import html_tables, linear_table


def png(seed=0, **size):
    data = BytesIO()
    picture(seed, **size).save(data, "PNG")
    return data.getvalue()


def texts(document, number=0, **form):
    return [
        piece if isinstance(piece, str) else "IMAGE"
        for _, piece in section_pieces(document, number, Form(**form))
    ]


def test_a_section_is_written_in_reading_order_or_grouped():
    document = small_documents(1)[0]
    assert texts(document, 1) == ["title 0\nsecond", "\nthe cat ran", "IMAGE", "picture 0", "\nin the park"]
    assert texts(document, 1, prefix="none", block_order="grouped") == [
        "IMAGE", "picture 0", "\nthe cat ran", "\nin the park",
    ]  # fmt: skip
    assert texts(document, 1, images="captions", prefix="heading")[:3] == [
        "second",
        "\nthe cat ran",
        "\npicture 0",
    ]
    assert texts(document, 1, images="none") == ["title 0\nsecond", "\nthe cat ran", "\nin the park"]
    assert texts(document, 2, tables=False) == ["title 0\nthird"]


def test_tables_are_written_in_three_ways():
    table = table_block(["a", "b"], [["1", "x|y"], ["2"]], "two rows")
    assert linear_table(table) == "two rows\n| a | b |\n|---|---|\n| 1 | x\\|y |\n| 2 |  |"
    assert linear_table(table, "kv") == "two rows\na: 1; b: x|y\na: 2"
    assert linear_table(table, "html").splitlines()[1:3] == ["<table>", "<tr><th>a</th><th>b</th></tr>"]
    bare = table_block([], [["<b>", "2"]])
    assert linear_table(bare, "html") == "<table>\n<tr><td>&lt;b&gt;</td><td>2</td></tr>\n</table>"
    assert linear_table(bare, "kv") == "<b>; 2"


def test_merged_and_ragged_cells_of_html():
    from bs4 import BeautifulSoup

    html = (
        "<table><caption>sizes</caption><tr><th rowspan=2>city</th><th colspan=2>people</th></tr><tr><th>1990</th>"
        "<th>2000</th></tr>"
        "<tr><td>A</td><td>1</td><td>2</td></tr><tr><td>B<table><tr><td>inner</td></tr></table></td><td>3</td></tr></table>"
    )
    (table,) = html_tables(BeautifulSoup(html, "lxml"))
    assert table.header == ("city", "people/1990", "people/2000") and table.caption == "sizes"
    assert table.rows == (("A", "1", "2"), ("B inner", "3", ""))


@given(
    st.lists(st.lists(st.text(max_size=6), max_size=4), max_size=5), st.lists(st.text(max_size=5), max_size=3)
)
def test_every_cell_of_a_table_stands_in_every_format(rows, header):
    table = table_block(header, rows)
    assert len({len(row) for row in (*table.rows, *([table.header] if table.header else []))}) <= 1
    for how in ("markdown", "html", "kv"):
        written = linear_table(table, how)
        for cell in (c for row in rows for c in row):
            for word in cell.split():
                assert word.replace("|", "\\|") in written or word in written or "&" in written


def test_four_pictures_become_one():
    group = [(i, Image.new("RGB", (2, 3), (i, 0, 0))) for i in range(5)]
    tiles = tiled(group, 4)
    assert [numbers for numbers, _ in tiles] == [[0, 1, 2, 3], [4]]
    whole = np.asarray(tiles[0][1])[..., 0]
    assert whole.shape == (6, 4)
    assert [whole[0, 0], whole[0, 2], whole[3, 0], whole[3, 2]] == [0, 1, 2, 3]


def test_names_of_sections_give_documents_back():
    assert section_id("a b#c%", 3) == "a%20b%23c%25#3"
    assert encoded("plain") == "plain"


@settings(max_examples=50)
@given(st.text(min_size=1), st.text(min_size=1), st.integers(0, 5), st.integers(0, 5))
def test_names_of_sections_are_one_to_one(a, b, i, j):
    assert (section_id(a, i) == section_id(b, j)) == ((a, i) == (b, j))
    assert section_id(a, i).count("#") == 1 and not any(c.isspace() for c in section_id(a, i))


def test_rows_survive_a_round_trip(tmp_path):
    path = write_documents(tmp_path, small_documents(2))
    read = list(read_documents(path))
    again = [parse_document(as_row(d, tmp_path), "here", tmp_path) for d in read]
    assert again == read and read[0].id == "doc 0"
    assert key_of(read[0], 1, Form()) == key_of(again[0], 1, Form())
    assert key_of(read[0], 1, Form()) != key_of(read[1], 1, Form()) != key_of(read[1], 1, Form(tile_images=4))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a"}, '"sections" must be a list'),
        (
            {"id": "a", "sections": [{"blocks": [{"type": "video"}]}]},
            "section 0, block 0: type must be text, image, table",
        ),
        ({"id": "a", "sections": [{"blocks": [{"type": "text"}]}]}, 'field "text" must be a string'),
        ({"id": "a", "sections": [{"blocks": [{"type": "table", "rows": [3]}]}]}, '"rows" must be a list'),
        ({"id": "a", "texts": ["x", None], "images": ["a"]}, "the two lists go in step"),
    ],
)
def test_a_bad_row_costs_itself(row, message, tmp_path):
    good = {"id": "b", "sections": [{"heading": "h", "blocks": []}]}
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(row)}\nno json\n{json.dumps(good)}\n{json.dumps(good)}\n")
    bad, broken, document, twice = read_documents(path)
    assert message in bad.reason and "line 1" in bad.reason
    assert "line 2" in broken.reason and document.id == "b" and "second time" in twice.reason


def test_pictures_of_rows_are_opened_or_named(tmp_path):
    (tmp_path / "docs").mkdir()
    picture(0).save(tmp_path / "secret.png")
    (tmp_path / "docs" / "broken.png").write_bytes(b"no image")
    blocks = [
        {"type": "image", "b64": base64.b64encode(png(1)).decode(), "caption": "here"},
        {"type": "image", "path": "../secret.png"},
        {"type": "image", "path": "missing.png"},
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image", "path": "broken.png"},
    ]
    row = {"id": "d", "sections": [{"heading": "h", "blocks": blocks}]}
    (tmp_path / "docs" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    (document,) = read_documents(tmp_path / "docs" / "rows.jsonl")
    troubles = Troubles()
    pieces = section_pieces(document, 0, Form(), troubles=troubles)
    assert [i for i, _ in pieces] == [-1, 0, 0] and pieces[1][1].size == (40, 30)
    reasons = list(troubles.images.values())
    for reason, wanted in zip(
        reasons, ("leads out of", "no file", "is an address", "cannot be read"), strict=True
    ):
        assert wanted in reason
    with pytest.raises(BadInput, match='block 1 in section 0 of document "d"'):
        section_pieces(document, 0, Form(), strict=True)


@pytest.mark.parametrize("mode", ["CMYK", "RGBA", "P", "L", "1", "LA"])
def test_pictures_of_any_mode_are_seen(mode):
    image = picture(0).convert(mode if mode != "LA" else "L").convert(mode)
    document = Document("d", "", (Section("", (Block("image", image=image),)),))
    ((_, piece),) = section_pieces(document, 0, Form())
    assert piece.mode == "RGB"


def test_empty_sections_show_nothing():
    document = Document(
        "d", "title", (Section("", ()), Section("", (Block("text", text="  "),)), Section("h", ()))
    )
    assert [section_pieces(document, i, Form()) for i in range(2)] == [[], []]
    assert section_pieces(document, 2, Form()) == [(-1, "title\nh")]
    assert plain_text(document, 0) == ""


def test_queries_need_a_text_or_an_image(tmp_path):
    picture(0).save(tmp_path / "a.png")
    rows = [
        {"id": "1", "text": "x"},
        {"id": "2"},
        {"id": "3", "image": "a.png"},
        {"text": "x"},
        {"id": "5", "image": "b.png"},
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = list(read_queries(tmp_path / "q.jsonl"))
    assert [isinstance(q, Faulty) for q in queries] == [False, True, False, True, True]
    assert queries[2].block.picture("x").size == (40, 30)


NOTEBOOK = {
    "nbformat": 4, "nbformat_minor": 4, "metadata": {},
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": ["# Trees\n", "Intro ![a leaf](attachment:leaf.png) end"],
         "attachments": {"leaf.png": {"image/png": base64.b64encode(png(1)).decode()}}},
        {"cell_type": "markdown", "metadata": {}, "source": "## Sizes\n| a | b |\n|--|--|\n| 1 | 2 |"},
        {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "# no heading\nplot()", "outputs": [
            {"output_type": "display_data", "metadata": {}, "data":
             {"image/png": base64.b64encode(png(2)).decode(), "text/plain": "<Figure>"}},
            {"output_type": "execute_result", "execution_count": 1, "metadata": {},
             "data": {"text/html": "<table><tr><th>x</th></tr><tr><td>5</td></tr></table>", "text/plain": "   x\n0  5"}},
            {"output_type": "stream", "name": "stdout", "text": "done"}]},
        {"cell_type": "markdown", "metadata": {}, "source": "# Roots\n```\n# not a heading\n```\n<img src='no.png' alt='gone'>"},
    ],
}  # fmt: skip


def test_a_notebook_becomes_documents(tmp_path):
    (tmp_path / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    trees, roots = import_file(tmp_path / "a.ipynb", tmp_path, tmp_path / "images", "heading")
    assert (trees.id, trees.title, roots.title) == ("a.ipynb/000", "Trees", "Roots")
    assert [s.heading for s in trees.sections] == ["Trees", "Sizes"]
    assert [b.type for b in trees.sections[0].blocks] == ["text", "image", "text"]
    assert trees.sections[0].blocks[1].caption == "a leaf"
    assert [b.type for b in trees.sections[1].blocks] == ["table", "text", "image", "table", "text"]
    assert trees.sections[1].blocks[3].rows == (("5",),) and trees.sections[1].blocks[4].text == "done"
    assert [b.text for b in roots.sections[0].blocks] == ["# not a heading", "gone"]
    (whole,) = import_file(tmp_path / "a.ipynb", tmp_path, tmp_path / "images")
    assert [s.heading for s in whole.sections] == ["Trees", "Sizes", "Roots"]
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_html_is_walked_in_reading_order(tmp_path):
    picture(3).save(tmp_path / "a.png")
    (tmp_path / "page.html").write_text(
        "<html><head><title>The page</title><script>x()</script></head><body><nav>menu</nav><h1>One</h1><p>First <b>bold</b>."
        "<figure><img src='a.png'><figcaption>A picture</figcaption></figure><ul><li>item</li></ul>"
        "<h2>Two</h2><table><tr><th>k</th></tr><tr><td>v</td></tr></table><div>last</div></body></html>"
    )
    (document,) = import_file(tmp_path / "page.html", tmp_path, tmp_path / "images")
    first, second = document.sections
    assert document.title == "One" and (first.heading, second.heading) == ("One", "Two")
    assert [(b.type, b.text or b.caption) for b in first.blocks] == [
        ("text", "First bold."), ("image", "A picture"), ("text", "item"),
    ]  # fmt: skip
    assert second.blocks[0].header == ("k",) and second.blocks[1].text == "last"


def test_a_pdf_is_pages_of_text_and_picture(tmp_path):
    import pypdfium2

    pdf = pypdfium2.PdfDocument.new()
    pdf.new_page(200, 100)
    pdf.save(tmp_path / "a.pdf")
    (document,) = import_file(tmp_path / "a.pdf", tmp_path, tmp_path / "images")
    assert document.sections[0].heading == "Page 1" and document.sections[0].blocks[0].picture("x").size == (
        300,
        150,
    )
    (tmp_path / "b.pdf").write_bytes(b"%PDF-broken")
    with pytest.raises(BadInput, match="no PDF"):
        import_file(tmp_path / "b.pdf", tmp_path, tmp_path / "images")


def test_rows_of_parquet_with_lists_in_step(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [None, {"bytes": png(4), "path": None}, None]
    pq.write_table(
        pa.table({"id": ["a"], "texts": [["before", None, "after"]], "images": [images]}),
        tmp_path / "rows.parquet",
    )
    step = ImportStep(str(tmp_path), str(tmp_path / "sink"))
    map_shards(step, ["rows.parquet"], tmp_path / "sink")
    (document,) = read_documents(tmp_path / "sink")
    assert [b.type for b in document.sections[0].blocks] == ["text", "image", "text"]
    assert document.sections[0].blocks[1].picture("x").size == (40, 30)


def test_one_bad_file_costs_itself_and_a_missing_picture_nothing(tmp_path):
    """RAG-Anything#63: one missing image file ended the run."""
    source = tmp_path / "in"
    source.mkdir()
    (source / "good.md").write_text("# T\ntext ![a caption](missing.png) more")
    (source / "latin.md").write_bytes("# caf\xe9".encode("latin-1"))
    (source / "broken.ipynb").write_text("{")
    root, names = files_below(source)
    totals = map_shards(ImportStep(str(root), str(tmp_path / "sink")), names, tmp_path / "sink")
    assert totals.written == 1 and totals.sums["images left out"] == 1
    reasons = {row["record"]["id"]: row["reason"] for row in rejected(tmp_path / "sink")}
    assert (
        "no file" in reasons["good.md"]
        and "not UTF-8" in reasons["latin.md"]
        and "no notebook" in reasons["broken.ipynb"]
    )
    (document,) = read_documents(tmp_path / "sink")
    assert [b.text for b in document.sections[0].blocks] == ["text", "a caption", "more"]
    strict = ImportStep(str(root), str(tmp_path / "strict"), strict=True)
    assert map_shards(strict, ["good.md"], tmp_path / "strict").written == 0
    with pytest.raises(BadInput, match="does not exist"):
        files_below(tmp_path / "nowhere")


def test_words_in_figures_go_into_captions():
    from gnomon.methods.interleaved_retrieval.documents.ocr import with_words, words_of

    document = small_documents(1)[0]
    words = words_of([document], lambda image: f"{image.width} wide")
    read = with_words([document], words)[0]
    assert read.sections[1].blocks[1].caption == "picture 0 40 wide"
    assert read.sections[0] == document.sections[0]


def test_a_figure_is_read():
    pytest.importorskip("rapidocr_onnxruntime")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from gnomon.methods.interleaved_retrieval.documents.ocr import Reader

    figure = plt.figure(figsize=(4, 3))
    plt.xlabel("Temperature", fontsize=20)
    data = BytesIO()
    figure.savefig(data, format="png", bbox_inches="tight")
    plt.close(figure)
    assert "Temperature" in Reader().words(Image.open(data))
