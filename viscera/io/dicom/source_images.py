"""The source images that a DICOM result refers to: their headers, and how a label map lies on their frames."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage, generate_uid

from viscera.core.errors import BadInputError
from viscera.core.geometry import LPS_FROM_RAS, Geometry
from viscera.core.scan import LabelArray, LabelMap
from viscera.io.dicom.dataset import DAMAGE, open_dataset, quiet_pydicom
from viscera.io.dicom.header import slices_of
from viscera.io.dicom.series import Plane, Slice, Vector3
from viscera.io.dicom.stack import same_plane
from viscera.io.dicom.writable import make_writable
from viscera.io.files import read_error, sha256

Positions = npt.NDArray[np.float64]
log = logging.getLogger(__name__)
_WHOLE = 0.01  # voxels that a frame may lie beside the label map's grid
_IDENTIFIERS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, eq=False)
class SourceImages:
    """One series: an image a slice, or one image whose frames are the slices.

    Attributes:
        headers: of each slice, without pixels, in the order of their position along the normal.
        geometry: index (column, row, slice) to RAS+ mm.
        frame_numbers: of each slice in its multi-frame image, from 1; empty where each has an image of its own.
        origins_mm: first pixel of each slice, LPS+; empty where they lie as evenly as the geometry says.
    """

    headers: tuple[Dataset, ...]
    geometry: Geometry
    frame_numbers: tuple[int, ...] = ()
    origins_mm: tuple[Vector3, ...] = ()

    @classmethod
    @quiet_pydicom()
    def read(cls, paths: Sequence[Path]) -> "SourceImages":
        """Read the headers of a series.

        Identifiers that anonymisation left empty are replaced by made-up ones, the same each time for the same files,
        with a warning. The first header is made writable (`io.dicom.writable`).

        Raises:
            BadInputError: no file, one that is not DICOM or has no position, images of unlike size, orientation or
                pixel spacing, or several multi-frame images.
        """
        if not paths:
            raise BadInputError("DICOM output needs the source images; there are none.")
        found = [image for path in dict.fromkeys(paths) for image in _images(path)]
        headers = list({id(image.header): image.header for image in found}.values())
        if 1 < len(headers) < len(found):
            raise BadInputError(
                f"{paths[0]}: one of several multi-frame images. DICOM output refers to one of them, or to images of "
                "one frame; give --format nifti or seg-nrrd."
            )
        for image in found:
            if not same_plane(image.slice, found[0].slice):
                raise BadInputError(
                    f"{image.slice.path}: another size, orientation or pixel spacing than {paths[0]}. Give the images "
                    "of one series."
                )
        normal = np.cross(found[0].plane.row, found[0].plane.column)
        found.sort(key=lambda image: float(normal @ image.plane.position_mm))
        first = found[0].plane
        _fill_identifiers(found)
        make_writable(found[0].header)  # results take over from the first
        for header in headers:
            if "ImageOrientationPatient" in header:  # highdicom wants it to the last digit
                header.ImageOrientationPatient = found[0].header.ImageOrientationPatient
        positions = np.array([image.plane.position_mm for image in found])
        thickness = first.thickness_mm or 1.0
        step = (positions[-1] - positions[0]) / (len(found) - 1) if len(found) > 1 else normal * thickness
        column_mm, row_mm = first.spacing_mm  # between columns, between rows
        affine = np.eye(4)
        affine[:3] = np.column_stack(
            [np.multiply(first.row, column_mm), np.multiply(first.column, row_mm), step, positions[0]]
        )
        rows, columns = found[0].slice.shape
        numbers = tuple(image.slice.frame + 1 for image in found) if len(found) > len(headers) else ()
        geometry = Geometry((columns, rows, len(found)), LPS_FROM_RAS @ affine)
        origins_mm = tuple(image.plane.position_mm for image in found)
        return cls(tuple(image.header for image in found), geometry, numbers, origins_mm)

    def to_mm(self, number: int, column: Positions, row: Positions) -> Positions:
        """(N, 3) LPS+ mm of places (N,) in the plane of a slice, in voxels."""
        across, down, step, origin = self.geometry.affine_lps[:3].T
        first = np.array(self.origins_mm[number]) if self.origins_mm else origin + number * step
        return first + np.outer(column, across) + np.outer(row, down)

    def frames(self, label_map: LabelMap) -> LabelArray:
        """The labels (slice, row, column) of every image, without interpolation.

        Raises:
            BadInputError: the label map is not on the grid of these images.
        """
        to_labels = np.linalg.inv(label_map.geometry.affine) @ self.geometry.affine  # from (column, row, slice)
        if len(self.headers) == 1:  # the thickness of a single slice is no distance
            along = int(np.argmin(np.abs(to_labels[:3, :2]).sum(axis=1)))
            to_labels[:3, 2] = np.eye(3)[along]
        whole = np.rint(to_labels)
        turns = np.abs(whole[:3, :3])
        corners = np.array(self.geometry.shape) - 1
        exact = np.abs(to_labels - whole)[:3] @ [*corners, 1.0] <= _WHOLE * max(corners.max(), 1)
        if not (exact.all() and (turns.sum(axis=0) == 1).all() and (turns.sum(axis=1) == 1).all()):
            raise BadInputError("The label map is not on the grid of the source images. Predict the series again.")
        axes = turns.argmax(axis=0)  # of the label map, for column, row, slice
        view = label_map.labels.transpose(axes)
        steps = whole[axes, [0, 1, 2]]
        view = view[tuple(slice(None, None, -1 if step < 0 else 1) for step in steps)]
        starts = np.where(steps < 0, np.array(label_map.labels.shape)[axes] - 1, 0)
        if view.shape != self.geometry.shape or not np.array_equal(whole[axes, 3], starts):
            raise BadInputError(
                f"The label map has {' × '.join(map(str, view.shape))} voxels where the source images have "
                f"{' × '.join(map(str, self.geometry.shape))}, or begins elsewhere. Predict the series again."
            )
        return np.ascontiguousarray(view.transpose(2, 1, 0))


def derived_uid(*parts: str) -> str:
    """A UID that is the same for the same parts: writing a result twice replaces it, and adds none to an archive."""
    return str(generate_uid(entropy_srcs=list(parts)))


def content_digest(labels: npt.NDArray[np.uint8]) -> str:
    """What a label map is told apart by."""
    return hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()


def as_file(dataset: Dataset) -> bytes:
    """A whole DICOM file."""
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


class _Image(NamedTuple):
    """One slice: the header of its file, and where it lies."""

    header: FileDataset
    slice: Slice
    plane: Plane


def _images(path: Path) -> Iterator[_Image]:
    try:
        header = open_dataset(path, pixels=False)
        slices = list(slices_of(path, header))
    except OSError as error:
        raise read_error(path, error) from error
    except DAMAGE as error:
        raise BadInputError(f"{path}: not a readable DICOM file ({error}). Give the images of a series.") from error
    for each in slices:
        if each.plane is None:
            raise BadInputError(f"{path}: an image without position in the patient. Give the images of a CT series.")
        yield _Image(header, each, each.plane)


def _fill_identifiers(images: Sequence[_Image]) -> None:
    """Make up what is missing, from the places of the images and the middle one's file: no two scans share these."""
    made_up = {name for image in images for name in _IDENTIFIERS if not image.header.get(name)}
    places = [image.plane.position_mm for image in images]
    series = f"{places} {sha256(images[len(images) // 2].slice.path)}" if made_up else ""
    for image in images:
        header = image.header
        if not header.get("SOPClassUID"):
            header.SOPClassUID = CTImageStorage
        for name in _IDENTIFIERS:
            if not header.get(name):
                of_image = str(image.plane.position_mm) if name == "SOPInstanceUID" else ""
                setattr(header, name, derived_uid("source", name, series, of_image))
    if made_up:
        log.warning("The source images have no %s; the result refers to made-up ones.", ", ".join(sorted(made_up)))
