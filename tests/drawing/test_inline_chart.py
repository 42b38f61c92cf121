"""Charts inside a page: nothing but drawing reaches it, two share no names, and their points are where they look."""

import re
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure

from viscera.drawing.inline_chart import Chart, inline_chart

HOSTILE = "</text></svg><script>alert(1)</script><!-- --> & \"'"


def chart(title: str = "a chart") -> Chart:
    figure = Figure(figsize=(4, 2))
    axes = figure.add_axes((0.1, 0.2, 0.8, 0.6))  # left, bottom, width, height
    axes.set(xlim=(0, 10), ylim=(0, 1), title=title, ylabel=title)
    axes.plot([0, 5, 10], [0.0, 0.5, 1.0], color="#1f2937", label=title, marker="o")
    axes.plot([0, 10], [0.2, 0.2], label="_not read")
    axes.axvline(5, label="no points of its own")
    axes.fmt_xdata, axes.fmt_ydata = "step {:.0f}".format, "{:.2f}".format
    return inline_chart(figure, title)


def test_points_are_fractions_from_the_upper_left_and_tell_their_values() -> None:
    (line,) = chart().series
    assert line["name"] == "a chart"
    assert line["colour"] == "var(--c1f2937, #1f2937)"
    assert [point[2:] for point in line["points"]] == [("step 0", "0.00"), ("step 5", "0.50"), ("step 10", "1.00")]
    places = [place for point in line["points"] for place in point[:2]]
    assert places == pytest.approx([0.1, 0.8, 0.5, 0.5, 0.9, 0.2])


def test_text_of_the_data_is_text() -> None:
    svg = str(chart(HOSTILE).svg)
    assert "<script" not in svg
    assert "<!--" not in svg
    tree = ET.fromstring(svg)  # noqa: S314 - our own
    texts = [each.text for each in tree.iter() if each.tag.endswith("}text")]
    assert texts.count(HOSTILE) == 2


def test_names_are_of_one_chart_alone_and_all_are_found() -> None:
    names = []
    for svg in (str(chart().svg), str(chart("another").svg)):
        own = set(re.findall(r' id="([^"]*)"', svg))
        used = {name for pair in re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg) for name in pair if name}
        assert own == used != set()
        names.append(own)
    assert not names[0] & names[1]


def test_greys_are_the_pages_and_there_is_nothing_beside_the_drawing() -> None:
    svg = str(chart().svg)
    assert "var(--c1f2937, #1f2937)" in svg
    assert not re.search(r"[a-z]: #[0-9a-f]{6}", svg)  # every colour can be replaced
    assert "metadata" not in svg
    assert not re.search(r'<svg[^>]* (width|height)="', svg)
    assert svg == str(chart().svg)
