"""What the header of one DICOM file says of its images, read once for all who ask: only what is needed is asked for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import parse_basic_offsets, parse_fragments
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from viscera.core.errors import BadInputError
from viscera.io.dicom.dicom_file import (
    DAMAGE,
    NOTHING,
    first_item,
    is_dicom,
    is_directory,
    is_encapsulated,
    items_of,
    number_of,
    numbers_of,
    open_dataset,
    text_of,
    texts_of,
    whole_of,
)
from viscera.io.dicom.dicom_series import Plane, Slice
from viscera.io.files import read_error

_WANTED = (
    "SOPClassUID SOPInstanceUID Modality ImageType SeriesInstanceUID StudyInstanceUID PatientID PatientName "
    "SeriesDescription FrameOfReferenceUID AcquisitionDate SeriesDate StudyDate AcquisitionNumber AcquisitionTime "
    "TemporalPositionIdentifier TriggerTime NumberOfFrames Rows Columns SamplesPerPixel BitsAllocated "
    "PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit ImagePositionPatient ImageOrientationPatient "
    "PixelSpacing SliceThickness RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)
_TAGS = [tag for keyword in _WANTED.split() if (tag := tag_for_keyword(keyword)) is not None]
_CT_STORAGE = {CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage}
_UNIT_TOLERANCE = 0.01
_VALUE_MAP = "PixelValueTransformationSequence"
_RESCALE = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))  # and what stands for what is not given


@dataclass(frozen=True)
class Header:
    """What one file says about itself.

    Attributes:
        series_uid, study_uid, patient_id, modality, description, date: as in `Series`.
        patient: number, or else name, of the patient.
        sop_class: UID of the kind of object.
        image_type: values of ImageType.
        transfer_syntax: how the pixels are coded.
        channels: 1, or 3 of a colour picture; 0 where there is no image.
        unit: of the rescaled values; empty if it is not given.
        has_table: whether a table maps stored values instead (ModalityLUTSequence).
        slices: the images in the file.
    """

    series_uid: str
    study_uid: str
    patient_id: str
    patient: str
    modality: str
    description: str
    date: str
    sop_class: str
    image_type: tuple[str, ...]
    transfer_syntax: str
    channels: int
    unit: str
    has_table: bool
    slices: tuple[Slice, ...]


def read_header(path: Path) -> Header | None:
    """The header of a DICOM object; None for a DICOMDIR, and for what is no DICOM after all.

    Raises:
        BadInputError: a damaged file, or one that cannot be opened.
    """
    try:
        dataset = open_dataset(path, pixels=False, tags=_TAGS)
        return None if is_directory(dataset) else header_of(path, dataset)
    except OSError as error:
        raise read_error(path, error) from error
    except DAMAGE as error:
        if not is_dicom(path):
            return None
        raise BadInputError(f"{path}: damaged DICOM ({error}). Export it again, or leave it out.") from error


def header_of(path: Path, dataset: FileDataset) -> Header:
    """What a file says that pydicom has read.

    Raises:
        Exception: one of `DAMAGE`, where not even its kind or its size can be read.
    """
    sop_class = text_of(dataset, "SOPClassUID") or text_of(dataset.file_meta, "MediaStorageSOPClassUID")
    modality = text_of(dataset, "Modality").upper()
    if sop_class in _CT_STORAGE and len(modality) != len("CT"):  # missing, or no modality
        modality = "CT"
    has_image = "Rows" in dataset and "Columns" in dataset
    if "SOPClassUID" not in dataset and not (has_image and modality):
        raise ValueError("it does not say what kind of object it is")
    patient_id = text_of(dataset, "PatientID")
    return Header(
        series_uid=text_of(dataset, "SeriesInstanceUID"),
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
        unit=text_of(_group(_VALUE_MAP, dataset, *_frames(dataset)[:1]), "RescaleType"),
        has_table=bool(items_of(dataset, "ModalityLUTSequence")),
        slices=tuple(_slices(path, dataset, modality)) if has_image else (),
    )


def _slices(path: Path, dataset: FileDataset, modality: str) -> Iterator[Slice]:
    """One image, or one for each frame with what its functional groups say (PS3.3, A.38)."""
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    if rows is None or columns is None or min(rows, columns) < 1:
        raise ValueError(f"{text_of(dataset, 'Rows')} rows and {text_of(dataset, 'Columns')} columns")
    uid = text_of(dataset, "SOPInstanceUID")
    if modality != "CT":  # only listed
        yield Slice(path, 0, uid, (rows, columns), plane=None)
        return
    frames, is_placed = _counted(path, dataset, rows * columns)
    for number, own in enumerate(frames):
        content, value_map = _group("FrameContentSequence", dataset, own), _group(_VALUE_MAP, dataset, own)
        given = {keyword: number_of(value_map, keyword) for keyword, _ in _RESCALE}
        slope, intercept = (default if given[key] is None else given[key] or 0.0 for key, default in _RESCALE)
        yield Slice(
            path=path,
            frame=number,
            instance_uid=uid,
            shape=(rows, columns),
            frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
            plane=_plane(*(_group(key, dataset, own) for key in _PLACES)) if is_placed else None,
            frames=len(frames),
            is_compressed=is_encapsulated(dataset.file_meta.TransferSyntaxUID),
            slope=slope,
            intercept=intercept,
            not_given=tuple(keyword for keyword, value in given.items() if value is None),
            padding=_padding(dataset),
            acquisition=_acquisition(content),
        )


_PLACES = ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def _counted(path: Path, dataset: FileDataset, pixels: int) -> tuple[list[Dataset], bool]:
    """The functional groups of each frame, empty for a single image, and whether they can say where each lies.

    NumberOfFrames may lie; where it does not agree with the groups, the pixel data decide.
    """
    frames, declared = _frames(dataset), number_of(dataset, "NumberOfFrames")
    if frames:
        if declared != len(frames) and _frames_held(path, dataset, pixels, len(frames)) != len(frames):
            raise ValueError(f"{text_of(dataset, 'NumberOfFrames')} frames, but {len(frames)} descriptions of frames")
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


def _frames(dataset: Dataset) -> list[Dataset]:
    return list(items_of(dataset, "PerFrameFunctionalGroupsSequence"))


def _group(keyword: str, dataset: Dataset, own: Dataset | None = None) -> Dataset:
    """Where a functional group stands: with the frame, with all frames, or in the data set itself."""
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    return first_item(own or NOTHING, keyword) or first_item(shared, keyword) or dataset


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


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    one, other = whole_of(dataset, "PixelPaddingValue"), whole_of(dataset, "PixelPaddingRangeLimit")
    if one is None:
        return None
    return (one, one) if other is None else (min(one, other), max(one, other))


def _acquisition(content: Dataset) -> tuple[tuple[str, str], ...]:
    keywords = {
        "AcquisitionNumber": "acquisition",
        "FrameAcquisitionNumber": "acquisition",
        "TemporalPositionIdentifier": "time point",
        "TemporalPositionIndex": "time point",
        "TriggerTime": "trigger time",
        "AcquisitionTime": "acquired at",
    }
    return tuple((name, text) for keyword, name in keywords.items() if (text := text_of(content, keyword)))


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        text = text_of(dataset, keyword)
        if len(text) == 8 and text.isdigit():
            return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return ""
