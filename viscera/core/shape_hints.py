"""What was probably meant by an array or tensor of another shape, or by something else in place of a scan."""

import os
from collections.abc import Sequence
from pathlib import Path

from viscera.core.errors import BadInputError, BadTypeError

_READ_BY = {"Volume": "read_volume", "LabelMap": "read_labels"}
_MADE_BY = {
    "ClassTable": "viscera.ClassTable.of_names(['background', ...]) makes one.",
    "Geometry": "viscera.Geometry(array.shape, affine) makes one; affine is 4×4, from voxel index to RAS+ mm.",
}


def of_labels(labels: Sequence[int], logits: Sequence[int]) -> str:
    """A hint after the message for labels whose shape does not fit the logits'; empty where none is at hand."""
    if tuple(labels) == tuple(logits):
        return " One-hot labels become class numbers by labels.argmax(1)."
    if tuple(labels) == (*logits[:1], *logits[2:], *logits[1:2]):
        return " One-hot labels with the classes last become class numbers by labels.argmax(-1)."
    if tuple(labels) == tuple(logits[2:]):
        return " Add the batch axis: labels[None]."
    return ""


def of_network_input(shape: Sequence[int], channels: int) -> str:
    """What the axes of an input to the network are, and which one is missing."""
    axes = f"batch, {channels} {'channel' if channels == 1 else 'channels'}, I, J, K"
    if len(shape) == 4:
        lacks = "channel axis: x.unsqueeze(1)" if shape[0] != channels or shape[1] <= 8 < shape[0] else ""
        return f" It has 4 axes, and 5 were expected ({axes}). Add the {lacks or 'batch axis: x.unsqueeze(0)'}."
    if len(shape) == 3:
        return f" It has 3 axes, and 5 were expected ({axes}). Add two: x[None, None]."
    return f" The axes are {axes}." if len(shape) == 5 else f" It has {len(shape)} axes; 5 were expected ({axes})."


def given_path(given: object, name: str) -> Path:
    """A path, of whatever says one; raises BadTypeError for anything else, and BadInputError for an empty text."""
    path = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(path, str):
        raise BadTypeError(f"{name}: {type(given).__name__}, and a path was expected, as a text or a pathlib.Path.")
    if not path:
        raise BadInputError(f"{name}: an empty text, and a path was expected; the working directory is '.'.")
    return Path(path)


def refuse_other_than(kind: type, value: object, name: str) -> None:
    """Raise BadTypeError, which says how to make one, for anything but a `Volume`, or whatever `kind` is."""
    if isinstance(value, kind):
        return
    found, wanted = type(value).__name__, kind.__name__
    if wanted in _MADE_BY:
        how = _MADE_BY[wanted]
    elif isinstance(value, str) or hasattr(value, "__fspath__"):
        how = f"Read it: viscera.{_READ_BY[wanted]}({str(value)!r})."
    elif hasattr(value, "shape") and hasattr(value, "dtype"):
        grid = "viscera.Geometry.from_spacing(array.shape, spacing_mm)"
        how = f"An array alone has no voxel size: viscera.{wanted}(array, {grid})."
    else:
        how = f"viscera.{_READ_BY[wanted]}(path) makes one."
    raise BadTypeError(f"{name}: {found}, and a {wanted} was expected. {how}")
