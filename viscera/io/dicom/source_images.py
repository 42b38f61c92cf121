"""The source images that a DICOM result refers to: the headers that it takes over, how a label map lies on them.

Headers are made what the standard asks for, with nothing that it forbids, and nothing that contradicts the positions.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.uid import CTImageStorage, generate_uid
from pydicom.valuerep import DA, TM, DSfloat

from viscera.core.errors import BadInputError
from viscera.core.geometry import AxisOrder, Geometry
from viscera.core.scan import LabelArray, LabelMap
from viscera.io.dicom.dicom_file import DAMAGE, quiet_pydicom
from viscera.io.dicom.dicom_header import UnusableSeriesError, read_header
from viscera.io.dicom.dicom_values import first_item, number_of, text_of
from viscera.io.dicom.slice_stack import Stack, planes_of, stack
from viscera.io.files import sha256

Positions = npt.NDArray[np.float64]
log = logging.getLogger(__name__)
OF_THE_PATIENT = (  # and the study; DICOM wants them in every object, even if empty
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
_OF_SERIES = ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_THICKEST = 20  # times the distance of the slices: a thickness beyond is damaged
_LIKE = 0.02  # of the distance of the slices, that SpacingBetweenSlices may be off
_UNICODE = "ISO_IR 192"
# where and with what the scan was made, which highdicom would take over: hospital, department, device, time, specimen
_OF_THE_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "StationName"),
    *("InstitutionName", "InstitutionalDepartmentName", "InstitutionAddress"),
    *("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime"),
    *("ContainerIdentifier", "IssuerOfTheContainerIdentifierSequence", "AlternateContainerIdentifierSequence"),
    *("ContainerTypeCodeSequence", "ContainerDescription", "ContainerDescriptionCodeSequence"),
    *("ContainerComponentSequence", "SpecimenDescriptionSequence"),
)
_ALLOWED: dict[str, Callable[[str], object]] = {  # what refuses a text that its attribute may not have
    "PatientBirthDate": DA,
    "StudyDate": DA,
    "StudyTime": TM,
    "PatientSex": ("", "M", "F", "O").index,
}


@dataclass(frozen=True, eq=False)
class SourceImages:
    """One series, understood as its reader does: an image a slice, or one image whose frames are the slices."""

    headers: tuple[Dataset, ...]  # of each slice, without pixels, in the order of their position along the normal
    geometry: Geometry  # index (column, row, slice) to RAS+ mm
    frame_numbers: tuple[int, ...]  # of each slice in its multi-frame image, from 1; empty where each has its own image
    origins_mm: Sequence[Sequence[float]]  # (x, y, z) of the first pixel of each slice, LPS+

    @classmethod
    @quiet_pydicom()
    def read(cls, paths: Sequence[Path]) -> "SourceImages":
        """Read the headers of a series, and make them writable.

        Identifiers that anonymisation left empty, or gave to several images, are replaced by made-up ones, the same
        each time for the same files, with a warning.

        Raises:
            BadInputError: no file, one that is not DICOM, images of several patients, planes or sizes, or that make no
                even stack, or several multi-frame images.
        """
        if not paths:
            raise BadInputError("DICOM output needs the source images; there are none.")
        read = {}
        for path in paths:
            if (found := read_header(path, whole=True)) is None:
                raise BadInputError(f"{path}: not a readable DICOM file. Give the images of a series.")
            read[path] = found
        patients = {header.patient for _, header in read.values()}
        if len(patients) > 1:
            raise BadInputError(f"{paths[0]}: images of {len(patients)} patients. Give the images of one series.")
        try:
            made = stack([image for _, header in read.values() for image in header.slices], most_strays=0)
        except UnusableSeriesError as error:
            raise BadInputError(f"{paths[0]}: {error}.") from error
        slices = made.slices
        used = {image.path: read[image.path][0] for image in slices}
        if 1 < len(used) < len(slices):
            raise BadInputError(
                f"{paths[0]}: one of several multi-frame images. DICOM output refers to one of them, or to images of "
                "one frame; give --format nifti or seg-nrrd."
            )
        first = used[slices[0].path]
        _fill_identifiers(made, used)
        _make_writable(first)  # results take over from the first
        of_frames = first_item(first_item(first, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
        _agree_with(made, [*used.values(), of_frames])
        for header in used.values():
            if "ImageOrientationPatient" in header:  # highdicom wants it to the last digit
                header.ImageOrientationPatient = first.ImageOrientationPatient
        numbers = tuple(image.frame + 1 for image in slices) if len(used) < len(slices) else ()
        origins_mm = [plane.position_mm for plane in planes_of(slices)]
        return cls(tuple(used[image.path] for image in slices), made.geometry, numbers, origins_mm)

    def to_mm(self, number: int, column: Positions, row: Positions) -> Positions:
        """(N, 3) LPS+ mm of places (N,) in the plane of a slice, in voxels."""
        across, down, _, _ = self.geometry.affine_lps[:3].T
        return np.array(self.origins_mm[number]) + np.outer(column, across) + np.outer(row, down)

    def frames(self, label_map: LabelMap) -> LabelArray:
        """The labels (slice, row, column) of every image, without interpolation.

        Raises BadInputError where the label map is not on the grid of these images.
        """
        order = AxisOrder.between(label_map.geometry, self.geometry)
        found = order.apply_to_geometry(label_map.geometry)
        if not self.geometry.fits(found):
            raise BadInputError(
                f"The label map is not on the grid of the source images: {found.difference(self.geometry)}. Predict "
                "the series again."
            )
        return np.ascontiguousarray(order.apply(label_map.labels).transpose(2, 1, 0))


def derived_uid(*parts: str) -> str:
    """A UID that is the same for the same parts: writing a result twice replaces it, and adds none to an archive."""
    return str(generate_uid(entropy_srcs=list(parts)))


def _fill_identifiers(made: Stack, headers: Mapping[Path, Dataset]) -> None:
    """Make up what no image says, or several images share, from their places and the middle one's file.

    No two scans share these. What the first image that says it says of series, study and frame of reference is true
    of all.
    """
    given = {name: [uid for each in headers.values() if (uid := _uid(each, name))] for name in _OF_SERIES}
    counts = Counter(_uid(header, "SOPInstanceUID") for header in headers.values())
    shared = sum(count for uid, count in counts.items() if uid and count > 1)
    missing = sorted([name for name in _OF_SERIES if not given[name]] + ["SOPInstanceUID"] * ("" in counts))
    slices, origins_mm = made.slices, [plane.position_mm for plane in planes_of(made.slices)]
    series = f"{origins_mm} {sha256(slices[len(slices) // 2].path)}" if missing or shared else ""
    places = {image.path: place for image, place in zip(reversed(slices), reversed(origins_mm), strict=True)}  # first
    of_all = {name: [*uids, derived_uid("source", name, series, "")][0] for name, uids in given.items()}
    for path, header in headers.items():
        uid = _uid(header, "SOPInstanceUID")
        if not uid or counts[uid] > 1:
            uid = derived_uid("source", "SOPInstanceUID", series, str(places[path]))
        sop_class = _uid(header, "SOPClassUID")
        known = sop_class if sop_class.replace(".", "").isdigit() else CTImageStorage
        for name, value in {**of_all, "SOPInstanceUID": uid, "SOPClassUID": known}.items():
            _replace(header, name, value)
    if shared:
        log.warning("%d source images share their SOPInstanceUID; the result refers to made-up ones.", shared)
    if several := [name for name, uids in given.items() if len(set(uids)) > 1]:
        log.warning("The source images have several %s; the result refers to the first.", ", ".join(several))
    if missing:
        log.warning("The source images have no %s; the result refers to made-up ones.", ", ".join(missing))


def _uid(header: Dataset, keyword: str) -> str:
    """An identifier, also one of letters; empty where there is none, several or something that is none."""
    text = text_of(header, keyword)
    return text if text.isascii() and text.replace(".", "").replace("-", "").isalnum() else ""


def _agree_with(made: Stack, headers: Iterable[Dataset]) -> None:
    """Have headers say what the positions say: thickness and spacing may be damaged, or lie."""
    first = planes_of(made.slices)[0]
    spacing_mm = abs(float(made.geometry.affine_lps[:3, 2] @ np.cross(first.row, first.column)))
    for header in headers:
        if "Rows" in header:
            _replace(header, "Rows", made.slices[0].shape[0])
            _replace(header, "Columns", made.slices[0].shape[1])
        if "SpacingBetweenSlices" in header:
            said = number_of(header, "SpacingBetweenSlices") or 0.0
            if len(made.slices) == 1:
                del header.SpacingBetweenSlices
            elif not abs(said - spacing_mm) <= _LIKE * spacing_mm:
                _replace(header, "SpacingBetweenSlices", DSfloat(spacing_mm, auto_format=True))
        thickness = number_of(header, "SliceThickness") or 0.0
        if "SliceThickness" in header and not 1 / _THICKEST <= thickness / spacing_mm <= _THICKEST:
            _replace(header, "SliceThickness", None)


def _replace(header: Dataset, keyword: str, value: object) -> None:
    """Set an attribute whatever is there: pydicom would read that first, and keep its type."""
    if keyword in header:
        del header[keyword]
    setattr(header, keyword, value)


# ------------------------------------------------------------------------------------------ what the standard asks for


def _make_writable(header: Dataset) -> None:
    """Turn text into Unicode, and leave out what DICOM does not allow; a warning names that.

    Dates, times and sex that cannot be read become empty, as does what is missing but has to be there. Spacing and
    orientation that a multi-frame image gives for each frame are taken as those of all: of the first.
    """
    _leave_out_equipment(header)
    left_out = _unicode(header)
    for name, refuse in _ALLOWED.items():
        try:
            refuse(text_of(header, name))
        except ValueError:
            setattr(header, name, "")
            left_out.append(name)
    for name in OF_THE_PATIENT:
        if name not in header:
            setattr(header, name, "")
    for name in ("PatientName", "ReferringPhysicianName"):
        if isinstance(header[name].value, MultiValue):
            setattr(header, name, header[name].value[0])
            left_out.append(name)
    if "SliceThickness" not in header:
        header.SliceThickness = None
    if "NumberOfFrames" in header:
        _share_groups(header)
    if left_out:
        names, verb = ", ".join(left_out), "holds" if len(left_out) == 1 else "hold"
        log.warning("The source images' %s %s what DICOM does not allow; the result leaves it out.", names, verb)


def _leave_out_equipment(header: Dataset) -> None:
    for name in _OF_THE_EQUIPMENT:
        if name in header:
            del header[name]


def _unicode(header: Dataset) -> list[str]:
    """Read all values by the character set that the header says, so that they are written in Unicode.

    Returns the names of elements that cannot be read; they are gone.
    """
    character_set = header.get("SpecificCharacterSet") or _undeclared(header)
    header.SpecificCharacterSet = character_set
    unreadable = []
    for tag in list(header.keys()):
        alone = Dataset()
        alone.SpecificCharacterSet = character_set
        try:
            alone[tag] = header[tag]
            alone.decode()
        except DAMAGE:
            unreadable.append(keyword_for_tag(tag) or str(tag))
            del header[tag]
    header.SpecificCharacterSet = _UNICODE
    return unreadable


def _undeclared(header: Dataset) -> str:
    """The character set of a header that names none: often it is Unicode all the same."""
    raw = getattr(header.get_item("PatientName"), "value", None)
    if isinstance(raw, bytes):
        try:
            raw.decode()
        except UnicodeDecodeError:
            return "ISO_IR 100"
    return _UNICODE


def _share_groups(image: Dataset) -> None:
    """Put spacing and orientation into the shared functional groups, wherever they stand."""
    shared = (image.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    frames = image.get("PerFrameFunctionalGroupsSequence") or []
    for group, keywords in (
        ("PixelMeasuresSequence", ("PixelSpacing", "SliceThickness")),
        ("PlaneOrientationSequence", ("ImageOrientationPatient",)),
    ):
        of_frames = [frame[group].value for frame in frames if frame.get(group)]
        if of_frames:
            setattr(shared, group, of_frames[0])
        elif not shared.get(group):
            alone = Dataset()
            for keyword in keywords:
                setattr(alone, keyword, image.get(keyword))
            setattr(shared, group, Items([alone]))
    image.SharedFunctionalGroupsSequence = Items([shared])
