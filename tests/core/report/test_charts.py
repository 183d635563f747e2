import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gnomon
from gnomon.core.report import charts
from gnomon.core.report.heat import heat_cells
from gnomon.errors import BadInput

SLOTS = {"a": 0, "b": 1}


def lines(series, **options):
    defaults = {"x_label": "k", "y_label": "pass@k", "log_x": False, "prefix": "c1", "title": "t"}
    return charts.lines(series, SLOTS | {arm: 2 for arm in series if arm not in SLOTS}, **defaults | options)


def texts(svg):
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter("text")]


def test_a_chart_is_drawn_in_the_colours_of_the_page():
    svg = lines({"a": [(1, 0.1, 0.05, 0.2), (10, 0.3, 0.2, 0.4)], "b": [(1, 0.2), (10, 0.25)]}, log_x=True)
    assert "var(--arm-0)" in svg and "var(--arm-1)" in svg and "var(--soft)" in svg
    assert not re.search(r"#0[1-5]0[1-5]", svg)
    assert {"1", "10", "k", "pass@k"} <= set(texts(svg))


def test_ids_are_its_own_and_every_reference_has_a_target():
    svg = lines({"a": [(1, 1), (2, 2)]}, prefix="chart7")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    assert ids and len(ids) == len(set(ids)) and all(i.startswith("chart7-") for i in ids)
    targets = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
    assert targets and set(targets) <= set(ids)


def test_carries_no_style_no_metadata_and_no_address():
    svg = lines({"a": [(1, 1), (2, 2)]})
    for trace in ("<style", "<metadata", "http", "xmlns", "matplotlib", "<!"):
        assert trace not in svg


def test_repeats_to_the_byte():
    series = {"a": [(i, i * i, i, 2 * i * i) for i in range(5)]}
    assert lines(series) == lines(series)


def test_missing_values_are_left_out():
    svg = lines({"a": [(1, None), (2, float("nan")), (3, 1.0), (4, 2.0, None, 3.0)], "b": []})
    assert "1" not in texts(svg)
    with pytest.raises(BadInput, match='Chart "t" has no points'):
        lines({"a": [(1, None)], "b": []})


def test_points_are_checked():
    with pytest.raises(BadInput, match=r'line "a": a point has 2 or 4 numbers; got \(1, 2, 3\)'):
        lines({"a": [(1, 2, 3)]})
    with pytest.raises(BadInput, match="needs x > 0"):
        lines({"a": [(0, 1)]}, log_x=True)
    with pytest.raises(BadInput, match="no bars"):
        charts.bars({"a": {}}, SLOTS, y_label="", prefix="c", title="t")


def test_bars_draw_each_value_and_interval():
    groups = {"a": {"x": 1.0, "y": (2.0, 1.5, 2.5)}, "b": {"y": 1.0}}
    svg = charts.bars(groups, SLOTS, y_label="share", prefix="c", title="t")
    assert svg.count("var(--arm-0)") == 2 and svg.count("var(--arm-1)") == 1
    assert svg.count("stroke: var(--ink)") == 1
    assert {"x", "y", "share"} <= set(texts(svg))


hostile = st.text(max_size=30) | st.sampled_from(
    [
        "$x_",
        "$\\frac{",
        "_hidden",
        "</svg><script>alert(1)</script>",
        "]]>",
        "&lt;",
        "\\",
        "日本語",
        "\x00\x1b",
        "%(x)s",
    ]
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(hostile, hostile, hostile)
def test_any_label_is_text_and_nothing_else(arm, label, category):
    svg = charts.bars({arm: {category: 1.0}}, {arm: 0}, y_label=label, prefix="c", title=arm)
    assert "<script" not in svg
    shown = texts(svg)
    visible = " ".join(charts.printable(category).split())
    assert (
        any(text == visible or (text.endswith("…") and visible.startswith(text[:-1])) for text in shown)
        or not visible
    )
    svg = lines({"a": [(1, 1)]}, x_label=label, title=arm)
    assert (
        ET.fromstring(svg).find("title").text
        == charts.printable(arm).replace("\r\n", "\n").replace("\r", "\n")
        or not arm
    )


def test_heat_cells_scale_between_the_ends():
    data = heat_cells([[0.0, 1.0], [None, 0.25]], ["x1", "x2"], None, None, None)
    assert [[cell.percent for cell in row] for row in data["cells"]] == [[0, 100], [None, 25]]
    assert data["cells"][0][1].text == "1.00" and (data["low"], data["high"]) == ("0.00", "1.00")
    clipped = heat_cells([[5.0, -5.0]], None, None, 0.0, 1.0)["cells"][0]
    assert [cell.percent for cell in clipped] == [100, 0]


def test_heat_maps_are_checked():
    with pytest.raises(BadInput, match="rows of one length"):
        heat_cells([[1, 2], [3]], None, None, None, None)
    with pytest.raises(BadInput, match="needs 2 names on x; got 1"):
        heat_cells([[1, 2]], ["a"], None, None, None)
    with pytest.raises(BadInput, match="at most 10,000 cells; got 40,000"):
        heat_cells([[0.0] * 200] * 200, None, None, None, None)


@pytest.mark.slow
def test_matplotlib_is_imported_by_the_first_chart_and_not_before():
    code = (
        "import sys; from gnomon.core.report import Page; page = Page('t', method='m', verb='v')\n"
        "page.table([{'a': 1}]); assert not {'matplotlib', 'numpy', 'torch'} & set(sys.modules)\n"
        "page.lines({'a': [(1, 1)]}); assert 'matplotlib' in sys.modules\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    source = str(Path(gnomon.__file__).parents[1])
    subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": source}, check=True)


def test_a_logarithmic_axis_with_many_points_has_plain_labels():
    svg = lines({"a": [(10.0**n * 3, n / 20) for n in range(12)]}, log_x=True)
    labels = texts(svg)
    assert not any("$" in text for text in labels)
    assert any(text in labels for text in ("100", "1000", "1e+06", "10000"))


def dots(groups, **options):
    return charts.dots(groups, {"a": 0, "b": 1}, **{"x_label": "BIS", "prefix": "c1", "title": "t"} | options)


def test_dots_are_drawn_by_category_with_their_intervals():
    svg = dots({"a": {"position": (0.1, 0.0, 0.2), "authority": 0.3}, "b": {"position": (0.2, 0.1, 0.3)}})
    assert "var(--arm-0)" in svg and "var(--arm-1)" in svg
    assert {"position", "authority", "BIS"} <= set(texts(svg))
    bare = dots({"a": {"position": 0.1}})
    assert svg.count("var(--arm-0)") > bare.count("var(--arm-0)")


def test_dots_leave_out_what_is_missing_and_refuse_what_is_no_dot():
    svg = dots({"a": {"position": None, "authority": (0.1, None, 0.2)}, "b": {}})
    assert "authority" in texts(svg)
    with pytest.raises(BadInput, match="has no dots"):
        dots({"a": {"position": float("nan")}})
    with pytest.raises(BadInput, match="a point has 1 or 3 numbers"):
        dots({"a": {"position": (1, 2)}})
