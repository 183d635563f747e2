"""The panels: what stands in the page, and what a browser makes of it."""

import json
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fixtures_vl_lens import pictures, seer
from gnomon.core.models.architectures.parts import ImageLayout, Tile
from gnomon.core.report import Page
from gnomon.core.vision.draw import overlay
from gnomon.core.vision.over import file_name
from gnomon.methods.vl_lens import Rewritten, Vocabulary
from gnomon.methods.vl_lens.lens.lens import lens
from gnomon.methods.vl_lens.mini import PROMPT
from gnomon.methods.vl_lens.report import MAX_LAYERS, cells, changes, explore, marked, shown_layers

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
COCO = Vocabulary.read()
HOSTILE = '"><script>document.title="taken"</script>'


def test_captions_are_marked_by_what_became_of_their_objects():
    caption = "A cat, two dogs & a cup."
    assert marked(caption, COCO, removed=("dog",), new=("cup",)) == [
        ("", "A "), ("kept", "cat"), ("", ", two "), ("removed", "dogs"), ("", " & a "), ("new", "cup"), ("", "."),
    ]  # fmt: skip
    assert marked("", COCO) == []


@given(st.text())
def test_no_character_of_a_caption_is_lost(caption):
    assert "".join(text for _, text in marked(caption, COCO)) == caption


def tile(rows, columns, box, first=0):
    return Tile(np.arange(first, first + rows * columns).reshape(rows, columns), box)


def test_cells_lie_where_the_tokens_lie():
    found = cells(ImageLayout((100, 50), 8, (tile(2, 4, (0, 0, 100, 50)),)))
    assert found[5] == {"token": 5, "left": 25, "top": 50, "width": 25, "height": 50}


def test_cells_of_a_padded_image_end_at_its_edge():
    """A square around a wide image: the first and last rows see nothing of it and are not shown."""
    found = cells(ImageLayout((100, 50), 16, (tile(4, 4, (0, -25, 100, 75)),)))
    assert [cell["token"] for cell in found] == list(range(4, 12))
    assert {(cell["top"], cell["height"]) for cell in found} == {(0, 50), (50, 50)}


def test_of_tiles_over_each_other_the_finest_is_shown():
    whole, fine = tile(2, 2, (0, 0, 10, 10)), tile(4, 4, (0, 0, 10, 10), 4)
    assert {cell["token"] for cell in cells(ImageLayout((10, 10), 20, (whole, fine)))} == set(range(4, 20))


def test_tokens_without_a_place_stand_in_a_row():
    assert cells(ImageLayout((10, 10), 3)) == [{"token": i, "left": None} for i in range(3)]


def test_of_many_layers_some_are_shown_with_both_ends():
    assert shown_layers(range(5)) == [0, 1, 2, 3, 4]
    some = shown_layers(range(33))
    assert len(some) == MAX_LAYERS and some[0] == 0 and some[-1] == 32 and some == sorted(set(some))


def test_an_overlay_is_grey_where_it_is_cold_and_warm_where_it_is_hot():
    heat = np.zeros((2, 3))
    heat[1, 2] = 0.4
    found = np.asarray(overlay(Image.new("RGB", (3, 2), (200, 200, 200)), heat))
    assert found.shape == (2, 3, 3)
    assert found[0, 0].tolist() == [120, 120, 120]
    assert found[1, 2].tolist() == [round(0.25 * 120 + 0.75 * v) for v in (255, 140, 20)]
    flat = np.asarray(overlay(Image.new("L", (3, 2), 100), np.full((2, 3), 0.5)))
    assert set(flat.ravel()) == {60}


def test_file_names_are_safe_and_differ():
    names = [("a", "b"), ("a b", "c"), ("a-b", "c"), ("../a", "b"), ("/a", "b"), ("", ""), ("é", "ü")]
    made = [file_name(*name) for name in names]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"[\w.-]+", name) and not name.startswith("..") for name in made)
    assert made[0] == "a.b" and made[2] == "a-b.c"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    page = Page("a page", method="vl-lens", verb="lens")
    shown = pictures(2)
    found = lens(seer(), shown, PROMPT, ["dog", "cup"])
    for b in (0, 1):
        explore(page, found, b, shown[b], name=f"scene {b} {HOSTILE}", lens="raw")
    rows = [(HOSTILE, Rewritten.of(f"a cat {HOSTILE}", "a dog", ["cat"], COCO))]
    changes(page, rows, COCO, caption="captions")
    return page.write(tmp_path_factory.mktemp("page")), found


def test_the_page_holds_what_the_lens_found_and_nothing_hostile(report):
    html = report[0].read_text("utf-8")
    assert HOSTILE not in html and "taken" in html
    data = [
        json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    ]
    assert len(data) == 2 and data[0]["layers"] == [0, 1, 2, 3]
    scores = np.asarray(report[1].scores[0])
    np.testing.assert_allclose(data[0]["heat"]["cup"], scores[:, :, 1], atol=5e-5)
    np.testing.assert_allclose(data[0]["most"]["dog"], scores[:, :, 0].max(0), atol=5e-5)
    assert data[0]["tokens"][7][2] == [[text, round(p, 4)] for text, p in report[1].top_tokens(0, 2, 7)]
    assert html.count('class="wide explore"') == 2 and html.count("data-token=") == 72
    assert html.count("Heat map of ") == 4  # what is seen without the script, and on paper


OPTIONS = (
    "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update disable-sync "
    "disable-extensions disable-default-apps enable-logging=stderr dump-dom"
)


def visit(page, tmp_path, where=""):
    """The page's DOM after its script ran, the lines of its console, and the network log."""
    log = tmp_path / "net.json"
    options = [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]
    options += [f"--{option}" for option in OPTIONS.split()]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    command = [CHROMIUM, *options, page.as_uri() + where]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert done.stdout, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, console, log.read_text(errors="replace")


def panels_of(dom):
    return re.findall(r'<figure class="wide explore live">.*?</table>', dom, re.S)


def chosen(panel):
    """The one patch that is chosen."""
    (button,) = re.findall(r'<button[^>]*class="now"[^>]*>', panel)
    return button


browser = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")]


class TestBrowser:
    pytestmark = browser

    def test_it_opens_on_the_strongest_word_where_that_is_strongest(self, report, tmp_path):
        dom, console, log = visit(report[0], tmp_path)
        assert console == [] and "//evil" not in log and "<title>a page" in dom
        panels, scores = panels_of(dom), [np.asarray(one).max(0) for one in report[1].scores]
        for panel, most in zip(panels, scores, strict=True):
            token, word = np.unravel_index(most.argmax(), most.shape)
            assert f"<h3>Patch {token}</h3>" in panel
            assert f"<output>all layers, the maximum · at most {100 * most.max():.1f}" in panel
            button = chosen(panel)
            assert f'data-token="{token}"' in button and f'title="{("dog", "cup")[word]}: ' in button

    def test_the_address_chooses_patch_layer_and_word(self, report, tmp_path):
        dom, console, _ = visit(report[0], tmp_path, "#explore-1/7/2/cup")
        assert console == []
        first, second = panels_of(dom)
        assert "<h3>Patch 7</h3>" in second and "<output>layer 2 · at most " in second
        percent = 100 * float(report[1].scores[1][2, 7, 1])
        assert 'data-token="7"' in chosen(second)
        assert f'title="cup: {percent:.{2 if percent < 10 else 1}f}' in chosen(second)
        line = re.search(r'<tr class="now"><th scope="row">2</th>(.*?)</tr>', second)[1]
        assert re.findall(r"<b>(.*?)</b>", line) == [
            text.strip() for text, _ in report[1].top_tokens(1, 2, 7)
        ]
        assert "all layers" in first

    def test_a_click_reads_a_patch_and_the_address_remembers_it(self, report, tmp_path):
        """A second script, let in by a policy without limits, does what a hand would."""
        html = report[0].read_text("utf-8")
        html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
        hand = """<script>
        const panel = document.querySelector(".explore");
        panel.querySelector("[data-token='5']").click();
        panel.querySelectorAll(".words input")[1].click();
        const slider = panel.querySelector(".layer");
        slider.value = 0; slider.dispatchEvent(new Event("input"));
        const hovered = panel.querySelector("[data-token='9']");
        hovered.dispatchEvent(new Event("mouseenter"));
        document.title = panel.querySelector("h3").textContent + "|";
        hovered.dispatchEvent(new Event("mouseleave"));
        document.title += panel.querySelector("h3").textContent + "|" + location.hash;
        </script></body>"""
        (tmp_path / "clicked.html").write_text(html.replace("</body>", hand))
        dom, console, _ = visit(tmp_path / "clicked.html", tmp_path)
        assert console == []
        assert "<title>Patch 9|Patch 5|#explore-0/5/0/cup</title>" in dom
        assert "before the first block" in panels_of(dom)[0]
