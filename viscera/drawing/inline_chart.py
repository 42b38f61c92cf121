"""Charts that are part of a page: their text is the page's, their greys follow its theme, their points can be read off.

Matplotlib draws; the SVG is taken apart and put together again, so that only elements and attributes reach the page,
no comment, and no identifier that another chart has too.
"""

import io
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple, TypedDict
from xml.etree import ElementTree as ET

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from viscera.drawing.canvas import house_style

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_COLOUR, _REFERENCE = re.compile(r"#[0-9a-f]{6}"), re.compile(r"((?:^|url\()#)([\w-]+)")
ET.register_namespace("", _SVG)
ET.register_namespace("xlink", _XLINK)


class Series(TypedDict):
    """A line that the cursor reads; places are fractions of the chart from its upper left corner."""

    name: str
    colour: str  # CSS
    points: list[tuple[float, float, str, str]]  # place, then both values as text


class Chart(NamedTuple):
    """A drawing of the page: its markup, text for those who do not see it, and what the cursor reads."""

    svg: Markup
    alt: str
    series: tuple[Series, ...] = ()


def inline_chart(figure: Figure, alt: str) -> Chart:
    """A figure as markup; labelled lines can be read off, in the words of `Axes.fmt_xdata` and `fmt_ydata`."""
    return Chart(_markup(figure), alt, tuple(_series(figure)))


def themed(colour: str) -> str:
    """A colour that a page's style sheet may replace: `var(--c1f2937, #1f2937)`."""
    return f"var(--c{colour[1:]}, {colour})"


def _markup(figure: Figure) -> Markup:
    buffer = io.BytesIO()
    with house_style(), rc_context({"svg.fonttype": "none"}):
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    content = buffer.getvalue()
    root = ET.fromstring(content)  # noqa: S314 - matplotlib's own output, no entity of anybody else
    prefix = f"c{sha256(content).hexdigest()[:8]}-"
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag.endswith(("}metadata", "}title"))]:
            parent.remove(child)
    referenced = {
        name for each in root.iter() for value in each.attrib.values() for _, name in _REFERENCE.findall(value)
    }
    for element in root.iter():
        if element.get("id") not in referenced:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            element.set(key, _rewritten(key, value, prefix))
    for key in ("width", "height"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")
    return Markup(ET.tostring(root, encoding="unicode"))  # noqa: S704 - serialised from a tree: all text is escaped


def _rewritten(key: str, value: str, prefix: str) -> str:
    if key == "style":
        value = _COLOUR.sub(lambda found: themed(found[0]), value)
    elif key == "id":
        return prefix + value
    return _REFERENCE.sub(rf"\g<1>{prefix}\g<2>", value)


def _series(figure: Figure) -> Iterator[Series]:
    to_figure = figure.transFigure.inverted()
    for axes in figure.axes:
        for line in axes.lines:
            name = str(line.get_label())
            if not name.startswith("_") and line.get_transform() == axes.transData:
                values = np.asarray(line.get_xydata())
                places = to_figure.transform(axes.transData.transform(values)).tolist()
                texts = [_texts(axes, *value) for value in values.tolist()]
                points = [(round(x, 4), round(1 - y, 4), *text) for (x, y), text in zip(places, texts, strict=True)]
                yield Series(name=name, colour=themed(to_hex(line.get_color())), points=points)


def _texts(axes: Axes, x: float, y: float) -> tuple[str, str]:
    return axes.format_xdata(x).strip(), axes.format_ydata(y).strip()
