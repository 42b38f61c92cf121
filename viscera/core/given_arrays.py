"""Arrays that a program gives as HU or labels: checked once, where a scan or label map is made, and of one type then.

What has that type already costs nothing: 16 bits hold nothing that is no HU. All else is looked through plane by plane,
so that no second copy of it is made.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import IGNORED, ClassTable
from viscera.core.errors import BadInputError, BadTypeError
from viscera.core.geometry import Geometry
from viscera.core.wording import agreeing, counted, listed

_WHOLE = 1e-3  # by which a number may miss a whole one: slopes and intercepts are 32-bit floats
_TYPES: dict[str, np.dtype[Any]] = {"hu": np.dtype(np.int16), "labels": np.dtype(np.uint8)}
_MEANT = {
    "hu": "Hounsfield units of 16 bits",
    "labels": f"class numbers from 0 to {IGNORED - 1}, and {IGNORED} where nobody labelled a voxel",
}
_Name = Literal["hu", "labels"]


def checked(name: _Name, given: object, geometry: Geometry) -> npt.NDArray[Any]:
    """HU as int16 or labels as uint8, (I, J, K) on a grid: the same array where it is that, else a copy.

    Raises BadTypeError for what is no array of numbers, and BadInputError for another shape than the grid's, and for
    numbers that are not finite, not whole (within a thousandth), or that the type does not hold.
    """
    array = _array(name, given)
    _refuse_other_shape(name, array, geometry.shape)
    wanted = _TYPES[name]
    if array.dtype == wanted:
        return array
    bytes_of_mask: npt.NDArray[Any] = array.view(np.uint8) if array.dtype == np.bool_ else _converted(name, array)
    return bytes_of_mask


def refuse_other_labels(labels: npt.NDArray[np.uint8], classes: ClassTable) -> None:
    """Raise BadInputError for labels (I, J, K) that are neither in the table of classes nor 255."""
    if int(labels.max(initial=0)) < len(classes):
        return
    beyond = max(int((plane + np.uint8(1)).max()) for plane in planes(labels)) - 1  # 255 becomes 0
    if beyond >= len(classes):
        raise BadInputError(
            f"labels: there is a {beyond}, and the classes are 0 to {len(classes) - 1} "
            f"({listed(classes.names[1:], 7)}). Give the table that the numbers belong to as "
            "`classes`: viscera.ClassTable.of_names([...])."
        )


def planes(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array (I, J, K) with the axis first along which its planes lie one after another in memory."""
    return np.moveaxis(array, _slowest(array), 0)


def _slowest(array: npt.NDArray[Any]) -> int:
    return int(np.argmax(np.abs(array.strides)))


def _array(name: _Name, given: object) -> npt.NDArray[Any]:
    if isinstance(given, np.ndarray) and not isinstance(given, np.ma.MaskedArray):
        if given.dtype.kind in "iuf" or (given.dtype.kind == "b" and name == "labels"):
            return given
        raise BadTypeError(f"{name}: an array of {given.dtype}; {_MEANT[name]} were expected, as whole numbers.")
    module = type(given).__module__.partition(".")[0]
    if isinstance(given, np.ma.MaskedArray):
        how = f" Say what stands where it is masked: array.filled({-1024 if name == 'hu' else 0})."
    elif module == "torch":
        how = " Give tensor.cpu().numpy()."
    elif module == "SimpleITK":
        how = " Give SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)."
    elif hasattr(given, "dataobj"):
        how = " Give np.asarray(image.dataobj)."
    elif isinstance(given, list | tuple) or hasattr(given, "__array__"):
        how = " Give np.asarray(...) of it."
    else:
        how = ""
    found = f"{type(given).__module__}.{type(given).__qualname__}".removeprefix("builtins.")
    raise BadTypeError(f"{name}: {found}; a NumPy array (I, J, K) was expected.{how}")


def _refuse_other_shape(name: _Name, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape == shape:
        return
    how = "Give the geometry of that array."
    if array.shape == shape[::-1]:
        how = f"Its axes seem to run as K, J, I, as SimpleITK has them: {name}.transpose(2, 1, 0)."
    elif array.ndim > 3 and array.size == np.prod(shape):
        how = f"Leave out the axes of length 1 that are none of the volume's: {name}.reshape(geometry.shape)."
    raise BadInputError(f"{name}: an array of shape {array.shape} cannot lie on a grid of shape {shape}. {how}")


def _converted(name: _Name, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Of whole numbers, plane by plane."""
    limits = np.iinfo(_TYPES[name])
    taken: npt.NDArray[Any] = np.empty_like(array, dtype=_TYPES[name], subok=False)
    axis, is_float = _slowest(array), array.dtype.kind == "f"
    low, high, bad, fractions = np.inf, -np.inf, 0, 0
    for given, plane in zip(np.moveaxis(array, axis, 0), np.moveaxis(taken, axis, 0), strict=True):
        whole = given
        if is_float:
            bad += given.size - int(np.count_nonzero(np.isfinite(given)))
            whole = np.rint(given)
            with np.errstate(invalid="ignore"):  # infinite less infinite
                fractions += int(np.count_nonzero(np.abs(given - whole) > _WHOLE))
        low, high = min(low, whole.min()), max(high, whole.max())
        if not bad and limits.min <= low and high <= limits.max:
            plane[...] = whole
    if bad:
        raise BadInputError(_not_finite(name, bad))
    if low < limits.min or high > limits.max:
        raise BadInputError(_out_of_range(name, low, high))
    if fractions:
        raise BadInputError(_not_whole(name, fractions))
    return taken


def _not_finite(name: _Name, bad: int) -> str:
    fill = " Give them those of air where nothing was measured: np.nan_to_num(hu, nan=-1024)." if name == "hu" else ""
    return f"{name}: {counted(bad, 'voxel')} {agreeing(bad)} NaN or infinite; {_MEANT[name]} were expected.{fill}"


def _out_of_range(name: _Name, low: float, high: float) -> str:
    how = "Apply slope and intercept of the scan, and np.clip what metal exceeds."
    if name == "labels":
        how = "Give the numbers that viscera's classes have."
    return f"{name}: numbers from {low:g} to {high:g}; {_MEANT[name]} were expected. {how}"


def _not_whole(name: _Name, fractions: int) -> str:
    how = (
        "Round them if they are HU: np.rint(hu).astype(np.int16). If they were scaled for a network, give the scan as "
        "it was read."
    )
    if name == "labels":
        how = "Were they resampled with interpolation? Take the nearest neighbour. Of probabilities take the argmax."
    found = f"{counted(fractions, 'voxel')} {agreeing(fractions)} no whole number"
    return f"{name}: {found}; {_MEANT[name]} were expected. {how}"
