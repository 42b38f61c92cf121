"""Cases as TorchIO's subjects, and back: its transforms and queues on our data, and our stages on its data.

Both keep axes (I, J, K) and an affine to RAS+ in mm, so that nothing is turned or resampled. TorchIO itself is imported
when a function is called.
"""

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from viscera.core.anatomy import MOST_CLASSES
from viscera.core.errors import BadInputError, first_line
from viscera.core.geometry import Geometry
from viscera.core.scan import Case, LabelMap, Volume

IMAGE, LABELS, NAME, UNLABELLED = "image", "labels", "name", "unlabelled"
_INT16 = np.iinfo(np.int16)
_IGNORED = 255


def subject_of(case: Case) -> Any:  # noqa: ANN401 - a torchio.Subject
    """A `torchio.Subject` of a case: `image` (1, I, J, K) int16 HU, `labels` (1, I, J, K) uint8, `name`, `unlabelled`.

    The latter are the names of classes that the case's data set does not label, joined by commas: text, which PyTorch's
    loaders take. Raises BadInputError where TorchIO is not installed.
    """
    import torch  # noqa: PLC0415 - slow to load

    torchio = _torchio()

    def tensor(array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.array(array, order="C"))[None]

    return torchio.Subject(
        **{
            IMAGE: torchio.ScalarImage(tensor=tensor(case.volume.hu), affine=case.volume.geometry.affine.copy()),
            LABELS: torchio.LabelMap(
                tensor=tensor(case.label_map.labels), affine=case.label_map.geometry.affine.copy()
            ),
            NAME: case.name,
            UNLABELLED: ",".join(case.unlabelled),
        }
    )


def case_of(subject: Any, name: str | None = None, *, image: str = IMAGE, labels: str = LABELS) -> Case:  # noqa: ANN401
    """A case of a `torchio.Subject`, whose image holds HU and whose labels are class numbers (255: not labelled).

    HU that a transform made fractions are rounded. `name` None: that of the subject.

    Raises:
        BadInputError: no such image in the subject, several channels, values that are no HU or no class numbers; labels
            on another grid than the image.
    """
    name = name or str(dict(subject).get(NAME, "")) or "subject"
    hu, of_image = _array_of(subject, image, name)
    numbers, of_labels = _array_of(subject, labels, name)
    if not np.isfinite(hu).all() or hu.min() < _INT16.min or hu.max() > _INT16.max:
        raise BadInputError(f"{name}: '{image}' is not HU (NaN, infinite, or beyond 16 bits). Give it as it was read.")
    if not np.array_equal(numbers, np.rint(numbers)) or numbers.min() < 0 or numbers.max() > _IGNORED:
        raise BadInputError(
            f"{name}: '{labels}' are not class numbers (whole, 0 to {MOST_CLASSES - 1}, or {_IGNORED}). Was it made a "
            "torchio.LabelMap, which is not interpolated?"
        )
    volume = Volume(np.rint(hu).astype(np.int16), of_image)
    label_map = LabelMap(np.rint(numbers).astype(np.uint8), of_labels)
    unlabelled = str(dict(subject).get(UNLABELLED, ""))
    return Case(name, volume, label_map, tuple(filter(None, unlabelled.split(","))))


def _array_of(subject: Any, key: str, name: str) -> tuple[npt.NDArray[Any], Geometry]:  # noqa: ANN401
    found = dict(subject).get(key)
    if found is None or not hasattr(found, "data"):
        known = ", ".join(f"'{each}'" for each, value in dict(subject).items() if hasattr(value, "affine"))
        raise BadInputError(f"{name}: there is no image '{key}' in the subject; there are: {known or 'none'}.")
    array = np.asarray(found.data)
    if array.ndim != 4 or array.shape[0] != 1:
        raise BadInputError(f"{name}: '{key}' has shape {array.shape}; (1, I, J, K) was expected.")
    i, j, k = array.shape[1:]
    return array[0], Geometry((i, j, k), np.asarray(found.affine, dtype=np.float64))


def _torchio() -> Any:  # noqa: ANN401 - a module
    try:
        return importlib.import_module("torchio")
    except ImportError as error:
        raise BadInputError(
            f"TorchIO is not installed ({first_line(error)}). Install it: pip install torchio."
        ) from error
