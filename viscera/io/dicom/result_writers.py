"""Organs as DICOM objects: SEG (the one door to highdicom), and RTSTRUCT (PS3.3, A.19).

Both take a label map on the grid of the source images, in any voxel order, and give the whole file.
"""

import datetime as dt
import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydicom.charset import default_encoding
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage
from skimage.measure import find_contours

from viscera.core.anatomy import ABDOMEN, ANATOMICAL_STRUCTURE, AnatomicalClass, ClassTable
from viscera.core.errors import BadInputError
from viscera.core.regions import Box, boxes_of
from viscera.core.scan import LabelMap
from viscera.io.dicom.dicom_file import quiet_pydicom
from viscera.io.dicom.dicom_values import without_values
from viscera.io.dicom.source_images import OF_THE_PATIENT, SourceImages, derived_uid

_SERIES_NUMBER = 9000
_SERIES_DESCRIPTION = "Organs (viscera, not for clinical use)"
_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"  # Detached Study Management, retired, as PS3.3 asks for
_CONTOUR_DATA = Tag("ContourData")


@dataclass(frozen=True)
class Algorithm:
    """What made a segmentation."""

    model: str  # identifies the trained model: the checksum of its run
    version: str  # of the software
    name: str = "viscera"


def load_highdicom() -> Any:  # noqa: ANN401 - a module
    """highdicom, which comes with the extra `dicom`; raises BadInputError where it cannot be imported."""
    try:
        return importlib.import_module("highdicom")
    except ImportError as error:
        raise BadInputError(
            f"--format dicom-seg and dicom-seg-labelmap need highdicom ({error}). Install it: pip install "
            "'viscera[dicom]', or leave them out."
        ) from error


@quiet_pydicom()
def dicom_seg_bytes(
    label_map: LabelMap,
    sources: SourceImages,
    algorithm: Algorithm,
    table: ClassTable = ABDOMEN,
    *,
    kind: Literal["BINARY", "LABELMAP"] = "BINARY",
) -> bytes:
    """A label map as one DICOM-SEG, a segment a class; all are described, frames without voxels left out.

    Segment numbers are class numbers, codes are SNOMED CT, colours those of `core.anatomy`. BINARY has frames of each
    segment; LABELMAP (DICOM's Supplement 243, of 2024) one frame a slice, whose pixels are segment numbers.

    Raises:
        BadInputError: highdicom is not installed; another grid; or headers that it cannot take over.
    """
    hd = load_highdicom()
    frames = sources.frames(label_map)
    images = sources.headers
    if sources.frame_numbers:
        images, frames = images[:1], frames[np.argsort(sources.frame_numbers)]
    elif not frames.any():  # an object without any frame is no DICOM: one empty frame a segment
        images, frames = images[:1], frames[:1]
    of_source = (sources.headers[0].SeriesInstanceUID, algorithm.model)
    named = "seg" if kind == "BINARY" else "seg labelmap"
    try:
        segmentation = hd.seg.Segmentation(
            source_images=images,
            pixel_array=frames,
            segmentation_type=hd.seg.SegmentationTypeValues[kind],
            segment_descriptions=_segments(table, algorithm, of_source),
            series_instance_uid=derived_uid(f"{named} series", *of_source),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=derived_uid(named, *of_source, hashlib.sha256(frames.ravel().data).hexdigest()),
            instance_number=1,
            manufacturer="viscera",
            manufacturer_model_name=algorithm.name,
            software_versions=algorithm.version,
            omit_empty_frames=bool(frames.any()),
            device_serial_number=hashlib.sha256(algorithm.model.encode()).hexdigest()[:16],
            content_label="ORGANS",
            content_description="Organs of the abdomen",
            series_description=_SERIES_DESCRIPTION,
        )
        return _as_file(segmentation)
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = without_values(" ".join(str(error).split()), images[0])
        raise BadInputError(
            f"DICOM-SEG cannot take over the headers of the source images ({reason}); give --format nifti or seg-nrrd."
        ) from error


def _segments(table: ClassTable, algorithm: Algorithm, of_source: Sequence[str]) -> list[Any]:
    """What each organ's segment is, in highdicom's own type."""
    hd = load_highdicom()
    identification = hd.AlgorithmIdentificationSequence(
        name=algorithm.name,
        family=codes.DCM.ArtificialIntelligence,
        version=algorithm.version,
        parameters={"model": algorithm.model},
    )
    return [
        hd.seg.SegmentDescription(
            segment_number=organ.label,
            segment_label=organ.title,
            segmented_property_category=_coded(*ANATOMICAL_STRUCTURE),
            segmented_property_type=_coded(*organ.coded),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identification,
            tracking_uid=derived_uid("segment", *of_source, organ.name),
            tracking_id=organ.name,
            display_color=hd.color.CIELabColor.from_rgb(*organ.rgb),
        )
        for organ in table.organs
    ]


def _coded(snomed: str, meaning: str) -> Code:
    return Code(snomed, "SCT", meaning)


# ------------------------------------------------------------------------------------------ RTSTRUCT


@quiet_pydicom()
def rtstruct_bytes(
    label_map: LabelMap, sources: SourceImages, algorithm: Algorithm, table: ClassTable = ABDOMEN
) -> bytes:
    """A label map as an RTSTRUCT: one region a class, listed even if empty; region numbers are class numbers.

    A contour runs half-way between the centres of voxels inside and outside, so that filling it by voxel centres gives
    the same voxels. A hole is a contour of its own within another: fill by the even-odd rule.

    Raises:
        BadInputError: another grid.
    """
    frames = sources.frames(label_map)
    dataset = _described(sources, algorithm, hashlib.sha256(frames.ravel().data).hexdigest())
    dataset.StructureSetROISequence = [
        _item(
            ROINumber=organ.label,
            ReferencedFrameOfReferenceUID=sources.headers[0].FrameOfReferenceUID,
            ROIName=organ.title,
            ROIGenerationAlgorithm="AUTOMATIC",
            ROIGenerationDescription=f"{algorithm.name} {algorithm.version}, model {algorithm.model[:12]}",
        )
        for organ in table.organs
    ]
    boxes = boxes_of(frames, len(table))[1:]
    dataset.ROIContourSequence = [_contours(*each, frames, sources) for each in zip(table.organs, boxes, strict=True)]
    dataset.RTROIObservationsSequence = [_observation(organ) for organ in table.organs]
    return _as_file(dataset)


def _as_file(dataset: Dataset) -> bytes:
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def contours_of(mask: npt.NDArray[np.bool_]) -> list[npt.NDArray[np.float64]]:
    """Closed contours (N, 2) of a slice (row, column), in voxels; the last point is not the first again."""
    around = find_contours(np.pad(mask, 1).astype(np.float32), 0.5)  # the edge of the slice closes them, too
    return [each[:-1] - 1 for each in around]


def _item(**attributes: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def _described(sources: SourceImages, algorithm: Algorithm, digest: str) -> Dataset:
    first, now = sources.headers[0], dt.datetime.now(tz=dt.UTC).astimezone()  # local, as nothing says otherwise
    series = _item(
        SeriesInstanceUID=first.SeriesInstanceUID,
        ContourImageSequence=[_reference(sources, number) for number in range(len(sources.headers))],
    )
    study = _item(
        ReferencedSOPClassUID=_STUDY_MANAGEMENT,
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=[series],
    )
    frame = _item(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=[study])
    dataset = _item(
        SpecificCharacterSet="ISO_IR 192",
        **{name: first.get(name) for name in ("StudyInstanceUID", *OF_THE_PATIENT)},
        SOPClassUID=RTStructureSetStorage,
        SOPInstanceUID=derived_uid("rtstruct", first.SeriesInstanceUID, algorithm.model, digest),
        SeriesInstanceUID=derived_uid("rtstruct series", first.SeriesInstanceUID, algorithm.model),
        Modality="RTSTRUCT",
        SeriesNumber=_SERIES_NUMBER + 1,
        SeriesDescription=_SERIES_DESCRIPTION,
        OperatorsName="",
        Manufacturer="viscera",
        ManufacturerModelName=algorithm.name,
        SoftwareVersions=algorithm.version,
        InstanceNumber=1,
        FrameOfReferenceUID=first.FrameOfReferenceUID,
        PositionReferenceIndicator=first.get("PositionReferenceIndicator", ""),
        StructureSetLabel="ORGANS",
        StructureSetDate=now.strftime("%Y%m%d"),
        StructureSetTime=now.strftime("%H%M%S"),
        ApprovalStatus="UNAPPROVED",
        ReferencedFrameOfReferenceSequence=[frame],
    )
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian  # explicit VR limits a contour to 64 KiB
    return dataset


def _reference(sources: SourceImages, number: int) -> Dataset:
    """To the image of a slice, and where it has several, to the frame."""
    header = sources.headers[number]
    frame = {"ReferencedFrameNumber": sources.frame_numbers[number]} if sources.frame_numbers else {}
    return _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID, **frame)


def _contours(organ: AnatomicalClass, box: Box, frames: npt.NDArray[np.uint8], sources: SourceImages) -> Dataset:
    contours = []
    slices, rows, columns = box
    for number in range(slices.start, slices.stop):
        for row, column in (each.T for each in contours_of(frames[number, rows, columns] == organ.label)):
            position_mm = sources.to_mm(number, column + columns.start, row + rows.start)
            contour = _item(
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(position_mm),
                ContourImageSequence=[_reference(sources, number)],
            )
            contour[_CONTOUR_DATA] = _decimal_strings(position_mm)
            contour.set_original_encoding(True, True, default_encoding)  # as the file: else pydicom reads all numbers
            contours.append(contour)
    region = _item(ReferencedROINumber=organ.label, ROIDisplayColor=list(organ.rgb))
    if contours:
        region.ContourSequence = contours
    return region


def _decimal_strings(values: npt.NDArray[np.float64]) -> RawDataElement:
    """As they stand in the file: pydicom checks each of a million numbers otherwise, for half a minute."""
    text = "\\".join(f"{value:.4f}" for value in values.ravel().tolist()).encode()
    text += b" " * (len(text) % 2)
    return RawDataElement(_CONTOUR_DATA, "DS", len(text), text, 0, is_implicit_VR=True, is_little_endian=True)


def _observation(organ: AnatomicalClass) -> Dataset:
    item = _item(
        ObservationNumber=organ.label,
        ReferencedROINumber=organ.label,
        RTROIInterpretedType="ORGAN",
        ROIInterpreter="",
    )
    if organ.snomed:
        value, meaning = organ.coded
        item.RTROIIdentificationCodeSequence = [
            _item(CodeValue=value, CodeMeaning=meaning, CodingSchemeDesignator="SCT")
        ]
    return item
