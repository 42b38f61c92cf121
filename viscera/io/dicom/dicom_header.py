"""What the header of one DICOM file says of its images, read once for all who ask."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from viscera.core.errors import BadInputError
from viscera.io.dicom.dicom_file import (
    DAMAGE,
    DamagedHeaderError,
    PixelElement,
    is_dicom,
    is_directory,
    is_encapsulated,
    open_dataset,
    open_header,
)
from viscera.io.dicom.dicom_values import (
    NOTHING,
    first_item,
    items_of,
    number_of,
    numbers_of,
    text_of,
    texts_of,
    whole_of,
)
from viscera.io.dicom.plain_pixels import PlainPixels
from viscera.io.files import read_error

_WANTED = (
    "SOPClassUID SOPInstanceUID Modality ImageType SeriesInstanceUID StudyInstanceUID PatientID PatientName "
    "SeriesDescription FrameOfReferenceUID AcquisitionDate SeriesDate StudyDate AcquisitionNumber AcquisitionTime "
    "TemporalPositionIdentifier TriggerTime NumberOfFrames Rows Columns SamplesPerPixel BitsAllocated "
    "BitsStored HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit ImagePositionPatient "
    "ImageOrientationPatient PixelSpacing SliceThickness RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)
_TAGS = [tag for keyword in _WANTED.split() if (tag := tag_for_keyword(keyword)) is not None]
Vector3 = tuple[float, float, float]
_CT_STORAGE = {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
_UNIT_TOLERANCE = 0.01
_ACQUISITION = (
    *(("acquisition", "AcquisitionNumber"), ("acquisition", "FrameAcquisitionNumber")),
    *(("time point", "TemporalPositionIdentifier"), ("time point", "TemporalPositionIndex")),
    *(("trigger time", "TriggerTime"), ("acquisition time", "AcquisitionTime")),
)
_PLACES = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
_VALUE_MAP = "PixelValueTransformationSequence"
_OF_FRAMES, _OF_ALL = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
ASSUMED_RESCALE = {"slope": 1.0, "intercept": 0.0}  # where it is not given


class UnusableSeriesError(Exception):
    """The images of a series make no volume; the message says why and what to do, without the last full stop."""


@dataclass(frozen=True)
class Plane:
    """Where the pixels of one image lie in the patient: DICOM's LPS axes, millimetres."""

    position_mm: Vector3  # centre of the first pixel (ImagePositionPatient)
    row: Vector3  # unit vector along a row (ImageOrientationPatient)
    column: Vector3  # and down a column
    spacing_mm: tuple[float, float]  # between columns, and between rows: PixelSpacing the other way round
    thickness_mm: float | None = None  # of the slice; None if it is not given


@dataclass(frozen=True)
class Slice:
    """One image: a file, or a frame of one; HU = slope × stored value + intercept."""

    path: Path
    shape: tuple[int, int]  # rows and columns
    frame: int = 0  # in the file
    frames: int = 1  # how many the file holds
    plane: Plane | None = None  # None if the header does not say where the image lies
    frame_of_reference: str = ""  # UID; positions of different ones cannot be compared
    slope: float = ASSUMED_RESCALE["slope"]
    intercept: float = ASSUMED_RESCALE["intercept"]
    not_given: tuple[str, ...] = ()  # which of slope and intercept
    padding: tuple[int, int] | None = None  # lowest and highest stored value that mean "outside the field of view"
    acquisition: tuple[tuple[str, str], ...] = ()  # what tells phases apart: numbers and times, by name
    plain: PlainPixels | None = None  # of the file; None if its pixels are coded otherwise, or are not as many


@dataclass(frozen=True, kw_only=True)
class Header:
    """What one file says about itself."""

    uid: str = ""  # SeriesInstanceUID
    study_uid: str = ""
    patient_id: str = ""  # often empty after anonymisation
    patient: str = ""  # number, or else name
    modality: str = ""  # CT, MR, SEG, …
    description: str = ""
    date: str = ""  # of the acquisition, ISO 8601; empty if it is not given
    sop_class: str = ""  # UID of the kind of object
    image_type: tuple[str, ...] = ()
    transfer_syntax: str = ""  # how the pixels are coded
    channels: int = 0  # 1, or 3 of a colour picture; 0 where there is no image
    unit: str = ""  # of the rescaled values; empty if it is not given
    has_table: bool = False  # whether a table maps stored values instead (ModalityLUTSequence)
    slices: tuple[Slice, ...] = ()


def read_header(path: Path, *, whole: bool = False) -> tuple[FileDataset, Header] | None:
    """The header of a DICOM object, or the `whole` file but its pixels; None for a DICOMDIR and what is no DICOM.

    Raises BadInputError for a damaged file, or one that cannot be opened.
    """
    try:
        dataset, pixels = open_header(path, None if whole else _TAGS)
        return None if is_directory(dataset) else (dataset, _header_of(path, dataset, pixels))
    except OSError as error:
        raise read_error(path, error) from error
    except DAMAGE as error:
        if not is_dicom(path):
            return None
        said = str(error) if isinstance(error, DamagedHeaderError) else type(error).__name__
        raise BadInputError(f"{path}: damaged DICOM ({said}). Export it again, or leave it out.") from error


def _header_of(path: Path, dataset: FileDataset, pixels: PixelElement | None) -> Header:
    """What a file says that pydicom has read; raises one of `DAMAGE` where its kind or its size cannot be read."""
    sop_class = text_of(dataset, "SOPClassUID") or text_of(dataset.file_meta, "MediaStorageSOPClassUID")
    modality = text_of(dataset, "Modality").upper()
    if sop_class in _CT_STORAGE and len(modality) != len("CT"):  # missing, or no modality
        modality = "CT"
    has_image = "Rows" in dataset and "Columns" in dataset
    if "SOPClassUID" not in dataset and not (has_image and modality):
        raise DamagedHeaderError("it does not say what kind of object it is")
    patient_id = text_of(dataset, "PatientID")
    return Header(
        uid=text_of(dataset, "SeriesInstanceUID"),
        study_uid=text_of(dataset, "StudyInstanceUID"),
        patient_id=patient_id,
        patient=patient_id or text_of(dataset, "PatientName"),
        modality=modality,
        description=text_of(dataset, "SeriesDescription"),
        date=_date(dataset),
        sop_class=sop_class,
        image_type=texts_of(dataset, "ImageType"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        channels=(whole_of(dataset, "SamplesPerPixel") or 1) if has_image else 0,
        unit=text_of(
            _group(_VALUE_MAP, first_item(dataset, _OF_FRAMES), first_item(dataset, _OF_ALL), dataset), "RescaleType"
        ),
        has_table=bool(items_of(dataset, "ModalityLUTSequence")),
        slices=tuple(_slices(path, dataset, pixels, modality)) if has_image else (),
    )


def _slices(path: Path, dataset: FileDataset, pixels: PixelElement | None, modality: str) -> Iterator[Slice]:
    """One image, or one for each frame with what its functional groups say (PS3.3, A.38)."""
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    if rows is None or columns is None or min(rows, columns) < 1:
        raise DamagedHeaderError(f"{rows} rows and {columns} columns")
    image = Slice(path, (rows, columns))
    if modality != "CT":  # only listed
        yield image
        return
    frames, is_placed = _counted(path, dataset, rows * columns)
    padding = [whole_of(dataset, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    limits = [limit for limit in padding if limit is not None]
    image = replace(
        image,
        frames=len(frames),
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
        padding=(min(limits), max(limits)) if padding[0] is not None else None,
        plain=PlainPixels.of(dataset, pixels, rows * columns * len(frames)),
    )
    shared = first_item(dataset, _OF_ALL)
    for number, own in enumerate(frames):
        places = (own, shared, dataset)
        content, value_map = _group("FrameContentSequence", *places), _group(_VALUE_MAP, *places)
        rescale = {name: number_of(value_map, f"Rescale{name.title()}") for name in ASSUMED_RESCALE}
        given: dict[str, Any] = {name: value for name, value in rescale.items() if value is not None}
        yield replace(
            image,
            frame=number,
            plane=_plane(*(_group(key, *places) for key in _PLACES)) if is_placed else None,
            not_given=tuple(name for name in rescale if name not in given),
            acquisition=tuple((name, text) for name, key in _ACQUISITION if (text := text_of(content, key))),
            **given,
        )


def _counted(path: Path, dataset: FileDataset, pixels: int) -> tuple[list[Dataset], bool]:
    """The functional groups of each frame, empty for a single image, and whether they can say where each lies.

    NumberOfFrames may lie; where it does not agree with the groups, the pixel data decide.
    """
    frames, declared = items_of(dataset, _OF_FRAMES), number_of(dataset, "NumberOfFrames")
    if frames:
        if declared != len(frames) and _frames_held(path, dataset, pixels, len(frames)) != len(frames):
            said = "no number of" if declared is None else f"{declared:g}"
            raise DamagedHeaderError(f"{said} frames, but {len(frames)} descriptions of frames")
        return frames, True
    return [NOTHING], declared in {None, 1} or _frames_held(path, dataset, pixels, declared or 1) <= 1


def _frames_held(path: Path, dataset: FileDataset, pixels: int, expected: float) -> int:
    """How many frames the pixel data of a file can hold; of compressed ones, as many as are expected where possible."""
    content = open_dataset(path, pixels=True, tags=[0x7FE00010]).get("PixelData") or b""
    if not is_encapsulated(dataset.file_meta.TransferSyntaxUID):
        return len(content) // (pixels * max((whole_of(dataset, "BitsAllocated") or 16) // 8, 1))
    after_offsets = content[8 + 4 * len(parse_basic_offsets(content)) :]
    fragments, _ = parse_fragments(after_offsets)
    return int(expected) if 1 < expected <= fragments else min(fragments, 1)


def _group(keyword: str, own: Dataset, shared: Dataset, dataset: Dataset) -> Dataset:
    """Where a functional group stands: with the frame, with all frames, or in the data set itself."""
    return (own and first_item(own, keyword)) or (shared and first_item(shared, keyword)) or dataset


def _plane(positions: Dataset, orientations: Dataset, measures: Dataset) -> Plane | None:
    """None where something is missing or impossible."""
    position = numbers_of(positions, "ImagePositionPatient", 3)
    orientation = numbers_of(orientations, "ImageOrientationPatient", 6)
    spacing = numbers_of(measures, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    lengths = math.hypot(*orientation[:3]), math.hypot(*orientation[3:])
    cosine = sum(a * b for a, b in zip(orientation[:3], orientation[3:], strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(cosine)) > _UNIT_TOLERANCE:
        return None
    r1, r2, r3 = (x / lengths[0] for x in orientation[:3])
    c1, c2, c3 = (x / lengths[1] for x in orientation[3:])
    thickness = number_of(measures, "SliceThickness") or 0.0
    return Plane(
        position_mm=(position[0], position[1], position[2]),
        row=(r1, r2, r3),
        column=(c1, c2, c3),
        spacing_mm=(spacing[1], spacing[0]),
        thickness_mm=thickness if 0 < thickness < math.inf else None,
    )


def known_name(uid: str, otherwise: str) -> str:
    """What DICOM calls a UID of its own; a UID that it does not know may say where it comes from, and is not quoted."""
    name = UID(uid).name
    return otherwise if name == uid else str(name)


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        text = text_of(dataset, keyword)
        if len(text) == 8 and text.isdigit():
            return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return ""
