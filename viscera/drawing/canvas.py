"""Figures to bytes, the style they share, and pages from templates. No pyplot: no global state, no display."""

import io
from base64 import b64encode
from functools import partial
from types import CodeType
from typing import Any, Literal

import jinja2
import numpy as np
import numpy.typing as npt
from jinja2.bccache import Bucket
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave

Pixels = npt.NDArray[np.uint8]
Format = Literal["png", "svg"]
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": "#9aa3af",
    "axes.labelcolor": "#374151",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
    "text.color": "#111827",
    "text.parse_math": False,
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "svg.hashsalt": "viscera",
    "svg.fonttype": "path",
}


house_style = partial(rc_context, _STYLE)  # of all figures: what is drawn within has it


def to_bytes(figure: Figure, file_format: Format, dpi: int = 120) -> bytes:
    """The picture file; the same figure gives the same bytes (no date in it)."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if file_format == "svg" else {"Software": None}
    with house_style():
        FigureCanvasAgg(figure)
        figure.savefig(buffer, format=file_format, dpi=dpi, metadata=metadata)
    return buffer.getvalue()


def data_uri(content: bytes, file_format: Format) -> str:
    """The picture inside an address, so that a page needs no second file."""
    kind = "image/svg+xml" if file_format == "svg" else "image/png"
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def to_pixels(figure: Figure, dpi: int = 130) -> Pixels:
    """The figure as uint8 RGB (height, width, 3)."""
    with house_style():
        figure.set_dpi(dpi)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def pixels_to_png(pixels: Pixels) -> bytes:
    """A PNG file of RGB pixels."""
    buffer = io.BytesIO()
    imsave(buffer, pixels, format="png", metadata={"Software": ""})
    return buffer.getvalue()


class _Compiled(jinja2.BytecodeCache):
    """Templates that were compiled for an earlier page of this process."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, CodeType | None]] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        checksum, code = self.known.get(bucket.key, ("", None))
        if checksum == bucket.checksum:
            bucket.code = code

    def dump_bytecode(self, bucket: Bucket) -> None:
        self.known[bucket.key] = bucket.checksum, bucket.code


_COMPILED = _Compiled()


def page_environment(package: str) -> jinja2.Environment:
    """The templates of a package and the style sheet of all pages; data are escaped, a missing value is an error."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("viscera.drawing")]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        bytecode_cache=_COMPILED,
    )
