"""The header of one DICOM file, without its pixels."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import MediaStorageDirectoryStorage

from viscera.core.errors import BadInputError
from viscera.io.dicom.dataset import DAMAGE, is_dicom, open_dataset
from viscera.io.dicom.series import Plane, Slice
from viscera.io.files import read_error

_WANTED = (
    "SOPClassUID SOPInstanceUID Modality ImageType SeriesInstanceUID StudyInstanceUID PatientID SeriesDescription "
    "FrameOfReferenceUID AcquisitionDate SeriesDate StudyDate AcquisitionNumber AcquisitionTime "
    "TemporalPositionIdentifier TriggerTime NumberOfFrames Rows Columns SamplesPerPixel PixelRepresentation "
    "PixelPaddingValue PixelPaddingRangeLimit ImagePositionPatient ImageOrientationPatient PixelSpacing SliceThickness "
    "RescaleSlope RescaleIntercept RescaleType ModalityLUTSequence SharedFunctionalGroupsSequence "
    "PerFrameFunctionalGroupsSequence"
)
_TAGS = [tag for keyword in _WANTED.split() if (tag := tag_for_keyword(keyword)) is not None]
_UNIT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Header:
    """What one file says about itself.

    Attributes:
        series_uid, study_uid, patient_id, modality, description, date: as in `Series`.
        sop_class: UID of the kind of object.
        image_type: values of ImageType.
        frame_of_reference: UID; positions of different ones cannot be compared.
        transfer_syntax: how the pixels are coded.
        channels: 1, or 3 of a colour picture; 0 where there is no image.
        unit: of the rescaled values; empty if it is not given.
        is_rescaled: whether slope and intercept are given.
        has_table: whether a table maps stored values instead (ModalityLUTSequence).
        slices: the images in the file.
    """

    series_uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    date: str
    sop_class: str
    image_type: tuple[str, ...]
    frame_of_reference: str
    transfer_syntax: str
    channels: int
    unit: str
    is_rescaled: bool
    has_table: bool
    slices: tuple[Slice, ...]


def read_header(path: Path) -> Header | None:
    """The header of a DICOM object; None for a DICOMDIR, and for what is no DICOM after all.

    Raises:
        BadInputError: a damaged file, or one that cannot be opened.
    """
    try:
        dataset = open_dataset(path, pixels=False, tags=_TAGS)
        if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            return None
        if "SOPClassUID" not in dataset:
            raise ValueError("it does not say what kind of object it is")
        return _header(path, dataset)
    except OSError as error:
        raise read_error(path, error) from error
    except DAMAGE as error:
        if not is_dicom(path):
            return None
        raise BadInputError(f"{path}: damaged DICOM ({error}). Export it again, or leave it out.") from error


def _header(path: Path, dataset: FileDataset) -> Header:
    has_image = "Rows" in dataset and "Columns" in dataset
    value_map = _value_map(dataset)
    return Header(
        series_uid=_text(dataset, "SeriesInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        patient_id=_text(dataset, "PatientID"),
        modality=_text(dataset, "Modality"),
        description=_text(dataset, "SeriesDescription"),
        date=_date(dataset),
        sop_class=_text(dataset, "SOPClassUID"),
        image_type=_texts(dataset, "ImageType"),
        frame_of_reference=_text(dataset, "FrameOfReferenceUID"),
        transfer_syntax=str(dataset.file_meta.TransferSyntaxUID),
        channels=int(dataset.get("SamplesPerPixel") or 1) if has_image else 0,
        unit=_text(value_map, "RescaleType"),
        is_rescaled="RescaleSlope" in value_map and "RescaleIntercept" in value_map,
        has_table="ModalityLUTSequence" in dataset,
        slices=tuple(slices_of(path, dataset)) if has_image else (),
    )


def slices_of(path: Path, dataset: FileDataset) -> Iterator[Slice]:
    """One image, or one for each frame with what its functional groups say (PS3.3, A.38)."""
    shape = (int(dataset.Rows), int(dataset.Columns))
    uid = _text(dataset, "SOPInstanceUID")
    if dataset.get("Modality") != "CT":  # only listed
        yield Slice(path, 0, uid, shape, plane=None)
        return
    count = int(dataset.get("NumberOfFrames") or 1)
    shared = _first(dataset, "SharedFunctionalGroupsSequence")
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if frames and len(frames) != count:
        raise ValueError(f"{count} frames, but {len(frames)} descriptions of frames")
    for number in range(count):
        own = frames[number] if frames else Dataset()

        def group(keyword: str, own: Dataset = own) -> Dataset:
            return _first(own, keyword) or _first(shared, keyword) or dataset

        content = group("FrameContentSequence")
        value_map = group("PixelValueTransformationSequence")
        yield Slice(
            path=path,
            frame=number,
            instance_uid=uid,
            shape=shape,
            plane=_plane(
                group("PlanePositionSequence"), group("PlaneOrientationSequence"), group("PixelMeasuresSequence")
            ),
            is_compressed=dataset.file_meta.TransferSyntaxUID.is_encapsulated,
            slope=_number(value_map, "RescaleSlope", 1.0),
            intercept=_number(value_map, "RescaleIntercept", 0.0),
            padding=_padding(dataset),
            acquisition=_acquisition(content),
        )


def _plane(positions: Dataset, orientations: Dataset, measures: Dataset) -> Plane | None:
    """None where something is missing or impossible."""
    position = _numbers(positions, "ImagePositionPatient", 3)
    orientation = _numbers(orientations, "ImageOrientationPatient", 6)
    spacing = _numbers(measures, "PixelSpacing", 2)
    if position is None or orientation is None or spacing is None or min(spacing) <= 0:
        return None
    lengths = math.hypot(*orientation[:3]), math.hypot(*orientation[3:])
    cosine = sum(a * b for a, b in zip(orientation[:3], orientation[3:], strict=True))
    if max(abs(lengths[0] - 1), abs(lengths[1] - 1), abs(cosine)) > _UNIT_TOLERANCE:
        return None
    r1, r2, r3 = (x / lengths[0] for x in orientation[:3])
    c1, c2, c3 = (x / lengths[1] for x in orientation[3:])
    thickness = _number(measures, "SliceThickness", 0.0)
    return Plane(
        position_mm=(position[0], position[1], position[2]),
        row=(r1, r2, r3),
        column=(c1, c2, c3),
        spacing_mm=(spacing[1], spacing[0]),
        thickness_mm=thickness if thickness > 0 else None,
    )


def _value_map(dataset: Dataset) -> Dataset:
    """Where slope and intercept stand: in the data set itself, or in the functional groups of the first frame."""
    keyword = "PixelValueTransformationSequence"
    own = _first(_first(dataset, "PerFrameFunctionalGroupsSequence"), keyword)
    return own or _first(_first(dataset, "SharedFunctionalGroupsSequence"), keyword) or dataset


def _padding(dataset: Dataset) -> tuple[int, int] | None:
    one, other = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if one is None:
        return None
    return (int(min(one, other)), int(max(one, other))) if other is not None else (int(one), int(one))


def _acquisition(content: Dataset) -> tuple[tuple[str, str], ...]:
    keywords = {
        "AcquisitionNumber": "acquisition",
        "FrameAcquisitionNumber": "acquisition",
        "TemporalPositionIdentifier": "time point",
        "TemporalPositionIndex": "time point",
        "TriggerTime": "trigger time",
        "AcquisitionTime": "acquired at",
    }
    return tuple((name, text) for keyword, name in keywords.items() if (text := _text(content, keyword)))


def _date(dataset: Dataset) -> str:
    for keyword in ("AcquisitionDate", "SeriesDate", "StudyDate"):
        text = _text(dataset, keyword)
        if len(text) == 8 and text.isdigit():
            return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return ""


def _first(dataset: Dataset, keyword: str) -> Dataset:
    """First item of a sequence; an empty data set, which is false, where there is none."""
    items: Any = dataset.get(keyword)
    return items[0] if items else Dataset()


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else " ".join(str(value).split())


def _texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    value = dataset.get(keyword)
    return (str(value),) if isinstance(value, str) else tuple(str(part) for part in value or ())


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    value = dataset.get(keyword)
    return default if value is None or value == "" else float(value)


def _numbers(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    value = dataset.get(keyword)
    if value is None or isinstance(value, str) or not hasattr(value, "__len__") or len(value) != count:
        return None
    numbers = tuple(float(part) for part in value)
    return numbers if all(math.isfinite(number) for number in numbers) else None
