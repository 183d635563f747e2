import html

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gnomon.core.report.markup import data_uri, printable, prose
from gnomon.errors import BadInput


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b** c", "<p>a <strong>b</strong> c</p>"),
        ("2 * 3 * 4", "<p>2 * 3 * 4</p>"),
        ("snake_*case*_name", "<p>snake_*case*_name</p>"),
        ("`**x** <b>`", "<p><code>**x** &lt;b&gt;</code></p>"),
        ("one\ntwo\n\nthree", "<p>one two</p>\n<p>three</p>"),
        ("- a\n- *b*", "<ul><li>a</li><li><em>b</em></li></ul>"),
        (
            "[paper](https://example.org/a?b=1&c=2)",
            '<p><a href="https://example.org/a?b=1&amp;c=2" rel="noopener noreferrer">paper</a></p>',
        ),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        ('[x](https://e.org/" onclick="y)', "<p>[x](https://e.org/&#34; onclick=&#34;y)</p>"),
    ],
)
def test_prose(text, expected):
    assert prose(text) == expected


@given(st.text(alphabet="*`_[]()<>&\"'ab \n-:/", max_size=80) | st.text(max_size=80))
def test_prose_makes_only_our_tags(text):
    result = str(prose(text))
    for tag in ("p", "ul", "li", "em", "strong", "code"):
        result = result.replace(f"<{tag}>", "").replace(f"</{tag}>", "")
    assert "<" not in result and ">" not in result and '"' not in result


def test_unprintable_characters_become_visible():
    assert printable("a\x00b\ud800c\nd\te") == "a\ufffdb\ufffdc\nd\te"


def test_a_picture_is_embedded_without_its_metadata(tmp_path):
    path = tmp_path / "photo.jpg"
    image = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    image.save(path, exif=exif)
    uri, width, height = data_uri(path)
    assert uri.startswith("data:image/png;base64,") and (width, height) == (20, 10)
    import base64

    assert b"taken at home" not in base64.b64decode(uri.split(",")[1])


def test_a_large_picture_is_scaled_and_palettes_are_understood():
    assert data_uri(Image.new("P", (3200, 40)))[1:] == (1600, 20)
    assert data_uri(Image.new("1", (8, 8)))[1:] == (8, 8)
    assert data_uri(Image.new("I;16", (3, 2), 65535)) == data_uri(Image.new("RGB", (3, 2), "white"))


def test_not_a_picture(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(BadInput, match=r"report: there is no file .*x\.png"):
        data_uri(path)
    path.write_text(html.escape("<svg/>"))
    with pytest.raises(BadInput, match=r"x\.png\" cannot be read as an image"):
        data_uri(path)
